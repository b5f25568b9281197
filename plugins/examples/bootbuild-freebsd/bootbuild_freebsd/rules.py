"""Rules of FreeBSD's handover: what its kernel may rely on at btext."""

from __future__ import annotations

from bootbuild.api import Rule

_STUB = "mend the back stub (bootbuild_freebsd/stubs); `bootbuild boot --json` shows what the kernel found"

NO_METADATA = Rule(
    "FREEBSD-001",
    "no metadata where modulep points",
    "On the stack at btext are three 32-bit words; the second, modulep, is the offset from KERNBASE of the "
    "list of preloaded files, one of them the kernel (sys/amd64/amd64/locore.S, sys/kern/subr_module.c).",
    _STUB,
)
MACHINE = Rule(
    "FREEBSD-002",
    "machine at btext",
    "Long mode with the first GiB mapped from KERNBASE on by pages of 2 MiB, the kernel where it is linked, "
    "all tables one to one, interrupts off (amd64_loadaddr in sys/amd64/amd64/machdep.c).",
    _STUB,
)
KERNEL = Rule(
    "FREEBSD-003",
    "the kernel's own entry in the metadata",
    "Name, a type of `elf kernel` or `elf64 kernel`, first address, size, and the ELF header where it is "
    "loaded: the kernel's linker reads them (sys/kern/link_elf.c).",
    _STUB,
)
MEMORY = Rule(
    "FREEBSD-004",
    "memory map in the metadata",
    "MODINFOMD_SMAP has the environment's memory map, sorted, entry for entry; or MODINFOMD_EFI_MAP the "
    "firmware's, as it is, and then there is no other. Without one the kernel panics.",
    _STUB,
)
ENVIRONMENT = Rule(
    "FREEBSD-005",
    "kernel environment and flags",
    "MODINFOMD_ENVP has the variables of the command line and acpi.rsdp, MODINFOMD_HOWTO its flags, as "
    "sys/kern/subr_boot.c reads them.",
    _STUB,
)
FILES = Rule(
    "FREEBSD-006",
    "preloaded files and symbols",
    "Every module of the environment is a file of the name, type and arguments of its command line, byte for "
    "byte, within the first GiB; one of type `symbols` is MODINFOMD_SSYM to MODINFOMD_ESYM instead.",
    _STUB,
)
KEPT = Rule(
    "FREEBSD-007",
    "kernend",
    "The kernel keeps what lies below kernend and takes the memory from there on for its first tables: it is "
    "a page behind the stubs, the files and the metadata, and in RAM.",
    _STUB,
)
FIRMWARE = Rule(
    "FREEBSD-008",
    "EFI in the metadata",
    "MODINFOMD_FW_HANDLE is the EFI system table of the environment and absent without one.",
    _STUB,
)
SCREEN = Rule(
    "FREEBSD-009",
    "screen in the metadata",
    "MODINFOMD_EFI_FB is the environment's framebuffer, if it has one: the kernel's vt_efifb draws on it "
    "(sys/dev/vt/hw/efifb/efifb.c).",
    _STUB,
)

RULES = (NO_METADATA, MACHINE, KERNEL, MEMORY, ENVIRONMENT, FILES, KEPT, FIRMWARE, SCREEN)
