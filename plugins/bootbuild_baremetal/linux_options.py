"""What a recipe may say under `[targets.linux]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

LONGEST_CMDLINE = 8191  #: bytes without the NUL: BB_MAX_STRINGS of bootbuild/front.h


@dataclass(frozen=True)
class LinuxOptions:
    """How the kernel is packed, and what its setup header says."""

    container: Literal["bzimage", "elf"] = "bzimage"  #: "elf" for monitors whose 64-bit Linux boot takes ELF
    compress: Literal["none", "lz4"] = "none"  #: of the kernel in the bzImage
    cmdline_size: int = 2047  #: the longest command line, in bytes
    initrd_addr_max: int = 0x7FFFFFFF  #: the highest address of an initrd's last byte
    header: Mapping[str, int] = field(default_factory=dict)  #: fields of a native bzImage that are set

    def __post_init__(self) -> None:
        if not 0 < self.cmdline_size <= LONGEST_CMDLINE:
            raise ValueError(f"cmdline_size is {self.cmdline_size}, not between 1 and {LONGEST_CMDLINE}")
        if not 1 << 20 <= self.initrd_addr_max < 1 << 32:
            raise ValueError(f"initrd_addr_max is {self.initrd_addr_max:#x}, not between 1 MiB and 4 GiB")
        if self.container == "elf" and self.compress != "none":
            raise ValueError("compress is of a bzImage: an ELF file is loaded as it is")
        wrong = [name for name, value in self.header.items() if value < 0]
        if wrong:
            raise ValueError(f"header has a negative {wrong[0]}")
