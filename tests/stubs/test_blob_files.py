"""A blob's two files: read back as written, and refused when anything about them is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bootbuild.errors import PluginError
from bootbuild.model.blob import Blob, Fixup
from bootbuild.stubs.blobfile import describe
from bootbuild.stubs.load import load

SHIPPED = [
    ("bootbuild", "switch_32_64", 32),
    ("bootbuild", "switch_64_32", 64),
    ("bootbuild", "native_32", 32),
    ("bootbuild", "native_64", 64),
    ("bootbuild_pvh", "pvh_front", 32),
    ("bootbuild_pvh", "pvh_post_32", 32),
    ("bootbuild_pvh", "pvh_post_64", 64),
]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The stubs folder of a real package that can be imported."""
    stubs = tmp_path / "some_plugin" / "stubs"
    stubs.mkdir(parents=True)
    (tmp_path / "some_plugin" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield stubs
    sys.modules.pop("some_plugin", None)


def write(folder: Path, blob: Blob) -> dict[str, Any]:
    (folder / f"{blob.name}.bin").write_bytes(blob.text)
    (folder / f"{blob.name}.json").write_bytes(describe(blob))
    description: dict[str, Any] = json.loads(describe(blob))
    return description


def refusal(name: str = "some") -> tuple[str, str]:
    with pytest.raises(PluginError) as caught:
        load("some_plugin", name)
    (problem,) = caught.value.problems
    return problem.rule.id, f"{problem.where}: {problem.message}"


@pytest.mark.parametrize(("owner", "name", "width"), SHIPPED)
def test_every_shipped_blob_loads(owner: str, name: str, width: int) -> None:
    blob = load(owner, name)
    assert (blob.name, blob.width) == (name, width)
    assert blob.toolchain.startswith("gcc ")


def test_a_blob_comes_back_as_it_was_written(package: Path, blob: Callable[..., Blob]) -> None:
    fixups = (Fixup(0, "abs32", ".bss", -4), Fixup(8, "abs64", "there", 1 << 40), Fixup(4, "pc32", "x", 0))
    exports = {"some_entry": (".text", 3), "state": (".bss", 60)}
    one = blob(fixups=fixups, exports=exports, bss_size=64, bss_align=32, width=64)
    write(package, one)
    assert load("some_plugin", "some") == one


def test_the_description_does_not_depend_on_the_order_of_exports(blob: Callable[..., Blob]) -> None:
    names = ["b", "a", "c"]
    forth = blob(exports=dict.fromkeys(names, (".text", 0)))
    back = blob(exports=dict.fromkeys(reversed(names), (".text", 0)))
    assert describe(forth) == describe(back)


@pytest.mark.parametrize("suffix", ["bin", "json"])
def test_a_missing_file_is_named(suffix: str, package: Path, blob: Callable[..., Blob]) -> None:
    write(package, blob())
    (package / f"some.{suffix}").unlink()
    assert refusal() == (
        "BB-P020",
        f"some_plugin/stubs/some.{suffix}: cannot be read: No such file or directory",
    )


def test_a_missing_package_is_named() -> None:
    with pytest.raises(PluginError, match=r"no_such_package/stubs/x\.bin: cannot be read.*BB-P020"):
        load("no_such_package", "x")


DAMAGES: dict[str, tuple[dict[str, Any], str]] = {
    "format": ({"format": 2}, "format is 2; this bootbuild reads 1"),
    "name": ({"name": "other"}, "name is 'other'"),
    "size": ({"size": 15}, "some.bin has 16 bytes, some.json says 15"),
    "digest": ({"sha256": "0" * 64}, "some.bin does not have the SHA-256 of some.json"),
    "width": ({"width": 16}, "width is 16, not 32 or 64"),
    "align": ({"align": 3}, "align is 3, not a power of two to 2 MiB"),
    "align-0": ({"align": 0}, "align is 0, not a power of two to 2 MiB"),
    "align-huge": ({"align": 1 << 40}, f"align is {1 << 40}, not a power of two to 2 MiB"),
    "bss-align": ({"bss_align": -1}, "bss_align is -1, not a power of two to 2 MiB"),
    "bss": ({"bss_size": 1 << 40}, f"bss_size is {1 << 40}, not between 0 and 16 MiB"),
    "bss-negative": ({"bss_size": -1}, "bss_size is -1, not between 0 and 16 MiB"),
    "type": ({"width": "32"}, "width is not of type int"),
    "bool": ({"width": True}, "width is not of type int"),
    "fixup-outside": ({"fixups": [[13, "abs32", "x", 0]]}, "fixup at 0xd is outside the text"),
    "fixup-wide": ({"fixups": [[9, "abs64", "x", 0]]}, "fixup at 0x9 is outside the text"),
    "fixup-negative": ({"fixups": [[-1, "abs32", "x", 0]]}, "fixup at -0x1 is outside the text"),
    "fixup-kind": (
        {"fixups": [[0, "abs16", "x", 0]]},
        'fixup [0, "abs16", "x", 0] is not [offset, kind, symbol, addend]',
    ),
    "fixup-shape": ({"fixups": [7]}, "fixup 7 is not [offset, kind, symbol, addend]"),
    "fixup-addend": (
        {"fixups": [[0, "abs32", "x", 1 << 70]]},
        "addend of the fixup at 0x0 has more than 64 bits",
    ),
    "export-outside": ({"exports": {"e": [".text", 17]}}, "export e is outside .text"),
    "export-bss": ({"exports": {"e": [".bss", 1]}}, "export e is outside .bss"),
    "export-section": ({"exports": {"e": [".data", 0]}}, "export e is not [section, offset]"),
}


@pytest.mark.parametrize(("change", "complaint"), DAMAGES.values(), ids=DAMAGES)
def test_a_description_that_does_not_fit_is_refused(
    change: dict[str, Any], complaint: str, package: Path, blob: Callable[..., Blob]
) -> None:
    description = write(package, blob())
    (package / "some.json").write_text(json.dumps(description | change))
    assert refusal() == ("BB-P021", f"some_plugin/stubs/some: {complaint}")


def test_a_missing_and_an_unknown_key_are_refused(package: Path, blob: Callable[..., Blob]) -> None:
    description = write(package, blob())
    for changed in ({k: v for k, v in description.items() if k != "width"}, description | {"more": 1}):
        (package / "some.json").write_text(json.dumps(changed))
        rule, message = refusal()
        assert rule == "BB-P021"
        assert "must have exactly the keys align, bss_align," in message


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null", b'{"width": ' + b"9" * 5000 + b"}"]
)
def test_what_is_not_a_description_is_refused(data: bytes, package: Path, blob: Callable[..., Blob]) -> None:
    write(package, blob())
    (package / "some.json").write_bytes(data)
    assert refusal()[0] == "BB-P021"


@pytest.mark.parametrize("suffix", ["bin", "json"])
def test_a_huge_file_is_not_read_whole(suffix: str, package: Path, blob: Callable[..., Blob]) -> None:
    write(package, blob())
    with (package / f"some.{suffix}").open("wb") as file:
        file.truncate(1 << 40)
    rule, message = refusal()
    assert rule == "BB-P021"
    assert f"some.{suffix} is larger than 1048576 bytes" in message
