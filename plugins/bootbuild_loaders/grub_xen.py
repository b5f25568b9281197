"""A kernel as grub-file reads it for Xen's sake: an ELF, or one in a bzImage, and the notes of owner Xen.

Follows grub-core/kern/elf.c and grub-core/loader/i386/xen_file*.c of GRUB 2.06.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bootbuild.api import MemoryContent, decompress
from bootbuild_loaders import rules
from bootbuild_loaders.window import Window, packed

LINUX_HEADER = 0x268  #: sizeof(struct linux_i386_kernel_header)
EHDR = 64  #: of either class: GRUB reads the union
PT_NOTE, SHT_NOTE = 4, 7
LOADER, PAE_MODE = 8, 9  #: xen/include/public/elfnote.h
PAE_YES = (b"yes", b"bimodal", b"yes,bimodal")
HEAP = 1 << 17  #: bytes behind what was read that are the program's own, or so
READ = frozenset({1, 2, 3, 4, LOADER, 15, 16})  #: numeric notes, and LOADER; PAE_MODE only of a 32-bit kernel


class No(Exception):
    """The answer is no, for `rule`; with RUNS_OUT there is none, since the program dies."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


def _elf(window: Window) -> Window:
    """grub_xen_file: the ELF, or that in a bzImage's payload."""
    try:
        return _checked(window)
    except No as no:
        if window.size < LINUX_HEADER or window.get(0x202, 4) != b"HdrS":
            raise
        if window.get(0x1FE, 2) != b"\x55\xaa" or window.u16(0x206) < 0x208:
            raise No(rules.BZIMAGE) from no
    start = (window.get(0x1F1, 1)[0] + 1) * 512 + window.u32(0x248) & 0xFFFFFFFF  # a u32 there, too
    size = window.u32(0x24C)
    if size < 6 or start + 6 > window.size:
        raise No(rules.PAYLOAD)
    head = window.get(start, 6)
    if head.startswith(b"\x89LZO"):
        raise No(rules.NOT_JUDGED)
    name = next(
        (n for n, magic in (("gzip", b"\x1f\x8b"), ("xz", b"\xfd7zXZ\0")) if head.startswith(magic)), ""
    )
    try:
        payload = packed(window.content, start, size)
        return _checked(Window(decompress(name, payload) if name else MemoryContent(payload)))
    except (No, ValueError):
        raise No(rules.PAYLOAD) from None


def _checked(window: Window) -> Window:
    """grub_elf_check_header."""
    ehdr = window.get(0, EHDR)
    if len(ehdr) < EHDR or ehdr[:4] != b"\x7fELF" or ehdr[6] != 1:
        raise No(rules.NOT_A_KERNEL)
    if ehdr[4] not in (1, 2) or ehdr[5] != 1 or ehdr[20:24] != b"\1\0\0\0":
        raise No(rules.MACHINE)
    return window


def xen_arch(file: Window) -> str:
    """grub_xen_get_info: "x86_64", "i386" or "i386_pae". Raises No.

    Notes of PT_NOTE, then of SHT_NOTE, then the section `__xen_guest`.
    """
    window = _elf(file)
    wide, machine = window.get(4, 1) == b"\2", window.u16(18)
    if (wide, machine) not in ((True, 62), (False, 3)):
        raise No(rules.MACHINE)
    arch, noted = "x86_64" if wide else "i386", False
    for offset, size in _note_segments(window, wide):
        found, arch = _parse_notes(window, offset, size, arch)
        noted = noted or found
    if noted:
        return arch
    sections = list(_sections(window, wide))
    for section in sections:
        if section.type == SHT_NOTE:
            found, arch = _parse_notes(window, section.offset, section.size, arch)
            noted = noted or found
    return arch if noted else _guest_section(window, wide, sections, arch)


def _note_segments(window: Window, wide: bool) -> Iterator[tuple[int, int]]:
    """Entries as long as the class has them, in a table that is as long as e_phentsize says."""
    at = _number(window, 32 if wide else 28, wide)
    entry = 56 if wide else 32
    count, stated = window.u16(56 if wide else 44), window.u16(54 if wide else 42)
    if at > window.size or at + count * stated > window.size:
        raise No(rules.HEADERS_OUTSIDE)
    if count * entry > count * stated + HEAP:
        raise No(rules.RUNS_OUT)
    table = window.get(at, count * min(stated, entry)).ljust(count * entry, b"\0")
    for start in range(0, count * entry, entry):
        if table[start : start + 4] == PT_NOTE.to_bytes(4, "little"):
            raw = table[start : start + entry]
            if wide:
                yield int.from_bytes(raw[8:16], "little"), int.from_bytes(raw[32:40], "little")
            else:
                yield int.from_bytes(raw[4:8], "little"), int.from_bytes(raw[16:20], "little")


