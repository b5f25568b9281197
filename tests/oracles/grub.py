"""Real GRUB as the loader: a disk for BIOS, an application for UEFI, started in QEMU by its firmware.

Neither needs a file system: kernel and modules lie in a tar archive, which GRUB reads as it is. For BIOS
that is the one partition of a disk whose first sectors hold GRUB, as grub-install leaves it; for UEFI it is
inside the application. What GRUB says goes to COM1.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import monitors

SECTOR, GAP = 512, 2048 * 512  #: bytes; what is before the first partition
MODULES = "serial terminal echo halt boot tar gzio configfile normal multiboot multiboot2 linux".split()
FIRMWARE_MODULES = {
    "i386-pc": ["biosdisk", "part_msdos", "linux16"],
    "x86_64-efi": ["memdisk", "chain", "fat", "part_msdos"],
}
ROOTS = {"i386-pc": "(hd0,msdos1)", "x86_64-efi": "(memdisk)"}
MODULE_COMMANDS = {"multiboot": "module", "multiboot2": "module2", "linux": "initrd", "linux16": "initrd16"}
#: what GRUB prints when it does not start the kernel; that it finds no screen is no error here
FAILS = (r"error: (?!no suitable video mode|Can't get controller info)[^\r\n]+[\r\n]", r"GRUB-RETURNED")

Command = Literal["multiboot", "multiboot2", "linux", "linux16"]


class Script(Protocol):
    """Commands for GRUB, and the files that they are about."""

    def config(self, root: str) -> str:
        """The commands, for files that lie at `root`."""

    def archive(self) -> bytes:
        """The files, as a tar archive."""


def by_shell(root: str) -> str:
    """What GRUB does first: file `commands` is for its shell, as grub.cfg is."""
    lines = ["serial --unit=0 --speed=115200", "terminal_output serial", f"set root={root}"]
    return "\n".join([*lines, "configfile /commands"]) + "\n"


def archive(files: Mapping[str, bytes]) -> bytes:
    """A tar archive of these files."""
    result = io.BytesIO()
    with tarfile.open(fileobj=result, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return result.getvalue()


@dataclass(frozen=True)
class Menu:
    """What a line of grub.cfg would say: each module with the arguments that follow its name."""

    command: Command
    kernel: Path
    cmdline: str = ""
    modules: Sequence[tuple[Path, str]] = ()

    def config(self, root: str) -> str:
        """The commands, for files that lie at `root`."""
        return by_shell(root)

    def archive(self) -> bytes:
        """The files, as a tar archive."""
        module = MODULE_COMMANDS[self.command]
        lines = [f"{self.command} /kernel {self.cmdline}".strip()]
        lines += [f"{module} /module{i} {text}".strip() for i, (_, text) in enumerate(self.modules)]
        lines += ["echo GRUB-BOOT", "boot", "echo GRUB-RETURNED", "halt"]
        files = {"kernel": self.kernel} | {f"module{i}": path for i, (path, _) in enumerate(self.modules)}
        contents = {name: path.read_bytes() for name, path in files.items()}
        return archive({"commands": "\n".join([*lines, ""]).encode(), **contents})


@dataclass(frozen=True)
class Grub:
    """grub-mkimage, the folder with a subfolder for each of GRUB's platforms, and that of OVMF."""

    mkimage: Path
    parts: Path
    ovmf: Path | None = None

    def bios(
        self, qemu: Path, menu: Script, folder: Path, *, memory: int = 128, options: Sequence[str] = ()
    ) -> list[str]:
        """QEMU's command that starts `menu` from a disk, which is made in `folder`. Memory in MiB.

        COM1 and port 0xE9 both come out on standard output.
        """
        drive = ["-drive", f"file={self.disk(menu, folder)},format=raw,if=ide"]
        return [*monitors.bare_machine(qemu, "pc", monitors.QEMU_CPU, memory), *_CONSOLE, *drive, *options]

    def disk(self, menu: Script, folder: Path) -> Path:
        """A disk, made in `folder`, from which a BIOS starts `menu`."""
        core = self._image("i386-pc", menu, folder)
        archive = menu.archive()
        archive += bytes(-len(archive) % SECTOR)
        sector = bytearray((self.parts / "i386-pc" / "boot.img").read_bytes())
        partition = b"\x80\0\0\0\x83\0\0\0" + (GAP // SECTOR).to_bytes(4, "little")
        partition += (len(archive) // SECTOR).to_bytes(4, "little")
        sector[0x1BE:0x200] = partition.ljust(64, b"\0") + b"\x55\xaa"
        disk = folder / "disk.img"
        disk.write_bytes((bytes(sector) + core).ljust(GAP, b"\0") + archive)
        return disk

    def efi(
        self, qemu: Path, menu: Script, folder: Path, *, memory: int = 512, options: Sequence[str] = ()
    ) -> list[str]:
        """The same by OVMF, which starts the application that is made in `folder`."""
        assert self.ovmf is not None
        application, variables = self.application(menu, folder), folder / "variables.fd"
        variables.write_bytes((self.ovmf / "OVMF_VARS_4M.fd").read_bytes())
        code = self.ovmf / "OVMF_CODE_4M.fd"
        flash = ["-drive", f"if=pflash,format=raw,readonly=on,file={code}"]
        flash += ["-drive", f"if=pflash,format=raw,file={variables}"]
        command = [*monitors.bare_machine(qemu, "q35", monitors.QEMU_CPU, memory), *_CONSOLE, *flash]
        return [*command, "-kernel", str(application), *options]

    def application(self, menu: Script, folder: Path) -> Path:
        """GRUB with `menu` in it, for 64-bit UEFI."""
        archive, application = folder / "files.tar", folder / "grub.efi"
        archive.write_bytes(menu.archive())
        application.write_bytes(self._image("x86_64-efi", menu, folder, "-m", str(archive)))
        return application

    def _image(self, platform: str, menu: Script, folder: Path, *options: str) -> bytes:
        """GRUB's core with the menu in it."""
        config, image = folder / "grub.cfg", folder / "grub.img"
        config.write_text(menu.config(ROOTS[platform]))
        command: list[str | Path] = [self.mkimage, "-d", self.parts / platform, "-O", platform, "-p", "/"]
        command += ["-c", config, "-o", image, *options, *MODULES, *FIRMWARE_MODULES[platform]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return image.read_bytes()


_CONSOLE = (
    "-chardev stdio,id=console,mux=on -serial chardev:console"
    " -device isa-debugcon,iobase=0xe9,chardev=console"
).split()
