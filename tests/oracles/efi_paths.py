"""What may stand between firmware and an application: systemd-boot's entry, GRUB's chainloader, shim.

Each as a distribution would set it up: files on a FAT disk, and OVMF's command.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import grub
from grub import Grub
from ovmf import Ovmf

PROGRAM = "EFI/acme/program.efi"  #: where the application is on the disk
#: what systemd-boot and GRUB say when they do not start it
FAILS = (r"Failed to (?:execute|start|load)[^\r\n]*", r"Error (?:loading|preparing)[^\r\n]*", *grub.FAILS)


@dataclass(frozen=True)
class Started:
    """An application with what an entry says of it."""

    application: Path
    cmdline: str = ""
    initrd: Path | None = None


class Loader(Protocol):
    """What stands between the firmware and the application."""

    def command(self, ovmf: Ovmf, qemu: Path, started: Started, folder: Path, memory: int = 512) -> list[str]:
        """QEMU's, which starts the loader from a disk that is made in `folder`. Memory in MiB."""


@dataclass(frozen=True)
class SystemdBoot:
    """systemd-boot, the program."""

    program: Path

    def command(self, ovmf: Ovmf, qemu: Path, started: Started, folder: Path, memory: int = 512) -> list[str]:
        """With one entry, as kernel-install writes it: `linux` is the key beside which `initrd` counts."""
        lines = ["title Acme", "version 1", f"linux /{PROGRAM}", f"options {started.cmdline}"]
        files: dict[str, Path | str] = {PROGRAM: started.application}
        if started.initrd:
            lines.append("initrd /EFI/acme/initrd")
            files["EFI/acme/initrd"] = started.initrd
        files["loader/entries/acme.conf"] = "\n".join([*lines, ""])
        files["loader/loader.conf"] = "timeout 0\ndefault acme.conf\n"
        return ovmf.from_disk(qemu, self.program, folder, files=files, memory=memory)


@dataclass(frozen=True)
class Chainloader:
    """GRUB, made into an application."""

    grub: Grub

    def command(self, ovmf: Ovmf, qemu: Path, started: Started, folder: Path, memory: int = 512) -> list[str]:
        """With a grub.cfg that names the program on the disk, its command line behind, and no initrd."""
        chain = f"chainloader /{PROGRAM} {started.cmdline}".strip()
        lines = ["set root=(hd0,msdos1)", chain, "boot", "echo GRUB-RETURNED", "halt", ""]
        application = self.grub.application(_Script("\n".join(lines)), folder)
        return ovmf.from_disk(qemu, application, folder, files={PROGRAM: started.application}, memory=memory)


@dataclass(frozen=True)
class Shim:
    """shim, the program: it loads and starts the application by itself, as its own image."""

    program: bytes

    def command(self, ovmf: Ovmf, qemu: Path, started: Started, folder: Path, memory: int = 512) -> list[str]:
        """Without a command line or an initrd: where there are boot options they are shim's."""
        shim = folder / "shim.efi"
        shim.write_bytes(self.program)
        files = {"EFI/BOOT/grubx64.efi": started.application}
        return ovmf.from_disk(qemu, shim, folder, files=files, memory=memory)


@dataclass(frozen=True)
class _Script:
    """Commands about files of the disk."""

    commands: str

    def config(self, root: str) -> str:
        return grub.by_shell(root)

    def archive(self) -> bytes:
        return grub.archive({"commands": self.commands.encode()})
