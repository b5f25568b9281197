"""Opening a kernel, whatever it is packed in."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bootbuild.errors import InputError, Problem
from bootbuild.formats import bzimage, rules
from bootbuild.formats.application import FORMAT, read_application
from bootbuild.formats.elf_fresh import rewrap
from bootbuild.formats.elf_read import read_elf
from bootbuild.formats.elf_structs import MAGIC, header
from bootbuild.formats.pe_read import PeError, read_pe
from bootbuild.formats.raw import read_raw
from bootbuild.formats.relocate import is_pie, relocate
from bootbuild.formats.setup_header import wrong_checksum
from bootbuild.formats.whole import whole_files
from bootbuild.model.content import (
    Content,
    FileContent,
    MemoryContent,
    Piece,
    SplicedContent,
    digest,
    snapshot,
)
from bootbuild.model.payload import EM_X86_64, ET_EXEC, PT_LOAD, ElfImage, Words

#: How to get on with a file that begins so, and is neither ELF nor bzImage.
_REMEDIES = {
    b"MZ": "a PE file, neither bootbuild's own nor a vmlinuz (`HdrS` at 0x202, which PE tools leave out): "
    "name the kernel as it was built; other programs `bootbuild boot --until console:TEXT` takes",
    **dict.fromkeys(
        (b"\x1f\x8b", b"\xfd7zXZ", b"BZh", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"),
        "a compressed file: unpack it first, for only a bzImage's own compression is undone",
    ),
}
_REWRITTEN = (
    "name the file as Linux's build made it: `header` of target linux sets fields, and signing keeps them"
)


def open_content(path: Path) -> FileContent:
    """A regular file's content. Raises InputError (BB-E031); never waits on a pipe or a device."""
    try:
        kind = path.stat().st_mode
        if not stat.S_ISREG(kind):
            what = "a directory" if stat.S_ISDIR(kind) else "not a regular file"
            raise InputError(Problem(rules.UNREADABLE, str(path), what))
        return FileContent(path)
    except (OSError, ValueError) as error:
        text = (getattr(error, "strerror", None) or str(error)).lower()
        remedy = "name a file: standard input is not read" if str(path) == "-" else ""
        raise InputError(Problem(rules.UNREADABLE, str(path), text, remedy)) from None


def open_snapshot(path: Path) -> Content:
    """What a regular file holds now, whatever becomes of it; for machines. Raises InputError (BB-E031)."""
    with whole_files():
        return snapshot(open_content(path))


def read_payload(content: Content, name: str) -> tuple[ElfImage, str]:
    """The kernel in a file, and what that was: "elf", "bzimage (lz4)", "efi application". Raises InputError.

    Of a packed one `packing` is the file.
    """
    if content.read(0, 4) == MAGIC:
        return read_elf(content, name), "elf"
    if bzimage.is_bzimage(content):
        unpacked, compression = bzimage.unpack(content, name)
        if wrong := wrong_checksum(content):
            raise InputError(Problem(rules.BZIMAGE_CHECKSUM, name, wrong))
        elf = read_elf(unpacked, f"{name} (vmlinux)")
        if wrong := _does_not_fit(elf, bzimage.header(content)):
            raise InputError(Problem(rules.BZIMAGE_INIT_SIZE, f"{name}@0x260", wrong))
        return replace(elf, packing=content), f"bzimage ({compression})"
    if (made := read_application(content, name)) is not None:
        return made, FORMAT
    if _was_linux(content):
        text = "`HdrS` is missing in a PE file that was Linux's (.setup): a PE writer, as LIEF, made it anew"
        raise InputError(Problem(rules.BZIMAGE_HEADER, f"{name}@0x202", text, _REWRITTEN))
    start = content.read(0, 8)
    shown = repr(start.decode()) if start.isascii() and start.decode().isprintable() else start.hex(" ")
    text = f"not a kernel: neither ELF nor bzImage; it begins with {shown if start else 'nothing'}"
    remedy = next((said for magic, said in _REMEDIES.items() if start.startswith(magic)), "")
    raise InputError(Problem(rules.UNKNOWN_FORMAT, name, text, remedy))


def _was_linux(content: Content) -> bool:
    """Whether a PE file without setup header has the first section of Linux (arch/x86/boot/header.S)."""
    try:
        return read_pe(content).section(".setup") is not None
    except PeError:
        return False


def _does_not_fit(elf: ElfImage, fields: Mapping[str, int]) -> str:
    """Why the kernel does not fit the memory that its setup header asks for."""
    low = min((s.paddr for s in elf.loads), default=0)
    high = max((s.paddr + s.filesz for s in elf.loads), default=0)
    room = fields.get("init_size", high - low)
    return (
        f"init_size is {room:#x}, and the kernel's segments take {high - low:#x}" if room < high - low else ""
    )


