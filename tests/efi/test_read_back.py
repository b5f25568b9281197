"""An application is booted and inspected without its recipe: it says itself what it is and carries."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest

from bootbuild import pipeline
from bootbuild.abi.application import CMDLINE, KERNEL, RECORD
from bootbuild.api import FileContent, read_pe
from bootbuild.errors import InputError
from bootbuild.formats.application import carried, read_application
from bootbuild.host import Host
from bootbuild.model.request import BootRequest
from bootbuild.model.span import align_up
from bootbuild.model.verdict import Level, Outcome, ProfileVerdict
from bootbuild.report.inspection import as_json, as_text, inspect
from recipe_text import build_text

RECIPE = """
api = 1
[payload]
path = "{kernel}"
startup = "startup_{width}"
width = {width}
cmdline = "greeting=hello"
[[payload.modules]]
path = "module"
cmdline = "of a module"
[[payload.modules]]
path = "second"
[targets.efi]
"""


@pytest.fixture(params=[64, 32])
def application(request: pytest.FixtureRequest, hello64: Path, hello32: Path, tmp_path: Path) -> Path:
    (tmp_path / "module").write_bytes(b"a module" * 1000)
    (tmp_path / "second").write_bytes(b"another")
    kernel = {64: hello64, 32: hello32}[request.param]
    (image,) = build_text(RECIPE.format(kernel=kernel, width=request.param), tmp_path).images
    return tmp_path / image.path


def boot(path: Path) -> ProfileVerdict:
    (verdict,) = pipeline.boot(BootRequest(path, ("efi@ovmf",)), Host.discover())
    return verdict


def test_it_boots_with_what_it_carries(application: Path) -> None:
    verdict = boot(application)
    assert verdict.level is Level.HANDOFF
    assert (verdict.outcome, verdict.findings) == (Outcome.BOOTED, ())
    assert verdict.reached in ("startup_64", "startup_32")


def test_what_it_carries_is_what_the_recipe_names(application: Path) -> None:
    cmdline, modules = carried(FileContent(application))
    assert cmdline == b"greeting=hello"
    assert [(content.read(0, content.size), text) for _, content, text in modules] == [
        (b"a module" * 1000, b"of a module"),
        (b"another", b""),
    ]


def test_a_kernel_that_gets_something_else_is_told(application: Path) -> None:
    """Its stub looks for sections by name: one that is not found is an empty command line."""
    data = bytearray(application.read_bytes())
    stub = read_pe(FileContent(application)).sections[0]
    at = data.index(CMDLINE.encode(), stub.raw, stub.raw + stub.raw_size)
    data[at + 1] ^= 1
    application.write_bytes(data)
    verdict = boot(application)
    assert (verdict.outcome, [f.rule for f in verdict.findings]) == (Outcome.FAILED, ["BB-H008"])


def test_it_is_inspected(application: Path) -> None:
    found = inspect(application, Host.discover())
    assert found.format == "efi application"
    assert [(claim["target"], claim["guest"]) for claim in found.claims] == [("efi", "native")]
    assert (found.size, found.elf.file.size) == (application.stat().st_size,) * 2
    assert found.entries["efi"] == read_pe(FileContent(application)).entry
    assert {name for name, entry in found.entries.items() if entry is not None} == {"efi"}
    assert f"efi         image base + {found.entries['efi']:#x}\n" in as_text(found)


def test_what_it_carries_is_shown(application: Path) -> None:
    found = inspect(application, Host.discover())
    digests = [hashlib.sha256(data).hexdigest() for data in (b"a module" * 1000, b"another")]
    assert json.loads(as_json(found))["carried"] == {
        "cmdline": "greeting=hello",
        "modules": [
            {"size": 8000, "sha256": digests[0], "cmdline": "of a module"},
            {"size": 7, "sha256": digests[1], "cmdline": ""},
        ],
    }
    shown = as_text(found)
    assert "\ncommand line: greeting=hello\n" in shown
    assert f"\n{digests[0]}   8000  of a module\n" in shown
    assert f"\n{digests[1]}      7\n" in shown


def test_an_application_that_carries_nothing_says_so(hello64: Path, tmp_path: Path) -> None:
    text = RECIPE.split("cmdline", 1)[0] + "[targets.efi]\n"
    (image,) = build_text(text.format(kernel=hello64, width=64), tmp_path).images
    found = inspect(tmp_path / image.path, Host.discover())
    assert found.carried == {"cmdline": "", "modules": []}
    assert "\ncommand line: none\n\nSEGMENT" in as_text(found)


def test_another_kernel_has_nothing_of_that(hello64: Path) -> None:
    found = inspect(hello64, Host.discover())
    assert json.loads(as_json(found))["carried"] is None
    assert "command line" not in as_text(found)


def section(data: bytearray, name: str) -> int:
    """File offset of a section's header."""
    return data.index(name.encode().ljust(8, b"\0"))


