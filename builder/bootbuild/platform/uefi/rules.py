"""Rules of what a program does with UEFI's services."""

from __future__ import annotations

from bootbuild.model.rule import Rule

_SPEC = "UEFI 2.10"

AFTER_EXIT = Rule(
    "BB-B070",
    "boot service called after ExitBootServices",
    f"ExitBootServices ends all boot services, the consoles and every protocol ({_SPEC} §7.4.6): their code "
    "and data are the program's memory from then on. The system table's pointers to them are 0: a call by "
    "one of these takes the function's address from the first words of memory.",
    "ask for everything before; afterwards only runtime services are left",
)
RETURNED = Rule(
    "BB-B071",
    "returned to the firmware, and nothing was booted",
    "A boot program that returns EFI_SUCCESS, or calls Exit with it, without having started a kernel: "
    "firmware goes on to its next boot option as if all were well.",
    "return an error status where the boot has failed",
)
FAILED = Rule(
    "BB-B072",
    "returned an error to the firmware",
    "The program gave up and returned an EFI_STATUS: firmware goes on to its next boot option.",
    "see what it printed, and which service refused what it asked for",
)
STACK = Rule(
    "BB-B073",
    "service called with a misaligned stack",
    "At a call RSP is a multiple of 16, so that it is 8 modulo 16 at a function's first instruction "
    f"({_SPEC} §2.3.4.2). Firmware saves XMM registers by MOVAPS, which faults otherwise: in some builds, in "
    "some services.",
    "keep RSP at a multiple of 16 at every call, below 32 bytes of shadow space",
)
MAP_KEY = Rule(
    "BB-B074",
    "ExitBootServices not called again when it was refused",
    "A timer or a handler of the event may allocate memory between GetMemoryMap and ExitBootServices, which "
    f"is then refused with EFI_INVALID_PARAMETER: the map has to be read again ({_SPEC} §7.4.6). The "
    "emulated firmware does so at the first call, always.",
    "on EFI_INVALID_PARAMETER call GetMemoryMap and ExitBootServices again, and nothing else",
)
HALF_EXIT = Rule(
    "BB-B094",
    "boot service called after ExitBootServices was refused",
    "Firmware may shut down part of its boot services at the first call of ExitBootServices, even if it "
    f"refuses it. Of these a program may then call those of memory only, and ExitBootServices ({_SPEC} "
    "§7.4.6): no console, no protocol.",
    "print what there is to say before the first call; afterwards write to a device of your own, or return",
)
STRIDE = Rule(
    "BB-B075",
    "relies on the size of a memory descriptor",
    "Descriptors lie DescriptorSize bytes apart, which firmware makes larger than the 40 that the structure "
    f"has ({_SPEC} §7.2.3): 48 in EDK2. What lies between is undefined.",
    "step by the DescriptorSize that GetMemoryMap returns",
)
BASE = Rule(
    "BB-B076",
    "relies on its load address",
    "A PE is loaded where there is room: at its ImageBase only by chance. Relocations adapt what they list.",
    "address data relative to RIP, or list each absolute address in .reloc",
)
BAD_POINTER = Rule(
    "BB-B078",
    "service given a bad pointer",
    f"Services read and write through the pointers that they are given ({_SPEC} §7): firmware faults where "
    "there is nothing, and overwrites its own or anybody's memory where the caller has allocated none.",
    "pass the addresses of memory that the program has: its image, its stack, what it has allocated",
)
WAITS = Rule(
    "BB-B079",
    "waits for an event that does not come",
    "The program waits for a key, or for an event that only a device could signal: here nobody presses a "
    "key. Timers expire at once.",
    "boot without asking, or wait with a timer as well",
)
EXCEPTION = Rule(
    "BB-B080",
    "exception in firmware",
    "Until a program has an IDT of its own, an exception goes to the firmware, which prints the registers "
    "(EDK2: `X64 Exception Type`) and stands still.",
    "look at the instruction that the report names, and at the address that it used",
)
PROTECTED = Rule(
    "BB-B081",
    "memory used in a way that the firmware does not allow",
    "Firmware that protects memory has no page that is writable and executable: of an image the sections "
    "that are code are read-only, everything else is not executable, and so is memory that is allocated, "
    f"until EFI_MEMORY_ATTRIBUTE_PROTOCOL changes that ({_SPEC} §37.6). An image whose sections are not made "
    "of whole pages cannot be executed at all.",
    "keep code and data in sections of whole pages, set copied code read-only and then executable, or switch "
    "to page tables of your own",
)
VOLATILE = Rule(
    "BB-B093",
    "relies on what a service does not keep",
    "RAX, RCX, RDX, R8 to R11, and the 32 bytes of shadow space above the return address are the called "
    f"function's to use ({_SPEC} §2.3.4.2): what is in them afterwards depends on the firmware's compiler.",
    "keep what is still needed in RBX, RBP, RDI, RSI, R12 to R15 or above the shadow space",
)
NO_PE = Rule(
    "BB-L560",
    "the firmware does not load the file as a PE",
    "LoadImage takes a PE32+ of the machine's own type, whose headers and sections lie within the file "
    "(MdePkg/Library/BasePeCoffLib/BasePeCoff.c). Of base relocations it follows here 1 MiB at the most.",
    "write a PE32+ for x86-64 with subsystem 10",
)
NOT_ASCII = Rule(
    "BB-L561",
    "a boot option's command line that is not ASCII",
    "OVMF makes a character of LoadOptions of each byte of QEMU's -append "
    "(OvmfPkg/Library/X86QemuLoadImageLib): of UTF-8 the program gets other text than was written, and makes "
    "two bytes of UTF-8 of each above 0x7f. Boot loaders differ.",
    "keep to ASCII; in an application of bootbuild's `embed = true` brings any text",
)
RULES = (
    AFTER_EXIT, RETURNED, FAILED, STACK, MAP_KEY, HALF_EXIT, STRIDE, BASE, BAD_POINTER, WAITS,
    EXCEPTION, PROTECTED, VOLATILE, NO_PE, NOT_ASCII,
)  # fmt: skip