def _number(window: Window, offset: int, wide: bool) -> int:
    return int.from_bytes(window.get(offset, 8 if wide else 4), "little")


@dataclass(frozen=True)
class Section:
    """What is asked of a section header."""

    name: int
    type: int
    offset: int
    size: int


def _sections(window: Window, wide: bool) -> Iterator[Section]:
    at = _number(window, 40 if wide else 32, wide)
    size, count = window.u16(58 if wide else 46), window.u16(60 if wide else 48)
    if not size * count:
        raise No(rules.NO_NOTES)
    if at > window.size or at + size * count > window.size:
        raise No(rules.HEADERS_OUTSIDE)
    end = at + size * count
    for start in range(at, end, size):
        header = window.get(start, min(64, end - start)).ljust(64, b"\0")
        name, kind = struct.unpack_from("<II", header)
        offset, length = struct.unpack_from("<QQ" if wide else "<II", header, 24 if wide else 16)
        yield Section(name, kind, offset, length)


def _parse_notes(window: Window, offset: int, size: int, arch: str) -> tuple[bool, str]:
    """parse_note: words of 4 bytes, whatever p_align says; whether there is one of Xen's, and the arch."""
    if offset > window.size or size > window.size - offset:
        raise No(rules.SEGMENT_OUTSIDE)
    at, found, end = 0, False, size // 4 * 4
    while window.another():
        if at >= end:
            return found, arch
        namesz, descsz, kind = struct.unpack("<III", _within(window, offset, size, at, 12))
        name = _within(window, offset, size, at + 12, 4)
        desc_at = at + 12 + (namesz + 3 & 0xFFFFFFFF) // 4 * 4
        at = desc_at + (descsz + 3 & 0xFFFFFFFF) // 4 * 4
        if namesz < 3 or name[: 3 if namesz == 3 else 4] != b"Xen\0"[: 3 if namesz == 3 else 4]:
            continue
        found = True
        if desc_at > size + HEAP and (kind in READ or (kind == PAE_MODE and arch != "x86_64")):
            raise No(rules.RUNS_OUT)
        desc = _within(window, offset, size, desc_at, 12)
        if kind == LOADER and (descsz < 7 or not _says(desc, descsz, b"generic")):
            raise No(rules.LOADER_NOTE)
        if kind == PAE_MODE and arch != "x86_64":
            if any(descsz >= len(word) and _says(desc, descsz, word) for word in PAE_YES):
                arch = "i386_pae"
            if descsz >= 2 and _says(desc, descsz, b"no"):
                arch = "i386"
    raise No(rules.NOT_JUDGED)


def _within(window: Window, offset: int, size: int, at: int, length: int) -> bytes:
    """Bytes of the notes; GRUB reads its heap behind them, which are zeros here."""
    return window.get(offset + at, max(0, min(length, size - at))).ljust(length, b"\0")


def _says(desc: bytes, descsz: int, word: bytes) -> bool:
    """`word`, with its NUL unless the contents end before that."""
    return desc[: len(word)] == word and (
        descsz == len(word) or desc[len(word) : len(word) + 1] in (b"\0", b"")
    )


def _guest_section(window: Window, wide: bool, sections: Sequence[Section], arch: str) -> str:
    """The section of the days before notes; its numbers must be numbers (grub_strtoull)."""
    index = window.u16(62 if wide else 50)
    strings = sections[index].offset if index < len(sections) else 0
    word = (1 << 64) - 1
    for section in sections:
        at = strings + section.name & word
        if at > window.size:
            raise No(rules.HEADERS_OUTSIDE)
        if window.get(at, 12) == b"__xen_guest\0":
            if section.offset > window.size or section.size > window.size - section.offset:
                raise No(rules.SEGMENT_OUTSIDE)
            return _parse_guest(window.get(section.offset, min(section.size, 1 << 16)), arch)
    raise No(rules.NO_NOTES)


def _parse_guest(text: bytes, arch: str) -> str:
    text = text.split(b"\0")[0]
    for pair in text.split(b","):
        name, _, value = pair.partition(b"=")
        if name in (b"VIRT_BASE", b"VIRT_ENTRY", b"HYPERCALL_PAGE", b"ELF_PADDR_OFFSET"):
            digits = value.strip().removeprefix(b"0x")
            if not digits or digits[:1] not in b"0123456789abcdefABCDEF":
                raise No(rules.NO_NOTES)
        elif name == b"PAE" and arch != "x86_64":
            arch = (
                "i386" if value == b"no" else "i386_pae" if value.startswith((b"yes", b"bimodal")) else arch
            )
    return arch
