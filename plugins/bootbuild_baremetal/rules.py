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
