"""GRUB's Multiboot commands on an ELF kernel: what is loaded, and where it is entered.

Follows grub-core/loader/multiboot_elfxx.c of GRUB 2.06, in the sizes of the platform that it is built for.
"""

from __future__ import annotations

from dataclasses import dataclass

from bootbuild_loaders import multiboot_rules, rules
from bootbuild_loaders.grub_chunks import FOUR_GIB, OUT_OF_MEMORY, Chunks
from bootbuild_loaders.grub_head import Head
from bootbuild_loaders.stopped import Stopped
from bootbuild_loaders.window import Window

EM_386, EM_X86_64 = 3, 62
ET_EXEC, ET_DYN = 2, 3
PT_LOAD = 1
SHT_RELA, SHT_REL = 4, 9
WORD32 = FOUR_GIB - 1


@dataclass(frozen=True)
class Range:
    """Multiboot 2's relocatable tag: the image may lie anywhere from `least` to `most`, at multiples."""

    least: int
    most: int
    align: int

    def place(self, chunks: Chunks, size: int) -> None:
        """One piece for all of the image. Raises Stopped."""
        if size > self.most or self.least > self.most - size:
            text = "error: invalid min/max address and/or load size."
            raise Stopped(multiboot_rules.RELOCATABLE_RANGE, text)
        if self.align & self.align - 1:
            raise Stopped(rules.NOT_JUDGED, "", "ignore")
        chunks.anywhere(size, self.align or 1, self.least, self.most)


@dataclass(frozen=True)
class Loaded:
    """`entry` as the file is linked. `sections`: bytes of section headers that the kernel is handed."""

    entry: int
    sections: int = 0
    spilt: bool = False  #: more was read than there was room for
    moved: bool = False  #: GRUB chooses where it lies
    long_mode: bool = False  #: it is entered in 64-bit mode, by an address that is meant for 32


@dataclass(frozen=True)
class Phdr:
    """One program header, in the order of Elf32_Phdr."""

    type: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int


