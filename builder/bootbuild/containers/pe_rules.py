"""The rules of PE files (BB-W060 to BB-W079): what is refused, and what every written one must be."""

from __future__ import annotations

from bootbuild.containers.rules import DEFECT
from bootbuild.model.rule import Rule

# What is refused before a byte is written.

NO_FILE = Rule(
    "BB-W060",
    "Payload that is no PE file itself",
    'With `entry = "native"` a PE image is the payload\'s own file, as it is: firmware takes PE32+ and '
    "nothing else. A Linux bzImage with CONFIG_EFI_STUB is one; the vmlinux in it is not.",
    'name the bzImage, or make an entry with `entry = "insert"`',
)
TOO_MANY_MOVES = Rule(
    "BB-W061",
    "Kernel of too many segments",
    "The stub keeps its list of what is to be moved in one page, beside the code that moves.",
    "link the kernel with fewer PT_LOAD segments",
)
HEADER_SPACE = Rule(
    "BB-W062",
    "No room for section headers",
    "Headers take one page of a PE file, and every section has one of 40 bytes: 94 fit.",
    "give fewer modules",
)
SECTION_NAME = Rule(
    "BB-W063",
    "Section that loaders misread",
    "A section's name has 8 bytes, without COFF's long names, which begin with / and which firmware does not "
    "read; an empty section has no place in memory, and loaders differ on it.",
    "give a name of 2 to 8 ASCII characters that does not begin with /, and a file that is not empty",
)
TOO_LARGE = Rule(
    "BB-W064",
    "Image too large for a PE file",
    "Addresses in a PE image have 32 bits, and some loaders compute with signed ones: 2 GiB is the most.",
    "strip the kernel, or give large modules by another way than in the image",
)
TIME = Rule(
    "BB-W079",
    "SOURCE_DATE_EPOCH that is no time",
    "TimeDateStamp of an application is SOURCE_DATE_EPOCH: seconds since 1970 as decimal number of 32 bits. "
    "Of any other the image would have another time.",
    "set SOURCE_DATE_EPOCH to such a number, or to nothing: TimeDateStamp is 0 then",
)

# What is checked in every image after writing.

NOT_PE = Rule(
    "BB-W065",
    "Not an application of UEFI on x86-64",
    "Firmware starts PE32+ of machine 0x8664, subsystem 10, with all data directories in the header.",
    DEFECT,
)
SECTIONS = Rule(
    "BB-W066",
    "Sections other than asked",
    "Each section of the layout is there once, in its order, with its address, VirtualSize, "
    "characteristics and bytes; no other. VirtualSize is exact, since "
    "whoever measures or reads a section goes by it.",
    DEFECT,
)
OVERLAP = Rule(
    "BB-W067",
    "Sections that overlap once loaded",
    "Where two sections share an address, the later one wins in some loaders and the file is refused by "
    "others: shim counts how many hold the entry. Their ranges ascend and are apart, headers included.",
    DEFECT,
)
ALIGNMENT = Rule(
    "BB-W068",
    "Sections that are not aligned",
    "Memory is protected by pages: firmware that does so refuses or leaves unprotected what has a "
    "SectionAlignment below 4096, or an address that is no multiple of it. Raw data "
    "begins and ends at FileAlignment.",
    DEFECT,
)
WRITABLE_CODE = Rule(
    "BB-W069",
    "Memory that is writable and executable",
    "No section is both, and NX_COMPAT says so: Secure Boot's signers demand it, and strict firmware loads "
    "nothing else.",
    DEFECT,
)
ENTRY = Rule(
    "BB-W070",
    "Entry outside the code",
    "AddressOfEntryPoint lies in exactly one section, which is executable, and not at its last byte: "
    "shim's test leaves that out.",
    DEFECT,
)
RAW = Rule(
    "BB-W071",
    "Bytes of the file that belong to nobody, or to two",
    "Signers hash headers and raw data in the order of the file: where there is a gap or a rest, two of them "
    "disagree, and firmware with one. So raw data follow each other from SizeOfHeaders to the end of the "
    "file, each as long as VirtualSize padded to FileAlignment, padded with zeros.",
    DEFECT,
)
HEADERS = Rule(
    "BB-W072",
    "Section headers beyond SizeOfHeaders",
    "Loaders read headers up to SizeOfHeaders, which is a multiple of FileAlignment.",
    DEFECT,
)
IMAGE_SIZE = Rule(
    "BB-W073",
    "Wrong SizeOfImage",
    "SizeOfImage is the end of the last section, rounded up to SectionAlignment: firmware allocates so much.",
    DEFECT,
)
STALE = Rule(
    "BB-W074",
    "Header that speaks of something that is not there",
    "A symbol table, line numbers or relocations of objects, and certificates are not in an unsigned "
    "image: no header points to any, and no data directory but that of base relocations is used.",
    DEFECT,
)
CHECKSUM = Rule(
    "BB-W075",
    "Wrong checksum",
    "CheckSum is that of the whole file; some firmware looks.",
    DEFECT,
)
RELOCATIONS = Rule(
    "BB-W076",
    "Image that cannot be loaded anywhere",
    "Without base relocations, or with RELOCS_STRIPPED, firmware loads an image at ImageBase or not at "
    "all, and shim refuses it. The directory is the section .reloc, whole.",
    DEFECT,
)
DISCARDABLE = Rule(
    "BB-W077",
    "Section that loaders may leave out",
    "shim does not load what is marked DISCARDABLE.",
    DEFECT,
)
FILE_CHANGED = Rule(
    "BB-W078",
    "Payload's file changed",
    "With its own entry a payload is written as it is, to the byte: it may be signed.",
    DEFECT,
)

REFUSALS = (NO_FILE, TOO_MANY_MOVES, HEADER_SPACE, SECTION_NAME, TOO_LARGE, TIME)
RULES = (
    *REFUSALS,
    NOT_PE,
    SECTIONS,
    OVERLAP,
    ALIGNMENT,
    WRITABLE_CODE,
    ENTRY,
    RAW,
    HEADERS,
    IMAGE_SIZE,
    STALE,
    CHECKSUM,
    RELOCATIONS,
    DISCARDABLE,
    FILE_CHANGED,
)
