"""What a command line means to FreeBSD: the kernel's environment and flags, a module's name and type."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: RB_* of sys/sys/reboot.h by the flag and the variable that set it (sys/kern/subr_boot.c)
HOWTO = {
    ("a", "boot_askname"): 0x1,
    ("s", "boot_single"): 0x2,
    ("r", "boot_dfltroot"): 0x20,
    ("d", "boot_ddb"): 0x40,
    ("v", "boot_verbose"): 0x800,
    ("h", "boot_serial"): 0x1000,
    ("C", "boot_cdrom"): 0x2000,
    ("g", "boot_gdb"): 0x8000,
    ("m", "boot_mute"): 0x10000,
    ("p", "boot_pause"): 0x100000,
    ("D", "boot_multicons"): 0x20000000,
}
SYMBOLS = "symbols"  #: the type of a module that is the kernel's symbol tables


def environment(cmdline: bytes, rsdp: int) -> tuple[dict[bytes, bytes], int]:
    """The kernel's environment and its flags."""
    variables = {b"acpi.rsdp": b"%#018x" % rsdp} if rsdp else {}
    howto = 0
    for word in re.split(rb"[ \t\n]+", cmdline.strip(b" \t\n")):
        if word.startswith(b"-"):
            letters, speed, baud = word[1:].partition(b"S")
            howto |= sum(bit for (flag, _), bit in HOWTO.items() if flag.encode() in letters)
            if speed:
                variables[b"comconsole_speed"] = baud
        elif word:
            name, equals, value = word.partition(b"=")
            variables[name] = value if equals else b"1"
    for (_, name), bit in HOWTO.items():
        if variables.get(name.encode(), b"no").lower() != b"no":
            howto |= bit
    return variables, howto


@dataclass(frozen=True)
class Command:
    """What a module's command line, `-t TYPE NAME ARGUMENTS`, says of it."""

    type: str
    name: str
    arguments: str


def command(cmdline: bytes) -> Command:
    """As the loader's `load -t` has it; what is absent is an initrd of type mfs_root."""
    match = re.fullmatch(r" *(?:-t +([^ ]*) *)?([^ ]*) *(.*)", cmdline.decode("utf-8", "replace"), re.DOTALL)
    assert match is not None  # it matches every text
    kind, name, arguments = match.groups()
    return Command("mfs_root" if kind is None else kind, name or "initrd", arguments)
