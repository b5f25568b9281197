"""A minimal PVH guest in machine code, with one place to break it: every broken image is a mutation of it.

The code is assembled by hand, so that the images exist without a compiler. Unmutated it does what a PVH
guest must: a stack of its own, a GDT of its own, every segment reloaded, then its startup path.
"""

from __future__ import annotations

import struct

from bootbuild.api.guest import Guest
from bootbuild.boot.run import Subject, code_at
from bootbuild.formats.elf_read import read_elf
from bootbuild.model.content import Content, MemoryContent
from bootbuild.model.machine import Offer
from bootbuild.model.payload import ElfImage, Startup
from bootbuild.model.span import Span
from tiny_file import Load, elf_file

BASE = 0x100000  #: where the image is linked and loaded
ENTRY, STARTUP, GDT, PAGE, BSS, STACK_TOP = (
    BASE + 0x1000,
    BASE + 0x1800,
    BASE + 0x1C00,
    BASE + 0x2000,
    BASE + 0x3000,
    BASE + 0x4000,
)
_MEMORY = 0x4000  #: bytes of the one segment in memory

_GDT = struct.pack("<4Q", 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0)


def u32(value: int) -> bytes:
    """An immediate or address operand."""
    return struct.pack("<I", value & 0xFFFFFFFF)


OWN_STACK = b"\xbc" + u32(STACK_TOP)  # mov $STACK_TOP, %esp
OWN_GDT = (
    b"\x0f\x01\x15" + u32(GDT + 0x40)  # lgdt GDT+0x40
    + b"\xea" + u32(0) + b"\x08\x00"  # ljmp $8, $next: patched below
    + b"\x66\xb8\x10\x00"  # next: mov $0x10, %ax
    + b"\x8e\xd8\x8e\xc0\x8e\xd0\x8e\xe0\x8e\xe8"  # mov %ax, %ds %es %ss %fs %gs
)  # fmt: skip


def guest(
    *,
    first: bytes = b"",
    later: bytes = b"",
    startup: bytes = b"\xfa\xf4\xeb\xfd",
    page: bytes = b"",
    bits: int = 64,
) -> bytes:
    """An ELF file: `first` runs before anything else, `later` on own stack and GDT, then `startup`.

    Unmutated startup code: cli; hlt; jmp back. `page`: up to 4 KiB of data at PAGE.
    `bits`: of the file's class; the code is the same.
    """
    code = bytearray(first + b"\xfa\xfc" + OWN_STACK)  # cli; cld; mov $STACK_TOP, %esp
    jump = len(code) + 7
    code += OWN_GDT
    code[jump + 1 : jump + 5] = u32(ENTRY + jump + 7)
    code += later
    code += b"\xe9" + u32(STARTUP - (ENTRY + len(code) + 5))  # jmp startup
    assert len(code) <= STARTUP - ENTRY
    image = bytearray(_MEMORY)
    image[ENTRY - BASE : ENTRY - BASE + len(code)] = code
    image[STARTUP - BASE : STARTUP - BASE + len(startup)] = startup
    image[GDT - BASE : GDT - BASE + len(_GDT)] = _GDT
    image[GDT - BASE + 0x40 : GDT - BASE + 0x46] = struct.pack("<HI", len(_GDT) - 1, GDT)
    image[PAGE - BASE : PAGE - BASE + len(page)] = page
    # ENTRY and what follows, .bss from BSS up to _MEMORY
    load = Load(ENTRY, ENTRY, bytes(image[0x1000:0x3000]), _MEMORY - 0x1000, 0x1000)
    return elf_file(bits, ENTRY, load, struct.pack("<III4sI", 4, 4, 18, b"Xen\0", ENTRY))


def with_bss(data: bytes, span: Span) -> bytes:
    """`guest` of class ELF64 with one more segment, of zeros only."""
    out = bytearray(data)
    fields = (1, 6, 0x1000, span.start, span.start, 0, span.size, 0x1000)
    struct.pack_into("<IIQQQQQQ", out, 64 + 2 * 56, *fields)
    struct.pack_into("<H", out, 56, 3)  # e_phnum
    return bytes(out)


def image_of(data: bytes) -> ElfImage:
    """The file, read as the boot side reads it."""
    return read_elf(MemoryContent(data), "guest")


def subject(
    data: bytes,
    *,
    cmdline: bytes = b"",
    expect: bytes = b"",
    budget: int = 20_000_000,
    timeout: float = 30.0,
    guest_protocol: Guest | None = None,
    modules: tuple[tuple[str, Content, bytes], ...] = (),
) -> Subject:
    """What is to be proved of a guest: reach STARTUP; by default no handover protocol is known."""
    image = image_of(data)
    startup = Startup("startup_32", STARTUP, STARTUP, 32)
    return Subject(
        image=image,
        startup=startup,
        guest=guest_protocol,
        offer=Offer(cmdline=cmdline, modules=modules),
        stub=None,
        symbols={},
        expect=expect,
        budget=budget,
        timeout=timeout,
        code=code_at(image, startup),
    )
