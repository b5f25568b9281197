"""The rules of laying out and writing an image (BB-W0nn): what is refused, and what every image must be."""

from __future__ import annotations

from bootbuild.model.rule import Rule

SAFE_SUBSET = "the subset on which Xen's libelf, QEMU and rust-vmm's linux-loader agree (docs/design.md)"
DEFECT = "this is a defect of bootbuild or of a library: report it with the payload's `readelf -hlnW`"

# What is refused before a byte is written.

LINKED_MAPPING = Rule(
    "BB-W001",
    "Stub cannot be mapped beside the kernel",
    "The stub has the kernel's p_vaddr - p_paddr, which must be whole pages. A 64-bit kernel linked "
    "elsewhere than it is loaded is entered through page tables of 2 MiB pages: there it must be a multiple "
    "of 2 MiB, the range at most 1 GiB, outside the first 4 GiB.",
    "link the kernel so that its virtual and physical addresses agree modulo 2 MiB",
)
NO_ROOM = Rule(
    "BB-W002",
    "No room for the stub below 4 GiB",
    "Stubs are entered in 32-bit mode and lie behind the kernel's last physical address, below 4 GiB; "
    "64-bit ones of the small code model below 2 GiB.",
    "load the kernel at a lower physical address",
)
VIRTUAL_CLASH = Rule(
    "BB-W003",
    "Stub's linked addresses are taken",
    "The stub has the VA-PA difference of the segment that holds the startup path; that range must be "
    "free and must not wrap.",
    "move the segment that is linked behind the kernel",
)
LMA_IS_VMA = Rule(
    "BB-W009",
    "Kernel that would be loaded above 4 GiB",
    "Loaders copy a segment to its p_paddr. Without AT() a linker makes it equal to p_vaddr, which for "
    "a kernel in the upper half is no memory: Xen refuses it for PVH, QEMU wraps, linux-loader cannot read.",
    "give `paddr_offset` in [payload] (0xffffffff80000000 for most), or AT() in the linker script",
)
NOTE_CLASH = Rule(
    "BB-W004",
    "Two targets write the same note",
    "Of two notes of one owner and type Xen takes the last, QEMU and linux-loader the first.",
    "put the targets into images of their own: leave one out of [output] combine",
)
NOTE_CONTENTS = Rule(
    "BB-W005",
    "Note that cannot be written",
    "A note has an ASCII owner, a 32-bit type, and constants of the file for contents: bytes, or the address "
    "(4 or 8 bytes) of a symbol that one of the target's own stubs exports.",
    "correct the target's NoteSpec, or export the symbol",
)
WRONG_CONTAINER = Rule(
    "BB-W006",
    "Target needs another container",
    "An image is one file of one format; every target in it must be able to live in that format.",
    "put the target into an image of its own: leave it out of [output] combine",
)
NO_STARTUP = Rule(
    "BB-W007",
    "Startup path outside the kernel",
    "The startup path is code of the payload: its address lies in a PT_LOAD that is executable.",
    "name a symbol or linked address of the kernel's code as `startup`",
)
DOUBLE_TARGET = Rule(
    "BB-W008",
    "One target twice in an image",
    "An image says of each target once what it is.",
    "name the target once in [output] combine",
)

FILE_TOO_LARGE = Rule(
    "BB-W011",
    "Image too large for ELF32",
    "p_offset has 32 bits in ELF32: what is added behind the payload's bytes lies below 4 GiB in the file.",
    "strip the debug sections, or ask for `elf_class = 64` in [payload]",
)

NO_FRONT = Rule(
    "BB-W012",
    "No room at the start of the file",
    "Multiboot loaders read the first 8 KiB (version 1) or 32 KiB (version 2) of a file, and have to find "
    "their header and all program headers in it. The file is laid out anew where its own bytes leave no "
    "room, unless the header is the payload's own.",
    "link the kernel with fewer segments; or, where its own header stays, with the first PT_LOAD behind the "
    "program headers and without relocation sections; or leave the target out of [output] combine",
)
CLASS_CLASH = Rule(
    "BB-W013",
    "Targets that cannot be in one file",
    "A file has one ELF class and one e_entry. QEMU takes nothing but ELF32 for Multiboot 1, Xen PV nothing "
    "but ELF64; a target without another way to name its entry is entered at e_entry.",
    "put the targets into images of their own: leave one out of [output] combine",
)
HEADER_CONTENTS = Rule(
    "BB-W014",
    "Header that cannot be filled in",
    "What is filled into a file header is the address of a symbol that a stub of the same target exports.",
    "correct the target's HeaderSpec, or export the symbol",
)
NOT_FLAT = Rule(
    "BB-W015",
    "Kernel that cannot be loaded as one piece",
    "A loader that finds addresses in a header loads one piece of the file, from the header on, and reads "
    "nothing as ELF. So there are not more than 256 MiB of zeros between the segments, and the file's "
    "head, up to 8 KiB, lies below the first of them and above 1 MiB.",
    "leave the addresses out (`addresses = false`), or link or `load` the kernel at 2 MiB or above",
)

