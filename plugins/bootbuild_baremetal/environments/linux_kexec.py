"""Linux's kexec_file_load: a running kernel puts the next one at the end of RAM and enters it in 64-bit mode.

The machine is QEMU's pc with SeaBIOS, under which the first kernel runs.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from bootbuild.abi import boot_params
from bootbuild.abi.handover import BootType, HypervisorType
from bootbuild.api import (
    Descriptor,
    ElfImage,
    EntryState,
    Evidence,
    Given,
    InputError,
    Load,
    Offer,
    Problem,
    Rule,
    Span,
    TableRegister,
    align_up,
)
from bootbuild.platform import pcbios
from bootbuild.platform.flat32 import Poison
from bootbuild.platform.identity import PAGE, identity_map
from bootbuild.platform.loading import MiB, put, ramdisk
from bootbuild.platform.rules import DOES_NOT_FIT
from bootbuild.platform.seabios import RSDP, SeabiosPc
from bootbuild_baremetal.environments.linux_header import ENTRY_64, Bzimage
from bootbuild_baremetal.environments.linux_profile import (
    MAPPED,
    UNDEFINED_64,
    LinuxProfile,
    Setting,
    given_modules,
    poisoned_64,
)
from bootbuild_baremetal.environments.profile import CONTROL_BITS

# arch/x86/kernel/kexec-bzimage64.c
_LEAST_PURGATORY = _LEAST_PARAMS = 0x3000
_LEAST_KERNEL, _LEAST_RAMDISK = 0x100000, 0x1000000
_LONGEST_NUMBER = 30  #: MAX_ELFCOREHDR_STR_LEN: room behind every command line
_EFI_NODE = 16 + 96  #: struct setup_data and efi_setup_data: room, used on EFI only
_SEED = bytes(range(32))  #: RNG_SEED_LENGTH bytes; a real first kernel's are random
_KEXEC = 0xD0  #: type_of_loader: no number of its own, version 0 of loader D
_MOST_EXTENDED = 0xFC00  #: KiB, of screen_info.ext_mem_k
# arch/x86/purgatory/entry64.S; the two first descriptors are the pointer to the table itself
_PURGATORY_SIZE = 0x5000
_GDT_OFFSET = 0x3000  #: somewhere in the purgatory's .rodata
_STACK_OFFSET = _PURGATORY_SIZE  #: stack_end, somewhere in its .bss
_CODE, _DATA = 0x00AF9A000000FFFF, 0x00CF92000000FFFF
_GDT_LIMIT = 0x1F
# what relocate_kernel leaves (arch/x86/kernel/relocate_kernel_64.S)
_CR0, _CR4, _EFER = 0x80000033, 0x20, 0xD01
_LOW = Span(0, MiB)


@dataclass
class _Holes:
    """kexec_locate_mem_hole: each segment at the highest place that is free, below those before it."""

    image: ElfImage
    ram: Sequence[Span]
    taken: list[Span] = field(default_factory=list)

    def place(self, size: int, align: int, least: int) -> int:
        """The address of `size` bytes. Raises InputError (BB-L003)."""
        size, align = align_up(size, PAGE), max(align, PAGE)
        for within in reversed(self.ram):
            at = within.end - size
            while (at := at & -align) >= max(within.start, least):
                span = Span(at, size)
                if not any(other.overlaps(span) for other in self.taken):
                    self.taken.append(span)
                    return at
                at -= PAGE
        text = f"kexec finds no hole of {size:#x} bytes, aligned to {align:#x}, in {self.ram[-1]}"
        raise InputError(Problem(DOES_NOT_FIT, self.image.name, text))


class Kexec(LinuxProfile):
    """`kexec -s -l FILE --append=… --initrd=…; kexec -e` on a 64-bit kernel started by a BIOS.

    The exact run has all RAM mapped, as machine_kexec does it; poisoned ones what boot.rst promises.
    """

    name, loader = "kexec-64bit", "kexec"
    version = "6.1"
    evidence = Evidence.SOURCE
    source = (
        "Linux: arch/x86/kernel/{kexec-bzimage64,machine_kexec_64}.c, relocate_kernel_64.S, "
        "arch/x86/purgatory/entry64.S, kernel/kexec_file.c"
    )
    summary = "Linux's kexec_file_load, into the 64-bit entry"
    hypervisor = HypervisorType.TCG
    undefined = UNDEFINED_64
    rules: tuple[Rule, ...] = (*LinuxProfile.rules, MAPPED, CONTROL_BITS)

    def setting(self, image: ElfImage, offer: Offer) -> Setting:
        pc = SeabiosPc(self.memory(image, offer))
        header, initrd = self.header(image, offer), ramdisk(image, offer)
        memory = _Holes(image, pc.ram)
        purgatory = memory.place(_PURGATORY_SIZE, PAGE, _LEAST_PURGATORY)
        nodes = align_up(boot_params.SIZE + len(offer.cmdline) + 1 + _LONGEST_NUMBER, 16)
        params = memory.place(nodes + _EFI_NODE + 16 + len(_SEED), 16, _LEAST_PARAMS)
        least = max(header.pref_address, _LEAST_KERNEL)
        kernel = memory.place(header.init_size, header.kernel_alignment, least)
        modules: tuple[Load, ...] = ()
        if initrd is not None:
            at = memory.place(initrd.size, PAGE, _LEAST_RAMDISK)
            modules = (Load(at, initrd, 0, initrd.size, initrd.size),)
        structures = _structures(header, offer, pc, params, nodes, modules)
        cmdline = Span(params + boot_params.SIZE, len(offer.cmdline) + 1)
        gdt = purgatory + _GDT_OFFSET
        promised = (_LOW, Span(kernel, header.init_size), Span(params, PAGE), cmdline, Span(gdt, PAGE))
        tables = memory.place(identity_map(0, promised, page=PAGE).size, PAGE, PAGE)

        def extras(poison: Poison) -> tuple[Load, ...]:
            if "identity map" in poison.names:
                mapped = identity_map(tables, promised, page=PAGE)
            else:
                mapped = identity_map(tables, (_LOW, *pc.ram))
            return (mapped, put(gdt + 0x10, struct.pack("<2Q", _CODE, _DATA)), *pcbios.low_memory(), *pc.acpi)

        return Setting(
            regions=pc.regions,
            kernel=(header.kernel(kernel),),
            given=Given(
                boot_type=BootType.LINUX_64,
                hypervisor_type=self.hypervisor,
                data=params,
                cmdline=offer.cmdline,
                modules=given_modules(modules),
                memory_map=pc.memory_map,
                rsdp=RSDP,
                native_map=Span(
                    params + boot_params.E820_TABLE, boot_params.E820_ENTRY_SIZE * len(pc.memory_map)
                ),
                structures=structures,
            ),
            modules=modules,
            state=_state(kernel + ENTRY_64, params, purgatory, tables),
            platform=pc.platform(),
            extras=extras,
        )

    def poisoned(self, exact: EntryState, poison: Poison) -> EntryState:
        return poisoned_64(exact, poison)


def _structures(
    header: Bzimage, offer: Offer, pc: SeabiosPc, at: int, nodes: int, modules: Sequence[Load]
) -> tuple[Load, ...]:
    """boot_params, the command line and the seed, in one segment at `at`."""
    upper = (pc.top - 1 >> 10) - (MiB >> 10)
    ramdisk_at, ramdisk_size = next(((m.address, m.size) for m in modules), (0, 0))
    cmdline, seed = at + boot_params.SIZE, at + nodes + _EFI_NODE
    values = {
        "ext_mem_k": min(upper, _MOST_EXTENDED),
        "alt_mem_k": upper,
        "acpi_rsdp_addr": RSDP,  # the first kernel's decompressor found it in the BIOS area
        "type_of_loader": _KEXEC,
        "loadflags": 0,
        "ramdisk_image": ramdisk_at & 0xFFFFFFFF,
        "ramdisk_size": ramdisk_size,
        "cmd_line_ptr": cmdline,
        "setup_data": seed,
    }
    return (
        put(at, boot_params.pack(header.setup_header, values, pc.memory_map)),
        put(cmdline, offer.cmdline + b"\0"),
        put(seed, boot_params.pack_setup_data(0, boot_params.SETUP_RNG_SEED, _SEED)),
    )


def _state(entry: int, params: int, purgatory: int, tables: int) -> EntryState:
    """The CPU after the purgatory's entry64."""
    data = Descriptor(0x18, attributes=0xC093)
    return EntryState(
        mode="long64",
        ip=entry,
        registers={"rsi": params, "rsp": purgatory + _STACK_OFFSET, "rflags": 2},
        cr0=_CR0,
        cr3=tables,
        cr4=_CR4,
        efer=_EFER,
        cs=Descriptor(0x10, attributes=0xA09B),
        ds=data,
        es=data,
        ss=data,
        fs=data,
        gs=data,
        # the first kernel's own, which nothing replaces (GDT_ENTRY_TSS)
        tr=Descriptor(0x40, base=0xFFFF_FE00_0000_3000, limit=0x4087, attributes=0x008B),
        gdtr=TableRegister(purgatory + _GDT_OFFSET, _GDT_LIMIT),
        idtr=TableRegister(0, 0),
    )
