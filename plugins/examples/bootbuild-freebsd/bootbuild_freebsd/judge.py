"""Each part of what FreeBSD is handed, compared with what the environment gave."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence

from bootbuild.api import Framebuffer, Given, GivenModule, GuestView, Span, Startup, state_faults
from bootbuild_freebsd.expected import SYMBOLS, command, environment
from bootbuild_freebsd.metadata import (
    ADDR,
    ARGS,
    EFI_FB,
    EFI_MAP,
    ELFHDR,
    ENVP,
    ESYM,
    FW_HANDLE,
    HOWTO,
    KERNBASE,
    KERNEND,
    MODULEP,
    NAME,
    SIZE,
    SMAP,
    SSYM,
    TYPE,
    File,
    Preloaded,
    read_environment,
)

GIB, LARGE_PAGE, PAGE = 1 << 30, 2 << 20, 4096
FRAME = 0x000FFFFFFFFFF000  #: PG_FRAME, sys/amd64/include/pmap.h
RAM = 1
EHDR = struct.Struct("<16x2HI3QI6H")  #: Elf64_Ehdr behind e_ident
PHDR = struct.Struct("<2I6Q")  #: Elf64_Phdr
PT_LOAD = 1


def machine(view: GuestView, startup: Startup, stub: Span | None) -> Iterator[str]:
    """The CPU and its tables."""
    if stub is not None:
        yield from state_faults(view, 64, frozenset(), stub)
    for page in range(0, GIB, LARGE_PAGE):
        if view.translate(KERNBASE + page) != page:
            yield f"KERNBASE + {page:#x} is not mapped to {page:#x}"
            return
    if startup.vaddr - startup.paddr != KERNBASE:
        yield f"the kernel is linked at {startup.vaddr:#x}, not at KERNBASE + {startup.paddr:#x}"
    start = KERNBASE + LARGE_PAGE
    table = view.get("cr3")
    for shift in (39, 30, 21):
        entry = (table & FRAME) + 8 * (start >> shift & 511)
        table = int.from_bytes(_physical(view, entry, 8), "little")
    if table & FRAME != LARGE_PAGE:
        yield f"amd64_loadaddr would find the kernel at {table & FRAME:#x}, not at {LARGE_PAGE:#x}"


def kernel(file: File, view: GuestView, startup: Startup, stub: Span | None) -> Iterator[str]:
    """Name, place and ELF header."""
    if not file.text(NAME):
        yield "the kernel has no name"
    start, size = file.number(ADDR), file.number(SIZE)
    if start is None or size is None:
        yield "the kernel has no address or no size"
        return
    if not start <= startup.paddr < start + size or (stub is not None and start + size > stub.start):
        yield f"the kernel has {size:#x} bytes at {start:#x}; it is entered at {startup.paddr:#x}"
        return
    header = _physical(view, start, EHDR.size)
    if not header.startswith(b"\x7fELF"):
        if ELFHDR in file.records:
            yield f"there is an ELF header in the metadata, but none at {start:#x}"
        return
    if file.records.get(ELFHDR) != header:
        yield f"the ELF header in the metadata is not the one at {start:#x}"
    _, _, _, _, table, _, _, _, entry_size, count, *_ = EHDR.unpack(header)
    for row in range(min(count, 64)):
        header = _physical(view, start + table + row * entry_size, PHDR.size)
        kind, _, _, vaddr, _, _, memsz, _ = PHDR.unpack(header.ljust(PHDR.size, b"\0"))
        if kind == PT_LOAD and not KERNBASE + start <= vaddr <= vaddr + memsz <= KERNBASE + start + size:
            yield f"the segment at {vaddr:#x} is not within the kernel's {size:#x} bytes at {start:#x}"


def _physical(view: GuestView, at: int, size: int) -> bytes:
    """Bytes at a physical address; none where there is no memory."""
    try:
        return view.read_physical(at, size)
    except LookupError:
        return b""


def memory(file: File, view: GuestView, given: Given) -> Iterator[str]:
    """MODINFOMD_EFI_MAP where the environment gave one, else MODINFOMD_SMAP; never both."""
    if given.efi_memmap.size:
        if SMAP in file.records:
            yield "there is an SMAP beside the EFI map, which the kernel does not look at"
        if (found := file.records.get(EFI_MAP)) != _efi_map(view, given):
            size = "none" if found is None else f"{len(found):#x} bytes"
            yield f"the EFI map, {size}, is not the environment's of {given.efi_memmap.size:#x} bytes"
        return
    offered = sorted((e for e in given.memory_map if e.size), key=lambda e: e.address)
    expected = b"".join(struct.pack("<QQI", e.address, e.size, e.type) for e in offered)
    found = file.records.get(SMAP)
    if EFI_MAP in file.records:
        yield "there is an EFI map, which the kernel prefers; the environment gave none"
    if found is None:
        yield "there is no memory map"
    elif found != expected:
        rows = range(0, max(len(found), len(expected)), 20)
        row = next(at for at in rows if found[at : at + 20] != expected[at : at + 20])
        yield (
            f"entry {row // 20} is {_entry(found[row : row + 20])}, "
            f"the environment gave {_entry(expected[row : row + 20])}"
        )


def _efi_map(view: GuestView, given: Given) -> bytes:
    """The struct efi_map_header of sys/x86/include/metadata.h, padded to 16, and the descriptors."""
    size, version = given.efi_memmap_descriptor_size, given.efi_memmap_descriptor_version
    head = struct.pack("<QQI12x", given.efi_memmap.size, size, version)
    return head + _physical(view, given.efi_memmap.start, given.efi_memmap.size)


def _entry(row: bytes) -> str:
    if len(row) < 20:
        return "none"
    base, size, kind = struct.unpack("<QQI", row)
    return f"{base:#x}+{size:#x} type {kind}"


def variables(file: File, view: GuestView, given: Given) -> tuple[dict[str, str], int, list[str]]:
    """(environment, its end as an offset from KERNBASE, what is wrong with it and with the flags)."""
    expected, flags = environment(given.cmdline, given.rsdp)
    wrong = []
    howto = file.records.get(HOWTO, b"")
    if howto != struct.pack("<I", flags):
        wrong.append(
            f"boothowto is {int.from_bytes(howto, 'little'):#x} of {len(howto)} bytes, not {flags:#x}"
        )
    envp = file.number(ENVP)
    if envp is None:
        return {}, 0, [*wrong, "there is no environment"]
    try:
        texts, end = read_environment(view.read, envp)
    except ValueError as reason:
        return {}, 0, [*wrong, f"environment: {reason}"]
    found = [text.partition(b"=")[::2] for text in texts]
    wrong += [f"{name!r} is set twice" for name, _ in dict.fromkeys(found) if _times(found, name) > 1]
    for name in sorted(expected.keys() | dict(found).keys()):
        ours, theirs = dict(found).get(name), expected.get(name)
        if ours != theirs:
            wrong.append(f"variable {name!r} is {ours!r}, it was given as {theirs!r}")
    return {_text(name): _text(value) for name, value in found}, end, wrong


def _times(found: Sequence[tuple[bytes, bytes]], name: bytes) -> int:
    return sum(1 for other, _ in found if other == name)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def files(preloaded: Preloaded, own: File, view: GuestView, given: Given) -> Iterator[str]:
    """All but the kernel, in the environment's order, and the kernel's symbols."""
    offered = [(module, command(module.cmdline)) for module in given.modules]
    tables = [module for module, said in offered if said.type == SYMBOLS]
    others = [(module, said) for module, said in offered if said.type != SYMBOLS]
    found = [file for file in preloaded.files if file is not own]
    if len(found) != len(others):
        yield f"{len(found)} files, the environment gave {len(others)}"
    for file, (module, said) in zip(found, others, strict=False):
        there = (file.text(TYPE), file.text(NAME), file.text(ARGS))
        if there != (said.type, said.name, said.arguments):
            yield f"a file has type, name and arguments {there}; its module was given as {module.cmdline!r}"
        yield from _bytes(f"file {said.name!r}", view, file.number(ADDR), file.number(SIZE), module)
    start, end = own.number(SSYM), own.number(ESYM)
    if tables and start is not None and end is not None:
        yield from _bytes("the symbols", view, start, end - start, tables[-1])
    elif bool(tables) != (start is not None) or bool(tables) != (end is not None):
        yield f"symbols from {start} to {end}, the environment gave {len(tables)} tables"


def _bytes(
    what: str, view: GuestView, at: int | None, size: int | None, module: GivenModule
) -> Iterator[str]:
    if at is None or size != module.span.size:
        yield f"{what} has {size} bytes, the module {module.span.size}"
    elif at % PAGE or at + size > GIB:
        yield f"{what} is at {at:#x}, not at a page of the first GiB"
    elif hashlib.sha256(_physical(view, at, size)).hexdigest() != module.digest:
        yield f"{what} at {at:#x} does not hold the bytes that the environment gave"


def kept(own: File, ends: Sequence[int], words: tuple[int, int], given: Given) -> Iterator[str]:
    """Kernend and modulep. `ends`: of everything that the kernel is to keep, physical."""
    modulep, kernend = words
    if own.number(MODULEP) != modulep:
        yield f"MODINFOMD_MODULEP is {own.number(MODULEP)}, the stack has {modulep}"
    if own.number(KERNEND) != kernend:
        yield f"MODINFOMD_KERNEND is {own.number(KERNEND)}, the stack has {kernend}"
    if kernend % PAGE or kernend > GIB:
        yield f"kernend is {kernend:#x}, not a page of the first GiB"
    if kernend < max(ends):
        yield f"kernend is {kernend:#x}; what the kernel is to keep ends at {max(ends):#x}"
    if not any(
        e.type == RAM and Span(e.address, e.size).covers(Span(kernend, PAGE)) for e in given.memory_map
    ):
        yield f"behind kernend, {kernend:#x}, is no RAM"


def firmware(own: File, given: Given) -> Iterator[str]:
    """MODINFOMD_FW_HANDLE."""
    if (own.number(FW_HANDLE) or 0) != given.efi_system_table:
        yield f"the EFI system table is {own.number(FW_HANDLE)}, the environment's {given.efi_system_table}"


def screen(own: File, given: Given) -> Iterator[str]:
    """MODINFOMD_EFI_FB, the struct efi_fb of sys/x86/include/metadata.h."""
    found = own.records.get(EFI_FB)
    if found != _efi_fb(given.framebuffer):
        was = "none" if found is None else f"{len(found)} bytes, {found[:44].hex()}"
        yield f"the screen is {was}, the environment gave {given.framebuffer}"


def _efi_fb(shown: Framebuffer | None) -> bytes | None:
    if shown is None:
        return None
    places = zip(shown.colours[::2], shown.colours[1::2], strict=True)
    masks = [sum(1 << bit for bit in range(low, low + bits)) for low, bits in places]
    rest = (1 << shown.bits_per_pixel) - 1 - sum(masks)
    shape = (shown.height, shown.width, shown.pitch // (shown.bits_per_pixel // 8))
    return struct.pack("<QQ7I4x", shown.address, shown.size, *shape, *masks, rest)


def file_ends(preloaded: Preloaded) -> Iterator[int]:
    """Where each file, and the kernel's symbols, ends."""
    for file in preloaded.files:
        start, size = file.number(ADDR), file.number(SIZE)
        if start is not None and size is not None:
            yield start + size
        if (end := file.number(ESYM)) is not None:
            yield end
