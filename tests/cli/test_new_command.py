"""`bootbuild new KIND DIR`: a folder to start from, and nothing overwritten."""

from __future__ import annotations

import re
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny_guest
from bootbuild.errors import ExitCode
from debian_kernels import Kernels

Bootbuild = Callable[..., subprocess.CompletedProcess[str]]
FILES = ["hello.toml", "hello32.elf", "hello32.toml", "hello64.elf", "module.txt"]


@pytest.mark.parametrize("folder", ["absent", "one/in/another", "empty", "."])
def test_what_it_makes_builds_and_boots(bootbuild: Bootbuild, tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    if folder == ".":
        (tmp_path / "empty").rmdir()
    done = bootbuild("new", "hello", folder)
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert done.stdout.splitlines() == [str(Path(folder, name)) for name in FILES]
    assert sorted(path.name for path in (tmp_path / folder).iterdir()) == FILES
    built = bootbuild(f"{folder}/hello.toml", f"{folder}/hello32.toml")
    assert built.returncode == ExitCode.OK, built.stdout + built.stderr
    table, _, held_to = built.stdout.partition("\n\n")
    assert {line.split()[0] for line in table.splitlines()[1:]} == {"BOOTED"}
    assert {line.split()[0] for line in held_to.splitlines()} == {"oracle:", "source:"}


def test_a_folder_that_is_not_empty_is_left_alone(bootbuild: Bootbuild, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "hello.toml").write_text("my own\n")
    done = bootbuild("new", "hello", "mine")
    assert (done.returncode, done.stdout) == (ExitCode.OUTPUT, "")
    assert done.stderr.startswith("bootbuild: error: mine: the folder is not empty (BB-R026); ")
    assert [path.name for path in mine.iterdir()] == ["hello.toml"]
    assert (mine / "hello.toml").read_text() == "my own\n"


def test_a_file_in_the_way_is_9(bootbuild: Bootbuild, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in ("file", "file/below"):
        done = bootbuild("new", "hello", folder)
        assert (done.returncode, done.stdout) == (ExitCode.OUTPUT, "")
        assert "(BB-R026)" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("folder", ["one/in/another", "empty"])
def test_without_room_it_leaves_nothing_and_can_be_tried_again(
    program: Path, bootbuild: Bootbuild, tmp_path: Path, folder: str
) -> None:
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        [program, "new", "hello", folder],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert (done.returncode, done.stdout) == (ExitCode.OUTPUT, "")
    assert len(done.stderr.splitlines()) == 1 and "file too large (BB-R026)" in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
    assert bootbuild("new", "hello", folder).returncode == ExitCode.OK


def test_another_kind_is_a_usage_error(bootbuild: Bootbuild) -> None:
    done = bootbuild("new", "goodbye", "x")
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert "'goodbye' is not one of 'hello', 'linux', 'plugin'" in done.stderr


def test_a_recipe_for_a_linux_waits_for_its_kernel(bootbuild: Bootbuild) -> None:
    done = bootbuild("new", "linux", "mine")
    assert (done.returncode, done.stdout, done.stderr) == (ExitCode.OK, "mine/linux.toml\n", "")
    done = bootbuild("mine/linux.toml")
    assert (done.returncode, done.stdout) == (ExitCode.RECIPE, "")
    (line,) = done.stderr.splitlines()
    assert ": payload.path: 'mine/vmlinuz' does not exist (BB-R015); " in line


def test_a_recipe_for_a_linux_boots_one(
    bootbuild: Bootbuild, tmp_path: Path, kernels: Kernels, initrd: Path
) -> None:
    """As it is, and with all that it offers in comments."""
    assert bootbuild("new", "linux", ".").returncode == ExitCode.OK
    recipe = tmp_path / "linux.toml"
    built = bootbuild(
        "linux.toml", "--payload", kernels.cloud.vmlinuz, "--set", 'targets.pvh.profiles=["qemu"]'
    )
    assert built.returncode == ExitCode.OK, built.stdout + built.stderr
    for name, file in (
        ("vmlinuz", kernels.cloud.vmlinuz),
        ("System.map", kernels.cloud.system_map),
        ("initrd.img", initrd),
    ):
        (tmp_path / name).symlink_to(file)
    full, count = re.subn(r"^#(?=\[|[a-z]+ = )", "", recipe.read_text(), flags=re.MULTILINE)
    assert count == 6
    recipe.write_text(full)
    built = bootbuild("linux.toml")
    assert built.returncode == ExitCode.OK, built.stdout + built.stderr
    table = built.stdout.partition("\n\n")[0]
    assert re.findall(r"^BOOTED +\S+ +(\S+)", table, re.MULTILINE) == ["pvh@qemu", "pvh@xen-domu"]


def test_a_recipe_for_a_linux_takes_no_address_for_its_startup_path(
    bootbuild: Bootbuild, tmp_path: Path
) -> None:
    """At CONFIG_PHYSICAL_START's default another kernel has some other code, and nothing would say so."""
    assert bootbuild("new", "linux", ".").returncode == ExitCode.OK
    (tmp_path / "vmlinux").write_bytes(tiny_guest.guest())  # of no symbols
    done = bootbuild("linux.toml", "--payload", "vmlinux", "-q")
    assert (done.returncode, done.stdout.strip()) == (ExitCode.INPUT, "")
    assert "there is no symbol 'startup_64' (BB-E080)" in done.stderr
    assert "name a symbol or address, of a Linux `startup_64`: `startup` in the recipe" in done.stderr
