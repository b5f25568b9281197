"""A kernel's own Multiboot header: found as loaders find it, and judged by the specification."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bootbuild.api import Content, ElfImage, InputError, Problem, RefusedError, Rule
from bootbuild_baremetal import headers, rules
from bootbuild_baremetal.headers import HeaderTag

_LEAST: dict[int, int] = {  # bytes of contents of a tag
    HeaderTag.ADDRESS: 16,
    HeaderTag.ENTRY_ADDRESS: 4,
    HeaderTag.ENTRY_ADDRESS_EFI64: 4,
    HeaderTag.RELOCATABLE: 16,
}
_MIPS = 4  #: the other architecture of Multiboot2 2.0, 3.1.2
_SOUND = {rules.NO_ENTRY, rules.UNKNOWN, rules.NOT_LOADED}  #: what is no fault of a header's form
FAR = 1 << 20  #: bytes of a file that are looked at for a header that no loader would find


@dataclass(frozen=True)
class Addresses:
    """Where a file is loaded that is not read as ELF. `load_end` 0: all of it; `bss_end` 0: no .bss."""

    header: int
    load: int
    load_end: int
    bss_end: int


FoundTag = tuple[int, int, int, bytes]
"""A tag's offset, type, flags, body."""


@dataclass(frozen=True)
class OwnHeader:
    """What a header says, so far as it decides how the kernel is entered. Addresses physical."""

    offset: int  #: in the file
    addresses: Addresses | None
    entry: int | None  #: None: e_entry
    efi_entry: int | None = None
    tags: tuple[FoundTag, ...] = ()  #: of version 2, without the last


@dataclass(frozen=True)
class Version:
    """How the header of one version is found."""

    name: str
    magic: bytes
    align: int
    search: int
    words: int  #: of which the sum is 0
    read: Callable[[ElfImage, int], tuple[OwnHeader, list[Problem]]]

    def find(self, image: ElfImage) -> OwnHeader | None:
        """The header as a loader finds it, or None.

        Raises InputError (BB-L305, BB-L307, BB-L309, BB-L338) or RefusedError (BB-L308, BB-L310).
        """
        offset = self.first(image.content)
        if offset is None:
            return None
        found, problems = self.read(image, offset)
        problems += _judge(image, found, self.search)
        if problems:
            raise failure(problems)
        return found

    def first(self, content: Content) -> int | None:
        """Offset of the header that loaders find; None without one."""
        raw = content.read(0, self.search)
        at = raw.find(self.magic)
        while at >= 0:
            if at % self.align == 0 and self.sums(raw, at):
                return at
            at = raw.find(self.magic, at + 1)
        return None

    def sums(self, raw: bytes, at: int) -> bool:
        """Whether the words there add up to 0."""
        words = raw[at : at + 4 * self.words]
        whole = len(words) == 4 * self.words
        return whole and not sum(struct.unpack(f"<{self.words}I", words)) & headers.M32


def _read_1(image: ElfImage, offset: int) -> tuple[OwnHeader, list[Problem]]:
    raw = image.content.read(offset, 48).ljust(48, b"\0")
    _, flags, _ = headers.WORDS_1.unpack_from(raw)
    problems = []
    known = headers.PAGE_ALIGN | headers.MEMORY_INFO | headers.VIDEO_MODE
    if unknown := flags & headers.REQUIRED_1 & ~known:
        text = f"flags {unknown:#x} are required and unknown"
        problems.append(_problem(rules.UNKNOWN, image, offset, text))
    found = OwnHeader(offset, None, None)
    if flags & headers.ADDRESSES:
        header, load, load_end, bss_end, entry = headers.ADDRESSES_1.unpack_from(raw, headers.WORDS_1.size)
        found = OwnHeader(offset, Addresses(header, load, load_end, bss_end), entry)
    return found, problems


