"""QEMU's ELF loader: what of a file goes where in memory.

Follows include/hw/elf_ops.h and hw/core/loader.c of QEMU 7.2.22.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bootbuild_loaders import rules
from bootbuild_loaders.qemu_notes import PT_NOTE, Phdr, entry_note, mapped, signed
from bootbuild_loaders.stopped import Stopped
from bootbuild_loaders.window import Window

EM_386, EM_X86_64 = 3, 62
PT_LOAD = 1
SSIZE_MAX, INT_MAX = (1 << 63) - 1, (1 << 31) - 1
RAM = ((0, 0xA0000), (1 << 20, 128 << 20))  #: of a machine without -m
PATIENCE = 1 << 36  #: bytes of zeros that are written in some minutes; more never ends
TOO_MUCH = 1 << 42  #: bytes that malloc gives to nobody
BIOS = (0xFFFC0000, 0x40000)  #: bios-256k.bin, a ROM as any other
FAILED = "Error while loading elf kernel"


@dataclass(frozen=True)
class Elf:
    """What load_elf took in: `pvh` is pvh_start_addr, 0 without a note; `entry` is for Multiboot."""

    entry: int
    pvh: int
    noted: bool  #: the note that says so begins in its segment
    phdrs: tuple[Phdr, ...]
    word: int  #: the largest elf_word


def load_elf(window: Window, notes: bool) -> Elf:
    """load_elf32 or load_elf64 of elf_ops.h. Raises Stopped."""
    ident = window.get(0, 16)
    if ident[:4] != b"\x7fELF":
        raise Stopped(rules.NOT_A_KERNEL, FAILED)
    if len(ident) < 16:
        raise Stopped(rules.HEADERS_OUTSIDE, FAILED)
    if ident[5] != 1:
        raise Stopped(rules.MACHINE, FAILED)
    wide = ident[4] == 2
    word = (1 << (64 if wide else 32)) - 1  # elf_word
    if window.size < (64 if wide else 52):
        raise Stopped(rules.HEADERS_OUTSIDE, FAILED)
    if window.u16(18) not in (EM_386, EM_X86_64):
        raise Stopped(rules.MACHINE, FAILED)
    phdrs = tuple(_phdrs(window, wide, _read_symbols(window, wide)))
    total, pvh, noted = 0, 0, True
    for index, ph in enumerate(phdrs):
        if ph.type not in (PT_LOAD, PT_NOTE) or (ph.type == PT_NOTE and not notes):
            continue
        if ph.filesz and window.size < (ph.filesz + ph.offset & word):
            raise Stopped(rules.SEGMENT_OUTSIDE, FAILED)
        if ph.type == PT_NOTE:
            found = entry_note(window, ph, word) if ph.filesz else None
            pvh, noted = found or (pvh, noted)  # the last one, even if that is 0
        else:
            total += _memory(phdrs, index, word)
        if total > SSIZE_MAX:
            raise Stopped(rules.DOES_NOT_FIT, FAILED)
    if total & 0xFFFFFFFF > INT_MAX:  # both callers keep the sum in an int
        raise Stopped(rules.DOES_NOT_FIT, FAILED)
    return Elf(_entry(_number(window, 24, 8 if wide else 4), phdrs, word), pvh, noted, phdrs, word)


def _entry(e_entry: int, phdrs: Sequence[Phdr], word: int) -> int:
    """The physical address of e_entry: by the last executable segment that has it."""
    entry = e_entry
    for ph in phdrs:
        inside = ph.vaddr <= e_entry < (ph.vaddr + ph.filesz & word)
        if ph.type == PT_LOAD and ph.vaddr != ph.paddr and inside and ph.flags & 1:
            entry = e_entry - ph.vaddr + ph.paddr & word
    return entry


def _roms(elf: Elf) -> list[tuple[Phdr, int]]:
    """The PT_LOADs that take memory, with their sizes in it, by address."""
    sizes = [(ph, _memory(elf.phdrs, i, elf.word)) for i, ph in enumerate(elf.phdrs) if ph.type == PT_LOAD]
    return sorted(((ph, size) for ph, size in sizes if size), key=lambda rom: rom[0].paddr)


def fetch(elf: Elf) -> None:
    """rom_copy for Multiboot: the last segment by address must end where the highest does. Raises Stopped."""
    roms = _roms(elf)
    last = roms[-1][0].paddr + roms[-1][1] if roms else -1
    if any(ph.paddr + size > last for ph, size in roms) or not roms:
        raise Stopped(rules.SEGMENT_OUTSIDE, "Error while fetching elf kernel from rom")


def check_memory(window: Window, elf: Elf) -> None:
    """What happens once everything is loaded: addresses compared, memory written. Raises Stopped."""
    _check_overlaps(elf)
    _check_copies(window, elf)


def _read_symbols(window: Window, wide: bool) -> int:
    """load_symbols reads section headers, symbol table and strings; the file's position after that."""
    size = 64 if wide else 40
    count = window.u16(60 if wide else 48)
    start = _number(window, 40 if wide else 32, 8 if wide else 4)
    at, read = _load_at(window, 64 if wide else 52, start, size * count)
    if not read:
        return at
    table = window.get(start, size * count)

    def sized(index: int) -> tuple[int, int]:
        raw = table[index * size + (24 if wide else 16) : (index + 1) * size]
        step = 8 if wide else 4
        return int.from_bytes(raw[:step], "little"), int.from_bytes(raw[step : 2 * step], "little")

    for index in range(count):
        if table[index * size + 4 : index * size + 8] == b"\2\0\0\0":  # SHT_SYMTAB
            at, read = _load_at(window, at, *sized(index))
            link = int.from_bytes(table[index * size + (40 if wide else 24) :][:4], "little")
            return _load_at(window, at, *sized(link))[0] if read and link < count else at
    return at


