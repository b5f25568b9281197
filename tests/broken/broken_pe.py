"""Broken UEFI applications, each made of a good one by changing one thing, and a tiny good one."""

from __future__ import annotations

import struct

from broken_file import Broken, Change
from tiny_pe import CODE, DATA, Section, TinyPe

#: offsets behind the PE signature, and sizes: PE/COFF specification, "COFF File Header" and "Optional Header"
FIELDS = {
    "machine": (4, 2),
    "sections": (6, 2),
    "optional_size": (20, 2),
    "characteristics": (22, 2),
    "magic": (24, 2),
    "entry": (40, 4),
    "base": (48, 8),
    "section_alignment": (56, 4),
    "file_alignment": (60, 4),
    "image_version": (68, 2),
    "image_size": (80, 4),
    "header_size": (84, 4),
    "subsystem": (92, 2),
    "dll": (94, 2),
    "directories": (132, 4),
}
SECTION_FIELDS = {
    "name": (0, 8),
    "size": (8, 4),
    "address": (12, 4),
    "raw_size": (16, 4),
    "raw": (20, 4),
    "relocations": (24, 4),
    "relocation_count": (32, 2),
    "flags": (36, 4),
}
RESOURCE, SECURITY, BASE_RELOCATIONS, DEBUG = 2, 4, 5, 6
TEXT, DATA_, SBAT, RELOC = range(4)  #: sections of tiny()
SBAT_TABLE = (
    b"sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n"
    b"tiny,1,Tests,tiny,1,https://example.org/\n"
)
NEXT = 0x80  #: bytes from one entry of the code to the next
MiB = 1 << 20


def code(entries: str = "ab") -> bytes:
    """Code that can be entered at each multiple of NEXT, says at which by port 0xE9, and returns 0."""
    return b"".join(_says(letter).ljust(NEXT, b"\xcc") for letter in entries)


def _says(letter: str) -> bytes:
    """mov $C, %al; out %al, $0xe9 for each character, then xor %eax, %eax; ret."""
    text = f"entered at {letter}\n".encode()
    return b"".join(bytes((0xB0, character, 0xE6, 0xE9)) for character in text) + b"\x31\xc0\xc3"


def tiny(letters: str = "ab") -> bytes:
    """An application that says where it was entered; sections at 0x1000, 0x2000, 0x3000 and 0x4000."""
    sections = [
        Section(".text", 0x1000, code(letters), CODE),
        Section(".data", 0x2000, bytes(24), DATA, 0x800),
        Section(".sbat", 0x3000, SBAT_TABLE, 0x40000040),
    ]
    return bytes(TinyPe(sections, 0x1000, relocated=[0x2000, 0x2008], changes={0x80 + 68: b"\1"}))


def kernel() -> bytes:
    """tiny() as Linux is: no base relocations, and no section with more data than VirtualSize."""
    data = directory(BASE_RELOCATIONS, 0, 0)(tiny())
    for number in range(get(data, "sections")):
        least = max(get_of(data, number, "size"), get_of(data, number, "raw_size"))
        data = section(number, size=least)(data)
    return data


def header_at(data: bytes) -> int:
    """File offset of the PE signature."""
    return int.from_bytes(data[0x3C:0x40], "little")


def get(data: bytes, name: str) -> int:
    """One of FIELDS."""
    at, size = FIELDS[name]
    at += header_at(data)
    return int.from_bytes(data[at : at + size], "little")


def section_at(data: bytes, number: int) -> int:
    """File offset of a section header."""
    return header_at(data) + 24 + get(data, "optional_size") + 40 * number


def get_of(data: bytes, number: int, name: str) -> int:
    """One of SECTION_FIELDS."""
    at, size = SECTION_FIELDS[name]
    at += section_at(data, number)
    return int.from_bytes(data[at : at + size], "little")


def put(data: bytes, at: int, new: bytes) -> bytes:
    """Bytes written over others, at most to the end."""
    return data[:at] + new + data[at + len(new) :]


