"""Valid files of every kind that bootbuild reads, each with the places of its fields, by their meaning."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources

import kallsyms_kernel
import tiny_lzop

EHDR = {32: "<HHIIIIIHHHHHH", 64: "<HHIQQQIHHHHHH"}
PHDR = {32: "<IIIIIIII", 64: "<IIQQQQQQ"}
SHDR = {32: "<IIIIIIIIII", 64: "<IIQQQQIIQQ"}
SYM = {32: "<IIIBBH", 64: "<IBBHQQ"}
DYN = {32: "<II", 64: "<QQ"}
PT_LOAD, PT_DYNAMIC, PT_NOTE = 1, 2, 4
SHT_SYMTAB, SHT_NOTE = 2, 7
RELOCATIONS = {7: 3, 17: 2, 23: 3, 36: 1}  # DT_RELA, DT_REL, DT_JMPREL, DT_RELR: words of an entry
SETUP = {  # Linux Documentation/arch/x86/boot.rst: what a reader of the kernel inside has to believe
    "setup_sects": (0x1F1, 1),
    "syssize": (0x1F4, 4),
    "boot_flag": (0x1FE, 2),
    "version": (0x206, 2),
    "kernel_version": (0x20E, 2),
    "loadflags": (0x211, 1),
    "code32_start": (0x214, 4),
    "payload_offset": (0x248, 4),
    "payload_length": (0x24C, 4),
    "init_size": (0x260, 4),
}


@dataclass(frozen=True)
class Field:
    """`size` bytes of meaning at file offset `at`; `kind` is the structure that it belongs to."""

    kind: str
    at: int
    size: int


@dataclass(frozen=True)
class Specimen:
    """A valid file; of a bzImage also what is packed, and how it was."""

    name: str
    data: bytes
    inner: bytes = b""
    compression: str = ""
    more: tuple[Field, ...] = ()  #: of structures that no header leads to

    def fields(self) -> tuple[Field, ...]:
        found = setup_fields(self.data) if self.compression else elf_fields(self.data)
        return tuple(f for f in (*found, *self.more) if f.at + f.size <= len(self.data))


def note(owner: bytes, type_: int, desc: bytes, align: int = 4) -> bytes:
    """One note; `owner` with its NUL."""
    out = struct.pack("<III", len(owner), len(desc), type_) + owner
    out += bytes(-len(out) % align) + desc
    return out + bytes(-len(out) % align)


CLAIM = struct.pack("<IIQQQQ", 1, 64, 0x100000, 0x100000, 0, 0) + b"pvh\0native\0startup\0\0"
HIGH = {32: 0xC0000000, 64: 0xFFFFFFFF80000000}
NOTES = {
    "pv": b"".join(  # all that a PV kernel of 64 bits has, as Linux
        note(b"Xen\0", type_, struct.pack("<Q", value) if isinstance(value, int) else value)
        for type_, value in (
            (6, b"linux\0"),
            (7, b"2.6\0"),
            (5, b"xen-3.0\0"),
            (8, b"generic\0"),
            (9, b"yes\0"),
            (3, HIGH[64]),
            (4, 0),
            (1, HIGH[64] + 0x100100),
            (2, HIGH[64] + 0x100000),
            (12, 0xFFFF800000000000),
            (15, 0x8400000000),
            (14, 1),
            (10, b"!writable_page_tables|pae_pgdir_above_4gb\0\0\0\0"),
            (17, 0x8801),
            (13, struct.pack("<QQ", 1, 1)),
            (18, 0x100000),
        )
    ),
    "xen": b"".join(
        note(b"Xen\0", type_, desc)
        for type_, desc in ((18, b"\0\0\x10\0"), (6, b"linux\0"), (3, bytes(8)), (1, bytes(8)), (10, b"!x|y"))
    ),
    "mixed": note(b"GNU\0", 3, bytes(20)) + note(b"Linux\0", 0x101, b"6") + note(b"Xen\0", 18, bytes(4)),
    "eight": note(b"GNU\0", 5, bytes(16), 8) + note(b"Xen\0", 18, b"\0\0\x10\0\0\0\0\0", 8),
    "claim": note(b"bootbuild\0", 1, CLAIM) + note(b"CORE\0", 1, bytes(12)) + note(b"stapsdt\0", 3, bytes(9)),
}


TEXT = 0x300  #: where the code of `elf` stands in the file
MULTIBOOT = {0x1BADB002: 3, 0xE85250D6: 4}  #: magic numbers, and how many words add up to 0


def _summed(*words: int, tags: bytes = b"") -> bytes:
    """A header whose first words, and the one that makes their sum 0, are these."""
    return struct.pack(f"<{len(words) + 1}I", *words, -sum(words) % (1 << 32)) + tags


def _multiboot2(*tags: tuple[int, ...]) -> bytes:
    """A header of tags, each its type and words."""
    body = b""
    for kind, *words in (*tags, (0,)):
        body += struct.pack(f"<HHI{len(words)}I", kind, 0, 8 + 4 * len(words), *words)
        body += bytes(-len(body) % 8)
    return _summed(0xE85250D6, 0, 16 + len(body), tags=body)


# Multiboot 0.6.96, 3.1; Multiboot2 2.0, 3.1. What lies at TEXT is loaded to 0x100100
_M32, _LOADED = (1 << 32) - 1, 0x100100
_FILE = (_LOADED, _LOADED, 0, 0)  #: addresses of the header, of what is loaded from there on, and no ends
HEADERS = {
    "multiboot": _summed(0x1BADB002, 3) + bytes(20),
    "multiboot addresses": _summed(0x1BADB002, 0x10003) + struct.pack("<5I", *_FILE, _LOADED + 0x40),
    "multiboot2": _multiboot2((3, _LOADED), (5, 0, 0, 0)),
    "multiboot2 addresses": _multiboot2((2, *_FILE), (3, _LOADED), (6,)),
    "multiboot2 whole file": _multiboot2((2, _LOADED, _M32, 0, 0), (3, _LOADED)),
    "multiboot2 requests": _multiboot2((1, 1, 3, 6), (4, 2), (10, 0x100000, _M32, 0x1000, 1)),
    "multiboot2 efi": _multiboot2((7,), (9, _LOADED), (3, _LOADED)),
}


def elf(
    bits: int,
    notes: str = "xen",
    relocations: str = "",
    shift: int = 0,
    text: bytes = b"",
    headers: bool = False,
    segment: bool = True,
) -> bytes:
    """A kernel at 1 MiB, or a static PIE at 0 with that kind of relocations: rela, rel or relr.

    `text` is its code, at most 256 bytes; with `headers` they are loaded before it. Without `segment` the
    notes stand in a section only.
    """
    word, pie = bits // 8, bool(relocations)
    base = 0 if pie else 0x100000
    head, phsize = struct.calcsize(EHDR[bits]) + 16, struct.calcsize(PHDR[bits])
    text, data = text or bytes(range(16)) * 4, struct.pack("<8I", *range(8))
    w = "I" if bits == 32 else "Q"
    spots = (0x200, 0x200 + word, 0x200 + 3 * word)  # in the data
    table = {
        "": b"",
        "rela": b"".join(struct.pack(f"<3{w}", at, 8, 0x40) for at in spots),
        "rel": b"".join(struct.pack(f"<2{w}", at, 8) for at in spots),
        "relr": struct.pack(f"<2{w}", spots[0], 0b1011),
    }[relocations]
    tags = {"rela": (7, 8, 9, 3), "rel": (17, 18, 19, 2), "relr": (36, 35, 37, 1)}
    dynamic = b""
    if pie:
        where, size, each, words = tags[relocations]
        pairs = ((where, 0x300), (size, len(table)), (each, words * word), (0x6FFFFFFB, 0x08000000), (0, 0))
        dynamic = b"".join(struct.pack(DYN[bits], *pair) for pair in pairs)
    names = b"\0startup\0local\0"
    symbols = b"".join(
        struct.pack(SYM[bits], *((n, i, 0, s, v, 0) if bits == 64 else (n, v, 0, i, 0, s)))
        for n, v, i, s in ((0, 0, 0, 0), (1, base + shift + 0x100, 0x12, 1), (9, base + shift, 0, 1))
    )
    parts = {TEXT: text, 0x400: data, 0x500: table, 0x580: dynamic, 0x680: NOTES[notes]}
    parts |= {0x840: names, 0x880: symbols}
    out = bytearray(0x880 + len(symbols))
    for at, part in parts.items():
        out[at : at + len(part)] = part
    # File 0x200 is address `base`: text, data with the tables, .bss behind them.
    rows = [
        (PT_LOAD, 5, 0x200, base + shift, base, 0x200, 0x200, 0x100),
        (PT_LOAD, 6, 0x400, base + shift + 0x200, base + 0x200, 0x280, 0x1000, 0x100),
        (PT_NOTE, 4, 0x680, 0, 0, len(NOTES[notes]), len(NOTES[notes]), 8 if notes == "eight" else 4),
        (0x6474E551, 6, 0, 0, 0, 0, 0, 16),
    ]
    if headers:
        rows[0] = (PT_LOAD, 5, 0, base + shift - 0x200, base - 0x200, 0x400, 0x400, 0x100)
    if not segment:
        del rows[2]
    if pie:
        rows.append((PT_DYNAMIC, 6, 0x580, 0x380, 0x380, len(dynamic), len(dynamic), 8))
    shrows = [
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (0, 3, 0, 0, 0x840, len(names), 0, 0, 1, 0),
        (0, SHT_SYMTAB, 0, 0, 0x880, len(symbols), 1, 0, 8, struct.calcsize(SYM[bits])),
        (0, SHT_NOTE, 0, 0, 0x680, len(NOTES[notes]), 0, 0, 4, 0),
    ]
    ident = b"\x7fELF" + bytes((bits // 32, 1, 1)) + bytes(9)
    machine, shsize = {32: 3, 64: 62}[bits], struct.calcsize(SHDR[bits])
    out[:head] = ident + struct.pack(
        EHDR[bits],
        *(3 if pie else 2, machine, 1, base + shift + 0x100, head, len(out), 0),
        *(head, phsize, len(rows), shsize, len(shrows), 1),
    )
    phdrs = b"".join(
        struct.pack(PHDR[bits], *(row if bits == 64 else (row[0], *row[2:7], row[1], row[7]))) for row in rows
    )
    out[head : head + len(phdrs)] = phdrs
    return bytes(out) + b"".join(struct.pack(SHDR[bits], *row) for row in shrows)


def _structures(kind: str, layout: str, at: int, count: int) -> Iterator[Field]:
    sizes = [struct.calcsize("<" + code) for code in layout[1:]]
    for _ in range(count):
        for size in sizes:
            yield Field(kind, at, size)
            at += size


def elf_fields(data: bytes) -> Iterator[Field]:
    """Every field of the headers of a valid ELF file, of its notes, symbols, dynamic table, relocations."""
    bits = data[4] * 32
    yield from (Field("ident", at, 1) for at in range(16))
    yield from _structures("ehdr", EHDR[bits], 16, 1)
    header = struct.unpack_from(EHDR[bits], data, 16)
    phoff, shoff, phnum, shnum = header[4], header[5], header[9], header[11]
    yield from _structures("phdr", PHDR[bits], phoff, phnum)
    yield from _structures("shdr", SHDR[bits], shoff, shnum)
    segments = []
    for index in range(phnum):
        type_, *rest = struct.unpack_from(PHDR[bits], data, phoff + index * struct.calcsize(PHDR[bits]))
        offset, vaddr, _, size = rest[1:5] if bits == 64 else rest[:4]
        segments.append((type_, offset, vaddr, size))
    for type_, offset, _, size in segments:
        if type_ == PT_NOTE:
            yield from _note_fields(data, offset, offset + size)
        if type_ == PT_DYNAMIC:
            yield from _dynamic_fields(data, bits, offset, size, segments)
    for index in range(shnum):
        row = struct.unpack_from(SHDR[bits], data, shoff + index * struct.calcsize(SHDR[bits]))
        if row[1] == SHT_SYMTAB:
            yield from _structures("symbol", SYM[bits], row[4], min(row[5] // row[9], 8))


def _note_fields(data: bytes, at: int, end: int) -> Iterator[Field]:
    while end - at >= 12:
        namesz, descsz, _ = struct.unpack_from("<III", data, at)
        yield from _structures("note", "<III", at, 1)
        yield from (Field("note", at + 12 + i, 1) for i in range(min(namesz, 4)))
        desc = at + 12 + (namesz + 3) // 4 * 4
        yield from (Field("note", desc + i, 4) for i in range(0, min(descsz, 48) // 4 * 4, 4))
        at = desc + (descsz + 3) // 4 * 4


def _dynamic_fields(
    data: bytes, bits: int, at: int, size: int, segments: list[tuple[int, int, int, int]]
) -> Iterator[Field]:
    yield from _structures("dynamic", DYN[bits], at, size // (bits // 4))
    for tag, address in struct.iter_unpack(DYN[bits], data[at : at + size]):
        for type_, offset, vaddr, filesz in segments:
            if tag in RELOCATIONS and type_ == PT_LOAD and vaddr <= address < vaddr + filesz:
                words = 3 * RELOCATIONS[tag]
                yield from _structures("relocation", "<" + DYN[bits][1] * words, offset + address - vaddr, 1)


def setup_fields(data: bytes) -> Iterator[Field]:
    """The setup header of a bzImage, the size behind its payload, and the head of what is compressed."""
    yield from (Field("setup", *place) for place in SETUP.values())
    (offset, length) = struct.unpack_from("<II", data, 0x248)
    start = 5 * 512 + offset
    yield from (Field("packed", start + i, 1) for i in range(16))
    yield from (Field("packed", start + i, 4) for i in (0, 4, 8))
    yield Field("setup", start + length - 4, 4)


def _lz4(data: bytes) -> bytes:
    from lz4.block import compress

    block = bytes(compress(data, store_size=False))
    return struct.pack("<II", 0x184C2102, len(block)) + block


def _zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


PACKERS: dict[str, Callable[[bytes], bytes]] = {  # as in boot.rst, payload_offset
    "gzip": lambda data: gzip.compress(data, 1, mtime=0),
    "bzip2": lambda data: bz2.compress(data, 1),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
    "xz": lambda data: lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32, preset=0),
    "lzo": tiny_lzop.file,
    "lz4": _lz4,
    "zstd": _zstd,
}


def pack(data: bytes, compression: str) -> bytes:
    """A bzImage of `data`, as Linux's scripts/Makefile.lib makes it."""
    packed = PACKERS[compression](data)
    packed += b"" if compression == "gzip" else struct.pack("<I", len(data))
    head = bytearray(5 * 512 + 0x40)
    head[0x1F1] = 4
    struct.pack_into("<H", head, 0x1FE, 0xAA55)
    head[0x202:0x206] = b"HdrS"
    head[0x211] = 1  # loadflags: LOADED_HIGH
    struct.pack_into("<I", head, 0x214, 0x100000)  # code32_start
    struct.pack_into("<H", head, 0x206, 0x020F)
    struct.pack_into("<II", head, 0x248, 0x40, len(packed))
    struct.pack_into("<I", head, 0x260, 0x3000000)  # init_size
    return bytes(head) + packed + bytes(16)