def _load_at(window: Window, at: int, offset: int, length: int) -> tuple[int, bool]:
    """The file's position, before `at`, and whether all was read: no bytes never are. Raises Stopped."""
    if offset > SSIZE_MAX:
        return at, False
    if length >= TOO_MUCH:
        raise Stopped(rules.SYMBOLS, f"failed to allocate {length} bytes (SIGTRAP)", "crash")
    end = offset + length
    return min(end, max(offset, window.size)), bool(length) and end <= window.size


def _number(window: Window, offset: int, size: int) -> int:
    return int.from_bytes(window.get(offset, size), "little")


def _phdrs(window: Window, wide: bool, position: int) -> Iterator[Phdr]:
    """The table at e_phoff, entries as long as the class has them, whatever e_phentsize says.

    An e_phoff of -1 is what lseek returns for an error, so that the table is read from `position`.
    """
    at = _number(window, 32 if wide else 28, 8 if wide else 4)
    at = position if wide and at == (1 << 64) - 1 else at
    count = window.u16(56 if wide else 44)
    size = 56 if wide else 32
    table = window.get(at, size * count)
    if not count or len(table) < size * count or at > SSIZE_MAX:  # no entry: g_malloc0(0) is NULL
        raise Stopped(rules.HEADERS_OUTSIDE, FAILED)
    for offset in range(0, len(table), size):
        step = 8 if wide else 4
        raw = table[offset : offset + size]
        words = [int.from_bytes(raw[i : i + step], "little") for i in range(8 if wide else 4, size, step)]
        kind, flags = int.from_bytes(raw[:4], "little"), int.from_bytes(raw[4:8], "little")
        if not wide:
            flags = words.pop(5)
        yield Phdr(kind, flags, *words)


def _memory(phdrs: Sequence[Phdr], index: int, word: int) -> int:
    """Bytes that a segment takes: without its zeros where they reach into another segment."""
    ph = phdrs[index]
    if ph.memsz <= ph.filesz:
        return ph.memsz
    start, end = ph.paddr + ph.filesz & word, ph.paddr + ph.memsz & word
    for other, one in enumerate(phdrs):
        if other != index and one.type == PT_LOAD:
            one_end = one.paddr + one.memsz & word
            if not (one.paddr >= end or start >= one_end):
                return ph.filesz
    return ph.memsz


def _check_overlaps(elf: Elf) -> None:
    """rom_check_and_register_reset: by address, each against the one before."""
    placed = sorted([BIOS, *((ph.paddr, size) for ph, size in _roms(elf))], key=lambda rom: rom[0])
    for (start, size), (after, _) in itertools.pairwise(placed):
        if (start + size) % (1 << 64) > after:
            raise Stopped(rules.OVERLAP, "Some ROM regions are overlapping")


def _check_copies(window: Window, elf: Elf) -> None:
    """rom_reset: p_filesz bytes from the mapped file, and zeros up to p_memsz, a difference without sign."""
    for ph, size in _roms(elf):
        at = signed(ph.offset, elf.word)
        for start, end in RAM:  # where there is none, nothing is read
            first, last = max(start, ph.paddr), min(end, ph.paddr + ph.filesz)
            if first < last:
                mapped(window, at + first - ph.paddr, last - first, look=False)
        if ph.filesz > size:
            raise Stopped(rules.FILE_OVER_MEMORY, "(it writes zeros without end)", "crash")
        if size - ph.filesz > PATIENCE:
            raise Stopped(rules.DOES_NOT_FIT, "(it writes zeros without end)", "crash")
