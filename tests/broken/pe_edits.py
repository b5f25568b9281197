"""A tiny UEFI application, a kernel of that kind, and what may be changed in them."""

from __future__ import annotations

import struct

from broken_file import Change
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


def tiny(letters: str = "ab", more: int = 0) -> bytes:
    """An application that says where it was entered; sections at 0x1000, 0x2000, 0x3000 and 0x4000.

    With `more` of them all lie behind the headers, 64 KiB further on.
    """
    base = 0x10000 if more else 0
    sections = [
        Section(".text", base + 0x1000, code(letters), CODE),
        Section(".data", base + 0x2000, bytes(24), DATA, 0x800),
        Section(".sbat", base + 0x3000, SBAT_TABLE, 0x40000040),
        *(Section(".more", base + 0x4000 + 0x1000 * number, b"more") for number in range(more)),
    ]
    relocated = [base + 0x2000, base + 0x2008]
    return bytes(TinyPe(sections, base + 0x1000, relocated=relocated, changes={0x80 + 68: b"\1"}))


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


def written_over(size: int, count: int) -> bytes:
    """An application of so many sections of so many bytes, all of them in one place with its relocations."""
    data = bytes(TinyPe([Section(".same", size, b"", CODE)] * count, size))
    at = section_at(data, 0)
    header = section(0, size=size, raw_size=size, raw=len(data))(data)[at : at + 40]
    change = both(fields(image_size=3 * size), directory(BASE_RELOCATIONS, size, size - 8))
    return change(put(data, at, header * count)) + bytes(size)


def in_section(number: int, offset: int, new: bytes) -> Change:
    """Bytes of a section's data set."""
    return lambda data: put(data, get_of(data, number, "raw") + offset, new)


def directories(count: int) -> Change:
    """Another number of directories, with the section headers where they belong."""

    def change(data: bytes) -> bytes:
        table = data[section_at(data, 0) : section_at(data, get(data, "sections"))]
        data = fields(directories=count, optional_size=112 + 8 * count)(data)
        return put(data, section_at(data, 0), table)

    return change


def debug(kind: int, length: int, rva: int, pointer: int, data: bytes = b"RSDS", size: int = 28) -> Change:
    """A debug directory in .data, and what it is about behind it."""
    entry = struct.pack("<12x4I", kind, length, rva, pointer)
    return both(in_section(DATA_, 0x20, entry + data), directory(DEBUG, 0x2020, size))


def resources(named: int, name: int, size: int, ids: int = 0, data: bytes = b"") -> Change:
    """A resource directory with one entry, in .data, and what is behind that."""
    table = struct.pack("<12x2H2I", named, ids, name, 0) + data
    return both(in_section(DATA_, 0x20, table), directory(RESOURCE, 0x2020, size))


def certificate(data: bytes) -> bytes:
    """A certificate table of 16 bytes at the end, with no signature in it."""
    table = struct.pack("<IHH8x", 16, 0x200, 2)
    return directory(SECURITY, len(data), 16)(data) + table


def apple(*machines: int) -> Change:
    """Apple's file for machines (mach/machine.h): the application, at 0x200, is for the last of them."""

    def change(data: bytes) -> bytes:
        archs = b"".join(struct.pack("<5I", machine, 3, 0, 0x200, 9) for machine in machines[:-1])
        archs += struct.pack("<5I", machines[-1], 3, 0x200, len(data), 9)
        return (struct.pack("<2I", 0x0EF1FAB9, len(machines)) + archs).ljust(0x200, b"\0") + data

    return change


def compat(*entries: tuple[int, int, int, int], name: bytes = b".compat", more: int = 1) -> Change:
    """For no machine, with a section .compat of Linux's (arch/x86/boot/header.S), in the file at its RVA.

    `more`: bytes that it has behind its entries.
    """
    table = b"".join(struct.pack("<2BHI", *entry) for entry in entries)
    named = section(SBAT, name=int.from_bytes(name, "little"), size=len(table) + more)
    return both(fields(machine=0), named, lambda data: data.ljust(0x3000, b"\0") + table + bytes(1))


def headers_and(more: int) -> Change:
    """SizeOfHeaders exact, and SizeOfImage so many bytes larger."""

    def change(data: bytes) -> bytes:
        end = section_at(data, get(data, "sections"))
        return fields(header_size=end, image_size=end + more)(data)

    return change


def header_at_64(data: bytes) -> bytes:
    """The PE header as near to the file's beginning as it may be."""
    end = get(data, "header_size")
    return data[:0x3C] + b"\x40\0\0\0" + data[header_at(data) : end].ljust(end - 0x40, b"\0") + data[end:]


def moved(number: int, to: int, new: bytes = b"") -> Change:
    """A section's data, or new of the same size, at another offset of the file, which ends there."""

    def change(data: bytes) -> bytes:
        at, size = get_of(data, number, "raw"), get_of(data, number, "raw_size")
        whole = section(number, raw=to or len(data))(data).ljust(to, b"\0")
        return whole + (new or data[at : at + size])

    return change


def debug_at(index: int) -> Change:
    """A debug directory in .data whose entry of this number is the first of type CODEVIEW."""
    table = bytes(28 * index) + struct.pack("<12x4I", 2, 24, 0x2000, 0x600)
    longer = both(moved(DATA_, 0x3000, bytes(0x200)), lambda data: data + bytes(len(table)))
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


def handover(entered: int = 0xC00, **values: int) -> Change:
    """A kernel of the EFI handover protocol, 4 KiB, with code where it is entered by that; fields changed."""
    good = {"boot_flag": 0xAA55, "setup_size": 0x66, "header": 0x53726448, "version": 0x20F}
    good |= {"relocatable": 1, "xloadflags": 8}

    def change(data: bytes) -> bytes:
        data = both(directories(6), fields(image_version=0))(data).ljust(entered, b"\xcc")
        for name, value in (good | values).items():
            at, size = SETUP_FIELDS[name]
            data = put(data, at, value.to_bytes(size, "little"))
        return (data + code("a")).ljust(0x1000, b"\xcc")

    return change