def sealed(content: Content, name: str) -> ElfImage:
    """A file as its loaders read it, where what is packed in it cannot be had: an image without segments."""
    return ElfImage(name, 64, EM_X86_64, ET_EXEC, 0, (), (), MemoryContent(b""), packing=content)


@dataclass(frozen=True)
class Fit:
    """What a recipe says of a payload beside its file. Addresses are physical, sizes in bytes."""

    load: int | None = None  #: where a raw kernel, or the lowest byte of an ET_DYN, is put
    entry: int | None = None  #: of a raw kernel
    bss: int | None = None  #: zeros behind a raw kernel
    paddr_offset: int | None = None  #: p_vaddr less the load address, for an ELF file whose p_paddr is wrong
    elf_class: int | None = None  #: 32 or 64: the class of the image, if not the payload's
    width: int | None = None  #: 32 or 64: of a raw kernel's code


@dataclass(frozen=True)
class Opened:
    """A payload ready to be built from, what its file was, and what was done to it."""

    elf: ElfImage
    bits: int  #: ELF class of the file, by which the width of its code goes
    format: str  #: "elf", "raw", "bzimage (lz4)" …
    digest: str  #: SHA-256 of the file, hex
    changes: tuple[str, ...]
    moved: int = 0  #: bytes by which it lies higher than the file says; negative: lower
    addresses: Words | None = None  #: where it holds addresses of itself; None unless it is a PIE


def open_payload(path: Path, fit: Fit = Fit()) -> Opened:
    """The kernel at `path`, as `fit` would have it.

    Raises InputError: BB-E025, BB-E026, BB-E030, BB-E031, BB-E040 to BB-E045, and those of `read_elf` and
    `bzimage.unpack`.
    """
    content, name = open_content(path), str(path)
    raw = fit.load is not None and content.read(0, 4) != MAGIC and not bzimage.is_bzimage(content)
    if raw and fit.load is not None:
        elf = read_raw(content, name, fit.load, fit.entry, fit.bss or 0, fit.width or 64)
        kind = "raw"
    else:
        elf, kind = read_payload(content, name)
    pie = is_pie(elf)
    unread = ["load"] if fit.load is not None and not raw and not pie else []
    unread += [key for key in ("entry", "bss") if getattr(fit, key) is not None and not raw]
    if unread:
        text = f"{', '.join(unread)}: the payload is {kind}, linked at fixed addresses"
        raise InputError(Problem(rules.UNREAD_OPTION, name, text))
    changes: tuple[str, ...] = ()
    bits, moved = elf.bits, 0
    addresses = None
    if fit.paddr_offset is not None:
        elf, changes = mend_paddr(elf, fit.paddr_offset)
    if pie:
        relocated = relocate(elf, fit.load)
        elf, moved, addresses = relocated.image, relocated.moved, relocated.addresses
        changes += relocated.done
    if fit.elf_class is not None and fit.elf_class != elf.bits:
        changes += (f"ELF{elf.bits} wrapped as ELF{fit.elf_class}",)
        elf = rewrap(elf, fit.elf_class)
    return Opened(elf, bits, kind, digest(content), changes, moved, addresses)


def mend_paddr(elf: ElfImage, offset: int) -> tuple[ElfImage, tuple[str, ...]]:
    """The image with p_paddr = p_vaddr - `offset` in every PT_LOAD. Raises InputError (BB-E045)."""
    kind, fields = header(elf.content)
    wrong = [s for s in elf.loads if not 0 <= s.vaddr - offset <= (1 << 32) - s.memsz]
    if wrong:
        text = f"segment at {wrong[0].virtual} less {offset:#x} is not below 4 GiB"
        raise InputError(Problem(rules.PADDR_OFFSET, elf.name, text))
    segments = [
        replace(s, paddr=s.vaddr - offset) if s.type == PT_LOAD and s.memsz else s for s in elf.segments
    ]
    count = sum(a != b for a, b in zip(segments, elf.segments, strict=True))
    table = b"".join(map(kind.pack_segment, segments))
    pieces = (
        Piece(0, elf.content, 0, elf.content.size),
        Piece(fields.e_phoff, MemoryContent(table), 0, len(table)),
    )
    mended = read_elf(SplicedContent(elf.content.size, pieces), elf.name)
    changes = (f"p_paddr of {count} segments set to p_vaddr - {offset:#x}",) if count else ()
    return replace(mended, symbols=elf.symbols), changes
