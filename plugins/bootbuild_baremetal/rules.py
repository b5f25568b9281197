"""Rules of Multiboot: what a header must say, and what cannot be in one image with it."""

from __future__ import annotations

from bootbuild.api import Rule

NO_ROUTE = Rule(
    "BB-L301",
    "no way from Multiboot to this guest",
    "The front leaves 32-bit protected mode, the guest's back stub needs another state, and no switch leads "
    "from the one to the other. Computed from what both declare.",
    "choose another guest protocol, width or target",
)
NO_ENTRY = Rule(
    "BB-L302",
    "no Multiboot header",
    "A Multiboot loader searches for its header: version 1 at multiples of 4 in the file's first 8192 bytes, "
    "version 2 at multiples of 8 in the first 32768. Without one GRUB says `no multiboot header found.`",
    'insert an entry with `entry = "insert"`, or link the header first (`KEEP(*(.multiboot))`)',
)
NO_CHAIN = Rule(
    "BB-L303",
    "nothing to do before a Multiboot entry",
    "A chained stub does what a loader left undone before the kernel's own entry, and Multiboot loaders "
    "leave nothing undone: they zero .bss, and hand over what the kernel's own header asks for.",
    'use the kernel\'s own entry (`entry = "native"`), or `entry = "insert"`',
)
CHECKSUM = Rule(
    "BB-L304",
    "Multiboot header with a wrong checksum",
    "Magic number, flags and checksum of version 1, or magic number, architecture, length and checksum of "
    "version 2, add up to 0 modulo 2^32. Other words are no header to a loader, which searches on.",
    "make the checksum -(magic + flags), or -(magic + architecture + header_length)",
)
PAST_LIMIT = Rule(
    "BB-L305",
    "Multiboot header too far into the file",
    "All of a header lies in the first 8192 bytes of the file (version 1), or 32768 (version 2).",
    "link the header's section first, before all code; `ld -n` or a smaller max-page-size move it forward",
)
UNALIGNED = Rule(
    "BB-L306",
    "Multiboot header between two places",
    "A loader looks at multiples of 4 (version 1) or 8 (version 2) of the file's bytes.",
    "align the header's section (`.balign 8`)",
)
UNTERMINATED = Rule(
    "BB-L307",
    "Multiboot2 header without an end",
    "Each tag begins at a multiple of 8 with type, flags and a size of at least 8, and one of type 0 and "
    "size 8 comes last, inside header_length. GRUB does not heed the length, and reads on in what follows.",
    "align every tag (`.balign 8`), and end them with one of type 0, flags 0, size 8",
)
UNKNOWN = Rule(
    "BB-L308",
    "Multiboot header that asks for something unknown",
    "A loader that does not know a required tag (flag bit 0 clear) or one of the flags 0 to 15 of version 1 "
    "has to refuse the kernel: GRUB says `unsupported tag: 0x7777.` or `unsupported flag: 0x8003.`",
    "make the tag optional (flags 1), or leave it out",
)
ADDRESSES = Rule(
    "BB-L309",
    "Multiboot address fields that contradict each other",
    "load_addr <= header_addr, which stands as far behind load_addr as the header in the file behind what is "
    "loaded; load_addr <= entry_addr < load_end_addr <= bss_end_addr; all of it in the file. The address tag "
    "of version 2 needs an entry address tag beside it.",
    "compute the fields from the linker's symbols; an ELF file needs none of them",
)
NOT_LOADED = Rule(
    "BB-L310",
    "ELF file that a Multiboot loader does not load",
    "GRUB reads program headers in the first 8192 bytes of the file (version 1) or 32768 (version 2), wants "
    "e_entry in a PT_LOAD by its p_vaddr, and loads nothing above 4 GiB: `program header at a too high "
    "offset`, `entry point isn't in a segment`, `segment crosses 4 GiB border`.",
    'correct the linker script, or insert an entry with `entry = "insert"`, which arranges all of this',
)
SHADOWED = Rule(
    "BB-L311",
    "QEMU takes the Multiboot header before the PVH note",
    "QEMU's -kernel looks for a Multiboot 1 header first, and looks at no note of a file that has one "
    "(hw/i386/x86.c, load_multiboot). Such an image is never started by PVH there.",
    'name profiles without QEMU\'s in [targets.pvh], such as `profiles = ["xen-domu", "firecracker"]`, or '
    "leave one of the two targets out of [output] combine",
)
UNREAD = Rule(
    "BB-L312",
    "key of an inserted header beside a kernel's own",
    "Every key but `entry` and `profiles` is written into a header, or decides the file around it. A "
    "kernel's own header says for itself what it asks of its loader.",
    'leave the key out, or insert an entry with `entry = "insert"`',
)

LOW_LINKED = Rule(
    "BB-L313",
    "a kernel linked where the firmware's page tables map",
    "While EFI boot services are alive the firmware's page tables stay in force, which map the lower half "
    "one to one. Other addresses than those can be given to a kernel in the upper half only.",
    "link the kernel in the upper half, or where it is loaded; or leave boot_services out",
)

UNMOVABLE = Rule(
    "BB-L336",
    "a kernel that its loader must not move",
    "With the relocatable tag (Multiboot2 §3.1.12) a loader puts the kernel where it likes. Every word that "
    "holds an address must be known, so that a stub can mend it: a static PIE's are. It runs where it is "
    "loaded, below 2 GiB, which is what 64-bit code of the small model reaches. A 64-bit Linux maps itself "
    "from wherever it lies: no word of it has to be known.",
    "link it as a static PIE (`-static-pie`, or `ld -pie --no-dynamic-linker -z text`); or leave "
    "relocatable out",
)
GUEST_STAYS = Rule(
    "BB-L337",
    "a guest protocol that knows nothing of being moved",
    "What a back stub tells its kernel, and what is judged there, may be addresses that were fixed when the "
    "image was built. Only a guest that says of itself that it is `movable` has none but those that are "
    "mended when the image has been moved.",
    "choose guest native; or leave relocatable out",
)
BOUNDS = Rule(
    "BB-L338",
    "relocatable tag that no loader can keep",
    "Multiboot2 §3.1.12: the kernel lies from min_addr to max_addr, at a multiple of align, which is a "
    "power of two; preference is 0 (none), 1 (lowest) or 2 (highest). GRUB takes another preference for "
    "none, and with another alignment puts the kernel at no multiple of it.",
    "correct the tag; 4096 is an alignment that all kernels have",
)

RULES = (
    NO_ROUTE,
    NO_ENTRY,
    NO_CHAIN,
    CHECKSUM,
    PAST_LIMIT,
    UNALIGNED,
    UNTERMINATED,
    UNKNOWN,
    ADDRESSES,
    NOT_LOADED,
    SHADOWED,
    UNREAD,
    LOW_LINKED,
    UNMOVABLE,
    GUEST_STAYS,
    BOUNDS,
)
