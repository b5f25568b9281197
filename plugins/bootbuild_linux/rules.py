"""Rules of the Linux handover: what a kernel may rely on in struct boot_params, and at its entry."""

from __future__ import annotations

from bootbuild.api import Rule

_FIX = "compare the fields in `bootbuild boot --json` with what the environment offered"
_STUB = "mend the back stub (bootbuild_linux/stubs) or what runs between it and the startup path"

RULES = (
    Rule(
        "BB-B091",
        "packed kernel changed by the EFI stub",
        "Where a kernel's own EFI stub enters the decompressor, what that will unpack is byte for byte as it "
        "is in the file, wherever the stub has moved it.",
        "look at what the EFI stub copies, and at what it writes",
    ),
    Rule(
        "BB-H020",
        "no boot_params at the startup path",
        "startup_64 takes the physical address of struct boot_params in RSI, x86_64_start_kernel in RDI; "
        "later functions use the kernel's own copy, the symbol boot_params.",
        "name startup_64 or x86_64_start_kernel as `startup`, startup_32 of a 32-bit kernel, or give "
        "`symbols` so that boot_params can be found",
    ),
    Rule(
        "BB-H021",
        "command line in boot_params",
        "hdr.cmd_line_ptr points to the environment's command line, byte for byte.",
        _FIX,
    ),
    Rule(
        "BB-H022",
        "ramdisk in boot_params",
        "hdr.ramdisk_image and ramdisk_size give the environment's one module, byte for byte. Linux takes no "
        "second one: join cpio archives into one file.",
        _FIX,
    ),
    Rule(
        "BB-H023",
        "e820 table in boot_params",
        "The table, with SETUP_E820_EXT behind it, holds the environment's memory map; a PVH entry adds the "
        "ISA hole (0xa0000 to 1 MiB) as reserved. An inserted entry gives the map in its normal form, and "
        "adds the hole where the map leaves any of it out or calls it RAM. Under Xen PV the table is empty: "
        "Linux asks for the map by hypercall, after its startup path.",
        _FIX,
    ),
    Rule(
        "BB-H024",
        "ACPI root pointer in boot_params",
        "acpi_rsdp_addr is 0 or the environment's RSDP; an inserted entry passes the environment's on.",
        _FIX,
    ),
    Rule(
        "BB-H025",
        "pair of boot type and hypervisor type in setup_data",
        "An inserted entry leaves one setup_data node of type 0x4f484242 with the record "
        "(docs/handover.md): how the kernel was entered, what is underneath, and the environment's own data.",
        _STUB,
    ),
    Rule(
        "BB-H026",
        "CPU state at Linux's entry",
        "Documentation/arch/x86/boot.rst: CS 0x10, DS, ES, SS 0x18, IF=0; at width 32 paging off and "
        "EBP=EDI=EBX=0; at width 64 long mode with an identity map, and the kernel at its physical address.",
        _STUB,
    ),
    Rule(
        "BB-H027",
        "what a loader states in boot_params",
        "sentinel 0 (else Linux clears what it does not know), the magic numbers 0xaa55 and HdrS, version "
        "2.12 or later, and a type_of_loader other than 0 (else Linux ignores the ramdisk). Of a kernel "
        "that a loader of Linux started itself, HdrS and the type_of_loader; by its own EFI stub, that.",
        _STUB,
    ),
    Rule(
        "BB-H028",
        "setup_data cannot be followed",
        "hdr.setup_data begins a list of nodes in memory that ends with next = 0; Linux follows it before it "
        "has a console.",
        "let each node's `next` be the physical address of another node, or 0",
    ),
    Rule(
        "BB-H029",
        "EFI in boot_params",
        "efi_info has the signature EL64 or EL32, the system table and the memory map of the EFI under which "
        "a loader of Linux, or the kernel's own EFI stub, runs, and nothing under a BIOS or a monitor "
        "without firmware. An inserted entry says the same where the environment gave EFI's map.",
        _FIX,
    ),
    Rule(
        "BB-H030",
        "screen in boot_params",
        "screen_info, of an inserted entry or a kernel's own EFI stub, has the environment's framebuffer, of "
        "sort VIDEO_TYPE_EFI (0x70) under EFI, VIDEO_TYPE_VLFB (0x23) elsewhere, with as many reserved bits "
        "as make up a pixel with the colours (drivers/firmware/sysfb_simplefb.c). An inserted entry gives no "
        "framebuffer where there is none.",
        _STUB,
    ),
    Rule(
        "BB-H031",
        "Secure Boot in boot_params",
        "secure_boot is 3 (efi_secureboot_mode_enabled) where UEFI's Secure Boot is on, by which a "
        "distribution's kernel locks itself down; else 2 under `efi`, and 0 elsewhere. A kernel's own EFI "
        "stub may leave it 0.",
        _STUB,
    ),
)
