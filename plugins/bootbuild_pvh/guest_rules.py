"""Rules of a PVH kernel's handover: what it may rely on in hvm_start_info, and at its entry."""

from __future__ import annotations

from bootbuild.api import Rule

_FIX = "compare the fields in `bootbuild boot --json` with what the environment offered"
_STUB = "mend the back stub (bootbuild_pvh/stubs/back.c) or what runs between it and the startup path"

RULES = (
    Rule(
        "BB-H060",
        "no hvm_start_info at the startup path",
        "EBX is the physical address of hvm_start_info, which begins with 0x336ec578; an inserted entry's "
        "is of version 1 (docs/misc/pvh.pandoc, xen/include/public/arch-x86/hvm/start_info.h).",
        "name the kernel's PVH entry as `startup`",
    ),
    Rule(
        "BB-H061",
        "command line in hvm_start_info",
        "cmdline_paddr points to the environment's command line, byte for byte.",
        _FIX,
    ),
    Rule(
        "BB-H062",
        "modules in hvm_start_info",
        "modlist_paddr lists the environment's modules in its order: bytes, and own command lines.",
        _FIX,
    ),
    Rule(
        "BB-H063",
        "memory map in hvm_start_info",
        "memmap_paddr lists the environment's memory map, an inserted entry's in its normal form.",
        _FIX,
    ),
    Rule(
        "BB-H064",
        "ACPI root pointer or flags in hvm_start_info",
        "rsdp_paddr is the environment's RSDP, 0 without one; SIF_PRIVILEGED and SIF_INITDOMAIN are set for "
        "the hypervisor's initial domain, and no other flag.",
        _FIX,
    ),
    Rule(
        "BB-H065",
        "pair of boot type and hypervisor type behind hvm_start_info",
        "An inserted entry leaves the record (docs/handover.md) in the bytes right behind hvm_start_info: "
        "how the kernel was entered, what is underneath, and the environment's own data.",
        _STUB,
    ),
    Rule(
        "BB-H066",
        "CPU state at a PVH kernel's entry",
        "docs/misc/pvh.pandoc: flat 32-bit segments, a TSS with limit 0x67 in TR, CR0.PE alone, CR4 = 0, "
        "VM, IF and TF clear. The back leaves besides a stack, a table of its own, no IDT and 0 in every "
        "other register.",
        _STUB,
    ),
)
