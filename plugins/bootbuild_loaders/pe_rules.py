"""What a loader of UEFI applications can hold against a PE: its headers, and its sections as mapped."""

from __future__ import annotations

from bootbuild.api import Rule

_EDK2 = "EDK2 looks in MdePkg/Library/BasePeCoffLib. "
_STUB = "From 258 on systemd's stub loads the kernel of a unified kernel image by itself, in linux.c. "
_SHIM = "shim loads what it starts by itself, in pe.c and pe-relocate.c. "

RULES = (
    Rule(
        "BB-L520",
        "no PE",
        "The file begins with `MZ`, and `PE` stands where e_lfanew (0x3c) says. An ELF kernel is none; "
        "nor is a "
        "Linux without CONFIG_EFI_STUB.",
        'give it a UEFI application: target efi with `entry = "insert"` makes one of a kernel',
    ),
    Rule(
        "BB-L521",
        "made for another machine",
        "64-bit x86 firmware starts machine 0x8664. EDK2 loads 32-bit x86, but does not start it.",
        "build for x86-64; a kernel of both kinds names its other entry in a section `.compat`",
    ),
    Rule(
        "BB-L522",
        "optional header of another size",
        "SizeOfOptionalHeader is exactly that of the fixed fields, 112 bytes of PE32+, and of "
        "NumberOfRvaAndSizes "
        "directories of 8 bytes, of which there are 16 at most. What is longer or shorter is refused.",
        "count the data directories, and set both fields",
    ),
    Rule(
        "BB-L523",
        "section headers do not fit into SizeOfHeaders",
        "The table ends within SizeOfHeaders, and that is less than SizeOfImage. A tool that adds a "
        "section uses up "
        "the space behind the table.",
        "leave room: raise SizeOfHeaders and move what follows, or add fewer sections",
    ),
    Rule(
        "BB-L524",
        "the file ends too early",
        "The headers, every section's SizeOfRawData bytes from PointerToRawData on, and the certificate "
        "table "
        "lie in the file.",
        "find out where the rest of the file was lost",
    ),
    Rule(
        "BB-L525",
        "a section inside the headers",
        "What has data lies, in the file and in memory, behind SizeOfHeaders.",
        "set VirtualAddress and PointerToRawData to SizeOfHeaders or more",
    ),
    Rule(
        "BB-L526",
        "not an application",
        "Firmware's boot manager starts subsystem 10; 11 and 12 are drivers, which LoadImage takes, but "
        "no boot "
        "option; no other is UEFI's.",
        "set Subsystem to 10",
    ),
    Rule(
        "BB-L527",
        "a section outside the image",
        "Sections end within SizeOfImage, which is what memory is taken for. "
        + _EDK2
        + "It refuses a section "
        "with data that ends behind it; one that is all zeros, or of VirtualSize 0, it writes behind its "
        "memory.",
        "set SizeOfImage to the end of the last section, rounded up to SectionAlignment",
    ),
    Rule(
        "BB-L528",
        "SectionAlignment",
        "It is a power of two, and every VirtualAddress a multiple of it. EDK2 refuses 0, takes any "
        "other, and "
        "looks at no VirtualAddress; where it protects memory, that is by SectionAlignment alone.",
        "align sections to 4096 bytes, and say so",
    ),
    Rule(
        "BB-L529",
        "an image that cannot be moved",
        "With IMAGE_FILE_RELOCS_STRIPPED it is loaded at ImageBase or not at all, and what memory is free "
        "there "
        "differs from one firmware to the next. shim refuses every such file.",
        "clear bit 0 of Characteristics, with base relocations or with code that needs none",
    ),
    Rule(
        "BB-L530",
        "broken base relocations",
        "The directory lies in the image, its blocks have a size and end in it, what they change lies in "
        "the image, and their types are those of x86. EDK2 reads the blocks only when it loads an image "
        "elsewhere than at ImageBase.",
        "write .reloc anew, or make a directory of no size",
    ),
    Rule(
        "BB-L531",
        "the entry is in no section",
        "AddressOfEntryPoint is relative to where the image is loaded. "
        + _EDK2
        + "It goes to address 0 if that is "
        "outside the image, and to whatever is in memory if it is in no section.",
        "set AddressOfEntryPoint to code in an executable section",
    ),
    Rule(
        "BB-L532",
        "sections overlap in memory",
        "Sections are copied one after the other, each up to its VirtualSize, so that of two that overlap "
        "the last is "
        "whole. Not seen in the file; objcopy --change-section-vma and ukify with old stubs made such files.",
        "give each section a VirtualAddress behind the VirtualAddress + VirtualSize of the one before",
    ),
    Rule(
        "BB-L533",
        "broken debug directory",
        _EDK2
        + "It follows the directory as far as an entry of type CODEVIEW, in the file and then in memory.",
        "strip the debug directory, or write it anew",
    ),
    Rule(
        "BB-L534",
        "entered where memory is not executable",
        "Where firmware protects images (PcdImageProtectionPolicy) sections that are executable and not "
        "writable "
        "are, and everything else of the image is data: also a section that is both.",
        "let AddressOfEntryPoint lie in a section that is executable and not writable",
    ),
    Rule(
        "BB-L535",
        "no memory for the image",
        "SizeOfImage, and SectionAlignment where that is more than a page, is taken in one piece.",
        "set SizeOfImage to what the image needs: more can be allocated once it runs; or ask for more memory "
        "(`[boot] memory`, `--memory`)",
    ),
    Rule(
        "BB-L536",
        "broken resource directory",
        _EDK2 + "It looks for a resource `HII`, and for each thing within the directory's size.",
        "make the directory one of no size",
    ),
    Rule(
        "BB-L537",
        "a section that shim cannot place",
        _SHIM
        + "Every section that is readable and not discardable has a size, lies in the image, and has data "
        "behind the headers unless it is marked as uninitialized.",
        "give empty sections IMAGE_SCN_MEM_DISCARDABLE, or leave them out",
    ),
    Rule(
        "BB-L538",
        "shim does not find the entry in one section",
        _SHIM + "Exactly one readable section holds AddressOfEntryPoint, which is not the last byte of it.",
        "let sections not overlap, and code begin before the last byte of its section",
    ),
    Rule(
        "BB-L539",
        "entered in a section that is discardable",
        _SHIM
        + "It does not copy sections with IMAGE_SCN_MEM_DISCARDABLE, or without IMAGE_SCN_MEM_READ: their "
        "memory holds anything.",
        "clear the flag: .reloc alone may have it",
    ),
    Rule(
        "BB-L540",
        "relocation section that shim does not believe",
        _SHIM
        + "There is at most one section `.reloc`, with data, and directory 5 begins where it begins and ends "
        "in it; and there are at least 6 directories, in any case.",
        "let directory 5 be that of the section .reloc",
    ),
    Rule(
        "BB-L541",
        "sections that shim cannot hash",
        _SHIM
        + "Data of all sections and the headers is not more than the file. Where there is a certificate "
        "table, it is the end of the file, and nothing but it and other data of the file is behind the "
        "sections.",
        "let sections not share data of the file; remove a certificate table before adding a section",
    ),
    Rule(
        "BB-L542",
        "SBAT that shim does not take",
        _SHIM
        + "With Secure Boot on it wants one section `.sbat`, without relocations, whose data is not less "
        "than its VirtualSize, with rows of six fields (SBAT.md).",
        "add a section .sbat; target efi writes one",
    ),
    Rule(
        "BB-L543",
        "kernel of the EFI handover protocol",
        "systemd's stub starts a kernel with MajorImageVersion 0, that is of Linux 5.7 or older, by the "
        "handover "
        "protocol, which wants a setup header of version 2.11 or more, and goes to the entry that it names.",
        "set MajorImageVersion to 1, if the kernel asks for its initrd by LINUX_EFI_INITRD_MEDIA_GUID",
    ),
    Rule(
        "BB-L544",
        "a kernel without sections",
        "systemd's stub wants one at least.",
        "make a section of the kernel's code",
    ),
    Rule(
        "BB-L545",
        "FileAlignment is odd",
        _SHIM + "It looks for a multiple of 2.",
        "set FileAlignment to 512",
    ),
    Rule(
        "BB-L546",
        "not made for memory that is not executable",
        "shim wants NX_COMPAT where its MokPolicy says so, and where firmware protects memory as "
        "Microsoft demands it; "
        "then it refuses every section that is writable and executable.",
        "set IMAGE_DLLCHARACTERISTICS_NX_COMPAT (0x100), and keep code and data apart",
    ),
    Rule(
        "BB-L547",
        "base relocations that nobody applies",
        _STUB
        + "It relocates nothing, and refuses a kernel whose directory 5 has a size: Linux is built without. "
        "An application of target efi has such a directory, which shim asks for.",
        "build position-independent code without .reloc, or start it without that stub",
    ),
    Rule(
        "BB-L548",
        "more data than VirtualSize",
        _STUB
        + "It wants no section whose SizeOfRawData is more than its VirtualSize; firmware cuts the data.",
        "set VirtualSize to SizeOfRawData at least, as Linux does",
    ),
    Rule(
        "BB-L549",
        "relocations of an object in an image",
        _STUB + "It wants no section with a PointerToRelocations.",
        "set PointerToRelocations to 0: only object files have such relocations",
    ),
    Rule(
        "BB-L550",
        "memory that nobody clears",
        _STUB
        + "It clears what a section has beyond its data, but not a section without data: that holds whatever "
        "was in memory.",
        "let .bss be the end of a section with data, or clear it in the kernel",
    ),
)

(
    NOT_PE,
    MACHINE,
    OPTIONAL_HEADER,
    HEADER_SPACE,
    TRUNCATED,
    IN_HEADERS,
    SUBSYSTEM,
    OUTSIDE,
    ALIGNMENT,
    FIXED,
    RELOCATIONS,
    ENTRY,
    OVERLAP,
    DEBUG,
    PROTECTED,
    MEMORY,
    RESOURCES,
    UNPLACED,
    SHIM_ENTRY,
    DISCARDED,
    SHIM_RELOC,
    HASH,
    SBAT,
    HANDOVER,
    NO_SECTIONS,
    FILE_ALIGNMENT,
    NX_COMPAT,
    MOVED_KERNEL,
    MORE_DATA,
    OBJECT,
    NOT_CLEARED,
) = (rule.id for rule in RULES)
