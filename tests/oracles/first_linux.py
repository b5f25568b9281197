"""A running Linux as the loader of the next: Debian's cloud kernel in QEMU, asked by kexec_file_load."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import monitors
from oracle import run_until

_FLAGS = (
    "-Os -s -static -nostdlib -nostartfiles -ffreestanding -fno-stack-protector -fcf-protection=none "
    "-mno-sse -Wall -Wextra -Werror -Wl,--build-id=none"
).split()
#: every word of every process goes to the console
CMDLINE = "console=ttyS0 panic=-1 printk.devkmsg=on"
MEMORY = 512  #: MiB
ERRNO = {22: "EINVAL", 8: "ENOEXEC", 99: "EADDRNOTAVAIL"}


@dataclass(frozen=True)
class Answer:
    """`verdict`: "accept", "refuse" or "crash"; `text` has what the kernel said, and the errno's name."""

    verdict: str
    text: str


@dataclass(frozen=True)
class FirstLinux:
    """The kernel, the /init of guest_linux/kexec.c, and QEMU with what goes behind its command."""

    qemu: Path
    kernel: Path
    init: Path

    def ask(self, files: Sequence[bytes], folder: Path) -> list[Answer]:
        """What it says to each file. One over which it crashes must be the last."""
        text = self._run({str(index): data for index, data in enumerate(files)}, folder, ["ALL-DONE"])
        found = re.split(r"CASE \d+\n", text)[1:]
        assert len(found) == len(files), text
        return [_answer(said) for said in found]

    def start(
        self,
        data: bytes,
        folder: Path,
        options: Sequence[str],
        marker: str,
        given: Mapping[str, bytes] = MappingProxyType({}),
    ) -> str:
        """What is printed when it starts the file, up to `marker`.

        `given`: the "initrd" and, with its NUL, the "cmdline" that it hands over.
        """
        return self._run({"start": data, **given}, folder, [marker], options)

    def _run(
        self, files: dict[str, bytes], folder: Path, markers: Sequence[str], options: Sequence[str] = ()
    ) -> str:
        import newc

        entries = [newc.Entry(name, 0o100644, data) for name, data in files.items()]
        initrd = folder / "initrd.cpio"
        initrd.write_bytes(
            newc.archive([*newc.DEVICES, newc.Entry("init", 0o100755, self.init.read_bytes()), *entries])
        )
        command = monitors.qemu_kernel(self.qemu, self.kernel, memory=MEMORY, cmdline=CMDLINE, initrd=initrd)
        text = run_until([*command, *options], markers, timeout=60).text
        return re.sub(r"^\[ *[0-9.]+\] ", "", text, flags=re.MULTILINE)


def compiled(gcc: Path, scripts: Path, folder: Path) -> Path:
    """The /init; `scripts` has newc.py."""
    sys.path.append(str(scripts))
    source, program = Path(__file__).parent / "guest_linux/kexec.c", folder / "init"
    subprocess.run([gcc, *_FLAGS, "-o", program, source], check=True)
    return program


def _answer(text: str) -> Answer:
    found = re.search(r"RESULT (-?\d+)", text)
    if found is None:
        return Answer("crash", text)
    number = int(found[1])
    return Answer("accept" if number == 0 else "refuse", f"{text}{ERRNO.get(-number, '')}")