def fields(**values: int) -> Change:
    """Fields of the headers set."""

    def change(data: bytes) -> bytes:
        for name, value in values.items():
            at, size = FIELDS[name]
            data = put(data, header_at(data) + at, value.to_bytes(size, "little"))
        return data

    return change


def section(number: int, **values: int) -> Change:
    """Fields of a section header set."""

    def change(data: bytes) -> bytes:
        for name, value in values.items():
            at, size = SECTION_FIELDS[name]
            data = put(data, section_at(data, number) + at, value.to_bytes(size, "little"))
        return data

    return change


def directory(number: int, address: int, size: int) -> Change:
    """A data directory of PE32+ set."""
    return lambda data: put(data, header_at(data) + 136 + 8 * number, struct.pack("<II", address, size))


def both(*changes: Change) -> Change:
    """One after the other."""

    def change(data: bytes) -> bytes:
        for one in changes:
            data = one(data)
        return data

    return change


def in_section(number: int, offset: int, new: bytes) -> Change:
    """Bytes of a section's data set."""
    return lambda data: put(data, get_of(data, number, "raw") + offset, new)


def _directories(count: int) -> Change:
    """Another number of directories, with the section headers where they belong."""

    def change(data: bytes) -> bytes:
        table = data[section_at(data, 0) : section_at(data, get(data, "sections"))]
        data = fields(directories=count, optional_size=112 + 8 * count)(data)
        return put(data, section_at(data, 0), table)

    return change


def _debug(kind: int, length: int, rva: int, pointer: int, data: bytes = b"RSDS", size: int = 28) -> Change:
    """A debug directory in .data, and what it is about behind it."""
    entry = struct.pack("<12x4I", kind, length, rva, pointer)
    return both(in_section(DATA_, 0x20, entry + data), directory(DEBUG, 0x2020, size))


def _resources(named: int, name: int, size: int, ids: int = 0, data: bytes = b"") -> Change:
    """A resource directory with one entry, in .data, and what is behind that."""
    table = struct.pack("<12x2H2I", named, ids, name, 0) + data
    return both(in_section(DATA_, 0x20, table), directory(RESOURCE, 0x2020, size))


def _certificate(data: bytes) -> bytes:
    """A certificate table of 16 bytes at the end, with no signature in it."""
    table = struct.pack("<IHH8x", 16, 0x200, 2)
    return directory(SECURITY, len(data), 16)(data) + table


def _apple(*machines: int) -> Change:
    """Apple's file for machines (mach/machine.h): the application, at 0x200, is for the last of them."""

    def change(data: bytes) -> bytes:
        archs = b"".join(struct.pack("<5I", machine, 3, 0, 0x200, 9) for machine in machines[:-1])
        archs += struct.pack("<5I", machines[-1], 3, 0x200, len(data), 9)
        return (struct.pack("<2I", 0x0EF1FAB9, len(machines)) + archs).ljust(0x200, b"\0") + data

    return change


def _compat(*entries: tuple[int, int, int, int], name: bytes = b".compat", more: int = 1) -> Change:
    """For no machine, with a section .compat of Linux's (arch/x86/boot/header.S), in the file at its RVA.

    `more`: bytes that it has behind its entries.
    """
    table = b"".join(struct.pack("<2BHI", *entry) for entry in entries)
    named = section(SBAT, name=int.from_bytes(name, "little"), size=len(table) + more)
    return both(fields(machine=0), named, lambda data: data.ljust(0x3000, b"\0") + table + bytes(1))


def _headers_and(more: int) -> Change:
    """SizeOfHeaders exact, and SizeOfImage so many bytes larger."""

    def change(data: bytes) -> bytes:
        end = section_at(data, get(data, "sections"))
        return fields(header_size=end, image_size=end + more)(data)

    return change


def _header_at_64(data: bytes) -> bytes:
    """The PE header as near to the file's beginning as it may be."""
    end = get(data, "header_size")
    return data[:0x3C] + b"\x40\0\0\0" + data[header_at(data) : end].ljust(end - 0x40, b"\0") + data[end:]


