"""A profile whose loader refuses the file: told where nobody named it, a failure where somebody did."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bootbuild.errors import ExitCode
from bootbuild.host import Host

Bootbuild = Callable[..., subprocess.CompletedProcess[str]]
PROFILES = [name.partition("@")[2] for name in Host.discover().profiles_of("pvh")]
REFUSE = {"cloud-hypervisor", "firecracker"}  # ELF32
AS_ELF32 = ("hello32.toml", "--set", "payload.elf_class=32", "--json", "-q", "-f")


def outcomes(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    found = json.loads(done.stdout)
    runs = found["recipes"][0]["images"][0]["runs"] if "recipes" in found else found["runs"]
    return {run["profile"]: run["outcome"] for run in runs}


def test_a_profile_that_nobody_named_may_refuse(bootbuild: Bootbuild, hello: Path) -> None:
    done = bootbuild(*AS_ELF32)
    assert outcomes(done) == {name: "REFUSED" if name in REFUSE else "BOOTED" for name in PROFILES}
    assert done.returncode == ExitCode.OK
    (image,) = json.loads(done.stdout)["recipes"][0]["images"]
    assert image["outcome"] == "BOOTED"
    for run in image["runs"]:
        assert bool(run["findings"]) == (run["outcome"] == "REFUSED")
        assert (run["stop"] is None, run["traces"][0] is None) == (run["outcome"] == "REFUSED",) * 2


def test_the_table_names_the_rule_and_the_remedy(bootbuild: Bootbuild, hello: Path) -> None:
    said = bootbuild("hello32.toml", "-q", "--set", "payload.elf_class=32").stdout
    assert "\nREFUSED  out/hello32-pvh.elf  pvh@firecracker             -  not started\n" in said
    assert "\nout/hello32-pvh.elf in pvh@firecracker\n  BB-L" in said


GAVE_UP = (
    "\nout/hello64-efi.efi in efi@taken: bootbuild: cannot start the kernel: "
    "the memory that it is linked for is taken for good (BB-B072)\n"
)


def test_an_image_that_gives_up_where_it_may_says_why_in_one_line(bootbuild: Bootbuild, hello: Path) -> None:
    """Its registers would tell nobody anything; where it had to start they are shown."""
    recipe = (hello / "hello.toml").read_text().replace("[targets.pvh]", "[targets.efi]")
    (hello / "efi.toml").write_text(recipe)
    done = bootbuild("efi.toml", "-q", "--set", "output.name=hello64")
    assert "\nREFUSED  out/hello64-efi.efi  efi@taken " in done.stdout
    assert GAVE_UP in done.stdout
    assert "| " not in done.stdout
    assert done.returncode == ExitCode.OK
    booted = bootbuild("boot", "out/hello64-efi.efi", "--as", "efi", "-q")
    assert GAVE_UP in booted.stdout
    assert "rip=" not in booted.stdout
    named = bootbuild("boot", "out/hello64-efi.efi", "--as", "efi@taken", "-q")
    assert "\nout/hello64-efi.efi in efi@taken\n  BB-B072: " in named.stdout
    assert "rip=" in named.stdout


def test_a_profile_that_the_recipe_names_must_start_it(bootbuild: Bootbuild, hello: Path) -> None:
    done = bootbuild(*AS_ELF32, "--set", 'targets.pvh.profiles=["qemu", "firecracker"]')
    assert outcomes(done) == {"qemu": "BOOTED", "firecracker": "FAILED"}
    assert done.returncode == ExitCode.FAILED


@pytest.mark.parametrize(
    ("asked", "code", "refused"),
    [
        (["pvh"], ExitCode.OK, "REFUSED"),
        (["pvh", "pvh@firecracker"], ExitCode.FAILED, "FAILED"),
        (["pvh@firecracker"], ExitCode.FAILED, "FAILED"),
    ],
)
def test_so_it_is_with_boot(
    bootbuild: Bootbuild, hello: Path, asked: list[str], code: ExitCode, refused: str
) -> None:
    bootbuild(*AS_ELF32)
    done = bootbuild("boot", "out/hello32-pvh.elf", "--json", "-q", *(f"--as={name}" for name in asked))
    assert (done.returncode, outcomes(done)["firecracker"]) == (code, refused)


def test_what_every_profile_refuses_has_failed(bootbuild: Bootbuild, hello: Path) -> None:
    done = bootbuild("hello.toml", "--json", "-q", "--set", "boot.memory=1M")
    assert outcomes(done) == dict.fromkeys(PROFILES, "FAILED")
    assert done.returncode == ExitCode.FAILED
