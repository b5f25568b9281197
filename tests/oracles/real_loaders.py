"""What the real programs say to a kernel file: QEMU, libxenguest, Xen with its dom0, grub-file."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import monitors
from oracle import run_until

#: fw_cfg, the device through which QEMU hands the kernel to its firmware: docs/specs/fw_cfg.rst
_SELECT, _DATA = 0x510, 0x511
KERNEL_ENTRY, SETUP_ADDRESS = 0x10, 0x16  #: numbers in it: the ELF's entry, where Linux's real-mode code goes
_UP = "Serial input to DOM0"  #: Xen's last words before it starts dom0
_FATAL = "FATAL (PAGE FAULT|TRAP)"


@dataclass(frozen=True)
class Answer:
    """`verdict`: "accept", "refuse" or "crash"; `entry` where it is known; `text`: all that was printed."""

    verdict: str
    entry: int | None
    text: str


def ask_qemu(qemu: Path, kernel: Path, patience: float = 60, number: int = KERNEL_ENTRY) -> Answer:
    """`-kernel` up to the first instruction of the firmware; the entry is what that would find in fw_cfg.

    KERNEL_ENTRY is 0 where the Linux protocol is used. "crash" also means that it did not come to an end in
    `patience` seconds, which takes 0.1 of a file without gigabytes of .bss.
    """
    command = [str(qemu), "-S", "-accel", "tcg", "-nodefaults", "-display", "none", "-monitor", "stdio"]
    script = f"o /h {_SELECT:#x} {number:#x}\n" + f"i /b {_DATA:#x}\n" * 4 + "quit\n"
    try:
        done = subprocess.run(
            [*command, "-kernel", str(kernel)],
            input=script.encode(),
            capture_output=True,
            timeout=patience,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Answer("crash", None, "")
    text = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode:
        return Answer("crash" if done.returncode < 0 else "refuse", None, text)
    read = re.findall(rf"portb\[{_DATA:#06x}\] = (0x[0-9a-f]+)", text)
    assert len(read) == 4, text
    return Answer("accept", sum(int(byte, 16) << 8 * i for i, byte in enumerate(read)), text)


def ask_toolstack(parser: Path, boot: str, kernel: Path) -> Answer:
    """libxenguest, through the program made of toolstack_parser.c. No entry where libelf has no voice."""
    done = subprocess.run([parser, boot, kernel], capture_output=True, timeout=20, check=False)
    text = done.stdout.decode(errors="replace")
    assert done.returncode == 0, text + done.stderr.decode(errors="replace")
    entries = re.findall(r"virt_entry +=  *(0x[0-9a-f]+)", text)
    accepted = text.endswith("\naccept\n")
    known = entries and accepted and not by_hvm_generic(text)
    return Answer("accept" if accepted else "refuse", int(entries[-1], 16) if known else None, text)


def by_hvm_generic(text: str) -> bool:
    """Whether libxenguest's loader for HVM firmware took the file, and with it all that it says."""
    return bool(re.search(r"HVM-generic loader \.\.\. \n.*probe OK", text)) and text.endswith("\naccept\n")


def ask_xen(qemu: Path, xen: Path, boot: str, kernel: Path, stops: bool) -> Answer:
    """The hypervisor, with the kernel as its dom0; the entry is where that stopped.

    `stops` says that the kernel is all ud2 where it is entered: else it runs on, and is not waited for.
    """
    command = monitors.xen_dom0(qemu, xen, kernel, pvh=boot == "pvh", xen_options="noreboot")
    ends = r"Hardware Dom0 (crashed|shutdown)|Manual reset" + ("" if stops else f"|{_UP}")
    text = run_until(command, [ends], timeout=30).text
    if _UP not in text:
        return Answer("crash" if re.search(_FATAL, text) else "refuse", None, text)
    if not stops:
        return Answer("accept", None, text)
    stopped = re.search(r"^\(XEN\) RIP: +[0-9a-f]+:\[<([0-9a-f]+)>\]", text.split(_UP)[1], re.MULTILINE)
    return Answer("accept", int(stopped[1], 16) if stopped else None, text)


def ask_grub_file(grub_file: Path, question: str, kernel: Path) -> bool | None:
    """Yes or no; None where the program died."""
    done = subprocess.run([grub_file, question, kernel], capture_output=True, timeout=20, check=False)
    return None if done.returncode < 0 else done.returncode == 0
