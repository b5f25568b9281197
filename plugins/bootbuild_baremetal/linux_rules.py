"""Rules of target `linux`: what its images hold, and what of a bzImage is left alone."""

from __future__ import annotations

from bootbuild.api import Rule

NO_ROUTE = Rule(
    "BB-L401",
    "no way from the Linux boot protocol to this guest",
    "The front leaves 32-bit protected mode, the guest's back stub needs another state, and no switch leads "
    "from the one to the other. Computed from what both declare.",
    "choose another guest protocol, width or target",
)
NO_BZIMAGE = Rule(
    "BB-L402",
    "no bzImage",
    "A loader of the Linux boot protocol starts a bzImage: `HdrS` at 0x202, real-mode code in front, and "
    "behind it the protected-mode code with its entries at 0 and 0x200. An ELF kernel has none of them.",
    'give the bzImage (arch/x86/boot/bzImage, vmlinuz), or insert an entry with `entry = "insert"`',
)
NO_CHAIN = Rule(
    "BB-L403",
    "nothing to do before an entry of Linux",
    "A chained stub does what a loader left undone before the kernel's own entry. A bzImage unpacks itself and "
    "zeroes its own .bss: no loader of it can leave that undone.",
    'use the kernel\'s own entries (`entry = "native"`), or `entry = "insert"`',
)

RULES = (NO_ROUTE, NO_BZIMAGE, NO_CHAIN)
