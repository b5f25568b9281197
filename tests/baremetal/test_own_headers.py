"""A kernel with a Multiboot header of its own: one change of a right one breaks each rule."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from bootbuild.errors import BootbuildError, ExitCode, InputError, RefusedError
from bootbuild.formats.elf_read import read_elf
from bootbuild.guests.native import Native
from bootbuild.model.content import MemoryContent
from bootbuild.model.payload import Payload, Startup
from bootbuild_baremetal.guests import Multiboot2 as Guest
from bootbuild_baremetal.options import Options1, Options2
from bootbuild_baremetal.targets import Multiboot1, Multiboot2

M32 = (1 << 32) - 1
BASE = 0x100000  #: where the kernel's one segment is loaded; its file offset is 0x1000
CODE = 0x1000


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def header1(flags: int = 3, *more: int, checksum: int | None = None) -> bytes:
    return words(0x1BADB002, flags, -(0x1BADB002 + flags) & M32 if checksum is None else checksum, *more)


def tag(kind: int, flags: int = 0, body: bytes = b"", size: int | None = None) -> bytes:
    raw = struct.pack("<HHI", kind, flags, 8 + len(body) if size is None else size) + body
    return raw + bytes(-len(raw) % 8)


END = tag(0)
ENTRY = tag(3, 0, words(BASE + 0x40))


#: An address tag whose load_addr, -1, is where the file begins: here 0x1000 below its one segment.
WHOLE_FILE = tag(2, 0, words(BASE, M32, 0, 0))


def header2(*tags: bytes, architecture: int = 0, wrong: int = 0) -> bytes:
    size = 16 + sum(map(len, tags))
    checksum = -(0xE85250D6 + architecture + size) + wrong & M32
    return words(0xE85250D6, architecture, size, checksum) + b"".join(tags)


@dataclass
class Kernel:
    """An ELF file of one segment, with a header at some offset."""

    header: bytes
    at: int = CODE
    bits: int = 32
    entry: int = BASE + 0x20
    paddr: int = BASE
    vaddr: int = BASE
    phoff: int = 0  #: 0: behind the ELF header
    size: int = 0x3000
    phdr: bytes = field(init=False, default=b"")

    def payload(self) -> Payload:
        raw = bytearray(max(self.size, self.at + len(self.header)))
        head = {32: 52, 64: 64}[self.bits]
        phoff, filesz = self.phoff or head, len(raw) - CODE
        raw[:16] = b"\x7fELF" + bytes([self.bits // 32, 1, 1]) + bytes(9)
        if self.bits == 32:
            fields = (2, 3, 1, self.entry, phoff, 0, 0, head, 32, 1, 40, 0, 0)
            raw[16:head] = struct.pack("<HHIIIIIHHHHHH", *fields)
            phdr = words(1, CODE, self.vaddr, self.paddr, filesz, filesz, 7, 0x1000)
        else:
            fields = (2, 62, 1, self.entry, phoff, 0, 0, head, 56, 1, 64, 0, 0)
            raw[16:head] = struct.pack("<HHIQQQIHHHHHH", *fields)
            places = (CODE, self.vaddr, self.paddr, filesz, filesz, 0x1000)
            phdr = struct.pack("<IIQQQQQQ", 1, 7, *places)
        raw[self.at : self.at + len(self.header)] = self.header
        raw[phoff : phoff + len(phdr)] = phdr
        image = read_elf(MemoryContent(raw), "kernel.elf")
        startup = Startup("startup", BASE + 0x40, BASE + 0x40, 32)
        return Payload(image, "kernel.elf", "elf", "", "native", startup)


def native(kernel: Kernel, version: int) -> Any:
    if version == 1:
        return Multiboot1().native(kernel.payload(), Native(), Options1())
    return Multiboot2().native(kernel.payload(), Native(), Options2())


GOOD = {1: Kernel(header1()), 2: Kernel(header2(ENTRY, END))}


@pytest.mark.parametrize("version", [1, 2])
def test_a_header_that_is_right_is_taken(version: int) -> None:
    made = native(GOOD[version], version)
    assert (made.chain, made.headers, made.elf_class, made.entry_point) == ((), (), None, "")
    assert made.search == {1: 8192, 2: 32768}[version]


def test_a_file_that_is_loaded_from_its_start_is_taken() -> None:
    assert native(Kernel(header2(WHOLE_FILE, ENTRY, END)), 2).search == 32768


@pytest.mark.parametrize(
    ("target", "kernel", "entry"),
    [
        (Multiboot1, GOOD[1], BASE + 0x20),
        (Multiboot1, replace(GOOD[1], vaddr=0xC0000000, entry=0xC0000020), BASE + 0x20),
        (Multiboot1, Kernel(header1(0x10003, BASE, BASE, 0, 0, BASE + 0x30)), BASE + 0x30),
        (Multiboot2, GOOD[2], BASE + 0x40),
        (Multiboot2, Kernel(header2(END)), BASE + 0x20),
        (Multiboot2, Kernel(header2(WHOLE_FILE, ENTRY, END)), BASE + 0x40),
        (Multiboot1, GOOD[2], None),
        (Multiboot2, GOOD[1], None),
        (Multiboot1, Kernel(header1(checksum=0)), None),
        (Multiboot2, Kernel(header2(ENTRY)), None),
    ],
)
def test_where_a_loader_enters_is_told(target: Callable[[], Any], kernel: Kernel, entry: int | None) -> None:
    assert target().entry_of(kernel.payload().elf) == entry


def test_a_guest_s_startup_path_is_where_its_header_says() -> None:
    assert Guest().startup_of(GOOD[2].payload().elf) == BASE + 0x40
    assert Guest().startup_of(GOOD[1].payload().elf) is None


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        (Kernel(header2(ENTRY, END, wrong=1)), "its words do not add up to 0 modulo 2^32 (BB-L304)"),
        (Kernel(header2(END), at=32768 - 8), "a loader looks at the first 32768 bytes (BB-L305)"),
        (Kernel(header2(END), at=CODE + 4), "no multiple of 8 (BB-L306)"),
        (Kernel(header2(ENTRY)), "no tag of type 0 ends its tags (BB-L307)"),
    ],
)
def test_what_is_wrong_with_it_is_told_where_the_guest_looks_for_it(kernel: Kernel, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        Guest().startup_of(kernel.payload().elf)


KLUDGE = (BASE, BASE, BASE + 0x2000, BASE + 0x3000, BASE + 0x30)  #: header, load, load_end, bss_end, entry


def kludge(index: int, value: int) -> Kernel:
    fields = list(KLUDGE)
    fields[index] = value
    return Kernel(header1(0x10003, *fields))


def address_tag(index: int, value: int) -> Kernel:
    fields = list(KLUDGE[:4])
    fields[index] = value
    return Kernel(header2(tag(2, 0, words(*fields)), ENTRY, END))


def bounds(least: int, most: int, align: int = 0x1000, preference: int = 0) -> Kernel:
    """With a relocatable tag; the kernel has 0x2000 bytes."""
    return Kernel(header2(tag(10, 0, words(least, most, align, preference)), ENTRY, END))


BROKEN: list[tuple[str, int, Kernel, Sequence[str]]] = [
    ("no header 1", 1, Kernel(b""), ["BB-L302 the file has no Multiboot header"]),
    ("no header 2", 2, Kernel(b""), ["BB-L302 the file has no Multiboot2 header"]),
    ("a symbol's value", 2, Kernel(words(0xE85250D6, 0, 0xFFF10000, 0)), ["BB-L302 the file has no Multi"]),
    ("checksum 1", 1, Kernel(header1(checksum=1)), ["BB-L304 its words do not add up to 0 modulo 2^32"]),
    ("checksum 2", 2, Kernel(header2(ENTRY, END, wrong=1)), ["BB-L304 its words do not add up to 0"]),
    ("far 1", 1, Kernel(header1(), at=8192 - 8), ["BB-L305 a loader looks at the first 8192 bytes"]),
    ("far 2", 2, Kernel(header2(END), at=32768 - 8), ["BB-L305 a loader looks at the first 32768 bytes"]),
    ("cut by the limit", 2, Kernel(header2(ENTRY, END), at=32768 - 16), ["BB-L305 its 40 bytes run over"]),
    ("unaligned 1", 1, Kernel(header1(), at=CODE + 2), ["BB-L306 no multiple of 4"]),
    ("unaligned 2", 2, Kernel(header2(ENTRY, END), at=CODE + 4), ["BB-L306 no multiple of 8"]),
    ("no end", 2, Kernel(header2(ENTRY)), ["BB-L307 no tag of type 0 ends its tags"]),
    ("tag of no size", 2, Kernel(header2(tag(6, size=0), END)), ["BB-L307 tag 6 says 0 bytes"]),
    ("tag too long", 2, Kernel(header2(tag(6, size=64), END)), ["BB-L307 tag 6 says 64 bytes"]),
    ("tag too short", 2, Kernel(header2(tag(3), END)), ["BB-L307 tag 3 has 0 bytes of contents, not 4"]),
    ("tags at multiples of 4", 2, Kernel(header2(ENTRY[:12] + END)), ["BB-L307 no tag of type 0 ends"]),
    ("flag", 1, Kernel(header1(0x8003)), ["BB-L308 flags 0x8000 are required and unknown"]),
    ("tag", 2, Kernel(header2(tag(0x7777), END)), ["BB-L308 tag 30583 is required and unknown"]),
    ("architecture", 2, Kernel(header2(END, architecture=4)), ["BB-L308 architecture 4 is not 0, i386"]),
    ("header below load", 1, kludge(0, BASE - 4), ["BB-L309 header_addr 0xffffc is below load_addr"]),
    ("load before file", 1, kludge(0, BASE + 0x2000), ["BB-L309 load_addr 0x100000 lies before the start"]),
    ("end below load", 1, kludge(2, BASE - 1), ["BB-L309 load_end_addr 0xfffff is below load_addr"]),
    ("end behind file", 1, kludge(2, BASE + 0x2001), ["BB-L309 load_end_addr 0x102001 lies behind"]),
    ("bss below end", 1, kludge(3, BASE + 0x1FFF), ["BB-L309 bss_end_addr 0x101fff is below the end"]),
    ("entry behind end", 1, kludge(4, BASE + 0x2000), ["BB-L309 entry_addr 0x102000 is not in"]),
    ("tag: header below load", 2, address_tag(0, BASE - 8), ["BB-L309 header_addr 0xffff8 is below"]),
    (
        "tag: end below the file's start",
        2,
        Kernel(header2(tag(2, 0, words(BASE, M32, BASE - CODE - 1, 0)), ENTRY, END)),
        ["BB-L309 load_end_addr 0xfefff is below load_addr 0xff000"],
    ),
    ("tag: no entry", 2, Kernel(header2(tag(2, 0, words(*KLUDGE[:4])), END)), ["BB-L309 the address tag"]),
    ("table", 1, Kernel(header1(), phoff=0x2000), ["BB-L310 its program headers end at 0x2020, 8192 bytes"]),
    ("e_entry", 1, Kernel(header1(), entry=0x10), ["BB-L310 e_entry 0x10 is in no PT_LOAD by p_vaddr"]),
    ("entry", 2, Kernel(header2(tag(3, 0, words(8)), END)), ["BB-L310 the entry 0x8 is in no PT_LOAD"]),
    ("UEFI's", 2, Kernel(header2(tag(9, 0, words(8)), END)), ["BB-L310 the 64-bit entry 0x8 is in no PT_LO"]),
    ("places", 2, bounds(BASE, BASE + 0x1FFE), ["BB-L338 its 0x2000 bytes do not fit between"]),
    ("min_addr above max_addr", 2, bounds(M32, BASE), ["BB-L338 its 0x2000 bytes do not"]),
    ("alignment", 2, bounds(0, M32, 0x1800), ["BB-L338 align 0x1800 is no power of two"]),
    ("preference", 2, bounds(0, M32, 1, 3), ["BB-L338 preference 0x3 is none of 0, 1 and 2"]),
    (
        "all of it",
        2,
        bounds(M32, 0, M32, M32),
        ["BB-L338 align 0xffffffff", "BB-L338 its 0x2000", "BB-L338 preference 0xffffffff"],
    ),
    ("bounds without room", 2, Kernel(header2(tag(10), ENTRY, END)), ["BB-L307 tag 10 has 0 bytes"]),
    (
        "above 4 GiB",
        2,
        Kernel(header2(END), bits=64, paddr=0xFFFFFF000),
        ["BB-L310 the PT_LOAD at physical 0xffffff000-0x1000001000 crosses 4 GiB"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "kernel", "expected"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN]
)
def test_what_is_wrong_is_told_and_nothing_else(
    version: int, kernel: Kernel, expected: Sequence[str]
) -> None:
    with pytest.raises(BootbuildError) as caught:
        native(kernel, version)
    sound = {problem.rule.id for problem in caught.value.problems} <= {"BB-L302", "BB-L308", "BB-L310"}
    assert caught.value.exit_code is (ExitCode.REFUSED if sound else ExitCode.INPUT)
    found = [f"{problem.rule.id} {problem.message}" for problem in caught.value.problems]
    assert len(found) == len(expected), found
    for text, start in zip(found, expected, strict=True):
        assert text.startswith(start)
    assert all(problem.where.startswith("kernel.elf") for problem in caught.value.problems)


def test_an_optional_tag_may_be_unknown() -> None:
    assert native(Kernel(header2(tag(0x7777, 1), ENTRY, END)), 2).search == 32768


@pytest.mark.parametrize(
    "kernel", [bounds(BASE, BASE + 0x1FFF), bounds(0, M32, 0, 2), bounds(0, M32, 1 << 31, 1)]
)
def test_bounds_that_can_be_kept_are_taken(kernel: Kernel) -> None:
    assert native(kernel, 2).search == 32768


def test_a_loader_takes_the_first_header_that_adds_up() -> None:
    """A wrong one before it is no header."""
    first = header1(checksum=5)
    assert native(Kernel(first + header1(0x3)), 1).search == 8192


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options1(module_align=False), "module_align"),
        (Options1(elf_class=64, framebuffer="any"), "framebuffer, elf_class"),
    ],
)
def test_a_kernels_own_header_is_not_ours_to_change(options: Options1, said: str) -> None:
    with pytest.raises(RefusedError) as caught:
        Multiboot1().native(GOOD[1].payload(), Native(), options)
    ((rule, text),) = [(problem.rule.id, problem.message) for problem in caught.value.problems]
    assert (rule, text) == ("BB-L312", f"{said}: the header is the kernel's")


@pytest.mark.parametrize("target", [Multiboot1(), Multiboot2()])
def test_nothing_can_be_chained(target: Any) -> None:
    with pytest.raises(RefusedError) as caught:
        target.chain(GOOD[1].payload(), Native(), target.options())
    assert [problem.rule.id for problem in caught.value.problems] == ["BB-L303"]
