"""A blob is that of the sources beside it, or is refused, without a compiler: our own and the examples'."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bootbuild.errors import PluginError
from bootbuild.stubs import sources
from bootbuild.stubs.build import compile_stub
from bootbuild.stubs.manifest import read_manifest
from bootbuild.stubs.sources import check_folder, compiler_flags, digest, files_of, include_directory

FOLDERS = [
    "builder/bootbuild",
    "plugins/bootbuild_baremetal",
    "plugins/bootbuild_efi",
    "plugins/bootbuild_linux",
    "plugins/bootbuild_pvh",
    "plugins/bootbuild_xenpv",
    "plugins/examples/bootbuild-freebsd/bootbuild_freebsd",
    "plugins/examples/bootbuild-toymon/bootbuild_toymon",
    "plugins/examples/bootbuild-unikernel/bootbuild_unikernel",
]


@pytest.fixture
def bare_metal(repository: Path, tmp_path: Path) -> Path:
    """A copy of a folder with stubs of several sources, headers of its own, and headers of bootbuild's."""
    return Path(shutil.copytree(repository / "plugins/bootbuild_baremetal/stubs", tmp_path / "stubs"))


def stale(folder: Path) -> list[str]:
    """The blobs of which BB-P033 is told, and nothing else."""
    with pytest.raises(PluginError) as caught:
        check_folder(folder)
    assert {problem.rule.id for problem in caught.value.problems} == {"BB-P033"}
    return [Path(problem.where).name for problem in caught.value.problems]


def test_every_folder_of_stubs_is_looked_at(repository: Path) -> None:
    found = [
        path.parent.parent
        for top in ("builder", "plugins")
        for path in (repository / top).rglob("stubs.toml")
    ]
    assert sorted(str(path.relative_to(repository)) for path in found) == FOLDERS


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_shipped_was_built_of_what_is_there(folder: str, repository: Path) -> None:
    assert check_folder(repository / folder / "stubs"), "rebuild them: python -m bootbuild.stubs build"


def test_a_source_that_has_changed_makes_its_blobs_stale_and_no_others(bare_metal: Path) -> None:
    for name, blobs in {
        "post.c": ["baremetal_post_32", "baremetal_post_64"],
        "moved.S": ["multiboot2_moved"],
        "multiboot2_tags.h": ["multiboot2_back"],
        "lz4.h": ["linux_head"],
    }.items():
        before = (bare_metal / name).read_bytes()
        (bare_metal / name).write_bytes(before + b"\n")
        assert stale(bare_metal) == blobs, name
        (bare_metal / name).write_bytes(before)
    assert check_folder(bare_metal)


def test_so_does_a_header_of_bootbuilds_that_another_one_includes(
    bare_metal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = Path(shutil.copytree(include_directory(), tmp_path / "include"))
    monkeypatch.setattr(sources, "include_directory", lambda: headers)
    assert check_folder(bare_metal), "in another folder they are the same"
    handover = headers / "bootbuild/handover.h"
    handover.write_bytes(handover.read_bytes() + b"\n")
    assert "multiboot2_front" in stale(bare_metal)
    assert "multiboot2_moved" not in stale(bare_metal), "it includes none of them"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"entry.S", "multiboot2.c"', '"multiboot2.c", "entry.S"'),
        ("width = 32", "width = 64"),
        ("width = 32", "width = 32\nposition_independent = true"),
    ],
)
def test_so_does_what_stubs_toml_says_of_a_stub(bare_metal: Path, before: str, after: str) -> None:
    manifest = bare_metal / "stubs.toml"
    manifest.write_text(manifest.read_text().replace(before, after))
    assert "multiboot2_front" in stale(bare_metal)


@pytest.mark.parametrize(
    ("name", "value"), [("COMPILE", ["-c"]), ("SCRIPT", "SECTIONS {}"), ("EMULATION", {32: "", 64: ""})]
)
def test_so_does_another_way_of_building(
    bare_metal: Path, name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, name, value)
    assert len(stale(bare_metal)) == len(read_manifest(bare_metal))


def test_a_blob_of_no_stub_is_told(bare_metal: Path) -> None:
    manifest = bare_metal / "stubs.toml"
    manifest.write_text(manifest.read_text().replace("[linux_setup]", "[linux_other]"))
    with pytest.raises(PluginError) as caught:
        check_folder(bare_metal)
    assert [(problem.rule.id, Path(problem.where).name) for problem in caught.value.problems] == [
        ("BB-P020", "linux_other.bin"),
        ("BB-P033", "linux_setup.json"),
    ]


def test_a_damaged_blob_is_told_beside_a_stale_one(bare_metal: Path) -> None:
    (bare_metal / "linux_head.bin").write_bytes(b"")
    (bare_metal / "post.c").write_bytes(b"")
    with pytest.raises(PluginError) as caught:
        check_folder(bare_metal)
    assert [problem.rule.id for problem in caught.value.problems] == ["BB-P033", "BB-P033", "BB-P021"]


def test_the_command_tells_of_all_folders(bare_metal: Path, repository: Path) -> None:
    command = [sys.executable, "-m", "bootbuild.stubs", "check"]
    good = repository / "plugins/bootbuild_pvh/stubs"
    done = subprocess.run([*command, good], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{good}/pvh_front: is that of its sources" in done.stdout.splitlines()
    (bare_metal / "rsdp.h").write_bytes(b"")
    done = subprocess.run(
        [*command, bare_metal, bare_metal / "none", good], capture_output=True, text=True, check=False
    )
    assert done.returncode == 6
    assert [line.partition("(")[2][:7] for line in done.stderr.splitlines()] == [
        "BB-P033",
        "BB-P033",
        "BB-P027",
    ]
    assert f"{good}/pvh_front" in done.stdout


@pytest.mark.usefixtures("gcc")
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_compiler_reads_no_file_that_is_not_in_the_digest(folder: str, repository: Path) -> None:
    for stub in read_manifest(repository / folder / "stubs"):
        command = [
            "gcc",
            *compiler_flags(stub),
            "-MM",
            "-I",
            str(include_directory()),
            *map(str, stub.sources),
        ]
        rules = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        read = {Path(word).resolve() for word in rules.replace("\\\n", " ").split() if not word.endswith(":")}
        assert len(read) >= len(stub.sources)
        assert not read - {path.resolve() for path in files_of(stub)}


@pytest.mark.usefixtures("gcc")
def test_a_built_blob_says_of_what(bare_metal: Path) -> None:
    stub = next(one for one in read_manifest(bare_metal) if one.name == "multiboot2_moved")
    assert compile_stub(stub, "some gcc").sources == digest(stub)