def _kallsyms(version: str) -> Specimen:
    made = kallsyms_kernel.kernel(kallsyms_kernel.LAYOUTS[version], 300, code=0x400)
    fields = (
        Field(f"kallsyms {table}", at + step, 2 if table == "token_index" else 4)
        for table, at in made.places.items()
        for step in (0, 4, 8, 64)
    )
    return Specimen(f"kallsyms {version}", bytes(made.data), more=tuple(fields))


def specimens(image: bytes) -> tuple[Specimen, ...]:
    """All of them; `image` is one that bootbuild made."""
    hello = resources.files("bootbuild") / "guests/hello"
    found = [Specimen(f"hello{bits}", (hello / f"hello{bits}.elf").read_bytes()) for bits in (32, 64)]
    found.append(Specimen("image", image))
    for bits in (32, 64):
        found += [Specimen(f"elf{bits} {name}", elf(bits, name, shift=HIGH[bits])) for name in NOTES]
        found += [Specimen(f"pie{bits} {kind}", elf(bits, "xen", kind)) for kind in ("rela", "rel", "relr")]
        found.append(Specimen(f"headers{bits}", elf(bits, shift=HIGH[bits], headers=True)))
        found.append(
            Specimen(f"pie{bits} section", elf(bits, "pv", "rela" if bits == 64 else "rel", segment=False))
        )
        for name, text in HEADERS.items():
            words = tuple(Field("multiboot", at, 4) for at in range(TEXT, TEXT + len(text), 4))
            found.append(Specimen(f"{name} {bits}", elf(bits, "mixed", text=text), more=words))
    found += [_kallsyms(version) for version in ("4.20", "6.2 i386", "6.4", "7.0")]
    small = elf(64, shift=HIGH[64])
    found += [Specimen(f"bzimage {name}", pack(small, name), small, name) for name in PACKERS]
    return tuple(found)
