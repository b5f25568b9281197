"""What a loader can hold against a file, under ids that its verdicts name."""

from __future__ import annotations

from bootbuild.api import Rule

_XEN = "Xen reads it in libelf-dominfo.c, for its dom0 as for xl's domains. "

RULES = (
    Rule(
        "BB-L101",
        "no kernel of a kind that the loader knows",
        "The file has neither the magic of ELF nor another header that this loader looks for.",
        "give it an ELF kernel, or a bzImage where the loader takes one",
    ),
    Rule(
        "BB-L102",
        "headers reach beyond the file",
        "Program and section headers must lie in the file. Xen adds up e_phoff or e_shoff and all entries, "
        "so that a file which lost its end is refused even though every segment is there.",
        "check that the file is complete; strip the section headers as a whole, never a part of the file",
    ),
    Rule(
        "BB-L103",
        "made for another machine",
        "e_machine, EI_CLASS or EI_DATA say that this is no x86 kernel of a kind that the loader starts.",
        "link for i386 or x86-64, little endian",
    ),
    Rule(
        "BB-L104",
        "no note that the loader looks for",
        "Xen looks for notes of owner Xen in PT_NOTE segments (of p_offset other than 0), then in SHT_NOTE "
        "sections, then, for PV, for a section `__xen_guest`. QEMU and linux-loader see PT_NOTE alone.",
        "put the Xen notes into one PT_NOTE segment, p_align 4; a kernel without any gets them by "
        '`entry = "insert"` in a recipe',
    ),
    Rule(
        "BB-L105",
        "note LOADER is not `generic`",
        _XEN + "A kernel without a PHYS32_ENTRY that is used must say LOADER=generic or GUEST_OS=linux; GRUB "
        "refuses any LOADER but exactly `generic`.",
        "emit the note LOADER with the string `generic`",
    ),
    Rule(
        "BB-L106",
        "note XEN_VERSION is not `xen-3.0`",
        _XEN + "Every version of Xen since 3.0 asks for this string in a PV kernel.",
        "emit the note XEN_VERSION with the string `xen-3.0`",
    ),
    Rule(
        "BB-L107",
        "PADDR_OFFSET without VIRT_BASE",
        _XEN + "An offset between p_paddr and guest memory has no meaning without the base of that memory.",
        "emit VIRT_BASE, or leave PADDR_OFFSET out",
    ),
    Rule(
        "BB-L108",
        "start or entry out of bounds",
        _XEN + "The entry must lie between the lowest and the highest p_paddr (for PV moved by VIRT_BASE - "
        "PADDR_OFFSET); segments without any p_flags do not count, and a PHYS32_ENTRY of 3, 5, 6, 7 or more "
        "than 8 bytes reads as 0.",
        "compare `bootbuild inspect`: p_paddr must be physical, PHYS32_ENTRY inside, VIRT_BASE below",
    ),
    Rule(
        "BB-L109",
        "INIT_P2M lies inside the kernel",
        _XEN + "The list of pages goes where this note says, over the kernel if that is there.",
        "choose an address outside the kernel's own mapping",
    ),
    Rule(
        "BB-L110",
        "unknown required feature",
        _XEN + "A name with `!` that Xen does not know ends the parse without any message. A string without "
        "its NUL runs on into the next note, and may end in such a name.",
        "require only features of xen/include/public/features.h, and end the string by NUL",
    ),
    Rule(
        "BB-L111",
        "no PHYS32_ENTRY",
        "The notes are Xen's and in order, but the one that a PVH start needs is missing.",
        "emit the note PHYS32_ENTRY (type 18) with the physical address of 32-bit code",
    ),
    Rule(
        "BB-L112",
        "not for this kind of domain",
        "With the note SUPPORTED_FEATURES a PV dom0 kernel must set bit 11 (dom0); a kernel that requires "
        "that feature is no domU kernel. No PV dom0 has ring 0, as `!supervisor_mode_kernel` wants.",
        "set bit 11 in SUPPORTED_FEATURES, and write `dom0` without `!` in FEATURES",
    ),
    Rule(
        "BB-L113",
        "32-bit PV kernel",
        "Debian builds Xen without CONFIG_PV32, so that it has no 32-bit PV guests.",
        "boot it as PVH, or use a 64-bit kernel",
    ),
    Rule(
        "BB-L114",
        "HYPERCALL_PAGE outside the domain",
        "The dom0 builder wants the page between VIRT_BASE and the end of what it maps at the start.",
        "put the page into the kernel, or drop the note: Linux did (XSA-466)",
    ),
    Rule(
        "BB-L115",
        "does not fit into the domain",
        "A segment reaches beyond the memory that the domain has, or over addresses that are Xen's own.",
        "link lower, or look for a wrong p_memsz",
    ),
    Rule(
        "BB-L116",
        "xl enters it at e_entry, not at PHYS32_ENTRY",
        "A 32-bit ELF that Xen's parser refuses is taken by libxenguest's loader for HVM firmware, which "
        "knows no notes: it starts as PVH at e_entry, whatever was wrong before.",
        "mend what `xen-libelf` names",
    ),
    Rule(
        "BB-L117",
        "the loader reads a different PHYS32_ENTRY",
        "QEMU pads note names and contents to p_align and looks neither at the owner nor at the size of the "
        "contents, so that it takes other bytes for the address than the note has.",
        "use one PT_NOTE with p_align 4, PHYS32_ENTRY first, 4 or 8 bytes",
    ),
    Rule(
        "BB-L118",
        "p_align 0 on a PT_NOTE kills the loader",
        "QEMU divides by the p_align of a PT_NOTE: it dies of SIGFPE.",
        "set p_align to 4",
    ),
    Rule(
        "BB-L119",
        "the loader reads on behind what it should read",
        "QEMU compares each note's size with the segment's and never their sum, so that it goes on reading "
        "behind the segment, through the file and beyond, until something looks like a note of type 18. Nor "
        "does it notice a p_offset so large that adding p_filesz wraps. Behind the file it mostly dies.",
        "put PHYS32_ENTRY into the first PT_NOTE, as its first note",
    ),
    Rule(
        "BB-L120",
        "e_entry below 1 MiB",
        "rust-vmm's linux-loader refuses an e_entry below the monitor's high memory even where the PVH note "
        "will be used.",
        "set e_entry to 1 MiB or more",
    ),
    Rule(
        "BB-L121",
        "program headers that the loader does not take",
        "linux-loader wants program headers of 56 bytes, hence ELF64, behind the ELF header.",
        "link an ELF64, or have it wrapped as one (`elf_class = 64` in [payload]); or ask a monitor that "
        "takes ELF32",
    ),
    Rule(
        "BB-L122",
        "PHYS32_ENTRY shorter than 4 bytes",
        "linux-loader gives the file up when the contents cannot hold a 32-bit address.",
        "make it 4 or 8 bytes",
    ),
    Rule(
        "BB-L123",
        "segment or note outside the file",
        "p_offset and p_filesz reach beyond the file's end.",
        "check that the file is complete",
    ),
    Rule(
        "BB-L124",
        "segments overlap in memory",
        "QEMU places each segment as a ROM of its own and refuses two at one address.",
        "give each PT_LOAD physical addresses of its own",
    ),
    Rule(
        "BB-L125",
        "a Multiboot header is taken first",
        "QEMU looks for a Multiboot header in the first 8 KiB before it looks for the PVH note (commit "
        "d4cef0c67c), and then never looks for that.",
        "move the Multiboot header out of the first 8 KiB, or leave it out of this image",
    ),
    Rule(
        "BB-L126",
        "Multiboot header in an x86-64 ELF",
        "QEMU starts by Multiboot only what has e_machine other than x86-64, unless the header itself says "
        "where to load (flag 16).",
        "use flag 16 and the address fields, or a 32-bit ELF",
    ),
    Rule(
        "BB-L127",
        "Multiboot addresses contradict each other",
        "With flag 16 the header's own address fields say what is loaded where.",
        "compare header_addr, load_addr, load_end_addr and bss_end_addr with the file",
    ),
    Rule(
        "BB-L128",
        "started by another protocol",
        "The loader takes the file, but not by this protocol: Firecracker starts an ELF without a PVH note "
        "by the 64-bit Linux protocol without a word, QEMU and Cloud Hypervisor start a bzImage by its own.",
        'give an ELF file the note of the protocol that is meant, as `entry = "insert"` in a recipe does; in '
        "place of a bzImage name its vmlinux",
    ),
    Rule(
        "BB-L129",
        "bzImage that the loader does not take",
        "No HdrS, a protocol that is too old, no LOADED_HIGH in loadflags, or a loader that takes ELF alone.",
        "give it the vmlinux instead",
    ),
    Rule(
        "BB-L130",
        "payload of a bzImage cannot be unpacked",
        "payload_offset and payload_length must lie in the file and hold data of a compression that this "
        "loader was built with: Debian's libxenguest knows gzip, xz, lzma, lz4 and zstd.",
        "recompress the kernel, or give the loader the vmlinux",
    ),
    Rule(
        "BB-L131",
        "e_flags bits that QEMU refuses",
        "QEMU takes bits 2 and 16 of e_flags for Multiboot flags that it does not support in an ELF.",
        "clear e_flags",
    ),
    Rule(
        "BB-L132",
        "symbol table of a size that cannot be",
        "QEMU allocates sh_size bytes for the symbol table before it reads them, and aborts when it cannot.",
        "strip the symbol table, or find out what wrote that section header",
    ),
    Rule(
        "BB-L133",
        "not judged",
        "bootbuild cannot find out what the loader does: a compression that no library at hand undoes, "
        "notes that go on without end, or an alignment that is no power of two.",
        "use another compression; correct the alignment",
    ),
    Rule(
        "BB-L134",
        "p_filesz larger than p_memsz",
        "A segment has more bytes in the file than in memory. Xen refuses it in a dom0 kernel; QEMU "
        "takes the difference for a size without sign, and fills the whole address space with zeros.",
        "find out what wrote that program header",
    ),
)

(
    NOT_A_KERNEL,
    HEADERS_OUTSIDE,
    MACHINE,
    NO_NOTES,
    LOADER_NOTE,
    XEN_VERSION,
    VIRT_BASE_UNSET,
    OUT_OF_BOUNDS,
    P2M_BOUNDS,
    UNKNOWN_FEATURE,
    NO_PHYS32_ENTRY,
    DOMAIN_KIND,
    PV32,
    HYPERCALL_PAGE,
    DOES_NOT_FIT,
    HVM_GENERIC,
    MISREAD_ENTRY,
    ALIGN_ZERO,
    RUNS_OUT,
    LOW_ENTRY,
    PHDR_SIZE,
    SHORT_ENTRY,
    SEGMENT_OUTSIDE,
    OVERLAP,
    MULTIBOOT_FIRST,
    MULTIBOOT_64,
    MULTIBOOT_ADDRESSES,
    OTHER_PROTOCOL,
    BZIMAGE,
    PAYLOAD,
    E_FLAGS,
    SYMBOLS,
    NOT_JUDGED,
    FILE_OVER_MEMORY,
) = (rule.id for rule in RULES)
