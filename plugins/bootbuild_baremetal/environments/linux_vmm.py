"""Linux as monitors on KVM start it, without firmware: Cloud Hypervisor at 32 bits, Firecracker at 64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bootbuild.abi import boot_params
from bootbuild.abi.handover import BootType, HypervisorType
from bootbuild.api import (
    Content,
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
    Undefined,
)
from bootbuild.platform import vmm
from bootbuild.platform.flat32 import Poison, flat_state
from bootbuild.platform.identity import identity_map
from bootbuild.platform.loading import check_fit, check_memory, module_bytes, put, ramdisk
from bootbuild.platform.rules import CMDLINE, DOES_NOT_FIT
from bootbuild.platform.vmm import CMDLINE_AT, GDT_32, GDT_AT, IDT_AT, STACK, ZERO_PAGE, Vmm, gdt_entry
from bootbuild_baremetal.environments.linux_profile import (
    MAPPED,
    UNDEFINED_32,
    UNDEFINED_64,
    LinuxProfile,
    Setting,
    given_modules,
    poisoned_32,
    poisoned_64,
)
from bootbuild_baremetal.environments.profile import CONTROL_BITS

NOT_ELF = Rule(
    "BB-L443",
    "no ELF file for Firecracker",
    "Firecracker up to 1.16 takes ELF files only, and enters one without a PVH note at e_entry by the 64-bit "
    "boot protocol of Linux.",
    "give the vmlinux (scripts/extract-vmlinux), or leave this profile out of `profiles`",
)
_OTHER = 0xFF  #: KERNEL_LOADER_OTHER, type_of_loader
_TABLES = 0x9000  #: PML4_START; behind it one table of each other level
_GIB = Span(0, 1 << 30)
_LOW = Span(0, 1 << 20)
# regs.rs of Firecracker, BootProtocol::LinuxBoot: null, 64-bit code, data, TSS
_GDT_64 = (0, gdt_entry(0xA09B, 0xFFFFF), gdt_entry(0xC093, 0xFFFFF), gdt_entry(0x808B, 0xFFFFF))


class _VmmProfile(LinuxProfile):
    """boot_params in the page at 7000h, the command line at 20000h, the ramdisk at the end of RAM."""

    evidence = Evidence.SOURCE
    hypervisor = HypervisorType.KVM
    vmm: Vmm
    boot_type: BootType

    def handed(
        self,
        image: ElfImage,
        offer: Offer,
        memory: int,
        base: bytes,
        values: Mapping[str, int | bytes],
    ) -> tuple[Given, tuple[Load, ...]]:
        """What is handed over, and the ramdisk. `values` come last. Raises InputError (BB-L003, -4, -6)."""
        self.vmm.check_cmdline(image, offer)
        modules = _high(image, ramdisk(image, offer), memory)
        fields: dict[str, int | bytes] = {
            "cmd_line_ptr": CMDLINE_AT,
            "cmdline_size": len(offer.cmdline) + 1,  # what there is, where the kernel says what it takes
            "acpi_rsdp_addr": self.vmm.rsdp_at,
        }
        for module in modules:
            fields |= {"ramdisk_image": module.address, "ramdisk_size": module.size}
        entries = self.vmm.memory_map(memory)
        page = boot_params.pack(base, {**fields, **values}, entries)
        given = Given(
            boot_type=self.boot_type,
            hypervisor_type=self.hypervisor,
            data=ZERO_PAGE,
            cmdline=offer.cmdline,
            modules=given_modules(modules),
            memory_map=entries,
            rsdp=self.vmm.rsdp_at,
            native_map=Span(ZERO_PAGE + boot_params.E820_TABLE, boot_params.E820_ENTRY_SIZE * len(entries)),
            structures=(put(ZERO_PAGE, page), put(CMDLINE_AT, offer.cmdline + b"\0")),
        )
        return given, modules


class CloudHypervisor(_VmmProfile):
    """`cloud-hypervisor --kernel FILE`, where the file is no ELF file: the segments are those of PVH.

    So CS is 8 and not 10h, as boot.rst has it; ESP is in low memory, CR0.ET is not set.
    """

    name, loader = "cloud-hypervisor-32bit", "cloud-hypervisor"
    version = "53.0"
    source = (
        "cloud-hypervisor v53.0: arch/src/x86_64/{layout,mod,regs}.rs, vmm/src/vm.rs; linux-loader v0.13.2: "
        "src/loader/bzimage/mod.rs"
    )
    summary = "Cloud Hypervisor on KVM, a bzImage by its 32-bit entry"
    vmm = vmm.CloudHypervisor()
    boot_type = BootType.LINUX_32
    undefined = UNDEFINED_32
    rules = (*LinuxProfile.rules, CMDLINE, CONTROL_BITS)

    def setting(self, image: ElfImage, offer: Offer) -> Setting:
        memory = self.memory(image, offer)
        header = self.header(image, offer)
        kernel = header.kernel(header.code32_start)
        check_memory(image, [Span(kernel.address, kernel.size)], (Span(0, memory),))
        loader = {} if header.type_of_loader else {"type_of_loader": _OTHER}
        given, modules = self.handed(image, offer, memory, header.setup_header, loader)
        state = flat_state(
            kernel.address,
            {"rsi": ZERO_PAGE, "rsp": STACK, "rflags": 2},
            cr0=0x1,
            code=0x08,
            data=0x10,
            tr=Descriptor(0x18, limit=0x67, attributes=0x008B),
            gdtr=TableRegister(GDT_AT, 8 * len(GDT_32) - 1),
            idtr=TableRegister(IDT_AT, 7),
        )
        return Setting(
            regions=self.vmm.regions(memory),
            kernel=(kernel,),
            given=given,
            modules=modules,
            state=state,
            platform=self.vmm.platform(),
            extras=lambda _: self.vmm.tables(GDT_32),
        )

    def poisoned(self, exact: EntryState, poison: Poison) -> EntryState:
        return poisoned_32(exact, poison)


class Firecracker(_VmmProfile):
    """`firecracker` with an ELF `kernel_image_path` that has no PVH note: e_entry, in 64-bit code.

    The first GiB is mapped, whatever the memory; CS is 8. linux-loader does not clear .bss.
    """

    name, loader = "firecracker-64bit", "firecracker"
    version = "1.16.1"
    source = (
        "firecracker v1.16.1: src/vmm/src/arch/x86_64/{layout,mod,regs,gdt}.rs; linux-loader v0.13.2: "
        "src/loader/elf/mod.rs"
    )
    summary = "Firecracker on KVM, an ELF file by the 64-bit entry"
    vmm = vmm.Firecracker()
    boot_type = BootType.LINUX_64
    undefined = (*UNDEFINED_64, Undefined(".bss", "BB-U007", by="linux-loader"))
    rules = (*LinuxProfile.rules, CMDLINE, NOT_ELF, MAPPED, CONTROL_BITS)

    def setting(self, image: ElfImage, offer: Offer) -> Setting:
        if image.packing is not None:
            raise InputError(Problem(NOT_ELF, image.name, "it is a bzImage"))
        memory = self.memory(image, offer)
        check_fit(image, (Span(0, memory),), module_bytes(offer))
        values: dict[str, int | bytes] = {
            "boot_flag": boot_params.BOOT_FLAG,
            "header": boot_params.HEADER_MAGIC,
            "type_of_loader": _OTHER,
            "kernel_alignment": 0x1000000,  # KERNEL_MIN_ALIGNMENT_BYTES
        }
        given, modules = self.handed(image, offer, memory, b"", values)
        first = min(s.paddr for s in image.loads)
        promised = (_LOW, Span(first, image.physical_end - first))

        def extras(poison: Poison) -> tuple[Load, ...]:
            mapped = promised if "identity map" in poison.names else (_GIB,)
            return (identity_map(_TABLES, mapped), *self.vmm.tables(_GDT_64))

        return Setting(
            regions=self.vmm.regions(memory),
            kernel=(),
            given=given,
            modules=modules,
            state=_long_state(image.entry),
            platform=self.vmm.platform(),
            extras=extras,
        )

    def kernel_loads(self, image: ElfImage, setting: Setting, poison: Poison) -> Sequence[Load]:
        return vmm.elf_loads(image, poison)

    def poisoned(self, exact: EntryState, poison: Poison) -> EntryState:
        return poisoned_64(exact, poison)


def _long_state(entry: int) -> EntryState:
    data = Descriptor(0x10, attributes=0xC093)
    return EntryState(
        mode="long64",
        ip=entry,
        registers={"rsi": ZERO_PAGE, "rsp": STACK, "rbp": STACK, "rflags": 2},
        cr0=0xE0000011,  # KVM's reset value, and PE and PG
        cr3=_TABLES,
        cr4=0x20,
        efer=0x500,
        cs=Descriptor(0x08, attributes=0xA09B),
        ds=data,
        es=data,
        ss=data,
        fs=data,
        gs=data,
        tr=Descriptor(0x18, limit=0xFFFFFFFF, attributes=0x808B),
        gdtr=TableRegister(GDT_AT, 8 * len(_GDT_64) - 1),
        idtr=TableRegister(IDT_AT, 7),
    )


def _high(image: ElfImage, initrd: Content | None, memory: int) -> tuple[Load, ...]:
    """The ramdisk as high as whole pages allow. Raises InputError (BB-L003)."""
    if initrd is None:
        return ()
    if initrd.size > memory:
        text = f"the ramdisk has {initrd.size:#x} bytes, the machine {memory:#x}"
        raise InputError(Problem(DOES_NOT_FIT, image.name, text))
    return (Load((memory - initrd.size) & ~0xFFF, initrd, 0, initrd.size, initrd.size),)
