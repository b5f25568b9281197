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
#: GRUB forgets an error when it reads the end of a disk, and then tells another: no file lies there
_END = bytes(1 << 16)


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
        return grub.archive({"commands": script.encode(), **files, "end": _END})


@dataclass(frozen=True)
class Answer:
    """`verdict`: "accept", "refuse" or "crash"; `text` is all that was printed about the file.

    `entries` are known of what was started: in which mode, as what was started says it, and where.
    """

    verdict: str
    text: str
    entries: tuple[tuple[int, int], ...] = ()

    @property
    def entry(self) -> int | None:
        """The first of them."""
        return self.entries[0][1] if self.entries else None

    @property
    def long_mode(self) -> bool:
        """Whether a Multiboot kernel was entered in it."""
        return bool(self.entries) and not self.entries[0][0]


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
        """What it says to one file, and where that is entered if its code tells it on port 0xEA."""
        text = self._run(Asked(command, [data], boot=True), folder, PATIENCE).split("CASE 0\n")[-1]
        entries = told(folder / _TOLD)
        if entries:
            return Answer("accept", text, entries)
        if "GRUB-RETURNED" in text:
            return Answer("refuse", text)
        return _answer(text)

    def _run(self, asked: Asked, folder: Path, patience: float) -> str:
        options = ["-chardev", f"file,id=told,path={folder / _TOLD}"]
        options += ["-device", "isa-debugcon,iobase=0xea,chardev=told"]
        options += ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
        make = self.grub.efi if self.efi else self.grub.bios
        command = make(self.qemu, asked, folder, options=options)
        timeout = patience * (3 if self.efi else 1)
        return run_until(command, ["ALL-DONE"], fail=["X64 Exception"], timeout=timeout).text


def told(path: Path) -> tuple[tuple[int, int], ...]:
    """What code says of itself: a byte for the mode and four for the address, each time it is entered."""
    said = path.read_bytes()
    return tuple(
        (said[at], int.from_bytes(said[at + 1 : at + 5], "little")) for at in range(0, len(said) - 4, 5)
    )


def _answer(text: str) -> Answer:
    if "ACCEPTED" in text:
        return Answer("accept", text)
    return Answer("refuse" if "error: " in text else "crash", text)
