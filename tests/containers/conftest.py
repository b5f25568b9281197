"""A payload that says so when it is reached, and stubs that jump to it: real code, a few bytes long."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bootbuild.formats.elf_read import read_elf
from bootbuild.model.blob import Blob, Fixup
from bootbuild.model.content import FileContent, MemoryContent
from bootbuild.model.contribution import AddressOf, Contribution, NoteSpec
from bootbuild.model.payload import Payload, Startup
from bootbuild.model.waist import Piece, Waist

SHIFT = {32: 0xC0000000, 64: 0xFFFFFFFF80000000}
# The payload at 1 MiB: write "K" to COM1, then 0 to QEMU's isa-debug-exit at 0xf4, then stop.
CODE = bytes.fromhex("66baf803 b04b ee 66baf400 b000 ee fa f4 ebfd")


def note(owner: bytes, type_: int, desc: bytes) -> bytes:
    """One note padded to 4; `owner` with its NUL."""
    name = owner + bytes(-len(owner) % 4)
    return struct.pack("<III", len(owner), len(desc), type_) + name + desc + bytes(-len(desc) % 4)


NOTES = (
    note(b"GNU\0", 5, bytes(16))  # .note.gnu.property
    + note(b"GNU\0", 3, b"\x11" * 20)
    + note(b"Xen\0", 6, b"linux\0")
    + note(b"Xen\0", 19, bytes(12))
    + note(b"Xen\0", 18, struct.pack("<I", 0xDEAD0000))
    + note(b"bootbuild\0", 1, b"older")
)


def elf(
    bits: int,
    *,
    shift: int = 0,
    entry: int = 0x100000,
    paddr: int = 0x100000,
    before: int = 0,
    alone: int = 0,
    phoff: int = 0,
) -> bytes:
    """ehdr, five phdrs (PHDR, LOAD, LOAD with .bss, NOTE, GNU_STACK), contents, a section table.

    The first LOAD also brings what is `before` the code, 0x1000 up to the ELF header. With `alone` that many
    bytes from the ELF header on are a LOAD of their own, in the place of GNU_STACK, with a flag of some
    system's. The program headers are at `phoff`, else behind the ELF header.
    """
    notes = NOTES
    size, phsize, shsize = {32: (52, 32, 40), 64: (64, 56, 64)}[bits]
    phoff = phoff or size
    phdrs = [
        (6, 4, phoff, 0, 0, 5 * phsize, 5 * phsize, 8),
        (1, 5, 0x1000 - before, paddr + shift - before, paddr - before, 0x20 + before, 0x20 + before, 0x1000),
        (1, 6, 0x1800, paddr + shift + 0x1800, paddr + 0x1800, 0x10, 0x1000, 0x800),
        (4, 4, 0x2000, 0, 0, len(notes), len(notes), 4),
        (1, 0x100004, 0, paddr + shift - 0x8000, paddr - 0x8000, alone, alone + 8, 0x1000)
        if alone
        else (0x6474E551, 6, 0, 0, 0, 0, 0, 16),
    ]
    out = bytearray(0x2000) + notes
    table = len(out)
    machine = {32: 3, 64: 62}[bits]
    layout = {32: "<HHIIIIIHHHHHH", 64: "<HHIQQQIHHHHHH"}[bits]
    out[:16] = b"\x7fELF" + bytes([bits // 32, 1, 1]) + bytes(9)
    out[16:size] = struct.pack(layout, 2, machine, 1, entry, phoff, table, 0, size, phsize, 5, shsize, 2, 1)
    for index, (type_, flags, *rest, align) in enumerate(phdrs):
        raw = (
            struct.pack("<IIQQQQQQ", type_, flags, *rest, align)
            if bits == 64
            else struct.pack("<IIIIIIII", type_, *rest, flags, align)
        )
        out[phoff + index * phsize : phoff + (index + 1) * phsize] = raw
    out[0x1000 : 0x1000 + len(CODE)] = CODE
    out[0x1800:0x1810] = b"\xdd" * 16
    # A null section and a string table; then bytes that no header speaks of, as Linux appends relocations.
    return bytes(out) + bytes(shsize) + b"\1\0\0\0\3\0\0\0".ljust(shsize, b"\0") + b"appended"


MakePayload = Callable[..., Payload]


@pytest.fixture
def make_payload(tmp_path: Path) -> MakePayload:
    """`make_payload(bits=64, shift=…, width=…, entry=…, paddr=…)`: a payload in a file."""

    def make(bits: int = 64, *, shift: int | None = None, width: int | None = None, **more: int) -> Payload:
        moved = SHIFT[bits] if shift is None else shift
        path = tmp_path / "vmlinux"
        path.write_bytes(elf(bits, shift=moved, **more))
        image = read_elf(FileContent(path), str(path))
        start = more.get("paddr", 0x100000)
        startup = Startup("startup", start + moved, start, width or bits)
        return Payload(image, str(path), "elf", "", "native", startup)

    return make


@pytest.fixture(params=[32, 64], ids=["elf32", "elf64"])
def payload(request: pytest.FixtureRequest, make_payload: MakePayload) -> Payload:
    """A payload of either class, linked high."""
    return make_payload(request.param)


# mov eax, 0x100000; jmp *%eax: into the payload. Then a place that names its own NOBITS.
JUMP = bytes.fromhex("b800001000 ffe0") + bytes(5)


@pytest.fixture
def contribution() -> Callable[..., Contribution]:
    """`contribution(payload, target="pvh", …)`: one front stub with NOBITS, and PHYS32_ENTRY for it."""

    def make(payload: Payload, target: str = "pvh", *, bss: int = 0x40, **changes: object) -> Contribution:
        blob = Blob(
            target,
            payload.startup.width,
            JUMP,
            16,
            bss,
            16,
            (Fixup(8, "abs32", ".bss", 0),),
            {"entry": (".text", 0)},
            "hand",
        )
        made = Contribution(
            target,
            "native",
            "elf",
            payload.startup,
            (Piece(blob, "entry", None, Waist(32)),),
            notes=(NoteSpec("Xen", 18, AddressOf("entry")),) if target == "pvh" else (),
        )
        if changes.get("chain") == ():
            made = replace(made, notes=())  # there is no stub that a note could name
        return replace(made, **changes)  # type: ignore[arg-type]

    return make


@pytest.fixture
def in_memory() -> Callable[[Payload], Payload]:
    """The same payload, as it is when it was unpacked from a bzImage."""

    def move(payload: Payload) -> Payload:
        content = payload.elf.content
        return replace(
            payload, elf=replace(payload.elf, content=MemoryContent(content.read(0, content.size)))
        )

    return move
