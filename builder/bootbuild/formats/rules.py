"""The rules that an input file must keep (BB-E0nn). What breaks one is never built from."""

from __future__ import annotations

from bootbuild.model.rule import Rule

GABI = "System V gABI chapters 4 and 5, ELF-64 Object File Format 1.5"

NOT_ELF = Rule(
    "BB-E001",
    "Not an ELF file",
    f"An ELF file begins with 7f 45 4c 46 and sixteen bytes of e_ident ({GABI}).",
    "name a vmlinux, another ELF kernel, or a bzImage",
)
TRUNCATED_HEADER = Rule(
    "BB-E002",
    "File ends inside the ELF header",
    f"The header is 52 bytes in ELF32 and 64 in ELF64 ({GABI}); nothing behind it can be found without it.",
    "copy the file again: it is truncated",
)
ENCODING = Rule(
    "BB-E003",
    "ELF class, byte order or version not of x86",
    f"EI_CLASS is 1 or 2, EI_DATA is 1 (little endian) and both versions are 1 ({GABI}; x86 psABI 4.1).",
    "build the kernel for x86",
)
MACHINE = Rule(
    "BB-E004",
    "Machine other than x86",
    "x86 loaders take ELF32 with e_machine EM_386 and ELF64 with EM_X86_64 (Xen libelf elf_init and "
    "arch checks, GRUB loader/multiboot_elfxx.c, rust-vmm linux-loader elf.rs).",
    "build the kernel for i386 or x86-64",
)
FILE_TYPE = Rule(
    "BB-E005",
    "ELF file that is not linked",
    f"Only ET_EXEC and ET_DYN have a loadable form ({GABI}); ET_REL and ET_CORE have not.",
    "link the kernel; name vmlinux, not vmlinux.o",
)
HEADER_SIZES = Rule(
    "BB-E006",
    "Wrong size of an ELF header",
    f"e_ehsize and e_phentsize (and e_shentsize where there are sections) are fixed by the class ({GABI}); "
    "loaders that step by sizeof and loaders that step by the field would read different tables.",
    "make the file again with a linker",
)
PHDR_COUNT = Rule(
    "BB-E007",
    "No program headers, or too many",
    "Without program headers a loader has nothing to load. bootbuild reads at most 1024 and no PN_XNUM: "
    "no boot loader knows that extension.",
    "link the kernel with a PHDRS command or the linker's default",
)
PHDR_TABLE = Rule(
    "BB-E008",
    "Program header table outside the file",
    "Xen refuses with 'ELF: phdr overflow' (libelf-loader.c elf_init).",
    "copy the file again: it is truncated or damaged",
)
SHDR_TABLE = Rule(
    "BB-E009",
    "Section header table outside the file",
    "Xen refuses with 'ELF: shdr overflow' (libelf-loader.c elf_init); it is also how a truncated kernel "
    "is recognised. e_shstrndx must name one of the sections.",
    "copy the file again: it is truncated or damaged",
)
SEGMENT_FILE = Rule(
    "BB-E010",
    "Segment outside the file",
    f"p_offset + p_filesz is at most the size of the file ({GABI}); loaders read that range.",
    "copy the file again: it is truncated or damaged",
)
SEGMENT_SIZE = Rule(
    "BB-E011",
    "Segment larger in the file than in memory",
    f"p_filesz may not exceed p_memsz of a PT_LOAD ({GABI} chapter 5).",
    "correct the linker script",
)
ADDRESS_WRAP = Rule(
    "BB-E012",
    "Segment addresses wrap",
    "p_vaddr + p_memsz and p_paddr + p_memsz of a PT_LOAD stay within the address width of the class.",
    "correct the linker script",
)
NO_LOAD = Rule(
    "BB-E013",
    "No PT_LOAD segment that takes up memory",
    "A loader copies PT_LOAD segments and nothing else; an image without one starts in empty memory.",
    "link the kernel with at least one loaded segment",
)
LOAD_OVERLAP = Rule(
    "BB-E014",
    "PT_LOAD segments overlap in physical memory",
    "Which bytes win depends on the loader: QEMU cuts the zeroed part (elf_ops.h.inc), Xen and rust-vmm "
    "copy in table order.",
    "give the segments disjoint load addresses (AT() in the linker script)",
)
NOTE_MALFORMED = Rule(
    "BB-E015",
    "Malformed ELF note",
    "Name and contents of each note lie inside their PT_NOTE, padded to 4 bytes (Xen libelf elf_note_next; "
    "8 with p_align 8 by the gABI). Xen gives up a file with more than 65536 notes.",
    "correct the note section: `.balign 4` after the name and after the contents",
)
SYMBOL_TABLE = Rule(
    "BB-E016",
    "Symbol table unreadable",
    f"There is one .symtab; it and its string table lie inside the file, with entries of the class's size "
    f"({GABI}). bootbuild reads at most 2 million symbols.",
    "copy the file again, or remove the table with `strip` and give startup as an address",
)
SYSTEM_MAP = Rule(
    "BB-E017",
    "Not a System.map",
    "Each line is `address type name` as nm(1) prints it; Linux's scripts/mksysmap makes it.",
    "name the System.map of this very kernel",
)
NOTE_CLAIM = Rule(
    "BB-E018",
    "Malformed bootbuild note",
    "A note of owner `bootbuild` says what an image claims to be (docs/handover.md); it has one exact form.",
    "build the image again",
)
CARRIED = Rule(
    "BB-E019",
    "Application that carries more than it hands over",
    "The stub of a UEFI application has room for 8192 bytes of command lines, those of modules and the NUL "
    "of each included, and for 32 modules (docs/efi.md). bootbuild writes no more; with more it starts "
    "nothing.",
    "build the image again",
)
BZIMAGE_HEADER = Rule(
    "BB-E020",
    "Damaged or too old bzImage header",
    "`HdrS` at 0x202 and protocol 2.08 or newer, which brought payload_offset and payload_length "
    "(Linux Documentation/arch/x86/boot.rst).",
    "name a bzImage of Linux 2.6.26 or newer, or its vmlinux",
)
BZIMAGE_PAYLOAD = Rule(
    "BB-E021",
    "Compressed kernel outside the bzImage",
    "payload_offset counts from the protected-mode code at (setup_sects + 1) * 512, and payload_length "
    "bytes from there lie in the file (boot.rst).",
    "copy the file again: it is truncated or damaged",
)
COMPRESSION = Rule(
    "BB-E022",
    "Compression that bootbuild cannot undo",
    "The magic of the payload is one of gzip, bzip2, lzma, xz, lzo (lzop's files; the extra `lzo` brings the "
    "library), lz4 (legacy frames) or zstd (boot.rst, payload_offset; Linux lib/decompress.c).",
    "name the vmlinux, or unpack it with the kernel's scripts/extract-vmlinux",
)
COMPRESSED_DATA = Rule(
    "BB-E023",
    "Damaged compressed kernel",
    "The payload unpacks without error to exactly the size in its last four bytes (Linux "
    "scripts/Makefile.lib size_append; gzip's own ISIZE).",
    "copy the file again: it is truncated or damaged",
)
UNPACKED_SIZE = Rule(
    "BB-E024",
    "Unpacked kernel too large",
    "bootbuild unpacks at most 512 MiB to at most 1 GiB, so that a hostile file cannot take all memory.",
    "name the vmlinux",
)
BZIMAGE_CHECKSUM = Rule(
    "BB-E025",
    "Checksum of the bzImage does not hold",
    "The CRC-32 of a bzImage, up to where syssize says that it ends, is 0 (boot.rst, The Image Checksum; "
    "Linux up to 6.15, and bootbuild). Nothing else tells of a bit that is wrong in a kernel packed by LZ4, "
    "and no loader looks at it. What signing has changed in the PE header does not count.",
    "copy the file again: it is damaged; a tool that changes the header has to make the checksum anew",
)
BZIMAGE_INIT_SIZE = Rule(
    "BB-E026",
    "init_size smaller than the kernel",
    "From where the kernel is put, init_size bytes are its own until it has read the memory map (boot.rst, "
    "init_size). What the file has of its segments is written there by the kernel's own decompressor. A "
    "loader that has put anything behind init_size loses it; most machines have room there, and boot.",
    "set init_size (0x260) to what the kernel's build had",
)
UNKNOWN_FORMAT = Rule(
    "BB-E030",
    "Unknown kernel format",
    "A payload is an ELF file (7f 45 4c 46), a bzImage (`HdrS` at 0x202), or with `load` a flat binary.",
    "name a vmlinux, another ELF kernel or a bzImage; a flat binary needs `load` in [payload]",
)
UNREADABLE = Rule(
    "BB-E031",
    "File cannot be read",
    "Inputs are regular files: they are read in pieces, by offset, more than once.",
    "check the path and its permissions",
)

