"""QEMU on the notes of an ELF file: which it takes for PHYS32_ENTRY, and what was meant.

Follows include/hw/elf_ops.h and hw/core/loader.c of QEMU 7.2.22. It reads a mapped file: what lies behind it
in its last page are zeros, and beyond that page anything or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bootbuild_loaders import rules
from bootbuild_loaders.stopped import Stopped
from bootbuild_loaders.window import PAGE, Window

PT_NOTE, PHYS32_ENTRY = 4, 18
NOTE = 12  #: sizeof(struct elf64_note)
HOST_PAGE = 4096


@dataclass(frozen=True)
class Phdr:
    """One program header."""

    type: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    align: int


def entry_note(window: Window, ph: Phdr, word: int) -> tuple[int, bool] | None:
    """get_elf_note_type and read_pvh_start_addr: pvh_start_addr, and whether the segment has that note.

    None without one. Raises Stopped.
    """
    at = signed(ph.offset, word)
    while window.another():
        head = mapped(window, at, NOTE)
        namesz, descsz, kind = (int.from_bytes(head[i : i + 4], "little") for i in (0, 4, 8))
        if kind == PHYS32_ENTRY:
            desc = at + NOTE + _aligned(namesz, ph.align, word)
            value = int.from_bytes(mapped(window, desc, 8 if word >> 32 else 4), "little")
            return value, at < signed(ph.offset, word) + ph.filesz
        step = NOTE + _aligned(namesz, ph.align, word) + _aligned(descsz, ph.align, word) & word
        if step > ph.filesz & word:
            return None
        if not step:
            raise Stopped(rules.RUNS_OUT, "(it reads the same note without end)", "crash")
        if head == bytes(NOTE) and step == NOTE:
            at = _after_zeros(window, at)
        else:
            at += step
    raise Stopped(rules.NOT_JUDGED, "", "ignore")


def meant(window: Window, phdrs: Sequence[Phdr]) -> set[int]:
    """The addresses in all notes of type 18, padded to 4 or, as p_align 8 may mean, to 8 in two ways."""
    found: set[int] = set()
    for ph in phdrs:
        if ph.type == PT_NOTE:
            found |= {value for value, _ in _entries(window, ph, 4)}
        if ph.type == PT_NOTE and ph.align == 8:
            found |= {value for value, _ in _entries(window, ph, 8)}
            apart = list(_entries(window, ph, 8, apart=True))
            if apart and apart[-1][1]:
                found |= {value for value, _ in apart}
    return found


def _entries(window: Window, ph: Phdr, align: int, apart: bool = False) -> Iterator[tuple[int, bool]]:
    """What the notes of type 18 say, and whether the walk so far ends where the segment does.

    Padded to `align` from the segment's start, as the gABI has it; `apart` pads each size by itself. Raises
    Stopped.
    """
    at, end = ph.offset, ph.offset + ph.filesz
    value: int | None = None
    while at < end and len(head := window.get(at, NOTE)) == NOTE:
        if not window.another():
            raise Stopped(rules.NOT_JUDGED, "", "ignore")
        namesz, descsz, kind = (int.from_bytes(head[i : i + 4], "little") for i in (0, 4, 8))
        desc = at + NOTE + (namesz + -namesz % align if apart else namesz)
        desc += 0 if apart else -(desc - ph.offset) % align
        at = desc + (descsz + -descsz % align if apart else descsz)
        at += 0 if apart else -(at - ph.offset) % align
        if kind == PHYS32_ENTRY and descsz:
            value = int.from_bytes(window.get(desc, min(descsz, 4)), "little")
            yield value, at == end
    if value is not None:
        yield value, at == end


def _after_zeros(window: Window, at: int) -> int:
    """Zeros are notes of 12 bytes: on to the first with anything else in it, or out of the file."""
    start = at
    while at < window.size and window.another(PAGE >> 12):
        part = window.get(at, PAGE)
        rest = part.lstrip(b"\0")
        if rest:
            at += len(part) - len(rest)
            break
        at += len(part)
    return start + max(NOTE, (at - start) // NOTE * NOTE)


def _aligned(size: int, align: int, word: int) -> int:
    """QEMU_ALIGN_UP, which divides."""
    if not align:
        raise Stopped(rules.ALIGN_ZERO, "Floating point exception (SIGFPE)", "crash")
    return (size + align - 1 & word) // align * align & word


def signed(value: int, word: int) -> int:
    """An offset added to a pointer."""
    return value - (1 << 64) if word >> 32 and value >> 63 else value


def mapped(window: Window, at: int, size: int, look: bool = True) -> bytes:
    """Bytes of the mapped file, zeros to the end of its last page. Raises Stopped beyond.

    What lies there is anything or nothing: most often the program dies, sometimes it finds something.
    """
    end = (window.size + HOST_PAGE - 1) // HOST_PAGE * HOST_PAGE
    if at < 0 or at + size > end:
        raise Stopped(rules.RUNS_OUT, "Segmentation fault (SIGSEGV)", "crash")
    return window.get(at, size).ljust(size, b"\0") if look else b""
