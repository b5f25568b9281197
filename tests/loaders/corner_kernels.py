"""Kernels at the edges of what loaders take: the tiny ELF with one thing changed, and a bzImage around it."""

from __future__ import annotations

import struct
from typing import Any

from tiny_elf import HIGH, make, note

START = 0x100000  #: the entry that every file means, unless its row says otherwise
END = 0x101100  #: physical end of the image
GARBAGE = b"\0.note.gnu.build-id"  #: what lies behind the notes, as a section header string table does
FEATURES, SUPPORTED, PHYS32 = 10, 17, 18
XEN_VERSION, GUEST_OS, LOADER, VIRT_BASE, ENTRY, HYPERCALL, PADDR_OFFSET, INIT_P2M = 5, 6, 8, 3, 1, 2, 4, 15


def u32(value: int) -> bytes:
    """A number of 4 bytes."""
    return struct.pack("<I", value & 0xFFFFFFFF)


def u64(value: int) -> bytes:
    """A number of 8 bytes."""
    return struct.pack("<Q", value & (1 << 64) - 1)


def xen(kind: int, desc: bytes, owner: bytes = b"Xen\0", align: int = 4) -> bytes:
    """A note of Xen's, or of another owner."""
    return note(owner, kind, desc, align)


def apart(owner: bytes, kind: int, desc: bytes) -> bytes:
    """A note whose name and contents are each padded to 8 bytes, as QEMU reads it with p_align 8."""
    head = u32(len(owner)) + u32(len(desc)) + u32(kind)
    return head + owner.ljust(-(-len(owner) // 8) * 8, b"\0") + desc.ljust(-(-len(desc) // 8) * 8, b"\0")


ENTRY32 = xen(PHYS32, u32(START))
BUILD_ID = note(b"GNU\0", 3, b"\xaa" * 20)
PROPERTY = note(b"GNU\0", 5, b"\x02\0\0\xc0\x04\0\0\0\1\0\0\0")
PROPERTY_8 = note(b"GNU\0", 5, b"\x02\0\0\xc0\x04\0\0\0\1\0\0\0", 8)
#: A section header string table that names section 1 `__xen_guest`, and that section's contents.
GUEST_SECTION = {
    0x300: b"\0" * 0x10,
    0x480: b"GUEST_OS=tiny,XEN_VER=xen-3.0,LOADER=generic,VIRT_BASE=0xffffffff80000000,"
    b"ELF_PADDR_OFFSET=0x0,VIRT_ENTRY=0xffffffff80100000\0",
    0x540: b"\0__xen_guest\0",
}
#: More notes than any model follows.
MANY = xen(1, b"", b"") * 300_000 + ENTRY32
#: struct xen_bin_image_table (xg_dom_binloader.c) for code at START.
BIN_TABLE = (
    u32(0x336EC578)
    + u32(0x10000)
    + u32(-0x336EC578 - 0x10000)
    + b"".join(map(u32, (START + 0x40, START, 0, 0, START + 0x44)))
)


def kernel(
    notes: bytes = ENTRY32,
    align: int = 4,
    *,
    bits: int = 64,
    head: dict[str, int] | None = None,
    code: dict[str, int] | None = None,
    data: dict[str, int] | None = None,
    noted: dict[str, int] | None = None,
    more: tuple[dict[str, int], ...] = (),
    sections: dict[int, dict[str, int]] | None = None,
    parts: dict[int, bytes] | None = None,
    ident: dict[int, int] | None = None,
    order: tuple[int, ...] = (),
) -> bytes:
    """A kernel with other notes; fields of its headers changed: ELF, the two PT_LOADs, PT_NOTE, sections.

    `more`: further program headers, each a copy of the PT_NOTE with changes. `parts`: bytes by file offset.
    `order`: the program headers in this order.
    """
    elf = make(bits)
    elf.notes(notes, align)
    elf.parts |= {0x200: b"\x0f\x0b" * 0x40, 0x400: notes + GARBAGE}  # ud2 says where it was entered
    for phdr, changes in zip(elf.phdrs, (code, data, noted), strict=True):
        phdr.update(changes or {})
    elf.phdrs += [elf.phdrs[2] | changes for changes in more]
    elf.phdrs = [elf.phdrs[index] for index in order] or elf.phdrs
    elf.ehdr["e_phnum"] = len(elf.phdrs)
    elf.ehdr |= head or {}
    for index, changes in (sections or {}).items():
        elf.shdrs[index] |= changes
    elf.parts |= parts or {}
    for at, value in (ident or {}).items():
        elf.ident[at] = value
    return bytes(elf)


def pv(
    *,
    without: tuple[int, ...] = (),
    bits: int = 64,
    more: bytes = b"",
    phys32: bool = False,
    values: dict[int, bytes] | None = None,
    **changes: Any,
) -> bytes:
    """A PV kernel, linked high; `values` has other contents for some notes, `more` notes behind them."""
    number = u64 if bits == 64 else u32
    contents = {
        GUEST_OS: b"tiny\0",
        LOADER: b"generic\0",
        XEN_VERSION: b"xen-3.0\0",
        VIRT_BASE: number(HIGH[bits]),
        ENTRY: number(HIGH[bits] + START),
    } | (values or {})
    notes = b"".join(xen(kind, desc) for kind, desc in contents.items() if kind not in without)
    return kernel(notes + more + (ENTRY32 if phys32 else b""), bits=bits, **changes)


def multiboot(flags: int = 0, *addresses: int) -> bytes:
    """A Multiboot 1 header."""
    header = u32(0x1BADB002) + u32(flags) + u32(-0x1BADB002 - flags)
    return header + b"".join(u32(address) for address in addresses)


def bzimage(
    payload: bytes, *, version: int = 0x20F, loadflags: int = 1, magic: bytes = b"HdrS", offset: int = 0
) -> bytes:
    """A setup header (boot.rst) with one sector of setup code, and a payload behind it.

    `offset`: payload_offset; below 0 the payload lies before the end of the setup code, and u32 wraps.
    """
    head = bytearray(0x400 + offset)
    head[0x1F1] = 1
    head[0x1FE:0x200] = b"\x55\xaa"
    head[0x202:0x206] = magic
    head[0x206:0x208] = struct.pack("<H", version)
    head[0x211] = loadflags
    head[0x214:0x218] = u32(START)
    head[0x248:0x250] = u32(offset) + u32(len(payload))
    return bytes(head) + payload


def second(at: int, notes: bytes, align: int = 4) -> dict[str, Any]:
    """Arguments of `kernel` for a second PT_NOTE."""
    size = {"p_offset": at, "p_filesz": len(notes), "p_memsz": len(notes), "p_align": align}
    return {"more": (size,), "parts": {at: notes}}


def cut(data: bytes, size: int) -> bytes:
    """The first `size` bytes; from the end if negative."""
    return data[:size]
