"""What a loader of Linux can hold against a bzImage: rules of the setup header."""

from __future__ import annotations

from bootbuild.api import Rule

_HEADER = "Documentation/arch/x86/boot.rst has the setup header. "

RULES = (
    Rule(
        "BB-L430",
        "no setup header",
        _HEADER + "It is told by `HdrS` at 0x202. LIEF's writer, for one, leaves zeros there, so that such a "
        "file still starts as a PE file and by nothing else. QEMU and GRUB's linux16 take a file without it "
        "for a kernel of 1995, which has 5 sectors of real-mode code and the rest at 0x10000.",
        "give the loader a bzImage; one that a tool has written anew is to be made by struct, not by LIEF",
    ),
    Rule(
        "BB-L431",
        "boot protocol too old for the loader",
        _HEADER + "GRUB's linux wants protocol 2.03, kexec_file_load 2.12, rust-vmm's linux-loader 2.00. "
        "QEMU loads what says less than 2.00 as a kernel of 1995.",
        "set version (0x206) to 0x20c or more, and all the fields that came with it",
    ),
    Rule(
        "BB-L432",
        "LOADED_HIGH is not set",
        _HEADER + "Without bit 0 of loadflags the protected-mode code belongs at 0x10000 (a zImage): there "
        "QEMU and linux16 load it, whatever code32_start says, and over the real-mode code where it is "
        "larger than 512 KiB. The other loaders refuse it.",
        "set bit 0 of loadflags (0x211)",
    ),
    Rule(
        "BB-L433",
        "0xAA55 is missing",
        _HEADER + "boot_flag, at 0x1fe, is looked at by GRUB and kexec_file_load, by QEMU, Xen and "
        "linux-loader not.",
        "write 55 aa at 0x1fe; where all around it is zero as well, the header is gone (BB-L430)",
    ),
    Rule(
        "BB-L434",
        "too many sectors of real-mode code",
        "GRUB has room for the 64 that setup_sects may say, since what follows lies 0x9000 bytes behind "
        "their beginning.",
        "set setup_sects (0x1f1) to 64 or less",
    ),
    Rule(
        "BB-L435",
        "setup_sects reaches beyond the file",
        _HEADER
        + "The protected-mode code begins behind (setup_sects + 1) × 512 bytes, where 0 stands for 4. "
        "A number that is wrong within the file no loader notices: it enters the kernel elsewhere.",
        "look whether the file is complete, and compare setup_sects (0x1f1) with where the code begins",
    ),
    Rule(
        "BB-L436",
        "init_size smaller than the protected-mode code",
        _HEADER + "GRUB takes memory for init_size bytes and reads the whole file into it; "
        "kexec_file_load refuses a segment that has more bytes than memory.",
        "set init_size (0x260) to what the kernel needs until it has its memory map",
    ),
    Rule(
        "BB-L437",
        "code32_start is not where the kernel is loaded",
        _HEADER + "GRUB enters at code32_start - 1 MiB behind the place that it chose, even where that is "
        "outside of what it loaded; real-mode code jumps there as well.",
        "leave code32_start (0x214) at 0x100000",
    ),
    Rule(
        "BB-L438",
        "the setup header's length is wrong",
        _HEADER + "The byte at 0x201, the second of a jump, says how far behind 0x202 the header ends. GRUB "
        "and Linux copy as much, and read the byte with its sign.",
        "let 0x200 be a short jump over the header: eb 6a for protocol 2.15",
    ),
    Rule(
        "BB-L439",
        "no 64-bit entry",
        _HEADER + "Bit 0 of xloadflags (0x236) says that there is one, 0x200 bytes behind the 32-bit entry.",
        "set the bit, or use a loader that enters in real or 32-bit mode",
    ),
    Rule(
        "BB-L444",
        "the kernel cannot be loaded above 4 GiB",
        "kexec_file_load puts kernel, boot_params and initrd at the end of RAM, so that it wants bit 1 of "
        "xloadflags (0x236).",
        "set the bit, if the kernel honours the upper halves in boot_params",
    ),
    Rule(
        "BB-L445",
        "cmdline_size that cannot be served",
        _HEADER
        + "kexec_file_load wants room for 30 characters that it may add. GRUB takes cmdline_size bytes "
        "below 640 KiB, whatever the command line is; linux16 writes `BOOT_IMAGE=` there in any case.",
        "set cmdline_size (0x238) to 2047, as Linux does",
    ),
    Rule(
        "BB-L446",
        "the file ends in its headers",
        "GRUB reads 0x268 bytes before it looks at any.",
        "find out where the rest of the file was lost",
    ),
    Rule(
        "BB-L447",
        "too large for a zImage",
        "Protected-mode code that lies at 0x10000 has to end below the real-mode code, at 0x90000 or below "
        "that where cmdline_size is large.",
        "set bit 0 of loadflags (0x211), for a kernel at 1 MiB",
    ),
    Rule(
        "BB-L448",
        "pref_address is out of reach",
        _HEADER + "GRUB for a PC's BIOS takes the lower 32 bits of it, and may load the kernel at 0.",
        "set pref_address (0x258) to 0x1000000, or another address that any machine has RAM at",
    ),
    Rule(
        "BB-L449",
        "kernel_alignment is no power of two",
        _HEADER + "GRUB then loads the kernel at 1 MiB, as if relocatable_kernel were 0, and kexec_file_load "
        "finds no place for it.",
        "set kernel_alignment (0x230) to 0x200000, as Linux does",
    ),
)

(
    NO_HEADER,
    OLD_PROTOCOL,
    LOADED_LOW,
    BOOT_FLAG,
    SETUP_SECTS,
    SETUP_OUTSIDE,
    INIT_SIZE,
    CODE32_START,
    HEADER_LENGTH,
    NO_ENTRY_64,
    BELOW_4G,
    CMDLINE_SIZE,
    SHORT,
    LARGE_ZIMAGE,
    PREF_ADDRESS,
    KERNEL_ALIGNMENT,
) = (rule.id for rule in RULES)
