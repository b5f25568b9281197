"""Rules of what environments share."""

from __future__ import annotations

from bootbuild.model.rule import Rule

DOES_NOT_FIT = Rule(
    "BB-L003",
    "image and modules do not fit into the machine's memory",
    "Every PT_LOAD must lie in memory at its physical address, and the modules beside it. A loader refuses a "
    "file that does not fit, or writes where there is no memory: above the RAM, or between 640 KiB and "
    "1 MiB. What firmware and monitor then write over the image is lost: QEMU's firmware uses most of what "
    "lies below 640 KiB, and some memory near the top. The machines emulated here have no more than 3 GiB: "
    "the rest would lie above the hole that a PC keeps below 4 GiB.",
    "give the machine more memory (`[boot] memory`, `--memory`), or link the kernel into it: at 1 MiB or "
    "above, with the ELF header in no segment (`ld -n`)",
)

MODULES = Rule(
    "BB-L004",
    "more modules than this monitor passes on",
    "QEMU's -initrd, xl's ramdisk, kexec, GRUB's initrd and that of Firecracker and Cloud Hypervisor hand "
    "over one file, without a command line of its own; Xen hands its dom0 one module, with one. What else "
    "the recipe lists would silently not arrive.",
    "join the files into one module without a command line, or leave this profile out (`profiles`, `--as`)",
)
CMDLINE = Rule(
    "BB-L006",
    "command line longer than this monitor takes",
    "Firecracker takes 2048 bytes with the NUL behind them, Cloud Hypervisor 65536 (CMDLINE_MAX_SIZE of "
    "either), and neither starts a kernel with more.",
    "shorten the command line, or leave this profile out (`profiles`, `--as`)",
)

RULES = (DOES_NOT_FIT, MODULES, CMDLINE)