RELOCATION = Rule(
    "BB-E040",
    "Kernel that cannot be relocated",
    "An ET_DYN kernel is a static PIE: no loader of kernels applies relocations, so bootbuild does; it knows "
    "the relative ones (R_X86_64_RELATIVE, R_386_RELATIVE, RELR). It lies below 4 GiB wherever it is put.",
    "link with `-static-pie -Wl,-z,text` and no undefined symbols, or as ET_EXEC with `-no-pie`",
)
DYNAMIC = Rule(
    "BB-E041",
    "Dynamic table unreadable",
    f"There is at most one PT_DYNAMIC; its relocation tables lie in the bytes of one PT_LOAD, with entries "
    f"of the class's size ({GABI}). bootbuild applies at most a million (2^20) relocations.",
    "copy the file again: it is truncated or damaged",
)
RAW = Rule(
    "BB-E042",
    "Raw kernel that does not fit its addresses",
    "A flat binary is loaded at `load`, physical, with `bss` bytes of zeros behind it, all below 4 GiB, and "
    "is entered inside its bytes.",
    "correct `load`, `entry` or `bss` in [payload]",
)
UNREAD_OPTION = Rule(
    "BB-E043",
    "Option that this payload does not read",
    "`load` places raw kernels and ET_DYN; `entry` and `bss` belong to raw ones, which cannot say them.",
    "remove the key, or name the payload that it was meant for",
)
CLASS = Rule(
    "BB-E044",
    "Kernel that does not fit the other ELF class",
    "ELF32 has 32-bit addresses, sizes and file offsets: what is linked, loaded or that long needs ELF64.",
    "leave `elf_class` out",
)
PADDR_OFFSET = Rule(
    "BB-E045",
    "paddr_offset does not fit the kernel",
    "`paddr_offset` is what every PT_LOAD's p_vaddr lies above its load address; it mends kernels linked "
    "without AT(), so that p_paddr = p_vaddr. Loaders copy to p_paddr.",
    "give the difference between linked and load address, 0xffffffff80000000 for most 64-bit kernels",
)

