"""What real GRUB says to kernel files: many in one boot up to what it would start, or one that is started."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grub
from grub import Command, Grub
from oracle import run_until

PATIENCE = 8.0  #: seconds that one boot of GRUB may take after which it hangs, times what a firmware takes
_TOLD = Path("told")


@dataclass(frozen=True)
class Asked:
    """A command of grub.cfg about several files, which are not started; or about one, which is."""

    command: Command
    files: Sequence[bytes]
    boot: bool = False

    def config(self, root: str) -> str:
        """Only the shell knows `if`."""
        return grub.by_shell(root)

    def archive(self) -> bytes:
        """The files, as a tar archive."""
        lines = []
        for index in range(len(self.files)):
            boot = "boot; echo GRUB-RETURNED" if self.boot else "true"
            lines.append(f"echo CASE {index}")
            lines.append(f"if {self.command} /{index}; then echo ACCEPTED; {boot}; fi")
        script = "\n".join([*lines, "echo ALL-DONE", "halt"]) + "\n"
        files = {str(index): data for index, data in enumerate(self.files)}
        return grub.archive({"commands": script.encode(), **files})


@dataclass(frozen=True)
class Answer:
    """`verdict`: "accept", "refuse" or "crash"; `text` is all that was printed about the file.

    `entry` and `long_mode` are known of what was started.
    """

    verdict: str
    text: str
    entry: int | None = None
    long_mode: bool = False


@dataclass(frozen=True)
class Oracle:
    """One build of GRUB in QEMU."""

    grub: Grub
    qemu: Path
    efi: bool

    def ask(
        self, command: Command, files: Sequence[bytes], folder: Path, patience: float = PATIENCE
    ) -> list[Answer]:
        """What it says to each file, none of which is started.

        GRUB may hang over a file, or when it has to forget it: it is started anew for the next one then, and
        a file over which it hangs as the first that it is given is the one that it hangs over.
        """
        answers: list[Answer] = []
        while len(answers) < len(files):
            text = self._run(Asked(command, files[len(answers) :]), folder, patience)
            found = re.split(r"CASE \d+\n", text)[1:]
            if "ALL-DONE" not in text and len(found) > 1:
                found.pop()  # the one before may be to blame
            answers += [_answer(said) for said in found]
            assert found, text
        return answers

    def start(self, command: Command, data: bytes, folder: Path) -> Answer:
        """What it says to one file, and where that is entered if it is one of multiboot_kernels."""
        text = self._run(Asked(command, [data], boot=True), folder, PATIENCE).split("CASE 0\n")[-1]
        told = (folder / _TOLD).read_bytes()
        if len(told) == 5:
            return Answer("accept", text, int.from_bytes(told[1:], "little"), long_mode=not told[0])
        if "GRUB-RETURNED" in text:
            return Answer("refuse", text)
        return _answer(text)

    def _run(self, asked: Asked, folder: Path, patience: float) -> str:
        options = ["-chardev", f"file,id=told,path={folder / _TOLD}"]
        options += ["-device", "isa-debugcon,iobase=0xea,chardev=told"]
        options += ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
        make = self.grub.efi if self.efi else self.grub.bios
        command = make(self.qemu, asked, folder, options=options)
        return run_until(command, ["ALL-DONE"], timeout=patience * (3 if self.efi else 1)).text


def _answer(text: str) -> Answer:
    if "ACCEPTED" in text:
        return Answer("accept", text)
    return Answer("refuse" if "error: " in text else "crash", text)