class GrubElf:
    """One ELF file. `modern` for the command multiboot2, which refuses relocations."""

    def __init__(self, head: Head, window: Window, chunks: Chunks, reach: int, modern: bool) -> None:
        self.head, self.window, self.chunks = head, window, chunks
        self.reach, self.modern = reach, modern

    def load(self, moved: Range | None = None) -> Loaded:
        """grub_multiboot_load_elf. Raises Stopped."""
        self._check_header()
        phdrs = self._phdrs()
        loads = [ph for ph in phdrs if ph.type == PT_LOAD]
        highest = max((ph.paddr + ph.memsz & self.word for ph in loads), default=0)
        if self.wide and highest >= FOUR_GIB:
            raise Stopped(rules.DOES_NOT_FIT, "error: segment crosses 4 GiB border.")
        if moved is not None:
            moved.place(self.chunks, highest - min((ph.paddr for ph in loads), default=WORD32) & WORD32)
        spilt = False
        for ph in loads:
            if moved is None:
                self.chunks.at(ph.paddr, ph.memsz)
            self._read(ph.offset, ph.filesz)
            written = ph.filesz & self.chunks.platform.word
            spilt |= self.chunks.spills(ph.paddr, ph.memsz, min(written, self.window.size - ph.offset))
        entry = self._entry(phdrs)
        return Loaded(entry, self._load_sections(), spilt)

    @property
    def wide(self) -> bool:
        """ELFCLASS64."""
        return self.head.number(4, 1) == 2

    @property
    def word(self) -> int:
        """The largest address of this class."""
        return FOUR_GIB**2 - 1 if self.wide else WORD32

    def _field(self, narrow: int, wide: int) -> int:
        """A field of the ELF header of the class's own size."""
        return self.head.number(wide, 8) if self.wide else self.head.number(narrow, 4)

    def _half(self, narrow: int, wide: int) -> int:
        return self.head.number(wide if self.wide else narrow, 2)

    def _check_header(self) -> None:
        text = "error: invalid arch-dependent ELF magic."
        magic = self.head.get(0, 4) == b"\x7fELF"
        if self.head.number(4, 1) not in (1, 2):
            raise Stopped(rules.MACHINE if magic else rules.NOT_A_KERNEL, text)
        if not magic or self.head.number(5, 1) != 1:
            rule = rules.MACHINE if magic else rules.NOT_A_KERNEL
            raise Stopped(rule, "error: invalid arch-independent ELF magic.")
        self.head.get(0, 64 if self.wide else 52)
        if self.head.number(18, 2) != (EM_X86_64 if self.wide else EM_386) or self.head.number(20, 4) != 1:
            raise Stopped(rules.MACHINE, text)
        if self.head.number(16, 2) not in (ET_EXEC, ET_DYN):
            raise Stopped(multiboot_rules.ELF_TYPE, "error: this ELF file is not of the right type.")

    def _phdrs(self) -> list[Phdr]:
        start, stride, count = self._field(28, 32), self._half(42, 54), self._half(44, 56)
        if (start + count * stride & self.word) > self.reach:
            raise Stopped(multiboot_rules.FAR_PHDRS, "error: program header at a too high offset.")
        return [self._phdr(start + i * stride) for i in range(count)]

    def _phdr(self, at: int) -> Phdr:
        if not self.wide:
            kind, *rest = self.head.words(at, 6)
            return Phdr(kind, *rest)
        words = [self.head.number(at + 8 + 8 * i, 8) for i in range(5)]
        return Phdr(self.head.number(at, 4), *words)

    def _read(self, offset: int, size: int, rule: str = rules.SEGMENT_OUTSIDE) -> None:
        """grub_file_seek and grub_file_read. Raises Stopped unless all is there."""
        if not size:
            return
        if offset > self.window.size:
            raise Stopped(rule, "error: attempt to seek outside of the file.")
        platform = self.chunks.platform
        read = min(size & platform.word, self.window.size - offset)
        if read != platform.signed(size):
            raise Stopped(rule, "error: premature end of file")

    def _entry(self, phdrs: list[Phdr]) -> int:
        """By the first program header of any type that has it."""
        entry = self._field(24, 24)
        for ph in phdrs:
            if ph.vaddr <= entry < (ph.vaddr + ph.memsz & self.word):
                found = entry - ph.vaddr + ph.paddr & self.word
                if found > WORD32:
                    raise Stopped(rules.DOES_NOT_FIT, "error: invalid entry point for ELF64.")
                return found
        raise Stopped(multiboot_rules.ENTRY_OUTSIDE, "error: entry point isn't in a segment.")

    def _load_sections(self) -> int:
        """Section headers, and of the sections those that have no address yet. Raises Stopped."""
        start, size, count = self._field(32, 40), self._half(46, 58), self._half(48, 60)
        if not count:
            return 0
        total, platform = size * count, self.chunks.platform
        if total > platform.room:
            raise Stopped(rules.DOES_NOT_FIT, OUT_OF_MEMORY)
        if start > self.window.size:
            raise Stopped(rules.HEADERS_OUTSIDE, "error: attempt to seek outside of the file.")
        self._read(start, total, rules.HEADERS_OUTSIDE)
        if size < (64 if self.wide else 40):
            raise Stopped(rules.NOT_JUDGED, "", "ignore")
        for at in range(start, start + total, size):
            self._load_section(at)
        return total

    def _load_section(self, at: int) -> None:
        raw = self.window.get(at, 64 if self.wide else 40)
        step = 8 if self.wide else 4
        words = [int.from_bytes(raw[i : i + step], "little") for i in range(8, 8 + 4 * step, step)]
        _, address, offset, size = words
        if self.modern and int.from_bytes(raw[4:8], "little") in (SHT_REL, SHT_RELA):
            raise Stopped(multiboot_rules.RELOCATIONS, "error: ELF files with relocs are not supported yet.")
        if address or not size:
            return
        align = int.from_bytes(raw[48:56] if self.wide else raw[32:36], "little")
        self.chunks.anywhere(size, align & self.chunks.platform.word)
        self._read(offset, size)