EDITOR = Rule(
    "BB-W010",
    "ELF editor did not do what it was asked",
    "LIEF adds the segments and moves the program header table; it reports failure by returning nothing.",
    "report this, with the payload's `readelf -hlW`; another version of lief may help",
)

RULES = (
    NOT_ELF,
    TRUNCATED_HEADER,
    ENCODING,
    MACHINE,
    FILE_TYPE,
    HEADER_SIZES,
    PHDR_COUNT,
    PHDR_TABLE,
    SHDR_TABLE,
    SEGMENT_FILE,
    SEGMENT_SIZE,
    ADDRESS_WRAP,
    NO_LOAD,
    LOAD_OVERLAP,
    NOTE_MALFORMED,
    SYMBOL_TABLE,
    SYSTEM_MAP,
    NOTE_CLAIM,
    CARRIED,
    BZIMAGE_HEADER,
    BZIMAGE_PAYLOAD,
    COMPRESSION,
    COMPRESSED_DATA,
    UNPACKED_SIZE,
    BZIMAGE_CHECKSUM,
    BZIMAGE_INIT_SIZE,
    UNKNOWN_FORMAT,
    UNREADABLE,
    RELOCATION,
    DYNAMIC,
    RAW,
    UNREAD_OPTION,
    CLASS,
    PADDR_OFFSET,
    EDITOR,
)
