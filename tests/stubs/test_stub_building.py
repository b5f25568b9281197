"""`python -m bootbuild.stubs`: for our own stubs and a third party's, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from bootbuild.errors import PluginError
from bootbuild.model.span import Span
from bootbuild.model.waist import Piece, Waist
from bootbuild.stubs.blobfile import assemble
from bootbuild.stubs.build import build_folder, toolchain
from bootbuild.stubs.link import Params, link
from bootbuild.stubs.manifest import read_manifest
from bootbuild.stubs.sources import include_directory

pytestmark = pytest.mark.usefixtures("gcc")
MANIFEST = '[some]\nsources = ["some.{suffix}"]\nwidth = {width}\n'
OWN = [
    "bootbuild",
    "bootbuild_baremetal",
    "bootbuild_efi",
    "bootbuild_linux",
    "bootbuild_pvh",
    "bootbuild_xenpv",
]


def stub(folder: Path, text: str, suffix: str = "c", width: int = 32) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "stubs.toml").write_text(MANIFEST.format(suffix=suffix, width=width))
    (folder / f"some.{suffix}").write_text(text)
    return folder


def refusals(folder: Path) -> list[tuple[str, str]]:
    with pytest.raises(PluginError) as caught:
        build_folder(folder)
    assert not list(folder.glob("*.bin")), "something was written"
    return [(problem.rule.id, problem.message) for problem in caught.value.problems]


def copied_sources(package: str, folder: Path) -> Path:
    source = resources.files(package) / "stubs"
    assert isinstance(source, Path)
    return Path(shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.bin", "*.json", "*.py")))


@pytest.mark.parametrize("package", OWN)
def test_the_same_toolchain_makes_the_shipped_bytes(package: str, tmp_path: Path) -> None:
    """In another folder, of another depth: nothing of the place gets into a blob."""
    folder = copied_sources(package, tmp_path / "elsewhere")
    built = build_folder(folder)
    shipped = resources.files(package) / "stubs"
    differ = []
    for blob in built:
        description = json.loads((shipped / f"{blob.name}.json").read_bytes())
        for suffix in ("bin", "json"):
            same = (folder / f"{blob.name}.{suffix}").read_bytes() == (
                shipped / f"{blob.name}.{suffix}"
            ).read_bytes()
            if not same:
                differ.append(f"{blob.name}.{suffix}")
        if description["toolchain"] != toolchain():
            assert description["exports"].keys() == blob.exports.keys()
            differ = [name for name in differ if not name.startswith(f"{blob.name}.")]
    assert not differ, "rebuild them: python -m bootbuild.stubs build"


@pytest.mark.parametrize("package", OWN)
def test_every_stub_of_a_manifest_is_shipped_and_none_else(package: str) -> None:
    folder = resources.files(package) / "stubs"
    assert isinstance(folder, Path)
    names = {source.name for source in read_manifest(folder)}
    assert (
        names == {path.stem for path in folder.glob("*.bin")} == {path.stem for path in folder.glob("*.json")}
    )


def test_a_third_partys_stub_is_built_and_linked(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "stubs.toml").write_text('[their_back]\nsources = ["enter.S", "fill.c"]\nwidth = 32\n')
    (folder / "enter.S").write_text("\t.globl their_entry\ntheir_entry:\n\tcall fill\n\tjmp *%eax\n")
    (folder / "fill.c").write_text(
        "#include <bootbuild/waist.h>\n"
        "static uint32_t calls;\n"
        'static const char greeting[] = "their own";\n'
        "const char *fill(void)\n"
        "{\n"
        "    calls++;\n"
        "    bb_com1_write(greeting, sizeof greeting - 1);\n"
        "    return (const char *)(uint32_t)bb_params.startup;\n"
        "}\n"
    )
    arguments = [sys.executable, "-m", "bootbuild.stubs", "build", str(folder)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    blob = assemble(
        "their_back", (folder / "their_back.bin").read_bytes(), (folder / "their_back.json").read_bytes()
    )
    assert blob.exports == {"their_entry": (".text", 0)}, "fill is nobody else's business"
    assert blob.bss_size == 4
    assert b"their own" in blob.text
    assert str(tmp_path).encode() not in blob.text
    piece = Piece(blob, "their_entry", Waist(32), None)
    linked = link([piece], [], Params(0x100000, Span(0x200000, 0x2000)), 0x200000, 0x201000)
    assert linked.exports["their_entry"] == 0x200000


def test_include_prints_where_the_headers_are() -> None:
    arguments = [sys.executable, "-m", "bootbuild.stubs", "include"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert (Path(done.stdout.strip()) / "bootbuild" / "handover.h").is_file()


def test_what_cannot_be_built_is_one_line_each_and_exit_code_6(tmp_path: Path) -> None:
    folder = stub(tmp_path / "bad", "nowhere x;\nnowhere y;\n")
    arguments = [sys.executable, "-m", "bootbuild.stubs", "build", str(folder)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 6
    assert done.stdout == ""
    assert [line.startswith("bootbuild.stubs: error: ") for line in done.stderr.splitlines()] == [True, True]
    assert done.stderr.splitlines()[1].startswith(
        f"bootbuild.stubs: error: {folder}/some.c:2:1: unknown type name 'nowhere' (BB-P028); "
    )


def test_unchanged_blobs_are_not_touched(tmp_path: Path) -> None:
    folder = stub(tmp_path / "one", ".globl a\na: ret\n", "S")
    build_folder(folder)
    os.utime(folder / "some.bin", (1, 1))
    build_folder(folder)
    assert (folder / "some.bin").stat().st_mtime == 1


def test_no_compiler_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stub(tmp_path / "one", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PluginError, match=r"gcc is not installed \(BB-P028\); install gcc and binutils"):
        build_folder(folder)


LIBRARY = """
#include <stdint.h>
extern void *memcpy(void *, const void *, unsigned long);
uint64_t divide(uint64_t a, uint64_t b) { return a / b; }
void copy(void *a, const void *b) { memcpy(a, b, 4097); }
"""

SOURCES: dict[str, tuple[str, str, int, list[tuple[str, str]]]] = {
    "data": (
        "static int x = 3; int f(void) { return x++; }",
        "c",
        32,
        [("BB-P029", "has 4 bytes of initialised, writable data")],
    ),
    "relocation": (
        ".globl a\na: mov foo@GOTPCREL(%rip), %rax\n",
        "S",
        64,
        [("BB-P030", "relocation type 42 of EM_X86_64")],
    ),
    "narrow relocation": (
        ".globl a\na: .word foo\n",
        "S",
        32,
        [("BB-P030", "relocation type 20 of EM_386")],
    ),
    "library": (LIBRARY, "c", 32, [("BB-P031", "calls __udivdi3"), ("BB-P031", "calls memcpy")]),
    "constructor": (
        'static void f(void) {} void (*const g)(void) __attribute__((section(".init_array"))) = f;',
        "c",
        64,
        [("BB-P032", "has a section .init_array")],
    ),
    "data and section": (
        '\t.data\n\t.long 1\n\t.section .tdata, "awT"\n\t.long 1\n',
        "S",
        64,
        [("BB-P029", "has 4 bytes of initialised, writable data"), ("BB-P032", "has a section .tdata")],
    ),
}


@pytest.mark.parametrize(("text", "suffix", "width", "expected"), SOURCES.values(), ids=SOURCES)
def test_what_a_blob_cannot_hold_is_refused(
    text: str, suffix: str, width: int, expected: list[tuple[str, str]], tmp_path: Path
) -> None:
    assert sorted(refusals(stub(tmp_path / "one", text, suffix, width))) == sorted(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("float f(float x) { return x * 2; }", "SSE|x87|general-regs|float"),
        ("void f(void) { nowhere_declared(); }", "implicit declaration"),
        ("#include <stdio.h>\n#include <no/such.h>\n", r"no/such\.h: No such file"),
    ],
)
def test_what_the_compiler_refuses_is_told_in_its_words(text: str, message: str, tmp_path: Path) -> None:
    folder = stub(tmp_path / "one", text, width=64)
    with pytest.raises(PluginError, match=message) as caught:
        build_folder(folder)
    assert {problem.rule.id for problem in caught.value.problems} == {"BB-P028"}
    assert str(tmp_path) not in str(caught.value).replace(str(folder), "")


MANIFESTS = {
    "binary": (b"\xff\xfe", ["cannot be read"]),
    "syntax": (b"[some", ["cannot be read"]),
    "empty": (b"", ["names no stub"]),
    "not a table": (b"some = 1\n", ["is not a table"]),
    "name": (b'["no/path"]\nwidth = 32\n', ["is not a name of lower-case letters, digits and _"]),
    "nothing": (b"[some]\n", ["sources: is not a list of files", "width: is missing"]),
    "width": (b'[some]\nsources = ["some.c"]\nwidth = 16\n', ["width: is 16, not 32 or 64"]),
    "width type": (b'[some]\nsources = ["some.c"]\nwidth = 32.0\n', ["width: is 32.0, not 32 or 64"]),
    "sources type": (b'[some]\nsources = "some.c"\nwidth = 32\n', ["sources: is not a list of files"]),
    "sources outside": (
        b'[some]\nsources = ["../a.c", "/a.S", "-o.c", 3]\nwidth = 32\n',
        [
            "sources: '-o.c' is not a .S or .c file of this folder",
            "sources: '../a.c' is not a .S or .c file of this folder",
            "sources: '/a.S' is not a .S or .c file of this folder",
            "sources: 3 is not a .S or .c file of this folder",
        ],
    ),
    "source missing": (b'[some]\nsources = ["b.c"]\nwidth = 32\n', ["sources: b.c is not there"]),
    "unknown key": (
        b'[some]\nsources = ["some.c"]\nwidth = 32\nwdith = 64\n',
        ["wdith: unknown key; known are sources, width, position_independent"],
    ),
    "position_independent": (
        b'[some]\nsources = ["some.c"]\nwidth = 64\nposition_independent = "yes"\n',
        ["position_independent: is 'yes', neither true nor false"],
    ),
    "huge": (b"#" * (1 << 20), ["is larger than 65536 bytes"]),
    "deep": (b"a = " + b"[" * 40000, ["cannot be read"]),
}


def test_a_stub_may_run_elsewhere_than_it_is_loaded(tmp_path: Path) -> None:
    """Then an address is reached from where the code is: nothing absolute is left to fill in."""
    kinds = {}
    for anywhere in ("false", "true"):
        folder = stub(
            tmp_path / anywhere,
            'static int x; __attribute__((visibility("default")))\nint *some(void) { return &x; }\n',
            width=64,
        )
        with (folder / "stubs.toml").open("a") as file:
            file.write(f"position_independent = {anywhere}\n")
        (blob,) = build_folder(folder)
        kinds[anywhere] = {fixup.kind for fixup in blob.fixups}
    assert kinds == {"false": {"abs32"}, "true": {"pc32"}}


@pytest.mark.parametrize(("raw", "messages"), MANIFESTS.values(), ids=MANIFESTS)
def test_a_wrong_manifest_is_refused(raw: bytes, messages: list[str], tmp_path: Path) -> None:
    folder = stub(tmp_path / "one", "")
    (folder / "stubs.toml").write_bytes(raw)
    found = refusals(folder)
    assert {rule for rule, _ in found} == {"BB-P027"}
    assert len(found) == len(messages)
    assert all(wanted in message for (_, message), wanted in zip(found, messages, strict=True))


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    assert refusals(tmp_path) == [("BB-P027", "cannot be read: No such file or directory")]


def test_the_headers_are_where_the_package_is() -> None:
    assert include_directory() == resources.files("bootbuild") / "stubs" / "include"


def test_every_rule_of_the_stubs_is_broken_by_a_test(repository: Path) -> None:
    from bootbuild.stubs.rules import RULES

    tests = "".join(path.read_text() for path in (repository / "tests" / "stubs").glob("test_*.py"))
    missing = [rule.id for rule in RULES if f'"{rule.id}"' not in tests and f"({rule.id}" not in tests]
    assert not missing
    assert len({rule.id for rule in RULES}) == len(RULES)
