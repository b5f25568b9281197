"""A bzImage on its way to the kernel in it: how it unpacks itself, what of that the host does, where it ends.

The guest's own decompressor runs, from its entry to its end, but on a stand-in that unpacks to the kernel's
first bytes only. Then the host puts the packed kernel back and the unpacked one into its place, and the guest
goes on: it moves the segments and mends addresses, as after its own work.

To level `stub` the kernel's entry is all that has to be reached: then the page with that is all of the kernel
that is unpacked, and is its only segment.

Source: Linux, arch/x86/boot/compressed/{head_64.S,misc.c,kaslr.c,ident_map_64.c} and header.S.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Sequence

from bootbuild.abi.handover import BootType
from bootbuild.api import Cpu, ElfImage, Finding, Level, Packed, Placed, Scene, Span
from bootbuild_linux.own_stub import OwnStub, first_change

HEAD = 4096  #: bytes of the kernel that the guest itself unpacks: the first page, with the ELF header
_LARGE = 2 << 20  #: bytes that the guest's #PF handler maps at a time (ident_map_64.c, do_boot_page_fault)
_ALIGN = 1 << 21  #: MIN_KERNEL_ALIGN of x86-64
_ALIGN32 = 1 << 13  #: … and the least of CONFIG_PHYSICAL_ALIGN of x86-32
_START = 16  #: bytes by which what is packed is known
_SHORTEST = 8  #: bytes of a block by which its place in the file is told
_STACK = 2048  #: bytes of the stack in which the ELF header and the output's address are looked for
_PIECE = 2 << 20  #: bytes that are written at a time
_ENTRY_BYTES = 16  #: of the kernel's first instructions, by which they are known
_PER_BYTE = 100  #: instructions for which a byte is unpacked by the slowest decoder (XZ takes some 60)
_PHDR = struct.Struct("<IIQQQQQQ")  #: Elf64_Phdr
_E_PHOFF, _E_PHNUM, _PT_LOAD = 32, 56, 1
_NO_RELOCATIONS = (
    16  #: bytes: as many zeros as end the tables (misc.c, handle_relocations), of which there are three
)


class _Phase(enum.Enum):
    """What the follower waits for."""

    PACKED = enum.auto()  #: the packed kernel at its last place, and that the unpacked one is looked at
    UNPACKED = enum.auto()  #: the rest of it, which the host puts there
    ENTRY = enum.auto()  #: the kernel's first instruction
    THERE = enum.auto()


class Unpacking:
    """One run of one bzImage, to `level`. `exact`: why the guest does it all itself; empty: it need not."""

    def __init__(
        self, image: ElfImage, packed: Packed, scene: Scene, exact: str, level: Level | None = None
    ) -> None:
        self._image, self._packed, self._scene = image, packed, scene
        self._align = _ALIGN if image.bits == 64 else _ALIGN32
        efi = scene.given.boot_type == BootType.EFI
        self._stub = OwnStub(image.file, packed, scene.given) if efi and packed.entry is not None else None
        short = only_entry(image) if self._stub and level is Level.STUB else ()
        self._head = short[0][1] if short else image.content.read(0, HEAD)
        self._patches = () if exact else packed.stand_in(self._head)
        if not exact and not self._patches:
            exact = f"there is no stand-in for {packed.compression or 'its compression'}"
        self._short = () if exact else short  #: what is all of the kernel that is unpacked; (): it is whole
        self.why = exact
        self._phase = _Phase.ENTRY if exact else _Phase.PACKED
        file = image.file
        self._start = file.read(packed.offset, _START)
        self._around = (
            ()
            if exact
            else (
                (0, file.read(0, packed.offset)),
                (packed.offset + packed.size, file.read(packed.offset + packed.size, file.size)),
            )
        )
        self._places: dict[int, bool] = {}  #: physical address of the packed kernel → the stand-in is there
        self._files: set[int] = set()  #: linear addresses of what a file at offset 0 has, by its code
        self._found: int | None = None  #: what `stopped` has to do: where the packed kernel is, or the entry
        self._left: int | None = (
            None  #: where the packed kernel is that the kernel's own boot stub hands over
        )
        self._output = 0
        self._entry, self._code = _entry(image)
        self.handed: Sequence[Finding] | None = None
        self.placed: Placed | None = None
        self.sound = True

    @property
    def how(self) -> str:
        return f"the guest: {self.why}" if self.why else f"the host ({self._packed.compression})"

    @property
    def patience(self) -> int:
        return self._image.content.size * _PER_BYTE if self.why else 0

    def block(self, cpu: Cpu, address: int, code: bytes) -> bool:
        if self.at_entry:
            return False
        if self._stub is not None and self.handed is None:
            self._left = self._stub.left_at(cpu, address, code)
        return self._is_point(cpu, address, code) or self._left is not None

    def _is_point(self, cpu: Cpu, address: int, code: bytes) -> bool:
        """Whether there is something to be done before this block, for the kernel to be unpacked."""
        entry = self._entered_at(cpu, address, code)
        if entry is not None:
            self._phase, self._found = _Phase.THERE, entry
            return True
        if self._phase is _Phase.ENTRY:
            return False
        if self._phase is _Phase.PACKED:
            self._found = self._new_place(cpu, address, code)
            if self._found is not None:
                return True
            if any(self._places.values()) and self._is_read(cpu):
                self._phase = _Phase.UNPACKED
                return True
        return False

    def touched(self, cpu: Cpu) -> Sequence[int]:
        if self._phase is not _Phase.UNPACKED:
            return ()
        problem = self._in_the_way(cpu)
        if problem:
            self._give_up(problem)
            return ()
        end = self._output + self._packed.unpacked
        return [self._output, *range((self._output | _LARGE - 1) + 1, end, _LARGE)]

    def stopped(self, cpu: Cpu) -> None:
        if self._left is not None and self._stub is not None:
            patches = self._patches if any(self._places.values()) else ()
            self.handed, self._left = self._stub.findings(cpu, self._left, patches), None
        if self.at_entry and self._short and self._stub is not None:
            self.handed = self._stub.findings(cpu, self.packed_at)
        elif self.at_entry:
            assert self._found is not None
            by = self._found - self._entry
            self.placed = Placed(by, self._virtual(cpu, by))
        elif self._phase is _Phase.UNPACKED:
            self._put(cpu)
        elif self._found is not None:
            self._replace(cpu, self._found)
            self._found = None

    @property
    def at_entry(self) -> bool:
        """Whether the machine stands at the kernel's first instruction."""
        return self._phase is _Phase.THERE

    @property
    def packed_at(self) -> int:
        """Physical address of the packed kernel that belongs to the code that runs."""
        return [*self._places][-1]

    # -- the packed kernel ---------------------------------------------------------------------------

    def _new_place(self, cpu: Cpu, address: int, code: bytes) -> int | None:
        """Where the packed kernel is that belongs to the code in a block; None if that is known, or none."""
        if len(code) < _SHORTEST or self._is_of_known_file(address, code):
            return None
        physical = cpu.translate(address)
        if physical is None:
            return None
        for start, part in self._around:
            at = part.find(code)
            while at >= 0:
                place = physical - (start + at) + self._packed.offset
                if place >= 0 and self._begins(cpu, place):
                    self._files.add(address - (start + at))
                    if place not in self._places:
                        return place
                at = part.find(code, at + 1)
        return None

    def _is_of_known_file(self, address: int, code: bytes) -> bool:
        """Whether it is what the file has there, as it was mapped when a block of it was looked up."""
        return any(
            part[address - file - start :][: len(code)] == code
            for file in self._files
            for start, part in self._around
            if start <= address - file < start + len(part)
        )

    def _begins(self, cpu: Cpu, place: int) -> bool:
        try:
            found = cpu.read_physical(place, _START)
        except LookupError:
            return False
        return found in (self._start, self._patches[0][1][:_START])

    def _replace(self, cpu: Cpu, place: int) -> None:
        """Put the stand-in there, unless it has been copied there already."""
        file, packed = self._image.file, self._packed
        if first_change(cpu, file, packed, place) is None:
            for offset, data in self._patches:
                cpu.write_physical(place + offset, data)
            self.sound = False
            self._places[place] = True
        else:
            self._places[place] = first_change(cpu, file, packed, place, self._patches) is None

    # -- the unpacked one ----------------------------------------------------------------------------

    def _is_read(self, cpu: Cpu) -> bool:
        """Whether the guest has its own copy of the ELF header on the stack (parse_elf), and moved nothing.

        Then it has unpacked all there was, at `_output`. The first segment goes over the ELF header.
        """
        stack = _stack(cpu)
        if self._head[: 64 if self._image.bits == 64 else 52] not in stack:
            return False
        for address in self._candidates(cpu, stack):
            try:
                if cpu.read_physical(address, len(self._head)) == self._head:
                    self._output = address
                    return True
            except LookupError:
                continue
        return False

    def _candidates(self, cpu: Cpu, stack: bytes) -> Iterable[int]:
        """What in a register or on the stack may be the output's address."""
        wide = bool(cpu.get("code64"))
        values = [*cpu.general()[: 16 if wide else 8]]
        values += struct.unpack(f"<{len(stack) // 8}Q" if wide else f"<{len(stack) // 4}I", stack)
        other = self._align - 1 | -1 << 52
        return dict.fromkeys([v for v in values if v and not v & other])

    def _in_the_way(self, cpu: Cpu) -> str:
        """Why the host should not write the kernel to its place; empty if it may."""
        size = self._packed.unpacked
        output = Span(self._output, size)
        if size != self._image.content.size:
            return "the size that it states is another than it has"
        if not cpu.writable(output):
            return f"its place {output} is not all RAM"
        for name in ("rip", "rsp", "cr3", "gdtr", "idtr"):
            if cpu.get(name) in output:
                return f"{name.upper()} points into its place {output}"
        for load in self._scene.given.structures:
            if output.overlaps(Span(load.address, load.memsz)):
                return f"what was handed over at {load.address:#x} lies in its place {output}"
        margin = (size >> 8) + (64 << 10)  # header.S, extra_bytes
        place = self.packed_at
        if place < output.end and output.start < place + self._packed.size < output.end + margin:
            return f"it would overtake what is packed, at {place:#x}"
        return ""

    def _put(self, cpu: Cpu) -> None:
        for place, standing in self._places.items():
            for offset, data in self._patches if standing else ():
                if cpu.read_physical(place + offset, len(data)) == data:
                    was = self._image.file.read(self._packed.offset + offset, len(data))
                    cpu.write_physical(place + offset, was)
        content = self._image.content
        whole = ((at, content.read(at, _PIECE)) for at in range(0, content.size, _PIECE))
        for at, data in self._short or whole:
            cpu.write_physical(self._output + at, data)
        self._phase, self.sound = _Phase.ENTRY, True

    def _give_up(self, why: str) -> None:
        self.why, self._phase = why, _Phase.ENTRY

    # -- the kernel ----------------------------------------------------------------------------------

    def _entered_at(self, cpu: Cpu, address: int, code: bytes) -> int | None:
        """Physical address of a block that is the kernel's first one; None if it is not."""
        size = min(len(code), len(self._code))
        if size < 2 or code[:size] != self._code[:size]:
            return None
        physical = cpu.translate(address)
        return None if physical is None or (physical - self._entry) % self._align else physical

    def _virtual(self, cpu: Cpu, by: int) -> int:
        """Bytes by which the kernel runs above its linked addresses: what was added to the first of them.

        The table of 32-bit relocations ends the unpacked kernel (misc.c, handle_relocations).
        """
        image = self._image
        (address,) = struct.unpack("<i", image.content.read(image.content.size - 4, 4))
        segment = image.segment_at(address % (1 << image.bits))
        if not address or segment is None:
            return 0
        inside = address % (1 << image.bits) - segment.vaddr
        old = int.from_bytes(image.content.read(segment.offset + inside, 4), "little")
        new = int.from_bytes(cpu.read_physical(segment.paddr + inside + by, 4), "little")
        return (new - old + (1 << 31)) % (1 << 32) - (1 << 31)