def _moved(number: int, to: int, new: bytes = b"") -> Change:
    """A section's data, or new of the same size, at another offset of the file, which ends there."""

    def change(data: bytes) -> bytes:
        at, size = get_of(data, number, "raw"), get_of(data, number, "raw_size")
        whole = section(number, raw=to or len(data))(data).ljust(to, b"\0")
        return whole + (new or data[at : at + size])

    return change


def _debug_at(index: int) -> Change:
    """A debug directory in .data whose entry of this number is the first of type CODEVIEW."""
    table = bytes(28 * index) + struct.pack("<12x4I", 2, 24, 0x2000, 0x600)
    longer = both(_moved(DATA_, 0x3000, bytes(0x200)), lambda data: data + bytes(len(table)))
    return both(longer, in_section(DATA_, 0, table), directory(DEBUG, 0x2000, len(table)))


#: offsets and sizes: Documentation/arch/x86/boot.rst
SETUP_FIELDS = {
    "setup_sects": (0x1F1, 1),
    "boot_flag": (0x1FE, 2),
    "setup_size": (0x201, 1),
    "header": (0x202, 4),
    "version": (0x206, 2),
    "relocatable": (0x234, 1),
    "xloadflags": (0x236, 2),
    "handover_offset": (0x264, 4),
}


def _handover(entered: int = 0xC00, **values: int) -> Change:
    """A kernel of the EFI handover protocol, 4 KiB, with code where it is entered by that; fields changed."""
    good = {"boot_flag": 0xAA55, "setup_size": 0x66, "header": 0x53726448, "version": 0x20F}
    good |= {"relocatable": 1, "xloadflags": 8}

    def change(data: bytes) -> bytes:
        data = both(_directories(6), fields(image_version=0))(data).ljust(entered, b"\xcc")
        for name, value in (good | values).items():
            at, size = SETUP_FIELDS[name]
            data = put(data, at, value.to_bytes(size, "little"))
        return (data + code("a")).ljust(0x1000, b"\xcc")

    return change


def _same(data: bytes) -> bytes:
    return data


