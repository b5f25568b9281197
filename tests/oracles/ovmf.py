"""Real UEFI firmware: OVMF in QEMU, which starts an application as QEMU's -kernel, or from a disk."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import monitors

#: what OVMF says of an application that it does not start, or that comes back
FAILS = (
    r"failed to (?:load|start)[^\r\n]*",
    r"X64 Exception Type[^\r\n]*",
    r"bootbuild: cannot start[^\r\n]*",
)

_CONSOLE = (
    "-chardev stdio,id=console,mux=on -serial chardev:console"
    " -device isa-debugcon,iobase=0xe9,chardev=console"
).split()


@dataclass(frozen=True)
class Ovmf:
    """Debian's folder of OVMF."""

    parts: Path

    _code = "OVMF_CODE_4M.fd"
    _variables = "OVMF_VARS_4M.fd"
    _board = "q35"

    def by_kernel(
        self,
        qemu: Path,
        application: Path,
        folder: Path,
        *,
        cmdline: str = "",
        initrd: Path | None = None,
        memory: int = 512,
        options: Sequence[str] = (),
    ) -> list[str]:
        """QEMU's command; `cmdline` becomes LoadOptions, `initrd` is had by LoadFile2. Memory in MiB."""
        command = [*self._machine(qemu, folder, memory), "-kernel", str(application)]
        command += ["-append", cmdline] if cmdline else []
        command += ["-initrd", str(initrd)] if initrd else []
        return [*command, *options]

    def from_disk(
        self,
        qemu: Path,
        application: Path,
        folder: Path,
        *,
        name: str = "EFI/BOOT/BOOTX64.EFI",
        files: Mapping[str, Path | str] | None = None,
        memory: int = 512,
        options: Sequence[str] = (),
    ) -> list[str]:
        """The same from a FAT disk, by the name that firmware looks for; by another it is for its shell.

        `files`: what else is on the disk, each as a file's copy or as its text.
        """
        for file, source in {name: application, **(files or {})}.items():
            path = folder / "disk" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, str):
                path.write_text(source)
            else:
                shutil.copyfile(source, path)
        return [*self._machine(qemu, folder, memory), *_disk(folder / "disk", 0), *options]

    def next_disk(self, application: Path, folder: Path) -> list[str]:
        """Options for a disk from which the firmware boots if the first one's application comes back."""
        home = folder / "next" / "EFI" / "BOOT"
        home.mkdir(parents=True)
        shutil.copyfile(application, home / "BOOTX64.EFI")
        return _disk(folder / "next", 1)

    def _machine(self, qemu: Path, folder: Path, memory: int) -> list[str]:
        variables = folder / "variables.fd"
        shutil.copyfile(self.parts / self._variables, variables)
        flash = ["-drive", f"if=pflash,format=raw,readonly=on,file={self.parts / self._code}"]
        flash += ["-drive", f"if=pflash,format=raw,file={variables}"]
        machine = monitors.bare_machine(qemu, self._board, monitors.QEMU_CPU, memory)
        return [*machine, "-nic", "none", *_CONSOLE, *flash]


@dataclass(frozen=True)
class SecureOvmf(Ovmf):
    """The same with Secure Boot on: it starts what is signed with a key that Debian has for tests."""

    sbsign: Path
    key: Path  #: in PEM, without a password; the certificate as well
    certificate: Path

    _code = "OVMF_CODE_4M.secboot.fd"
    _variables = "OVMF_VARS_4M.snakeoil.fd"
    _board = "q35,smm=on"

    def signed(self, application: Path, folder: Path) -> Path:
        """A copy with a signature."""
        to = folder / f"{application.name}.signed"
        command: list[str | Path] = [
            self.sbsign,
            "--key",
            self.key,
            "--cert",
            self.certificate,
            "--output",
            to,
            application,
        ]
        subprocess.run(command, check=True, capture_output=True)
        return to


def _disk(folder: Path, order: int) -> list[str]:
    drive = f"file=fat:rw:{folder},format=raw,if=none,id={folder.name}"
    return ["-drive", drive, "-device", f"virtio-blk-pci,drive={folder.name},bootindex={order}"]
