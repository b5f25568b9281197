"""What a recipe may say under `[targets.linux]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

LONGEST_CMDLINE = 8191  #: bytes without the NUL: BB_MAX_STRINGS of bootbuild/front.h


@dataclass(frozen=True)
class LinuxOptions:
    """How the kernel is packed, and what its setup header says."""

    container: Literal["bzimage", "elf"] = field(
        default="bzimage",
        metadata={"meaning": "`elf` for monitors whose 64-bit Linux boot takes ELF files only"},
    )
    compress: Literal["none", "lz4"] = field(
        default="none", metadata={"meaning": "how the kernel is packed in the bzImage"}
    )
    cmdline_size: int = field(
        default=2047, metadata={"meaning": f"the longest command line, in bytes, at most {LONGEST_CMDLINE}"}
    )
    initrd_addr_max: int = field(
        default=0x7FFFFFFF, metadata={"meaning": "the highest address that a byte of the initrd may have"}
    )
    header: Mapping[str, int] = field(
        default_factory=dict,
        metadata={"meaning": "of a kernel's own bzImage: fields of the setup header that are set"},
    )

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