BROKEN = (
    Broken("as it is", _same),
    # -- What it is.
    Broken("text", lambda _: b"no application at all\n" * 40),
    Broken("an empty file", lambda _: b""),
    Broken("one byte", lambda _: b"M"),
    Broken("an ELF", lambda data: put(data, 0, b"\x7fELF")),
    Broken("no MZ", lambda data: put(data, 0, b"ZM")),
    Broken("e_lfanew beyond the file", lambda data: put(data, 0x3C, b"\0\0\1\0")),
    Broken("e_lfanew -1", lambda data: put(data, 0x3C, b"\xff\xff\xff\xff")),
    Broken("e_lfanew 0", lambda data: put(data, 0x3C, bytes(4))),
    Broken("e_lfanew in the DOS header", lambda data: put(data, 0x3C, b"\x3f")),
    Broken("e_lfanew 64", _header_at_64),
    Broken("no PE signature", lambda data: put(data, header_at(data), b"EP")),
    Broken("half a PE signature", lambda data: put(data, header_at(data) + 2, b"\xff")),
    Broken("a terse executable", lambda data: put(data, header_at(data), b"VZ")),
    Broken("for 64-bit ARM", fields(machine=0xAA64)),
    Broken("for 64-bit ARM, cut by a byte", lambda data: fields(machine=0xAA64)(data)[:-1]),
    Broken("for 32-bit x86", fields(machine=0x14C)),
    Broken("for RISC-V", fields(machine=0x5064)),
    Broken("for no machine", fields(machine=0)),
    Broken("for two of Apple's machines", _apple(7, 0x01000007)),
    Broken("for one of Apple's machines, and that another", _apple(7)),
    Broken("for two of Apple's machines, cut by a byte", lambda d: _apple(7, 0x01000007)(d)[:-1]),
    Broken(
        "for two of Apple's machines, a byte too small",
        lambda d: put(_apple(7, 0x01000007)(d), 40, struct.pack("<I", len(d) - 1)),
    ),
    Broken("the magic of Apple's files, and no more", lambda _: b"\xb9\xfa\xf1\x0e"),
    Broken("magic of PE32", fields(magic=0x10B)),
    Broken("magic of PE32, cut behind its headers", lambda d: fields(magic=0x10B)(d)[: header_at(d) + 250]),
    Broken("magic of a ROM image", fields(magic=0x107)),
    Broken("subsystem Windows console", fields(subsystem=3)),
    Broken("subsystem boot service driver", fields(subsystem=11)),
    Broken("subsystem runtime driver", fields(subsystem=12)),
    Broken("subsystem EFI ROM", fields(subsystem=13)),
    Broken("subsystem 14", fields(subsystem=14)),
    # -- Headers.
    Broken("17 directories", fields(directories=17)),
    Broken("15 directories of 16", fields(directories=15)),
    Broken("10 directories", _directories(10)),
    Broken("6 directories", _directories(6)),
    Broken("5 directories", _directories(5)),
    Broken("4 directories", _directories(4)),
    Broken("no directories", _directories(0)),
    Broken("SizeOfOptionalHeader 8 too small", fields(optional_size=232)),
    Broken("SizeOfOptionalHeader 8 too large", fields(optional_size=248)),
    Broken("SizeOfOptionalHeader 0", fields(optional_size=0)),
    Broken("no sections", fields(sections=0)),
    Broken(
        "no sections, SizeOfHeaders before them",
        lambda d: fields(sections=0, header_size=section_at(d, 0))(d),
    ),
    Broken("no sections, and no data", lambda d: fields(sections=0)(d)[: get(d, "header_size")]),
    Broken("16 sections", fields(sections=16)),
    Broken("97 sections", fields(sections=97)),
    Broken("SizeOfHeaders in the table", lambda d: fields(header_size=section_at(d, 2))(d)),
    Broken("SizeOfHeaders before the table", lambda d: fields(header_size=section_at(d, 0))(d)),
    Broken("SizeOfHeaders exact", lambda d: fields(header_size=section_at(d, get(d, "sections")))(d)),
    Broken("SizeOfHeaders beyond the file", fields(header_size=0x3000)),
    Broken("SizeOfHeaders as SizeOfImage", lambda d: fields(header_size=get(d, "image_size"))(d)),
    Broken("SizeOfImage 20 bytes behind the section headers", _headers_and(20)),
    Broken("SizeOfHeaders over the first section", fields(header_size=0x600)),
    # -- The file's end.
    Broken("cut in the DOS header", lambda data: data[:63]),
    Broken("cut in the PE header", lambda data: data[: header_at(data) + 100]),
    Broken("cut in the section headers", lambda data: data[: section_at(data, 1)]),
    Broken("cut behind the headers", lambda data: data[: get(data, "header_size")]),
    Broken("cut by a byte", lambda data: data[:-1]),
    Broken("data beyond the file", section(DATA_, raw_size=0x2000)),
    Broken("data at 4 GiB", section(DATA_, raw=0xFFFFFF00)),
    Broken("a certificate table", _certificate),
    Broken("a certificate table beyond the file", lambda d: directory(SECURITY, len(d), 8)(d)),
    Broken("a certificate table at 4 GiB", directory(SECURITY, 0xFFFFFFF8, 8)),
    Broken("an empty certificate table at the end", lambda d: directory(SECURITY, len(d), 0)(d)),
    Broken("a certificate table, and more", lambda data: _certificate(data) + bytes(8)),
    Broken(
        "a certificate table that begins in a section",
        lambda d: directory(SECURITY, len(d) - 16, 32)(d) + bytes(16),
    ),
    Broken("a certificate table in the middle", directory(SECURITY, 0x600, 0x40)),
    Broken("more at the end", lambda data: data + bytes(512)),
    # -- Sections.
    Broken("data in the headers of the file", section(DATA_, raw=0x200)),
    Broken("data in the headers in memory", section(DATA_, address=0x200)),
    Broken("SizeOfImage a page too small", fields(image_size=0x4000)),
    Broken("SizeOfImage to the byte", fields(image_size=0x4010)),
    Broken("SizeOfImage a byte too small", fields(image_size=0x400F)),
    Broken("SizeOfImage 1 GiB", fields(image_size=1 << 30)),
    Broken("SizeOfImage 100 MiB", fields(image_size=100 << 20)),
    Broken("SizeOfImage 0", fields(image_size=0)),
    Broken("a section behind the image", section(DATA_, address=0x6000)),
    Broken("a section that ends behind the image", section(DATA_, address=0x4800, size=0x1000)),
    Broken("a section behind the image, whose end wraps", section(DATA_, address=0xFFFFF000, size=0x2000)),
    Broken("a section whose end wraps", section(DATA_, size=0xFFFFF000)),
    Broken("zeros behind the image", section(DATA_, raw_size=0, raw=0, address=0x6000)),
    Broken("zeros that end behind the image", section(DATA_, raw_size=0, raw=0, address=0x4800, size=0x1000)),
    Broken("a VirtualSize of 0", section(DATA_, size=0)),
    Broken("code with a VirtualSize of 0", section(TEXT, size=0)),
    Broken("more data than VirtualSize", section(DATA_, size=16)),
    Broken("an empty section", section(DATA_, size=0, raw_size=0, raw=0, address=0)),
    Broken("an empty section behind the image", section(DATA_, size=0, raw_size=0, raw=0, address=0x6000)),
    Broken("data overlaps code", section(DATA_, address=0x1000)),
    Broken("data overlaps code's last bytes", section(DATA_, address=0x10C0, size=0x200)),
    Broken("code overlaps data", section(TEXT, size=0x1100)),
    Broken("code up to data", section(TEXT, size=0x1000)),
    Broken(
        "discardable data over code's last bytes", section(DATA_, flags=0xC2000040, address=0x1080, size=0x40)
    ),
    Broken("zeros over code", section(DATA_, address=0x1000, raw_size=0, raw=0)),
    Broken("a section in no order", both(section(DATA_, address=0x5000), fields(image_size=0x6000))),
    Broken("SectionAlignment 0", fields(section_alignment=0)),
    Broken("SectionAlignment 0x200", fields(section_alignment=0x200)),
    Broken("SectionAlignment 1", fields(section_alignment=1)),
    Broken("SectionAlignment 0x1800", fields(section_alignment=0x1800)),
    Broken("SectionAlignment 0x2000", fields(section_alignment=0x2000)),
    Broken(
        "SectionAlignment 0x2000, two of code",
        both(fields(section_alignment=0x2000), section(DATA_, flags=CODE)),
    ),
    Broken("SectionAlignment 2 MiB", fields(section_alignment=2 * MiB)),
    Broken("SectionAlignment 2 GiB", fields(section_alignment=1 << 31)),
    Broken("a section at an odd address", section(SBAT, address=0x3200)),
    Broken("FileAlignment 0x1000", fields(file_alignment=0x1000)),
    Broken("FileAlignment 1 GiB", fields(file_alignment=1 << 30)),
    Broken("FileAlignment odd", fields(file_alignment=0x201)),
    Broken("FileAlignment 0", fields(file_alignment=0)),
    Broken("writable code", section(TEXT, flags=0xE0000020)),
    Broken("no executable section", section(TEXT, flags=0x40000020)),
    Broken("unreadable code", section(TEXT, flags=0x20000020)),
    Broken("discardable code", section(TEXT, flags=0x62000020)),
    Broken("discardable data", section(DATA_, flags=0xC2000040)),
    Broken("discardable data that is writable code", section(DATA_, flags=0xE2000040)),
    Broken("a discardable empty section", section(DATA_, flags=0xC2000040, size=0, raw_size=0, raw=0)),
    Broken("uninitialized data", section(DATA_, flags=0xC0000080, raw_size=0, raw=0)),
    Broken("sections share their data", section(DATA_, raw=0x400)),
    Broken("NX_COMPAT is not set", fields(dll=0)),
    # -- Where it is loaded.
    Broken("ImageBase 1 MiB", fields(base=1 * MiB)),
    Broken("ImageBase 32 MiB", fields(base=32 * MiB)),
    Broken("ImageBase in no RAM", fields(base=0x140000000)),
    Broken("ImageBase odd", fields(base=32 * MiB + 0x123)),
    Broken("stripped, ImageBase 0", fields(characteristics=0x23)),
    Broken("stripped, ImageBase 64 KiB", fields(characteristics=0x23, base=0x10000)),
    Broken("stripped, ImageBase 1 MiB", fields(characteristics=0x23, base=1 * MiB)),
    Broken("stripped, ImageBase 32 MiB", fields(characteristics=0x23, base=32 * MiB)),
    Broken("stripped, ImageBase 10 MiB", fields(characteristics=0x23, base=10 * MiB)),
    Broken(
        "stripped, up to 8 MiB",
        lambda d: fields(characteristics=0x23, base=8 * MiB - get(d, "image_size"))(d),
    ),
    Broken("stripped, ImageBase in no RAM", fields(characteristics=0x23, base=0x140000000)),
    Broken("stripped, ImageBase odd", fields(characteristics=0x23, base=32 * MiB + 0x200)),
    Broken(
        "stripped, ImageBase unaligned",
        fields(characteristics=0x23, base=33 * MiB, section_alignment=2 * MiB),
    ),
    # -- Base relocations.
    Broken("no relocations", directory(BASE_RELOCATIONS, 0, 0)),
    Broken("relocations behind the image", directory(BASE_RELOCATIONS, 0x6000, 16)),
    Broken(
        "relocations behind the image, ImageBase 32 MiB",
        both(fields(base=32 * MiB), directory(BASE_RELOCATIONS, 0x6000, 16)),
    ),
    Broken("relocations that end behind the image", directory(BASE_RELOCATIONS, 0x4FF8, 16)),
    Broken(
        "relocations that end behind the image, ImageBase 32 MiB",
        both(fields(base=32 * MiB), directory(BASE_RELOCATIONS, 0x4FF8, 16)),
    ),
    Broken("relocations without data", section(RELOC, raw_size=0)),
    Broken("relocations in the file where the image ends in memory", _moved(RELOC, 0x4FF8)),
    Broken("relocations in the file behind where the image ends in memory", _moved(RELOC, 0x5000)),
    Broken("relocations whose end wraps", directory(BASE_RELOCATIONS, 0x4000, 0xFFFFFF0C)),
    Broken("a block of size 0", in_section(RELOC, 4, bytes(4))),
    Broken("a block larger than the table", in_section(RELOC, 4, b"\x20\0\0\0")),
    Broken("a block of 6 bytes", in_section(RELOC, 4, b"\6\0\0\0")),
    Broken(
        "a block of 11 bytes, the next one of type 9",
        in_section(RELOC, 4, struct.pack("<I2H", 11, 0, 0x9000)),
    ),
    Broken(
        "an empty block behind the image",
        both(directory(BASE_RELOCATIONS, 0x4000, 8), in_section(RELOC, 0, struct.pack("<2I", 0x5000, 8))),
    ),
    Broken("a table with a byte more", directory(BASE_RELOCATIONS, 0x4000, 13)),
    Broken("a relocation behind the image", in_section(RELOC, 0, b"\0\x60\0\0")),
    Broken(
        "a relocation of type 0 at the image's end",
        in_section(RELOC, 0, struct.pack("<2I2H", 0x4800, 12, 0x800, 0)),
    ),
    Broken("a relocation of type 9", in_section(RELOC, 8, b"\0\x90")),
    Broken("a relocation of type 3", in_section(RELOC, 8, b"\0\x30")),
    Broken("relocations of types 1 and 2", in_section(RELOC, 8, b"\0\x10\0\x20")),
    Broken(
        "a relocation of type 9, ImageBase 32 MiB",
        both(fields(base=32 * MiB), in_section(RELOC, 8, b"\0\x90")),
    ),
    Broken("a relocation section that is not the directory's", directory(BASE_RELOCATIONS, 0x2000, 12)),
    Broken("two relocation sections", section(DATA_, name=int.from_bytes(b".reloc", "little"))),
    Broken("no relocation section", section(RELOC, name=int.from_bytes(b".rodata", "little"))),
    # -- The entry.
    Broken("entry at the next letter", lambda d: fields(entry=get(d, "entry") + NEXT)(d)),
    Broken("entry in data", both(fields(entry=0x2010), in_section(DATA_, 0x10, b"\x31\xc0\xc3"))),
    Broken(
        "entry in data, and a section of code without data",
        both(
            fields(entry=0x2010),
            in_section(DATA_, 0x10, b"\x31\xc0\xc3"),
            section(SBAT, flags=CODE, raw_size=0, raw=0),
        ),
    ),
    Broken("entry behind the last byte", lambda d: fields(entry=0x1000 + get_of(d, TEXT, "size"))(d)),
    Broken("entry at the image's end", lambda d: fields(entry=get(d, "image_size"))(d)),
    Broken("entry 0", fields(entry=0)),
    Broken("entry in the headers", both(fields(entry=0x300), lambda data: put(data, 0x300, b"\x31\xc0\xc3"))),
    Broken("entry between sections", fields(entry=0x1800)),
    Broken("entry behind the image", fields(entry=0x6000)),
    Broken(
        "entry at the last byte",
        both(section(TEXT, size=NEXT + 1), fields(entry=0x1000 + NEXT), in_section(TEXT, NEXT, b"\xc3")),
    ),
    # -- Other directories.
    Broken("a debug directory", _debug(2, 24, 0x203C, 0x63C)),
    Broken("a debug directory without an RVA", _debug(2, 24, 0, 0x63C)),
    Broken("a debug entry behind the image", _debug(2, 24, 0x6000, 0x63C)),
    Broken("a debug entry too short", _debug(2, 8, 0x203C, 0x63C)),
    Broken("a debug entry of NB10", _debug(2, 16, 0x203C, 0x63C, b"NB10")),
    Broken("a debug entry of NB10, too short", _debug(2, 15, 0x203C, 0x63C, b"NB10")),
    Broken("a debug entry of MTOC, too short", _debug(2, 19, 0x203C, 0x63C, b"MTOC")),
    Broken("a debug entry mapped behind the image", _debug_at(440)),
    Broken(
        "a debug entry that makes the image larger",
        both(_debug(2, 0x2000, 0, 0x63C), section(SBAT, address=0x6000)),
    ),
    Broken(
        "a debug entry of nothing, and a section behind the image",
        both(_debug(2, 0x2000, 0, 0), section(SBAT, address=0x6000)),
    ),
    Broken("a debug entry of another kind", _debug(4, 8, 0x6000, 0x63C)),
    Broken("a debug directory that ends behind the file", _debug(4, 8, 0, 0, size=0x10000)),
    Broken("a debug directory in no section", directory(DEBUG, 0x10000, 28)),
    Broken("resources", _resources(1, 0x80000010, 32)),
    Broken("resources of no size", _resources(3, 0, 24)),
    Broken("resources to the byte", _resources(1, 0, 24)),
    Broken("resources by number, of no size", _resources(0, 0, 24, ids=3)),
    Broken("a resource's name at the end", _resources(1, 0x80000020, 32)),
    Broken("a resource by number, larger than the directory", _resources(1, 0x30, 32)),
    Broken(
        "resources of the firmware's menus", _resources(1, 0x80000018, 32, data="\3HII".encode("utf-16-le"))
    ),
    Broken("a resource's name outside", _resources(1, 0x80000030, 32)),
    # -- For systemd's stub and for shim.
    Broken("MajorImageVersion 0", fields(image_version=0)),
    Broken("for no machine, an entry in .compat", _compat((1, 8, 0x14C, 0x1000), (1, 8, 0x8664, 0x1000))),
    Broken("for no machine, another's entry in .compat", _compat((1, 8, 0x14C, 0x1000))),
    Broken("for no machine, entry 0 in .compat", _compat((1, 8, 0x8664, 0))),
    Broken("for no machine, .compat of one entry alone", _compat((1, 8, 0x8664, 0x1000), more=0)),
    Broken("for no machine, .compat of another kind", _compat((2, 8, 0x8664, 0x1000))),
    Broken("for no machine, an entry in .compats", _compat((1, 8, 0x8664, 0x1000), name=b".compats")),
    Broken(
        "for no machine, an entry in the first .compat",
        both(_compat((1, 8, 0x8664, 0x1000)), section(RELOC, name=int.from_bytes(b".compat", "little"))),
    ),
    Broken("for no machine, .compat ends before the entry", _compat((0, 8, 0, 0), (1, 8, 0x8664, 0x1000))),
    Broken("the handover protocol, 65535 sections", both(_handover(), fields(sections=65535))),
    Broken("the handover protocol", _handover()),
    Broken("the handover protocol, in less than 4 KiB", lambda data: _handover()(data)[:-1]),
    Broken("the handover protocol, no HdrS", _handover(header=0)),
    Broken("the handover protocol, no 0xAA55", _handover(boot_flag=0)),
    Broken("the handover protocol, version 2.10", _handover(version=0x20A)),
    Broken("the handover protocol, version 2.11, no xloadflags", _handover(version=0x20B, xloadflags=0)),
    Broken("the handover protocol, version 2.12, no xloadflags", _handover(version=0x20C, xloadflags=0)),
    Broken("the handover protocol, not relocatable", _handover(relocatable=0)),
    Broken("the handover protocol, not in xloadflags", _handover(xloadflags=7)),
    Broken("the handover protocol, handover_offset 0x100", _handover(0xD00, handover_offset=0x100)),
    Broken(
        "the handover protocol, handover_offset behind the setup header",
        _handover(handover_offset=0x100, setup_size=0x62),
    ),
    Broken("the handover protocol, by setup_sects 3", _handover(setup_sects=3, handover_offset=0x200)),
    Broken("the handover protocol, behind the file", _handover(handover_offset=0x400)),
    Broken("no .sbat", section(SBAT, name=0)),
    Broken("two .sbat", section(DATA_, name=int.from_bytes(b".sbat", "little"), size=24)),
    Broken(".sbat with relocations", section(SBAT, relocations=0x400)),
    Broken(".sbat with a count of relocations", section(SBAT, relocation_count=1)),
    Broken(".sbat that fills its VirtualSize", lambda d: section(SBAT, size=get_of(d, SBAT, "raw_size"))(d)),
    Broken(".sbat at the end of the file", _moved(SBAT, 0)),
    Broken(".sbat that begins with a BOM", in_section(SBAT, 0, b"\xef\xbb\xbf\n" + SBAT_TABLE)),
    Broken(".sbat with an empty field", in_section(SBAT, 0, b"tiny,,Tests,tiny,1,x\n\0")),
    Broken(".sbat with an empty last field", in_section(SBAT, 0, b"tiny,1,Tests,tiny,1,\n\0")),
    Broken(".sbat with a row of five fields behind CR", in_section(SBAT, 0, b"a,1,a,a,1,a\ra,1,a,a,1\n\0")),
    Broken(".sbat of zeros", section(SBAT, size=0x300)),
    Broken("a NUL in .sbat", in_section(SBAT, 4, b"\0")),
    Broken(".sbat with a row of five fields", in_section(SBAT, len(SBAT_TABLE) - 22, b"-")),
)
