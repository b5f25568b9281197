"""The kernels of the examples in the real QEMU: what they print there is what the emulator saw.

BOOTBUILD_FREEBSD_KERNEL names a FreeBSD/amd64 kernel, which is then started as well; none can be installed.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import grub
import ovmf as firmware
from grub import Grub, Menu
from monitors import qemu_kernel
from oracle import run_until
from ovmf import Ovmf

FREEBSD = os.environ.get("BOOTBUILD_FREEBSD_KERNEL")
CMDLINE = "-v boot_single=YES hw.physmem=512M hw.physmem=96M quiet"


def lines(console: str, first: str) -> list[str]:
    """What a kernel printed, without what stood before `first`."""
    text = console.replace("\r", "")
    return text[text.index(first) :].splitlines()


def built(environment: Any, recipe: Path, into: Path, *options: str) -> Path:
    """The one image that a recipe makes."""
    done = environment.run("bootbuild", recipe, "-q", "-o", into, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    (image,) = into.glob("*.elf")
    return Path(image)


@pytest.fixture
def examples(repository: Path) -> Path:
    return repository / "plugins/examples"


@pytest.fixture
def hammer(environment: Any, examples: Path, tmp_path: Path) -> Path:
    return built(environment, examples / "bootbuild-freebsd/recipes/hammer.toml", tmp_path)


@pytest.fixture
def module(examples: Path) -> Path:
    return examples / "bootbuild-freebsd/recipes/root.img"


def emulated(environment: Any, image: Path, profile: str, *options: str) -> list[str]:
    """What hammer prints in the emulator."""
    until = ["--until", "console:hammer: done", "--cmdline", CMDLINE, "--memory", "128M"]
    done = environment.run("bootbuild", "boot", image, "--as", profile, *until, *options, "--json")
    (run,) = json.loads(done.stdout)["runs"]
    assert run["outcome"] == "BOOTED"
    return lines(run["console"], "hammer: ")


def test_hammer_prints_the_same_by_pvh(qemu: Path, environment: Any, hammer: Path, module: Path) -> None:
    real = run_until(qemu_kernel(qemu, hammer, memory=128, cmdline=CMDLINE, initrd=module), ["hammer: done$"])
    assert real.reached, real
    said = lines(real.text, "hammer: ")
    assert said == emulated(environment, hammer, "pvh@qemu", "--module", str(module))
    assert {"hammer: howto 0x802", "hammer: env hw.physmem=96M", "hammer: env quiet=1"} <= set(said)


def test_hammer_prints_the_same_by_grub(
    qemu: Path, grub_pc: Grub, environment: Any, hammer: Path, module: Path, tmp_path: Path
) -> None:
    menu = Menu("multiboot2", hammer, CMDLINE, [(module, "-t md_image /usr.img a b")])
    real = run_until(grub_pc.bios(qemu, menu, tmp_path), ["hammer: done$"], fail=grub.FAILS)
    assert real.reached, real
    options = ["--module", f"{module}=-t md_image /usr.img a b"]
    said = lines(real.text, "hammer: ")
    assert said == emulated(environment, hammer, "multiboot2@grub-bios", *options)
    assert said[0].startswith("hammer: file /usr.img, type md_image, arguments a b, at ")


def test_hammer_is_handed_the_firmwares_own_map_by_grub_on_uefi(
    qemu: Path, grub_efi: Grub, hammer: Path, tmp_path: Path
) -> None:
    menu = Menu("multiboot2", hammer, CMDLINE)
    real = run_until(grub_efi.efi(qemu, menu, tmp_path), ["hammer: done$"], fail=grub.FAILS)
    assert real.reached, real
    said = lines(real.text, "hammer: ")
    assert "hammer: EFI memory map of version 0x1, descriptors of 0x30 bytes, rest 0x0" in said
    assert not [line for line in said if line.startswith("hammer: memory ")]


def test_hammer_prints_the_same_as_a_uefi_application(
    qemu: Path, ovmf: Ovmf, environment: Any, examples: Path, module: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "hammer.toml"
    recipe.write_text(
        f"""
        api = 1
        [payload]
        path = {json.dumps(str(examples / "bootbuild-freebsd/kernel/hammer.elf"))}
        guest = "freebsd"
        startup = "btext"
        cmdline = "{CMDLINE}"
        [[payload.modules]]
        path = {json.dumps(str(module))}
        cmdline = "-t md_image /usr.img a b"
        [targets.efi]
        profiles = ["ovmf"]
        [expect]
        console = "hammer: done"
        """
    )
    done = environment.run("bootbuild", recipe, "-q", "--json", "-o", tmp_path / "out")
    (image,) = json.loads(done.stdout)["recipes"][0]["images"]
    command = ovmf.by_kernel(qemu, Path(image["path"]), tmp_path)
    real = run_until(command, ["hammer: done$"], fail=firmware.FAILS, timeout=60)
    assert real.reached, real
    said = lines(real.text, "hammer: ")
    assert said == lines(image["runs"][0]["console"], "hammer: ")
    assert said[0].startswith("hammer: file /usr.img, type md_image, arguments a b, at ")
    assert "hammer: EFI memory map of version 0x1, descriptors of 0x30 bytes, rest 0x0" in said


def test_the_unikernel_prints_its_command_line(
    qemu: Path, environment: Any, examples: Path, tmp_path: Path
) -> None:
    image = built(environment, examples / "bootbuild-unikernel/recipes/unikernel.toml", tmp_path)
    real = run_until(qemu_kernel(qemu, image, cmdline="from=QEMU"), ["started with: .*\n"])
    assert lines(real.text, "started with: ") == ["started with: from=QEMU"]


if FREEBSD:  # not a skip: where it is not set there is nothing to be run

    def test_a_real_freebsd_kernel_starts(qemu: Path, environment: Any, tmp_path: Path) -> None:
        recipe = tmp_path / "freebsd.toml"
        recipe.write_text(
            f'api = 1\n[payload]\npath = "{Path(FREEBSD or "").resolve()}"\nguest = "freebsd"\n'
            f'startup = "btext"\n{_offset(Path(FREEBSD or ""))}[targets.pvh]\nprofiles = ["qemu"]\n'
        )
        image = built(environment, recipe, tmp_path / "out")
        command = qemu_kernel(qemu, image, memory=512, cmdline="-v boot_serial=YES console=comconsole")
        real = run_until(command, ["The FreeBSD Project"], timeout=120)
        assert real.reached, real

    def _offset(kernel: Path) -> str:
        """What the recipe says of a kernel whose p_paddr is its p_vaddr."""
        done = subprocess.run(["readelf", "-lW", kernel], capture_output=True, text=True, check=True)
        first = next(line.split() for line in done.stdout.splitlines() if line.split()[:1] == ["LOAD"])
        return 'paddr_offset = "0xffffffff80000000"\n' if first[2] == first[3] else ""
