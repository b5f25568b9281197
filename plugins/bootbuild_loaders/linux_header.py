"""The setup header of a bzImage as loaders of Linux read it: fields at their offsets, nothing checked."""

from __future__ import annotations

from dataclasses import dataclass

from bootbuild_loaders.window import Window

# Documentation/arch/x86/boot.rst, "Details of Header Fields"
SECTOR = 512
LOADED_HIGH = 1  #: of loadflags
KERNEL_64, ABOVE_4G = 1, 2  #: of xloadflags
LOW, HIGH = 0x10000, 0x100000  #: where the protected-mode code of a zImage and of a bzImage goes
REAL_MODE = 0x90000  #: where the real-mode code of a zImage goes
ENTRY_16 = 0x200  #: bytes from its beginning to its entry
LOW_SIZE = REAL_MODE - LOW


@dataclass(frozen=True)
class SetupHeader:
    """What lies outside the file reads as zeros. Sizes in bytes, addresses physical."""

    named: bool  #: `HdrS` is there
    version: int
    setup_sects: int  #: as it stands: 0 is for 4
    boot_flag: int
    jump: int  #: the byte at 0x201, with its sign
    loadflags: int
    code32_start: int
    kernel_alignment: int
    relocatable: bool
    min_alignment: int
    xloadflags: int
    cmdline_size: int
    pref_address: int
    init_size: int

    @property
    def high(self) -> bool:
        """Protected-mode code that belongs at 1 MiB, by a protocol that has the flag."""
        return self.named and self.version >= 0x200 and bool(self.loadflags & LOADED_HIGH)

    @property
    def setup_size(self) -> int:
        """The real-mode code, its first sector included."""
        return ((self.setup_sects or 4) + 1) * SECTOR


def read(window: Window) -> SetupHeader:
    """The header of a file, of whatever kind that is."""
    jump = window.number(0x201, 1) or 0
    return SetupHeader(
        named=window.get(0x202, 4) == b"HdrS",
        version=window.u16(0x206),
        setup_sects=window.number(0x1F1, 1) or 0,
        boot_flag=window.u16(0x1FE),
        jump=jump - 256 if jump & 128 else jump,
        loadflags=window.number(0x211, 1) or 0,
        code32_start=window.u32(0x214),
        kernel_alignment=window.u32(0x230),
        relocatable=bool(window.number(0x234, 1)),
        min_alignment=window.number(0x235, 1) or 0,
        xloadflags=window.u16(0x236),
        cmdline_size=window.u32(0x238),
        pref_address=window.u32(0x258) | window.u32(0x25C) << 32,
        init_size=window.u32(0x260),
    )


def is_elf(window: Window) -> bool:
    """A file that no loader of Linux's protocol is asked about, unless it has the setup header as well."""
    return window.get(0, 4) == b"\x7fELF" and window.get(0x202, 4) != b"HdrS"
