"""What target `efi` refuses (BB-L501 to BB-L519)."""

from __future__ import annotations

from bootbuild.api import Rule

NO_ENTRY = Rule(
    "BB-L501",
    "no UEFI entry",
    "UEFI starts PE32+ applications of subsystem 10: a Linux bzImage with CONFIG_EFI_STUB is one, an ELF "
    "file, or the vmlinux in a bzImage, is not.",
    'name a file that is such an application, or make an entry with `entry = "insert"`',
)
NO_ROUTE = Rule(
    "BB-L502",
    "no way from UEFI to this guest",
    "The front leaves the machine in one state, the guest's back stub needs another, and no switch leads "
    "from the one to the other. Computed from what both declare.",
    "choose another guest protocol, width or target",
)
NO_CHAIN = Rule(
    "BB-L503",
    "nothing to chain before a UEFI entry",
    "UEFI leaves nothing undone that a stub before the payload's own entry could do.",
    'use `entry = "native"`',
)
LOW_LINKED = Rule(
    "BB-L504",
    "kernel linked where the firmware's page tables are in use",
    "While boot services live the firmware's page tables do too, which map memory one to one. A kernel "
    "whose linked addresses are others can be mapped beside that in the upper half only.",
    "link the kernel in the upper half, or where it is loaded, or leave boot_services out",
)
UNREAD = Rule(
    "BB-L505",
    "option of an inserted entry",
    "What is asked for is of the stub's making; with the payload's own entry the file is kept as it is.",
    'leave the options out, or make an entry with `entry = "insert"`',
)
BAD_SBAT = Rule(
    "BB-L506",
    "SBAT that shim does not read",
    "SBAT is a table of comma-separated values: rows of six fields that end with a newline, the first of "
    "component `sbat`, none twice, each with a generation from 1 on, nothing but ASCII. No field is empty; "
    "quotes do not keep a comma.",
    "see shim's SBAT.md; a file of the option `sbat` holds all rows",
)
MODULES_OUTSIDE = Rule(
    "BB-L507",
    "modules that UEFI cannot hand over",
    "Outside the image there is one initrd, without a command line, by EFI_LOAD_FILE2_PROTOCOL.",
    "leave `embed` true, or give one module without a command line",
)
UNMOVABLE = Rule(
    "BB-L508",
    "a kernel that cannot be moved",
    "Where the firmware keeps a kernel's place for good, one that is `relocatable` is put elsewhere. Every "
    "word that holds an address must be known, so that a stub can mend it: a static PIE's are. It runs where "
    "it is loaded, below 2 GiB, which is what 64-bit code of the small model reaches. A 64-bit Linux maps "
    "itself from wherever it lies: no word of it has to be known.",
    "link it as a static PIE (`-static-pie`, or `ld -pie --no-dynamic-linker -z text`); or leave "
    "relocatable out",
)
GUEST_STAYS = Rule(
    "BB-L509",
    "a guest that knows nothing of being moved",
    "What a back stub tells its kernel, and what is judged there, may be addresses that were fixed when the "
    "image was built. Only a guest that says of itself that it is `movable` has none but those that are "
    "mended when the image has been moved.",
    "choose another guest protocol; or leave relocatable out",
)
TOO_MUCH = Rule(
    "BB-L510",
    "more than the application hands over",
    "In the application there is room for 32 modules, and for 8192 bytes of command lines, those of modules "
    "and the NUL of each included: with more it would refuse to start the kernel.",
    "shorten the command lines, or join modules into one archive",
)

RULES = (
    NO_ENTRY,
    NO_ROUTE,
    NO_CHAIN,
    LOW_LINKED,
    UNREAD,
    BAD_SBAT,
    MODULES_OUTSIDE,
    UNMOVABLE,
    GUEST_STAYS,
    TOO_MUCH,
)
