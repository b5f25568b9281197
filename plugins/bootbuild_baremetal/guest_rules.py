"""Rules of a Multiboot2 kernel's handover: its information structure, its entry, and what its header asks."""

from __future__ import annotations

from bootbuild.api import Rule

_FIX = "compare the tags in `bootbuild boot --json` with what the environment offered"
_STUB = "mend the back stub (bootbuild_baremetal/stubs) or what runs between it and the startup path"

DEMAND = Rule(
    "BB-H048",
    "Multiboot2 header that demands what cannot be given",
    "A tag of the kernel's header that is not marked optional must be understood and granted (Multiboot2, "
    "3.1.3): a loader that cannot refuses the kernel, and so does the back stub, before anything is built.",
    "mark the tag optional (bit 0 of its flags) if the kernel can do without, or start it by its own entry "
    "from a loader that grants this",
)

RULES = (
    Rule(
        "BB-H040",
        "no Multiboot2 information at the startup path",
        "EAX is 0x36d76289, EBX the physical address of the information structure, a multiple of 8; its "
        "tags follow each other by their sizes up to one of type 0, which ends it (Multiboot2, 3.3 and 3.6).",
        "name the kernel's 32-bit Multiboot2 entry as `startup`",
    ),
    Rule(
        "BB-H041",
        "command line in the Multiboot2 information",
        "Tag 1 holds the environment's command line, byte for byte.",
        _FIX,
    ),
    Rule(
        "BB-H042",
        "modules in the Multiboot2 information",
        "One tag 3 for each of the environment's modules, in its order: the address of its bytes, and its "
        "own command line.",
        _FIX,
    ),
    Rule(
        "BB-H043",
        "memory in the Multiboot2 information",
        "Tag 6 holds the environment's memory map, an inserted entry's in its normal form; tag 4 how much "
        "of it is RAM without a gap from 0 (up to 640 KiB) and from 1 MiB on.",
        _FIX,
    ),
    Rule(
        "BB-H044",
        "ACPI root pointer in the Multiboot2 information",
        "Tag 14 (revision 0) or 15 (later) is a copy of the environment's RSDP, byte for byte; neither is "
        "there without one.",
        _FIX,
    ),
    Rule(
        "BB-H045",
        "pair of boot type and hypervisor type in the Multiboot2 information",
        "An inserted entry leaves one tag of type 0x4f484242 with the record (docs/handover.md): how the "
        "kernel was entered, what is underneath, and the environment's own data.",
        _STUB,
    ),
    Rule(
        "BB-H046",
        "CPU state at a Multiboot2 kernel's entry",
        "Multiboot2, 3.3: flat 32-bit segments, CR0.PE set and PG clear, VM and IF clear. The back leaves "
        "besides a stack, a table of its own, no IDT and 0 in every other register.",
        _STUB,
    ),
    Rule(
        "BB-H047",
        "a tag of the Multiboot2 information that says what is not so",
        "An inserted entry gives each tag but modules once, of the types in docs/handover.md, and the load "
        "base, EFI's tables and a framebuffer only where there are such.",
        _STUB,
    ),
    DEMAND,
)
