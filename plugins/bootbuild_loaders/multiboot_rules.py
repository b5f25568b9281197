"""What GRUB can hold against a Multiboot kernel, beside what any loader can: rules.py."""

from __future__ import annotations

from bootbuild.api import Rule

RULES = (
    Rule(
        "BB-L135",
        "no Multiboot header that the loader finds",
        "GRUB looks for Multiboot 1's header in the first 8 KiB of the file, at multiples of 4, and for "
        "that of Multiboot 2 in the first 32 KiB, at multiples of 8. Its three or four words must add up "
        "to 0 in 32 bits, its architecture be 0 (i386), and the file have 32 bytes.",
        "look at offset, alignment and checksum of the header in the *file*; target `multiboot2` of a "
        "recipe adds one",
    ),
    Rule(
        "BB-L136",
        "required flag or tag that the loader does not know",
        "GRUB 2.06 knows bits 0 to 2 and 16 of a Multiboot 1 header. Of Multiboot 2's tags it does not "
        "know 8 (entry for 32-bit EFI), and of what an information request may ask for not 13 (SMBIOS "
        "tables); any version refuses what its specification did not have yet.",
        "set the tag's flag `optional` (bit 0), or do without",
    ),
    Rule(
        "BB-L137",
        "address tag without an entry",
        "With Multiboot 2's address tag GRUB does not look at the ELF headers, nor therefore at e_entry; "
        "the entry for 64-bit EFI does in its place only together with the tag `EFI boot services`, on "
        "EFI.",
        "add the entry address tag",
    ),
    Rule(
        "BB-L138",
        "ELF of a type that is not loaded",
        "GRUB's Multiboot loads ET_EXEC and ET_DYN, the latter at its p_paddr as it is.",
        "link the kernel: an object file (ET_REL) is none yet",
    ),
    Rule(
        "BB-L139",
        "program headers too far into the file",
        "They must lie in the part of the file in which the Multiboot header is searched: the first 8 "
        "KiB, or 32 KiB for Multiboot 2. e_phentsize counts as it stands.",
        "put the program headers behind the ELF header",
    ),
    Rule(
        "BB-L140",
        "e_entry in no segment",
        "GRUB takes e_entry for a virtual address and looks for it in all program headers, even where a "
        "tag names another entry: a kernel linked high whose e_entry is physical is refused.",
        "let e_entry lie between p_vaddr and p_vaddr + p_memsz of a PT_LOAD, or use the address fields",
    ),
    Rule(
        "BB-L141",
        "sections with relocations",
        "GRUB's command multiboot2 refuses an ELF with a section of type SHT_REL or SHT_RELA, also one "
        "whose relocations were applied, as in a static PIE.",
        "strip the section headers (target `multiboot2` of a recipe writes none), or use the address tag",
    ),
    Rule(
        "BB-L142",
        "relocatable tag whose range has no room",
        "max_addr is that of the image's last byte or so, and min_addr + size must not be above it.",
        "compare min_addr, max_addr and the size in memory, from the lowest p_paddr to the highest end",
    ),
    Rule(
        "BB-L143",
        "screen that there is not",
        "A console was required, but EGA text is not to be had on EFI and no framebuffer tag asks for "
        "more; or mode_type of a Multiboot 1 header is neither 0 nor 1.",
        "add a framebuffer tag, or do not require a console",
    ),
    Rule(
        "BB-L144",
        "more section headers than there is low memory",
        "Multiboot 1's information structure lies below 640 KiB, and GRUB copies all section headers into "
        "it. Where they do not fit it says nothing, or that it found no memory, and does not start the "
        "kernel.",
        "strip the section headers",
    ),
    Rule(
        "BB-L145",
        "32-bit entry entered in long mode",
        "With the tag `EFI boot services` GRUB for 64-bit EFI leaves long mode on, and goes to the 32-bit "
        "entry if there is no tag with an entry for it.",
        "add the tag `EFI amd64 entry address`, or leave `EFI boot services` out",
    ),
)

(
    NO_MULTIBOOT,
    UNKNOWN_REQUEST,
    ENTRY_TAG,
    ELF_TYPE,
    FAR_PHDRS,
    ENTRY_OUTSIDE,
    RELOCATIONS,
    RELOCATABLE_RANGE,
    SCREEN,
    MANY_SECTIONS,
    LONG_MODE,
) = (rule.id for rule in RULES)
