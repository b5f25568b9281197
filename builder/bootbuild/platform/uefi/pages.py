"""Physical memory as the firmware owns it: the memory map, AllocatePages and FreePages, and the map's key."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator

from bootbuild.model.span import Span
from bootbuild.platform.uefi import status
from bootbuild.platform.uefi.ovmf import PAGE, Descriptor, MemoryType

ANY, MAX_ADDRESS, ADDRESS = range(3)  #: EFI_ALLOCATE_TYPE, UEFI 2.10 §7.2
_PERSISTENT, _MAX_TYPE, _OEM_TYPES = 14, 16, 0x70000000  #: and above: anybody's own, UEFI 2.10 §7.2
_LAST = (1 << 36) - 1  #: MAX_ALLOC_ADDRESS: what the processor addresses, no more


def is_type(kind: int) -> bool:
    """Whether memory may be asked for as this type: EfiMaxMemoryType, and what is anybody's own."""
    return kind not in (MemoryType.CONVENTIONAL, _PERSISTENT) and not _MAX_TYPE <= kind < _OEM_TYPES


class Refused(Exception):
    """A service returns this EFI_STATUS."""

    def __init__(self, code: int) -> None:
        super().__init__(status.status_name(code))
        self.code = code


class Pages:
    """Who has which pages. `usual_end`: EDK2 keeps what lies above for the firmware while there is other.

    Each change makes `key` another one, as MdeModulePkg/Core/Dxe/Mem/Page.c does.
    """

    def __init__(self, descriptors: Iterable[Descriptor], usual_end: int) -> None:
        self._starts: list[int] = []
        self._pieces: list[tuple[int, int]] = []  #: (end, type), of the piece at the same place in `_starts`
        for descriptor in descriptors:
            self._starts.append(descriptor.span.start)
            self._pieces.append((descriptor.span.end, descriptor.type))
        self._usual_end = usual_end
        self.key = 1

    def __iter__(self) -> Iterator[tuple[Span, int]]:
        """Span and type in ascending order, neighbours of one type as one."""
        start = end = kind = -1
        for at, (to, what) in zip(self._starts, self._pieces, strict=True):
            if at == end and what == kind:
                end = to
                continue
            if start >= 0:
                yield Span(start, end - start), kind
            start, end, kind = at, to, what
        if start >= 0:
            yield Span(start, end - start), kind

    def type_at(self, address: int) -> int | None:
        """The type of the page that holds a physical address; None where there is none."""
        index = bisect.bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._pieces[index][0]:
            return None
        return self._pieces[index][1]

    def allocate(self, how: int, kind: int, pages: int, address: int) -> Span:
        """AllocatePages. `address`: of the first byte, or for MAX_ADDRESS the last that may be used.

        Raises Refused as EDK2 does: CoreInternalAllocatePages.
        """
        if how > ADDRESS or not is_type(kind):
            raise Refused(status.INVALID_PARAMETER)
        if how == ADDRESS:
            span = Span(address, pages * PAGE)
            free = all(what == MemoryType.CONVENTIONAL for _, what in self._pieces_of(span))
            if address % PAGE or not pages or not free:
                raise Refused(status.NOT_FOUND)
        else:
            last = _LAST if how == ANY else address
            found = self._find(min(last + 1, self._usual_end), pages) if last >= self._usual_end else None
            found = found or self._find(last + 1, pages)
            if found is None:
                raise Refused(status.OUT_OF_RESOURCES)
            span = found
        self.convert(span, kind)
        return span

    def _find(self, end: int, pages: int) -> Span | None:
        """The highest free range that ends no later; page 0 is nobody's."""
        size = pages * PAGE
        for span, kind in sorted(self, reverse=True, key=lambda piece: piece[0].start):
            top = min(span.end, end) & -PAGE
            if kind == MemoryType.CONVENTIONAL and size and top - size >= max(span.start, PAGE):
                return Span(top - size, size)
        return None

    def free(self, address: int, pages: int) -> Span:
        """FreePages. Raises Refused."""
        span = Span(address, pages * PAGE)
        if self.type_at(address) is None:
            raise Refused(status.NOT_FOUND)
        if address % PAGE or not pages:
            raise Refused(status.INVALID_PARAMETER)
        for piece, kind in self._pieces_of(span):  # what comes before a hole is freed all the same
            if kind is None or kind == MemoryType.CONVENTIONAL:
                raise Refused(status.NOT_FOUND)
            self.convert(piece, MemoryType.CONVENTIONAL)
        return span

    def _pieces_of(self, span: Span) -> list[tuple[Span, int | None]]:
        """The parts of a range with their types; None for the part, up to its end, where there is none."""
        found: list[tuple[Span, int | None]] = []
        at = span.start
        while at < span.end:
            index = bisect.bisect_right(self._starts, at) - 1
            inside = index >= 0 and at < self._pieces[index][0]
            end = min(self._pieces[index][0], span.end) if inside else span.end
            found.append((Span(at, end - at), self._pieces[index][1] if inside else None))
            at = end
        return found

    def convert(self, span: Span, kind: int) -> None:
        """Give whole pages another type."""
        pieces: list[tuple[int, int, int]] = []
        for at, (end, what) in zip(self._starts, self._pieces, strict=True):
            if end <= span.start or at >= span.end:
                pieces.append((at, end, what))
                continue
            if at < span.start:
                pieces.append((at, span.start, what))
            if end > span.end:
                pieces.append((span.end, end, what))
        pieces.append((span.start, span.end, kind))
        pieces.sort()
        self._starts = [at for at, _, _ in pieces]
        self._pieces = [(end, what) for _, end, what in pieces]
        self.key += 1
