"""Linked chains as bootable ELF files, written by hand: what is tested here is not the containers' writer."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from bootbuild.model.blob import Blob
from bootbuild.model.span import Span, align_up
from bootbuild.model.waist import Piece, Waist, route
from bootbuild.stubs.link import Linked, Params, extent, link
from bootbuild.stubs.load import load
from bootbuild.stubs.pieces import native, switches

PT_LOAD, PT_NOTE = 1, 4
START_MAGIC = 0x336EC578
PRELUDE = 0x600000  #: where a prepared hvm_start_info and the code that passes it on are loaded
SCRATCH = 0x640000  #: strings, tables and modules of a prepared hvm_start_info


@dataclass
class Prepared:
    """A hvm_start_info of the test's own, handed to the front instead of the monitor's."""

    magic: int = START_MAGIC
    version: int = 1
    flags: int = 0
    cmdline: bytes | None = b"prepared"
    modules: Sequence[tuple[int, bytes, bytes | None]] = ()  #: (address, contents, command line)
    memmap: Sequence[tuple[int, int, int]] = ((0, 0x9F000, 1), (0x100000, 0x7E00000, 1))
    rsdp: int = 0
    override: dict[str, int] = field(default_factory=dict)  #: fields of the structure, as they are to be
    address: int = PRELUDE + 0x1000
    garbage: bool = True  #: fill the chain's NOBITS, trash ESP and all registers that are not promised


@dataclass(frozen=True)
class Image:
    """A bootable file, and what was put where."""

    path: Path
    linked: Linked
    stub: Span
    params: Params


class Elf:
    """A minimal ELF64 executable: one page of headers, then segments."""

    def __init__(self, entry: int) -> None:
        self.entry = entry
        self.headers: list[tuple[int, ...]] = []
        self.body = bytearray()

    def add(self, data: bytes, paddr: int, memsz: int, flags: int, vaddr: int, kind: int = PT_LOAD) -> None:
        align = 4 if kind == PT_NOTE else 0x1000
        self.body += bytes(-len(self.body) % align)
        offset = 0x1000 + len(self.body)
        self.body += data
        self.headers.append((kind, flags, offset, vaddr, paddr, len(data), memsz, align))

    def write(self, path: Path) -> None:
        ident = b"\x7fELF\x02\x01\x01" + bytes(9)
        head = struct.pack(
            "<16sHHIQQQIHHHHHH", ident, 2, 62, 1, self.entry, 64, 0, 0, 64, 56, len(self.headers), 64, 0, 0
        )
        head += b"".join(struct.pack("<IIQQQQQQ", *header) for header in self.headers)
        path.write_bytes(head.ljust(0x1000, b"\0") + self.body)


def pvh_chain(width: int) -> tuple[tuple[Piece, ...], Blob]:
    """The front, what leads to the native back of `width`, and the post stub."""
    front = Piece(load("bootbuild_pvh", "pvh_front"), "bb_pvh_entry", None, Waist(32))
    return route(front, native(width), switches()), load("bootbuild_pvh", f"pvh_post_{width}")


def hello_path(width: int) -> Path:
    path = resources.files("bootbuild") / "guests" / "hello" / f"hello{width}.elf"
    assert isinstance(path, Path)
    return path


def _prelude(elf: Elf, prepared: Prepared, entry: int) -> int:
    """Load a structure of the test's own with the code that enters the front with it; that code's address."""
    scratch = bytearray()

    def put(data: bytes) -> int:
        address = SCRATCH + len(scratch)
        scratch.extend(data + bytes(-len(data) % 16))
        return address

    memmap = b"".join(struct.pack("<QQII", *row, 0) for row in prepared.memmap)
    modules = b""
    for address, contents, cmdline in prepared.modules:
        own = put(cmdline + b"\0") if cmdline is not None else 0
        modules += struct.pack("<QQQQ", address, len(contents), own, 0)
        elf.add(contents, address, len(contents), 6, address)
    info: dict[str, int] = {
        "magic": prepared.magic,
        "version": prepared.version,
        "flags": prepared.flags,
        "nr_modules": len(prepared.modules),
        "modlist_paddr": put(modules) if modules else 0,
        "cmdline_paddr": put(prepared.cmdline + b"\0") if prepared.cmdline is not None else 0,
        "rsdp_paddr": prepared.rsdp,
        "memmap_paddr": put(memmap),
        "memmap_entries": len(prepared.memmap),
        "reserved": 0,
    } | prepared.override
    elf.add(struct.pack("<4I4Q2I", *info.values()), prepared.address, 56, 6, prepared.address)
    # mov $address, %ebx; then what the ABI does not promise: mov $…, of ESP and the others; jmp entry
    code = b"\xbb" + struct.pack("<I", prepared.address)
    if prepared.garbage:
        code += b"\xbc" + struct.pack("<I", 0xDEAD0001)  # esp
        for opcode in (
            0xB8,
            0xB9,
            0xBA,
            0xBD,
            0xBE,
            0xBF,
        ):  # eax (Multiboot's magic), ecx, edx, ebp, esi, edi
            code += bytes([opcode]) + struct.pack("<I", 0x2BADB002)
        code += b"\x0f\x01\x15" + struct.pack("<I", PRELUDE + 0x800)  # lgdt of a table that is not there
        code += b"\xfd"  # std
    code += b"\xe9" + struct.pack("<i", entry - (PRELUDE + len(code) + 5))
    elf.add(code.ljust(0x800, b"\xcc") + struct.pack("<HI", 0xFFFF, 0xFFFFF000), PRELUDE, 0x806, 7, PRELUDE)
    elf.add(bytes(scratch), SCRATCH, len(scratch), 6, SCRATCH)
    return PRELUDE


def write_image(
    path: Path,
    width: int,
    *,
    prepared: Prepared | None = None,
    chain: tuple[Piece, ...] | None = None,
    bss_garbage: bool = False,
) -> Image:
    """hello of `width` behind the PVH front, as a file for QEMU's and Xen's PVH loaders."""
    from elftools.elf.elffile import ELFFile

    default, post = pvh_chain(width)
    pieces = chain or default
    with hello_path(width).open("rb") as file:
        payload: Any = ELFFile(file)
        segments = [(s.header, s.data()) for s in payload.iter_segments() if s["p_type"] == "PT_LOAD"]
        table = payload.get_section_by_name(".symtab")
        startup = table.get_symbol_by_name(f"startup_{width}")[0]["st_value"]
        elf = Elf(payload["e_entry"])
    first = segments[0][0]
    offset = first["p_vaddr"] - first["p_paddr"]
    zero = tuple(
        Span(h["p_paddr"] + h["p_filesz"], h["p_memsz"] - h["p_filesz"])
        for h, _ in segments
        if h["p_memsz"] > h["p_filesz"]
    )
    size = extent(pieces, [post], len(zero))
    text_base = align_up(max(h["p_paddr"] + h["p_memsz"] for h, _ in segments), 2 << 20)
    bss_base = align_up(text_base + size.text_size, 4096)
    stub = Span(text_base, bss_base + size.bss_size - text_base)
    mapping = (first["p_vaddr"], first["p_paddr"], stub.end - first["p_paddr"]) if offset else None
    params = Params(startup, stub, 0, mapping, zero)
    linked = link(pieces, [post], params, text_base, bss_base)
    for header, data in segments:
        filled = data
        if bss_garbage:  # as a loader that does not zero would leave it
            filled = data.ljust(header["p_memsz"], b"\xa5")
        elf.add(filled, header["p_paddr"], header["p_memsz"], header["p_flags"], header["p_vaddr"])
    elf.add(linked.text, text_base, len(linked.text), 5, text_base + offset)
    nobits = b"\x5a" * size.bss_size if prepared and prepared.garbage else b""
    elf.add(nobits, bss_base, size.bss_size, 6, bss_base + offset)
    entry = linked.exports["bb_pvh_entry"]
    if prepared:
        entry = _prelude(elf, prepared, entry)
    elf.add(struct.pack("<III4sI", 4, 4, 18, b"Xen\0", entry), 0, 20, 4, 0, PT_NOTE)
    elf.write(path)
    return Image(path, linked, stub, params)


@pytest.fixture
def pvh_image(tmp_path: Path) -> Callable[..., Image]:
    """`write_image` into the test's folder."""
    return lambda width, **options: write_image(tmp_path / f"image{width}.elf", width, **options)