@pytest.mark.parametrize(
    ("size", "message"),
    [(1 << 31, "a record of 2147483648 bytes; there is room for 4096"), (24, "run over the segment")],
)
def test_a_broken_record_is_refused(application: Path, size: int, message: str) -> None:
    data = bytearray(application.read_bytes())
    struct.pack_into("<I", data, section(data, RECORD) + 8, size)
    application.write_bytes(data)
    with pytest.raises(InputError) as caught:
        boot(application)
    (problem,) = caught.value.problems
    assert (problem.rule.id, problem.where) == ("BB-E018", f"{application} (.bbinfo)")
    assert message in problem.message


def test_a_broken_kernel_is_named_as_what_it_is_in(application: Path) -> None:
    data = bytearray(application.read_bytes())
    struct.pack_into("<I", data, section(data, KERNEL) + 8, 40)
    application.write_bytes(data)
    with pytest.raises(InputError) as caught:
        boot(application)
    assert caught.value.problems[0].where.startswith(f"{application} (.payload)")


def test_more_than_the_stub_hands_over_is_not_read(application: Path) -> None:
    """Sections may share their bytes: a file of 32 MiB said 1 GiB of command lines, which took 6 GiB."""
    whole = application.read_bytes()
    pe = read_pe(FileContent(application))
    (first,) = (s for s in pe.sections if s.name == ".modargs")

    def said(more: list[tuple[str, int]]) -> list[str]:
        """Of sections that are added, each with the bytes of the first .modargs and its padding."""
        data, at = bytearray(whole), pe.table.end
        for name, size in more:
            header = (name.encode(), size, first.address, max(size, 0x200), first.raw, 0x40000040)
            struct.pack_into("<8s4I12xI", data, at, *header)
            at += 40
        struct.pack_into("<H", data, pe.table.start - 264 + 6, len(pe.sections) + len(more))
        application.write_bytes(data)
        try:
            read_application(FileContent(application), "it")
        except InputError as error:
            return [str(problem) for problem in error.problems]
        return []

    own = len(b"greeting=hello\0of a module\0")
    lines = [(".modargs", 511)] * 15
    assert said([*lines, (".modargs", 511 - own)]) == []
    (text,) = said([*lines, (".modargs", 512 - own)])
    assert text.startswith("it: 8193 bytes of command lines; it hands over 8192 (BB-E019)")
    assert said([(".module", 1)] * 30) == []
    (text,) = said([(".module", 1)] * 31)
    assert text.startswith("it: 33 modules; it hands over 32 (BB-E019)")


def test_the_first_command_line_counts(application: Path) -> None:
    """As for the stub: what `objcopy --add-section` adds to an image that has one is not looked at."""
    data = bytearray(application.read_bytes())
    pe = read_pe(FileContent(application))
    last, end = pe.sections[-1], len(data)
    at = align_up(last.memory.end, 4096)
    struct.pack_into("<8s4I12xI", data, pe.table.end, b".cmdline", 5, at, 512, end, 0x40000040)
    struct.pack_into("<H", data, pe.table.start - 264 + 6, len(pe.sections) + 1)
    struct.pack_into("<I", data, pe.table.start - 264 + 24 + 56, at + 4096)
    application.write_bytes(data + b"other".ljust(512, b"\0"))
    verdict = boot(application)
    assert (verdict.outcome, verdict.findings) == (Outcome.BOOTED, ())
    assert carried(FileContent(application))[0] == b"greeting=hello"


def test_another_file_carries_nothing(application: Path) -> None:
    data = bytearray(application.read_bytes())
    data[section(data, RECORD) + 1] ^= 1
    application.write_bytes(data)
    assert carried(FileContent(application)) == (b"", ())
    assert carried(FileContent(Path(__file__))) == (b"", ())
    with pytest.raises(InputError) as caught:
        boot(application)
    assert caught.value.problems[0].rule.id == "BB-E030"
    request = BootRequest(application, ("efi@ovmf",), until="console:hello: done")
    (verdict,) = pipeline.boot(request, Host.discover())
    assert (verdict.outcome, verdict.reached) == (Outcome.BOOTED, "entry, console 'hello: done'")
    assert verdict.level is None, "where its kernel begins is not known"
