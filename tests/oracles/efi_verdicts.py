"""What real firmware says to PE files: many in one start, loaded and started by an application of ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import efi_dump
from oracle import run_until
from ovmf import Ovmf

#: EFI_STATUS in EDK2's words: MdePkg/Library/BasePrintLib/PrintLibInternal.c
STATUS = {
    0: "Success",
    1: "Load Error",
    2: "Invalid Parameter",
    3: "Unsupported",
    9: "Out of Resources",
    14: "Not Found",
}
CRASH = "X64 Exception"
PATIENCE = 120  #: seconds
ALIVE = "entered at "  #: what the code of pe_files says, with a letter


@dataclass(frozen=True)
class Answer:
    """`verdict`: "accept", "refuse" or "crash"; `text` is all that was printed about the file."""

    verdict: str
    text: str

    @property
    def entered(self) -> str:
        """The letters of the places in pe_files' code at which it was entered."""
        return "".join(re.findall(rf"{ALIVE}(\w)", self.text))


@dataclass(frozen=True)
class Firmware:
    """OVMF that starts guest_efi/ask.c; or `shim`, which starts it, and then what it asks about."""

    ovmf: Ovmf
    qemu: Path
    asks: bytes
    shim: bytes = b""

    def ask(self, files: Sequence[bytes], folder: Path) -> list[Answer]:
        """What it says to each. One over which it dies costs another start for those behind it."""
        answers: list[Answer] = []
        while len(answers) < len(files):
            here = folder / f"from-{len(answers)}"
            text = self._run(files[len(answers) :], here)
            found = re.split(r"CASE \d+", text)[1:]
            assert found, text
            answers += [_answer(said) for said in found]
        return answers

    def _run(self, files: Sequence[bytes], folder: Path) -> str:
        folder.mkdir()
        program = folder / "ask.efi"
        program.write_bytes(self.shim or self.asks)
        command = self.ovmf.from_disk(self.qemu, program, folder, options=["-no-reboot"])
        for number, data in enumerate(files):
            (folder / "disk" / f"{number:03}").write_bytes(data)
        if self.shim:
            (folder / "disk/EFI/BOOT/grubx64.efi").write_bytes(self.asks)
        return run_until(command, ["ALL-DONE"], fail=[rf"{CRASH}[^\n]*\n"], timeout=PATIENCE).text


def firmware(ovmf: Ovmf, qemu: Path, gcc: Path, folder: Path, shim: bytes = b"") -> Firmware:
    """With the application compiled in `folder`."""
    sources = [efi_dump.SOURCE / name for name in ("ask_entry.S", "ask.c")]
    return Firmware(ovmf, qemu, efi_dump.compile_pe(gcc, sources, folder), shim)


def _answer(text: str) -> Answer:
    if ended := re.search(r"ENDED ([0-9a-f]{16})", text):
        number = int(ended[1], 16)
        said = f"{text}{STATUS.get(number & 0xFF, '')}"
        return Answer("accept" if ALIVE in text or not number >> 63 else "refuse", said)
    if "STARTING" in text:
        return Answer("crash", text)
    loaded = re.search(r"LOADED ([0-9a-f]{16})", text)
    return Answer("refuse", text + STATUS[int(loaded[1], 16) & 0xFF]) if loaded else Answer("crash", text)