ENTRY_NOWHERE = Rule(
    "BB-W016",
    "e_entry in no segment",
    "GRUB's Multiboot commands want e_entry inside a segment, also where the header names another entry: "
    "`entry point isn't in a segment`. A physical address is replaced by the linked one of the same "
    "instruction, but it has to be one of the kernel's.",
    "link the kernel with an ENTRY that a PT_LOAD holds",
)

# What is checked in every image after writing.

HEADER_CHANGED = Rule(
    "BB-W020",
    "ELF header changed where nobody asked",
    "An edit sets e_entry, e_phoff and e_phnum; all else is the payload's.",
    DEFECT,
)
ENTRY_WRONG = Rule(
    "BB-W021",
    "Wrong e_entry",
    "e_entry stays as it is when it is at least 1 MiB; linux-loader refuses less, so then it is the stub.",
    DEFECT,
)
SEGMENT_CHANGED = Rule(
    "BB-W022",
    "Payload's program header changed or missing",
    "Every program header but PT_NOTE, PT_PHDR and PT_NULL is kept to the bit, in its order. A PT_LOAD that "
    "brings the ELF header into memory is there in two parts, the first of a copy with the payload's header.",
    DEFECT,
)
BYTES_CHANGED = Rule(
    "BB-W023",
    "Payload's bytes changed",
    "Everything behind the ELF header, section headers and symbols too, stays at its offset, byte for byte; "
    "a copy of what is loaded with the ELF header is one.",
    DEFECT,
)
NOTE_SEGMENT = Rule(
    "BB-W024",
    "Not exactly one PT_NOTE of p_align 4",
    f"linux-loader reads the last PT_NOTE only, QEMU dies of p_align 0 and misreads 8; {SAFE_SUBSET}.",
    DEFECT,
)
NOTE_BYTES = Rule(
    "BB-W025",
    "Notes other than asked",
    "The PT_NOTE holds the layout's notes, byte for byte, and reads back as those notes.",
    DEFECT,
)
SEGMENT_MISSING = Rule(
    "BB-W026",
    "Inserted segment other than asked",
    "Each segment of the layout is in the file once, with its addresses, sizes, flags and bytes; no other.",
    DEFECT,
)
SEGMENT_OVERLAP = Rule(
    "BB-W027",
    "Inserted segment overlaps another",
    "PT_LOADs share no physical address, and new contents share no byte of the file.",
    DEFECT,
)
INCONGRUENT = Rule(
    "BB-W028",
    "Segment's offset and address disagree",
    "p_offset and p_vaddr agree modulo p_align, a power of two (System V gABI chapter 5).",
    DEFECT,
)
TABLE_OVERLAP = Rule(
    "BB-W029",
    "Program header table over other contents",
    "The moved table lies in the file behind the payload, apart from every segment's bytes.",
    DEFECT,
)
UNSAFE_NOTES = Rule(
    "BB-W030",
    "Notes on which loaders disagree",
    f"PHYS32_ENTRY comes first, with 4 or 8 bytes; every note begins at a multiple of 4; {SAFE_SUBSET}.",
    "correct the target's notes",
)
UNREADABLE = Rule(
    "BB-W031",
    "Written file cannot be read back",
    "The image is read again by pyelftools, which shares no code with what wrote it.",
    DEFECT,
)
HEADER_MISSING = Rule(
    "BB-W032",
    "Header that its loader does not find",
    "The first place at which a loader finds the magic number of its header, at the alignment and within the "
    "limit that it searches, is the header that was written, byte for byte.",
    DEFECT,
)
ADDRESSES_WRONG = Rule(
    "BB-W033",
    "Addresses in a header that load something else",
    "What a header's addresses say is loaded has every PT_LOAD's bytes at its p_paddr, zeros between, and an "
    "end that is not below that of the last.",
    DEFECT,
)

RULES = (
    LINKED_MAPPING,
    NO_ROOM,
    VIRTUAL_CLASH,
    LMA_IS_VMA,
    NOTE_CLASH,
    NOTE_CONTENTS,
    WRONG_CONTAINER,
    NO_STARTUP,
    DOUBLE_TARGET,
    FILE_TOO_LARGE,
    NO_FRONT,
    CLASS_CLASH,
    HEADER_CONTENTS,
    NOT_FLAT,
    HEADER_CHANGED,
    ENTRY_WRONG,
    SEGMENT_CHANGED,
    BYTES_CHANGED,
    NOTE_SEGMENT,
    NOTE_BYTES,
    SEGMENT_MISSING,
    SEGMENT_OVERLAP,
    INCONGRUENT,
    TABLE_OVERLAP,
    UNSAFE_NOTES,
    UNREADABLE,
    HEADER_MISSING,
    ADDRESSES_WRONG,
)