def _read_2(image: ElfImage, offset: int) -> tuple[OwnHeader, list[Problem]]:
    _, architecture, length, _ = headers.HEAD_2.unpack(image.content.read(offset, headers.HEAD_2.size))
    problems = []
    if architecture != headers.I386:
        text = f"architecture {architecture} is not 0, i386"
        problems.append(_problem(rules.UNKNOWN, image, offset, text))
    tags, wrong = _tags(image, offset, length)
    problems += wrong
    addresses = entry = efi = None
    for at, kind, flags, body in tags:
        if kind > max(HeaderTag) and not flags & headers.OPTIONAL:
            problems.append(_problem(rules.UNKNOWN, image, at, f"tag {kind} is required and unknown"))
        if len(body) < _LEAST.get(kind, 0):
            text = f"tag {kind} has {len(body)} bytes of contents, not {_LEAST[kind]}"
            problems.append(_problem(rules.UNTERMINATED, image, at, text))
        elif kind == HeaderTag.ADDRESS:
            header, load, *ends = struct.unpack_from("<4I", body)
            load = header - offset & headers.M32 if load == headers.WHOLE_FILE else load
            addresses = Addresses(header, load, *ends)
        elif kind == HeaderTag.ENTRY_ADDRESS:
            (entry,) = struct.unpack_from("<I", body)
        elif kind == HeaderTag.ENTRY_ADDRESS_EFI64:
            (efi,) = struct.unpack_from("<I", body)
        elif kind == HeaderTag.RELOCATABLE:
            texts = _wrong_bounds(image, *struct.unpack_from("<4I", body))
            problems += [_problem(rules.BOUNDS, image, at, text) for text in texts]
    found = OwnHeader(offset, addresses, entry, efi, tuple(tags))
    if addresses is not None and entry is None:
        text = "the address tag stands without an entry address tag"
        problems.append(_problem(rules.ADDRESSES, image, offset, text))
    return found, problems


def _wrong_bounds(image: ElfImage, least: int, most: int, align: int, preference: int) -> Iterator[str]:
    """Why a kernel cannot be put where its relocatable tag says."""
    if align & align - 1:
        yield f"align {align:#x} is no power of two"
    size = max(s.physical.end for s in image.loads) - min(s.paddr for s in image.loads)
    if least + size - 1 > most:
        yield f"its {size:#x} bytes do not fit between min_addr {least:#x} and max_addr {most:#x}"
    if preference not in headers.PREFERENCES.values():
        yield f"preference {preference:#x} is none of 0, 1 and 2"


def entry_of(image: ElfImage, found: OwnHeader) -> int | None:
    """Where a loader enters the file, physical; e_entry is virtual."""
    if found.entry is not None:
        return found.entry
    segment = image.segment_at(image.entry)
    return None if segment is None else image.entry - segment.vaddr + segment.paddr


def why_none(image: ElfImage, version: Version) -> Problem:
    """What stands in the place of a header that no loader finds."""
    content = image.content
    raw = content.read(0, FAR)
    at = raw.find(version.magic)
    while at >= 0:
        summed = version.sums(raw, at)
        if summed or (at % 4 == 0 and _meant(raw, at, version)):
            if not summed:
                return _problem(rules.CHECKSUM, image, at, "its words do not add up to 0 modulo 2^32")
            if at + 4 * version.words > version.search:
                text = f"a loader looks at the first {version.search} bytes"
                return _problem(rules.PAST_LIMIT, image, at, text)
            if at % version.align:
                return _problem(rules.UNALIGNED, image, at, f"no multiple of {version.align}")
        at = raw.find(version.magic, at + 1)
    return Problem(rules.NO_ENTRY, image.name, f"the file has no {version.name} header")


def failure(problems: Sequence[Problem]) -> InputError | RefusedError:
    """InputError if a header is malformed; RefusedError if it is sound, or not there, and leads nowhere."""
    if all(problem.rule in _SOUND for problem in problems):
        return RefusedError(problems)
    return InputError(problems)


def _meant(raw: bytes, at: int, version: Version) -> bool:
    """Whether a magic number whose words do not add up heads a header, and is not a symbol's value."""
    if version is V1:
        return True
    _, architecture, length, _ = headers.HEAD_2.unpack(raw[at : at + headers.HEAD_2.size].ljust(16, b"\xff"))
    return architecture in (headers.I386, _MIPS) and headers.HEAD_2.size <= length <= headers.SEARCH_2


def _problem(rule: Rule, image: ElfImage, offset: int, text: str) -> Problem:
    return Problem(rule, f"{image.name}@{offset:#x}", text)