@pytest.fixture(scope="session")
def image_writer() -> Callable[..., Image]:
    """`write_image` itself, for fixtures that outlive a test."""
    return write_image


@pytest.fixture(scope="session")
def prepare() -> type[Prepared]:
    """The class of prepared structures, for modules that cannot import this one."""
    return Prepared


@pytest.fixture
def boot(qemu: Path, run_until: Callable[..., Any]) -> Callable[..., str]:
    """The console of QEMU's PVH boot of a file, up to the line that tells the guest's fate."""

    def run(path: Path, *, machine: str = "pc", memory: int = 128, more: Sequence[str] = ()) -> str:
        command = [str(qemu), "-accel", "tcg", "-cpu", "max", "-machine", machine, "-m", str(memory)]
        command += "-nodefaults -display none -no-reboot -serial stdio -kernel".split()
        done = run_until([*command, str(path), *more], [r"^(hello: .*|bootbuild: .*)\n"], timeout=30)
        assert done.reached, str(done)
        text: str = done.text
        return text

    return run


@pytest.fixture
def blob() -> Callable[..., Blob]:
    """A blob of the test's own: sixteen NOPs unless it says otherwise."""

    def make(name: str = "some", **changes: Any) -> Blob:
        values: dict[str, Any] = {
            "name": name,
            "width": 32,
            "text": b"\x90" * 16,
            "align": 16,
            "bss_size": 0,
            "bss_align": 1,
            "fixups": (),
            "exports": {f"{name}_entry": (".text", 0)},
            "toolchain": "by hand",
        }
        return Blob(**(values | changes))

    return make


@pytest.fixture
def hello() -> Callable[[int], Path]:
    """The hello payload of a width, from the installed package."""
    return hello_path
