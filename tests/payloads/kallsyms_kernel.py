"""A stripped kernel with the kallsyms tables of each Linux, as scripts/kallsyms.c writes them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from bootbuild.formats.elf_read import read_elf
from bootbuild.model.content import MemoryContent

HIGH = {32: 0xC1000000, 64: 0xFFFFFFFF81000000}
TEXT = 0x1000  #: file offset of the first segment
INIT = 0x400000  #: of the second, from the first, in memory
TOKENS = (b"Tfunction_", b"tlocal_", b"function_", b"_of_the_", b"kernel", b"ction", b"__")


@dataclass(frozen=True)
class Layout:
    """One way in which scripts/kallsyms.c has written its tables."""

    bits: int
    order: str  #: "2.6", "6.2" (seqs_of_names behind the markers) or "6.4" (addresses last)
    form: str  #: "absolute", "percpu", "relative" or "placed"
    marker: int = 4  #: bytes of a marker and of num_syms
    align: int = 8
    big: bool = False  #: a name of 128 codes or more


LAYOUTS = {
    "2.6.10": Layout(64, "2.6", "absolute", marker=8),
    "2.6.10 i386": Layout(32, "2.6", "absolute", align=4),
    "4.6": Layout(64, "2.6", "percpu", marker=8),
    "4.20": Layout(64, "2.6", "percpu"),
    "4.20 without base": Layout(64, "2.6", "absolute"),
    "4.20 i386": Layout(32, "2.6", "relative", align=4),
    "6.1": Layout(64, "2.6", "percpu", big=True),
    "6.2": Layout(64, "6.2", "percpu", big=True),
    "6.2 i386": Layout(32, "6.2", "relative", align=4, big=True),
    "6.4": Layout(64, "6.4", "percpu", big=True),
    "6.4 without base": Layout(64, "6.4", "absolute", big=True),
    "6.4 i386": Layout(32, "6.4", "relative", align=4, big=True),
    "6.15": Layout(64, "6.4", "relative", big=True),
    "7.0": Layout(64, "6.4", "placed", align=4, big=True),
    "7.0 i386": Layout(32, "6.4", "placed", align=4, big=True),
    "7.0 i386, not relocatable": Layout(32, "6.4", "absolute", align=4, big=True),
}


@dataclass
class Kernel:
    """A stripped kernel, and where its tables stand in the file."""

    data: bytearray
    places: dict[str, int]
    symbols: list[tuple[str, str, int]]  #: type, name, address; ascending

    def expected(self) -> dict[str, int]:
        """Of several of one name the first global, else the first."""
        backwards = self.symbols[::-1]
        last_wins = sorted(backwards, key=lambda symbol: symbol[0].isupper())
        return {name: address for _, name, address in last_wins}

    def read(self) -> dict[str, int]:
        return dict(read_elf(MemoryContent(self.data), "vmlinux").symbols)


def symbols(layout: Layout, count: int) -> list[tuple[str, str, int]]:
    high = HIGH[layout.bits]
    found = [("T", "_text", high), ("T", "startup_64", high), ("t", "twice", high + 4)]
    found += [("t", "again", high + 4), ("t", "again", high + 8)]
    found += [
        ("Tt"[i % 2], f"{('function', 'local')[i % 2]}_{i}_of_the_kernel", high + 16 * i)
        for i in range(1, count)
    ]
    if layout.big:
        found.append(("t", "Z" * 200 + "x" * 300, found[-1][2]))
    found += [
        ("T", "start_kernel", high + INIT),
        ("T", "twice", high + INIT + 8),
        ("B", "_end", high + INIT + 0x10000),
    ]
    if layout.bits == 64 and layout.form in ("absolute", "percpu"):
        found[:0] = [("A", "__per_cpu_start", 0), ("A", "cpu_debug_store", 0x1000)]
    return found


def tokens(texts: list[bytes]) -> list[bytes]:
    """Every character that is used stands for itself; longer tokens take codes that are free, from above."""
    used = set(b"".join(texts))
    table = [bytes([code]) if code in used else b"" for code in range(256)]
    free = (code for code in reversed(range(256)) if code not in used)
    for code, token in zip(free, TOKENS, strict=False):
        table[code] = token
    return table


def compressed(text: bytes, table: list[bytes]) -> bytes:
    codes, at = bytearray(), 0
    while at < len(text):
        best = max((token for token in table if token and text.startswith(token, at)), key=len)
        codes.append(table.index(best))
        at += len(best)
    length = len(codes)
    return (bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])) + codes


def kernel(layout: Layout, count: int = 700, code: int = 0x18234) -> Kernel:
    """An ELF file of two segments; the tables are in the first, behind `code` bytes of it."""
    found = symbols(layout, count)
    high, word = HIGH[layout.bits], layout.bits // 8
    data = bytearray(TEXT) + b"\xcc" * code
    places: dict[str, int] = {}
    long = "<Q" if word == 8 else "<I"

    def put(name: str, content: bytes) -> None:
        data.extend(bytes(-len(data) % layout.align))
        places[name] = len(data)
        data.extend(content)

    def put_addresses() -> None:
        values = [address for _, _, address in found]
        if layout.form == "absolute":
            return put("addresses", b"".join(struct.pack(long, value) for value in values))
        if layout.form == "placed":
            first = high + len(data) + -len(data) % layout.align - TEXT
            return put(
                "addresses", b"".join(struct.pack("<i", v - first - 4 * i) for i, v in enumerate(values))
            )
        base = next(value for value in values if value >= high)
        if layout.form == "percpu":
            offsets = [value if value < high else base - value - 1 for value in values]
            put("addresses", b"".join(struct.pack("<i", offset) for offset in offsets))
        else:
            put("addresses", b"".join(struct.pack("<I", value - base) for value in values))
        return put("relative_base", struct.pack(long, base))

    texts = [(kind + name).encode() for kind, name, _ in found]
    table = tokens(texts)
    packed = [compressed(text, table) for text in texts]
    starts = [sum(map(len, packed[:i])) for i in range(0, len(packed), 256)]
    seqs = b"".join(seq.to_bytes(3, "big") for seq in sorted(range(len(found)), key=lambda i: found[i][1]))
    marker = {4: "<I", 8: "<Q"}[layout.marker]
    if layout.order != "6.4":
        put_addresses()
    put("num_syms", struct.pack(marker, len(found)))
    put("names", b"".join(packed))
    put("markers", b"".join(struct.pack(marker, start) for start in starts))
    if layout.order == "6.2":
        put("seqs_of_names", seqs)
    put("token_table", b"".join(token + b"\0" for token in table))
    at = [sum(len(token) + 1 for token in table[:i]) for i in range(256)]
    put("token_index", struct.pack("<256H", *at))
    if layout.order == "6.4":
        put_addresses()
        put("seqs_of_names", seqs)
    data.extend(bytes(-len(data) % 0x1000))
    size = len(data) - TEXT
    data.extend(bytes(0x1000))
    ident = b"\x7fELF" + bytes([layout.bits // 32, 1, 1]) + bytes(9)
    first = (1, 5, TEXT, high, 0x1000000, size, size)
    second = (1, 6, TEXT + size, high + INIT, 0x1000000 + INIT, 0x1000, 0x20000)
    if layout.bits == 64:
        head = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x1000000, 64, 0, 0, 64, 56, 2, 0, 0, 0)
        head += b"".join(struct.pack("<IIQQQQQQ", *segment, 0x1000) for segment in (first, second))
    else:
        head = struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, 0x1000000, 52, 0, 0, 52, 32, 2, 0, 0, 0)
        for kind, flags, *rest in (first, second):
            head += struct.pack("<IIIIIIII", kind, *rest, flags, 0x1000)
    data[: 16 + len(head)] = ident + head
    return Kernel(data, places, found)