def _tags(image: ElfImage, offset: int, length: int) -> tuple[list[FoundTag], list[Problem]]:
    """Every tag up to the last, or to the first that cannot be one."""
    tags: list[FoundTag] = []
    at, end = offset + headers.HEAD_2.size, offset + length
    if end > headers.SEARCH_2:
        text = f"its {length} bytes run over the first {headers.SEARCH_2}, which are read"
        return [], [_problem(rules.PAST_LIMIT, image, offset, text)]
    while at + headers.TAG.size <= end:
        kind, flags, size = headers.TAG.unpack(image.content.read(at, headers.TAG.size))
        if size < headers.TAG.size or at + size > end:
            text = f"tag {kind} says {size} bytes, of which the header has {end - at}"
            return tags, [_problem(rules.UNTERMINATED, image, at, text)]
        if kind == HeaderTag.END:
            return tags, []
        tags.append((at, kind, flags, image.content.read(at + headers.TAG.size, size - headers.TAG.size)))
        at += -(-size // headers.ALIGN_2) * headers.ALIGN_2
    return tags, [_problem(rules.UNTERMINATED, image, offset, "no tag of type 0 ends its tags")]


def _judge(image: ElfImage, found: OwnHeader, search: int) -> Iterator[Problem]:
    """Whether a loader can load what the header leads to, and enter it there."""
    if found.addresses is not None:
        yield from _judge_addresses(image, found, found.addresses)
        return
    yield from _judge_elf(image, found, search)


def _judge_addresses(image: ElfImage, found: OwnHeader, a: Addresses) -> Iterator[Problem]:
    def problem(text: str) -> Problem:
        return _problem(rules.ADDRESSES, image, found.offset, text)

    start = found.offset - (a.header - a.load)
    end = a.load_end or a.load + image.content.size - start
    if a.header < a.load:
        yield problem(f"header_addr {a.header:#x} is below load_addr {a.load:#x}")
        return
    if start < 0:
        yield problem(f"load_addr {a.load:#x} lies before the start of the file")
        return
    if a.load_end and a.load_end < a.load:
        yield problem(f"load_end_addr {a.load_end:#x} is below load_addr {a.load:#x}")
    elif start + end - a.load > image.content.size:
        yield problem(f"load_end_addr {a.load_end:#x} lies behind the end of the file")
    elif a.bss_end and a.bss_end < end:
        yield problem(f"bss_end_addr {a.bss_end:#x} is below the end of what is loaded, {end:#x}")
    elif found.entry is not None and not a.load <= found.entry < end:
        yield problem(f"entry_addr {found.entry:#x} is not in what is loaded, {a.load:#x}-{end:#x}")


def _judge_elf(image: ElfImage, found: OwnHeader, search: int) -> Iterator[Problem]:
    def problem(text: str) -> Problem:
        return _problem(rules.NOT_LOADED, image, found.offset, text)

    fields = {32: ("<28xI10xHH", 46), 64: ("<32xQ14xHH", 58)}
    form, size = fields[image.bits]
    phoff, each, count = struct.unpack(form, image.content.read(0, size))
    if phoff + each * count > search:
        yield problem(f"its program headers end at {phoff + each * count:#x}, {search} bytes are read")
    if image.segment_at(image.entry) is None:
        yield problem(f"e_entry {image.entry:#x} is in no PT_LOAD by p_vaddr")
    for name, entry in (("entry", entry_of(image, found)), ("64-bit entry", found.efi_entry)):
        if entry is not None and not any(entry in s.physical for s in image.loads):
            yield problem(f"the {name} {entry:#x} is in no PT_LOAD by p_paddr")
    high = next((s for s in image.loads if s.physical.end > 1 << 32), None)
    if high is not None:
        yield problem(f"the PT_LOAD at physical {high.physical} crosses 4 GiB")


V1 = Version("Multiboot", struct.pack("<I", headers.MAGIC_1), headers.ALIGN_1, headers.SEARCH_1, 3, _read_1)
V2 = Version("Multiboot2", struct.pack("<I", headers.MAGIC_2), headers.ALIGN_2, headers.SEARCH_2, 4, _read_2)
