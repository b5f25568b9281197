"""Rules that a stub keeps: its source, its blob, and its place in an image."""

from __future__ import annotations

from bootbuild.model.rule import Rule

MISSING = Rule(
    "BB-P020",
    "stub blob is missing",
    "A plugin ships each stub as two files beside its sources, NAME.bin and NAME.json.",
    "run `python -m bootbuild.stubs build` on the plugin's stubs folder and ship what it writes",
)
DAMAGED = Rule(
    "BB-P021",
    "stub blob is damaged",
    "NAME.json describes NAME.bin in full, with its SHA-256; what does not agree enters no kernel.",
    "run `python -m bootbuild.stubs build` on the plugin's stubs folder, or install the plugin again",
)
UNDEFINED = Rule(
    "BB-P022",
    "stub refers to a symbol that nothing exports",
    "A stub is linked with the pieces of its chain, its companions, `bb_params` and `bb_next`, nothing else.",
    "export the symbol from one of the stubs, or name the stub that exports it as a companion",
)
DOUBLED = Rule(
    "BB-P023",
    "two stubs export the same symbol",
    "Exports of all stubs of one chain share one name space, so that a reference has one meaning.",
    "give the symbol a prefix of the plugin's own, or make it static",
)
RANGE = Rule(
    "BB-P024",
    "address does not fit its place in the code",
    "A 32-bit field holds an address below 4 GiB (abs32), a sign-extended one (abs32s) or a distance (pc32).",
    "place the stub lower, or refer to the symbol by a wider field",
)
NO_ENTRY = Rule(
    "BB-P025",
    "piece is entered at a symbol that its stub does not export",
    "Each piece of a chain names the exported symbol in .text where it is entered.",
    "export the entry (`.globl`, or BB_EXPORT in C) or name the right one",
)
MAPPING = Rule(
    "BB-P026",
    "linked mapping cannot be built",
    "The switch to long mode maps the kernel's linked range by pages of 2 MiB, 1 GiB at the most, beside the "
    "identity map of the first 4 GiB, at a canonical address.",
    "link the kernel so that its virtual and physical addresses agree modulo 2 MiB, outside the first 4 GiB",
)
MANIFEST = Rule(
    "BB-P027",
    "stubs.toml is wrong",
    'stubs.toml names every stub of its folder: [NAME] sources = ["a.S", "b.c"], width = 32 or 64.',
    "correct the named key",
)
TOOL = Rule(
    "BB-P028",
    "assembler, compiler or linker fails",
    "Stubs are built by gcc and GNU binutils, for the bare machine: no C library, no floating point.",
    "correct the source; install gcc and binutils if they are missing",
)
DATA = Rule(
    "BB-P029",
    "stub has initialised data",
    "A blob is read-execute text and zeroed NOBITS. Writable bytes of the file would need a third segment.",
    "make the object const, or let it start at zero and fill it at run time",
)
RELOCATION = Rule(
    "BB-P030",
    "stub has a relocation that the linker does not know",
    "Known are R_386_32, PC32 and PLT32, and R_X86_64_64, 32, 32S, PC32 and PLT32, all in .text.",
    "do not build position independent, thread local or GOT-relative code",
)
LIBRARY = Rule(
    "BB-P031",
    "stub calls the C library or the compiler's run time",
    "gcc makes structure copies memcpy, 64-bit divisions at width 32 __udivdi3; stubs have neither.",
    "write the loop or use bb_copy, bb_clear; divide by powers of two",
)
SECTION = Rule(
    "BB-P032",
    "stub has a section that a blob cannot hold",
    "Only .text and .rodata (as text) and .bss are carried; constructors, TLS and the like need a run time.",
    "move the contents to .text, .rodata or .bss",
)
STALE = Rule(
    "BB-P033",
    "stub blob is not that of its sources",
    "NAME.json has a digest of the sources, of the headers that they include, and of how they are built.",
    "run `python -m bootbuild.stubs build` on the stubs folder",
)

RULES = (
    MISSING,
    DAMAGED,
    UNDEFINED,
    DOUBLED,
    RANGE,
    NO_ENTRY,
    MAPPING,
    MANIFEST,
    TOOL,
    DATA,
    RELOCATION,
    LIBRARY,
    SECTION,
    STALE,
)
