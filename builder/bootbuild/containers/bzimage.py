"""The bzImage container: real-mode code, protected-mode code that unpacks, and the kernel's ELF file."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from bootbuild.containers import bzimage_rules as rules
from bootbuild.containers.elf import ElfContainer
from bootbuild.containers.rules import WRONG_CONTAINER
from bootbuild.errors import Problem, RefusedError
from bootbuild.formats import bzimage, setup_header
from bootbuild.model.content import Content, FileContent, MemoryContent, chunks, snapshot
from bootbuild.model.contribution import BzimageSpec, Contribution, Layout
from bootbuild.model.payload import Payload
from bootbuild.model.span import Span, align_up
from bootbuild.store import writing
from bootbuild.stubs.link import Params, extent, link

NAME = "bzimage"
PAGE = 0x1000
LIMIT = 1 << 32
LOWEST = 1 << 20  #: physical; below is what loaders hand over
PARAGRAPH = 16  #: bytes of a unit of syssize
LEDGE = 16  #: bytes before the protected-mode code that its move down needs (linux_head.S)
TABLES = 11 * PAGE  #: bytes behind it where it was loaded, for page tables above 4 GiB (linux_head.S)
_WORDS = struct.Struct("<8I")  #: struct bzimage of linux_head.c


class BzimageContainer:
    """Packs an ELF file that `ElfContainer` lays out; a payload that is a bzImage stays as it is."""

    suffix = ".bzimage"

    def lay_out(self, payload: Payload, contributions: Sequence[Contribution]) -> Layout:
        """Place the stubs of the one target. Raises RefusedError (BB-W006, BB-W040 to BB-W044, and the ELF
        container's).
        """
        problems = [
            Problem(
                WRONG_CONTAINER,
                f"{payload.source}: {c.target}",
                f"needs container {c.container}; this image is {NAME}, which holds one target alone",
            )
            for c in contributions[1:]
        ]
        if problems:
            raise RefusedError(problems)
        (contribution,) = contributions
        if contribution.bzimage is None:
            return _as_it_is(payload, contribution)
        inner = replace(contribution, container="elf", bzimage=None)
        layout = ElfContainer().lay_out(_unpacked(payload), [inner])
        low = min(s.paddr for s in payload.elf.loads)
        if low < LOWEST:
            text = f"a PT_LOAD of it is at physical {low:#x}"
            raise RefusedError(Problem(rules.LOW_MEMORY, payload.source, text))
        return replace(layout, bzimage=contribution.bzimage, setup_header=contribution.setup_header)

    def write(self, payload: Payload, layout: Layout, destination: Path) -> Content:
        """Write the image, streamed, after checking it; what was written.

        Raises RefusedError (BB-W041), OutputError (BB-W09n) and VerificationError (BB-W050 to BB-W055, and
        those of the ELF file in it); then nothing is left at `destination` that was not there before.
        """
        from bootbuild.containers import verify_bzimage

        if layout.bzimage is None:
            old = payload.elf.file
            with writing(destination) as output:
                for part in _with_fields(old, layout.setup_header):
                    output.write(part)
                verify_bzimage.verify_same(old, layout, output.path, str(destination))
                return snapshot(FileContent(output.path))
        with tempfile.TemporaryDirectory() as folder:
            kernel = ElfContainer().write(_unpacked(payload), layout, Path(folder) / "kernel.elf")
        parts = assemble(payload, layout, layout.bzimage, kernel)
        with writing(destination) as output:
            for part in _summed(parts):
                output.write(part)
            verify_bzimage.verify(parts, kernel, output.path, str(destination))
            return snapshot(FileContent(output.path))


@dataclass(frozen=True)
class Parts:
    """A bzImage before it is written."""

    setup: bytes  #: the real-mode code, whole sectors, its header complete
    code: bytes  #: the protected-mode code, linked
    payload: Content  #: the kernel, packed
    size: int  #: bytes of all that is loaded at the place of the protected-mode code, checksum included
    place: int  #: physical address for which that code is linked


def pack(kernel: Content, compress: str) -> Content:
    """The kernel as a bzImage holds it: a legacy LZ4 frame with the size behind it, or as it is."""
    if not compress:
        return kernel
    from lz4.block import compress as block

    packed = bytearray(bzimage.LZ4_MAGIC.to_bytes(4, "little"))
    for at in range(0, kernel.size, bzimage.LZ4_BLOCK):
        part = kernel.read(at, bzimage.LZ4_BLOCK)
        done = block(part, mode="high_compression", compression=9, store_size=False)
        packed += len(done).to_bytes(4, "little") + done
    packed += kernel.size.to_bytes(4, "little")
    return MemoryContent(packed)


def _unpacked(payload: Payload) -> Payload:
    return replace(payload, elf=payload.elf.unpacked)


def _as_it_is(payload: Payload, contribution: Contribution) -> Layout:
    """A layout that adds nothing but fields. Raises RefusedError (BB-W042 to BB-W044)."""
    file, fields = payload.elf.file, contribution.setup_header
    if payload.elf.packing is None or not bzimage.is_bzimage(file):
        raise RefusedError(Problem(rules.NOT_PACKED, payload.source, f"it is {payload.format}"))
    found = setup_header.objections(file, fields)
    problems = [Problem(rules.HEADER_VALUE, payload.source, text) for text in found]
    if fields and setup_header.is_signed(file):
        names = ", ".join(name for name, _ in fields)
        problems += [Problem(rules.SIGNED, payload.source, f"it is signed, and {names} would change")]
    if problems:
        raise RefusedError(problems)
    return Layout((), b"", (), setup_header=fields)


def _with_fields(old: Content, fields: Sequence[tuple[str, int]]) -> Iterator[bytes | memoryview]:
    """The payload's own bzImage with other fields in its header, and a right checksum if it had one."""
    head = bytearray(old.read(0, bzimage.SECTOR * 2) if fields else b"")
    for name, value in fields:
        setup_header.put(head, name, value)
    if not fields or not setup_header.sums_up(old):
        yield bytes(head)
        yield from chunks(old, len(head))
        return
    rest = old.size - len(head) - setup_header.CRC_SIZE
    yield bytes(head)
    yield from chunks(old, len(head), rest)
    crc = setup_header.checksum(chain([head], chunks(old, len(head), rest)))
    yield crc.to_bytes(setup_header.CRC_SIZE, "little")


def assemble(payload: Payload, layout: Layout, spec: BzimageSpec, kernel: Content) -> Parts:
    """Place and link everything. Raises RefusedError (BB-W041)."""
    packed = pack(kernel, spec.compress)
    room = extent([spec.head], ())
    offset = align_up(room.text_size, PARAGRAPH)
    size = align_up(offset + packed.size + setup_header.CRC_SIZE, PARAGRAPH)
    low = min(s.paddr for s in payload.elf.loads) // PAGE * PAGE
    place = align_up(layout.stub.end + LEDGE, PAGE)
    bss = align_up(place + size, PAGE)
    unpacked = Span(align_up(bss + room.bss_size, PAGE), kernel.size if spec.compress else 0)
    high = align_up(max(unpacked.end, bss + TABLES), PAGE)
    if high > LIMIT:
        text = f"it would take physical {Span(low, high - low)}"
        raise RefusedError(Problem(rules.NO_ROOM, payload.source, text))
    (_, entry), *_ = layout.entries
    linked = link([spec.head], (), Params(entry, Span(place, high - place)), place, bss)
    words = (place, size, low, high, place + offset, packed.size, unpacked.start, unpacked.size)
    code = bytearray(linked.text.ljust(offset, b"\0"))
    _WORDS.pack_into(code, linked.exports["bb_bzimage"] - place, *words)
    setup = bytearray(spec.setup.text)
    setup += bytes(-len(setup) % bzimage.SECTOR)
    fields = {
        "relocatable_kernel": 0,  # it goes to pref_address, wherever it was loaded
        "kernel_alignment": PAGE,
        "min_alignment": PAGE.bit_length() - 1,
        **dict(layout.setup_header),
        "setup_sects": len(setup) // bzimage.SECTOR - 1,
        "syssize": size // PARAGRAPH,
        "payload_offset": offset,
        "payload_length": packed.size,
        "pref_address": low,
        "init_size": high - low,
        "kernel_info_offset": linked.exports["bb_kernel_info"] - place,
    }
    for name, value in fields.items():
        setup_header.put(setup, name, value)
    return Parts(bytes(setup), bytes(code), packed, size, place)


def _summed(parts: Parts) -> Iterator[bytes | memoryview]:
    """Everything in its order, with the checksum at the end."""
    padding = bytes(parts.size - len(parts.code) - parts.payload.size - setup_header.CRC_SIZE)
    crc = setup_header.checksum(chain([parts.setup, parts.code], chunks(parts.payload), [padding]))
    yield parts.setup
    yield parts.code
    yield from chunks(parts.payload)
    yield padding
    yield crc.to_bytes(setup_header.CRC_SIZE, "little")