def _stack(cpu: Cpu) -> bytes:
    """What was pushed last, whole quadwords."""
    stack = cpu.get("rsp")
    for size in (_STACK, 4096 - stack % 4096 & -8):
        try:
            return cpu.read(stack, size)
        except LookupError:
            continue
    return b""


def _entry(image: ElfImage) -> tuple[int, bytes]:
    """Physical address of the kernel's entry as linked, and the first bytes there.

    e_entry of Linux is a physical address (vmlinux.lds.S, phys_startup_64).
    """
    for s in image.loads:
        for start in (s.paddr, s.vaddr):
            if 0 <= image.entry - start < s.filesz:
                inside = image.entry - start
                return s.paddr + inside, image.content.read(s.offset + inside, _ENTRY_BYTES)
    return image.entry, b""


def only_entry(image: ElfImage) -> tuple[tuple[int, bytes], ...]:
    """The least of a 64-bit kernel that is entered: (file offset, bytes), the first page before the others.

    Its ELF header knows one page, with the entry, and the relocations, which are read from the end, are none.
    () where there is no such page.
    """
    content = image.content
    for s in image.loads:
        inside = image.entry - s.paddr & -HEAD
        if 0 <= image.entry - s.paddr < s.filesz and inside + HEAD <= s.filesz:
            break
    else:
        return ()
    head = bytearray(content.read(0, HEAD))
    (table,) = struct.unpack_from("<Q", head, _E_PHOFF)
    page = (s.offset + inside, s.vaddr + inside, s.paddr + inside, HEAD, HEAD, s.align)
    if not 64 <= table <= HEAD - _PHDR.size or page[0] < HEAD:
        return ()
    struct.pack_into("<H", head, _E_PHNUM, 1)
    _PHDR.pack_into(head, table, _PT_LOAD, s.flags, *page)
    end = content.size - _NO_RELOCATIONS
    return (0, bytes(head)), (page[0], content.read(page[0], HEAD)), (end, bytes(_NO_RELOCATIONS))
