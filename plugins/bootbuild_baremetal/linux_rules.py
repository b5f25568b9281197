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
    "A chained stub does what a loader left undone before the kernel's own entry. A bzImage unpacks itself "
    "and zeroes its own .bss: no loader of it can leave that undone.",
    'use the kernel\'s own entries (`entry = "native"`), or `entry = "insert"`',
)
UNWRITTEN = Rule(
    "BB-L404",
    "key of an inserted bzImage beside a kernel's own",
    "`container`, `compress`, `cmdline_size` and `initrd_addr_max` say how an image is made. A kernel's own "
    "bzImage is left as it is, but for the fields that `header` names.",
    "leave the key out; or set the field: `header = { cmdline_size = … }`",
)
UNREAD = Rule(
    "BB-L405",
    "`header` beside an inserted entry",
    "`header` sets fields of a kernel's own setup header. An inserted one is made anew, and what can be said "
    "of it has keys of its own: `cmdline_size`, `initrd_addr_max`.",
    'leave `header` out, or use the kernel\'s own bzImage with `entry = "native"`',
)
PVH_FIRST = Rule(
    "BB-L406",
    "PVH note in an ELF file for the Linux boot protocol",
    "Firecracker enters an ELF file by its PVH note, and only one without such a note by Linux's 64-bit "
    "protocol, at e_entry (linux-loader, loader/elf/mod.rs). With a kernel's own the stub never runs.",
    "use [targets.pvh], by which Firecracker starts the kernel as well",
)

RULES = (NO_ROUTE, NO_BZIMAGE, NO_CHAIN, UNWRITTEN, UNREAD, PVH_FIRST)
