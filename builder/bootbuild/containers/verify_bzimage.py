"""After a bzImage is written: whether loaders find in it what was put there."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bootbuild.containers import bzimage_rules as rules
from bootbuild.errors import InputError, Problem, VerificationError
from bootbuild.formats.bzimage import FIELDS, unpack
from bootbuild.model.content import Content, FileContent, chunks, first_difference
from bootbuild.model.contribution import Layout
from bootbuild.model.rule import Rule

if TYPE_CHECKING:
    from bootbuild.containers.bzimage import Parts

Found = tuple[Rule, str]

# Documentation/arch/x86/boot.rst, by offset: boot_flag, jump, header, version, loadflags, code32_start;
# kernel_alignment … xloadflags; payload_offset, payload_length; pref_address, init_size; kernel_info_offset
_START = struct.Struct("<HBB4sH9xBxxI")
_START_AT = 0x1FE
_KERNEL_INFO = struct.pack("<4sII", b"LToP", 16, 16)  #: without setup_type_max


def _number(head: bytes, offset: int, size: int) -> int:
    return int.from_bytes(head[offset : offset + size], "little")


def verify(parts: Parts, kernel: Content, path: Path, name: str) -> None:
    """Check the image at `path`, called `name`, that packs the ELF file `kernel`.

    Raises VerificationError (BB-W050 to BB-W054) with every rule that it breaks.
    """
    content = FileContent(path)
    found = list(_header(parts, content))
    found += _code(parts, content)
    found += _kernel(kernel, content, name)
    found += _memory(parts, kernel, content)
    crc = 0
    for part in chunks(content):
        crc = zlib.crc32(part, crc)
    if crc != 0xFFFFFFFF:  # the remainder 0, inverted
        found.append((rules.CHECKSUM_WRONG, f"the remainder is {crc ^ 0xFFFFFFFF:#x}"))
    _raise(found, name)


def verify_same(old: Content, layout: Layout, path: Path, name: str) -> None:
    """Check a payload's own bzImage, in which nothing but fields of the layout may differ.

    Raises VerificationError (BB-W055).
    """
    content = FileContent(path)
    fields = {field.name: field for field in FIELDS}
    free = {at for key, _ in layout.setup_header for at in _bytes_of(fields[key].offset, fields[key].size)}
    if layout.setup_header and _remainder(old) == 0:
        free.update(_bytes_of(old.size - 4, 4))
        if _remainder(content):
            _raise([(rules.BYTES_CHANGED, "its checksum is not right any more")], name)
    found: list[Found] = []
    if content.size != old.size:
        found.append((rules.BYTES_CHANGED, f"it has {content.size} bytes, and had {old.size}"))
    at = 0
    for before, after in zip(chunks(old), chunks(content), strict=False):
        if before != after:
            pairs = enumerate(zip(before, after, strict=False), at)
            found += [
                (rules.BYTES_CHANGED, f"at file offset {i:#x}")
                for i, (a, b) in pairs
                if a != b and i not in free
            ][:1]
        at += len(before)
    for key, value in layout.setup_header:
        field = fields[key]
        stated = int.from_bytes(content.read(field.offset, field.size), "little")
        if stated != value:
            found.append((rules.BYTES_CHANGED, f"{key} is {stated:#x}, not {value:#x}"))
    _raise(found, name)


def _bytes_of(start: int, size: int) -> range:
    return range(start, start + size)


def _remainder(content: Content) -> int:
    crc = 0
    for part in chunks(content):
        crc = zlib.crc32(part, crc)
    return crc ^ 0xFFFFFFFF


def _raise(found: list[Found], name: str) -> None:
    if found:
        raise VerificationError(Problem(rule, name, message) for rule, message in found)


def _header(parts: Parts, content: Content) -> Iterator[Found]:
    """What every loader looks at first."""
    head = content.read(0, 0x280)
    flag, jump, distance, magic, version, loadflags, start = _START.unpack_from(head, _START_AT)
    if (flag, magic, version) != (0xAA55, b"HdrS", 0x020F):
        yield rules.HEADER_WRONG, f"boot_flag {flag:#x}, header {magic!r}, version {version:#x}"
    if jump != 0xEB or 0x202 + distance < 0x26C:
        yield rules.HEADER_WRONG, f"the jump at 0x200 leads to {0x202 + distance:#x}, inside the header"
    if not loadflags & 1 or start != 0x100000:
        yield rules.HEADER_WRONG, f"loadflags {loadflags:#x}, code32_start {start:#x}"
    if (head[0x1F1] + 1) * 512 != len(parts.setup) or not head[0x1F1]:
        yield rules.HEADER_WRONG, f"setup_sects is {head[0x1F1]}, of {len(parts.setup)} bytes"
    loaded = _number(head, 0x1F4, 4) * 16
    if loaded != content.size - len(parts.setup):
        there = content.size - len(parts.setup)
        yield rules.HEADER_WRONG, f"syssize says {loaded:#x} bytes of code, and {there:#x} are there"
    info = len(parts.setup) + _number(head, 0x268, 4)
    if content.read(info, len(_KERNEL_INFO)) != _KERNEL_INFO:
        yield rules.HEADER_WRONG, f"kernel_info_offset leads to file offset {info:#x}, where none is"


def _code(parts: Parts, content: Content) -> Iterator[Found]:
    if content.read(0, len(parts.setup)) != parts.setup:
        yield rules.CODE_WRONG, "of the real-mode code"
    if content.read(len(parts.setup), len(parts.code)) != parts.code:
        yield rules.CODE_WRONG, "of the protected-mode code"


def _kernel(kernel: Content, content: Content, name: str) -> Iterator[Found]:
    try:
        unpacked, _ = unpack(content, name)
    except InputError as error:
        yield rules.PAYLOAD_WRONG, "; ".join(problem.message for problem in error.problems)
        return
    if unpacked.size != kernel.size or first_difference(unpacked, 0, kernel, 0, kernel.size) is not None:
        yield rules.PAYLOAD_WRONG, f"{unpacked.size} bytes are unpacked, and are not its {kernel.size}"


def _memory(parts: Parts, kernel: Content, content: Content) -> Iterator[Found]:
    """pref_address and init_size against the program headers, read from the kernel's own bytes."""
    head = content.read(0, 0x280)
    low, size = _number(head, 0x258, 8), _number(head, 0x260, 4)
    end = low + size
    if parts.place + parts.size > end:
        yield rules.MEMORY_WRONG, f"what is loaded goes to {parts.place:#x}, past {end:#x}"
    for paddr, memsz in _loads(kernel):
        if not low <= paddr <= paddr + memsz <= parts.place:
            yield rules.MEMORY_WRONG, f"a PT_LOAD at {paddr:#x} is not between {low:#x} and {parts.place:#x}"


def _loads(kernel: Content) -> Iterator[tuple[int, int]]:
    """p_paddr and p_memsz of every PT_LOAD (System V gABI, chapter 5)."""
    wide = kernel.read(4, 1) == b"\x02"
    head = kernel.read(0, 64)
    table, count = (
        (_number(head, 32, 8), _number(head, 56, 2)) if wide else (_number(head, 28, 4), _number(head, 44, 2))
    )
    kind = struct.Struct("<I20xQ8xQ8x" if wide else "<I8xI4xI8x")
    for index in range(count):
        is_load, paddr, memsz = kind.unpack(kernel.read(table + index * kind.size, kind.size))
        if is_load == 1:
            yield paddr, memsz
