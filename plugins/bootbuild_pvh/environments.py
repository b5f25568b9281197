"""Profiles of target `pvh`: the machine as each monitor leaves it at the PVH entry.

The contract is Xen's docs/misc/pvh.pandoc: EBX, flat segments, CR0.PE, paging off, and nothing else. A
profile is what one program does within that contract; garbage replaces whatever the contract leaves open.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from bootbuild.abi import acpi
from bootbuild.abi.handover import BootType, HypervisorType
from bootbuild.abi.hvm_start_info import (
    MAP_ENTRY_SIZE,
    MODULE_SIZE,
    SIZE,
    HvmModule,
    HvmStartInfo,
    pack_memory_map,
    pack_modules,
)
from bootbuild.api import (
    Content,
    Descriptor,
    ElfImage,
    EntryState,
    Evidence,
    Filling,
    Given,
    GivenModule,
    InputError,
    Load,
    MapEntry,
    MemoryContent,
    Offer,
    Platform,
    Problem,
    Region,
    RegionKind,
    Rule,
    Scene,
    Span,
    TableRegister,
    Undefined,
    align_up,
    content_digest,
)
from bootbuild.platform import Pc, XenHvm
from bootbuild.platform.xen import XenDomain
from bootbuild_pvh.targets import NO_ENTRY, pvh_entry

MiB = 1 << 20
RAM, RESERVED, ACPI = 1, 2, 3  #: XEN_HVM_MEMMAP_TYPE_*

MEMORY = Span(2 * MiB, 3 * 1024 * MiB - 2 * MiB)  #: from what SeaBIOS needs to the hole below 4 GiB
_OTHER_MEMORY = "ask for another size (`[boot] memory`, `--memory`)"

DOES_NOT_FIT = Rule(
    "BB-L003",
    "image and modules do not fit into the machine's memory",
    "Every PT_LOAD must lie in RAM at its physical address, and the modules beside it. A loader refuses a "
    "file that does not fit, or writes where there is no memory. The machines emulated here have no "
    "more than 3 GiB: the rest would lie above the hole that a PC keeps below 4 GiB.",
    "give the machine more memory (`[boot] memory`, `--memory`) or link the kernel lower",
)

MODULES = Rule(
    "BB-L004",
    "more modules than this monitor passes on",
    "QEMU's -initrd and xl's ramdisk hand over one file, without a command line of its own; what else the "
    "recipe lists would silently not arrive.",
    "join the files into one module, or leave this profile out of `profiles`",
)

UNDEFINED = (
    *(Undefined(name, "BB-U001") for name in ("EAX", "ECX", "EDX", "ESI", "EDI", "EBP")),
    Undefined("ESP", "BB-U002"),
    Undefined("GDTR", "BB-U003"),
    Undefined("IDTR", "BB-U003"),
    Undefined("selectors", "BB-U004"),
    Undefined("EFLAGS", "BB-U005"),
    Undefined("free memory", "BB-U006"),
)
_SEEDS = {Filling.EXACT: 0, Filling.POISON_A: 0xA11CE5ED, Filling.POISON_B: 0x0B0B5EED}


@dataclass(frozen=True)
class _Poison:
    """Garbage for one run: which undefined things get it, and from which seed."""

    seed: int
    names: frozenset[str]

    def pick(self, name: str, exact: int, garbage_a: int, garbage_b: int) -> int:
        """`exact` unless `name` is poisoned in this run."""
        if name not in self.names:
            return exact
        return garbage_a if self.seed == _SEEDS[Filling.POISON_A] else garbage_b

    @property
    def memory(self) -> int:
        """Seed for free memory; 0 leaves zeros."""
        return self.seed if "free memory" in self.names else 0


def _poison(filling: Filling, only: frozenset[str] | None) -> _Poison:
    if filling is Filling.EXACT:
        return _Poison(0, frozenset())
    names = frozenset(u.name for u in UNDEFINED)
    return _Poison(_SEEDS[filling], names if only is None else names & only)


def entry_state(exact: EntryState, poison: _Poison) -> EntryState:
    """The profile's state with everything that PVH leaves undefined replaced by this run's garbage.

    Not replaced: EBX, CR0, CR4, the hidden parts of CS, DS, ES, SS and TR, and EFLAGS.VM, IF and TF.
    """
    registers = dict(exact.registers)
    for index, name in enumerate(("EAX", "ECX", "EDX", "ESI", "EDI", "EBP")):
        key = "r" + name[1:].lower()
        # 0x2BADB002 is what qboot leaves in EAX: a guest must not take it for Multiboot
        first = 0x2BADB002 if name == "EAX" else 0xDEAD0000 + index
        registers[key] = poison.pick(
            name, registers.get(key, 0), first, 0x5EED0101 * (index + 1) & 0xFFFFFFFF
        )
    registers["rsp"] = poison.pick("ESP", registers.get("rsp", 0), 0x90000008, 0x00000003)
    # DF, AC, ID and the arithmetic flags are "unspecified"
    registers["rflags"] = poison.pick("EFLAGS", registers.get("rflags", 2), 0x00000CD7, 0x00240003)

    def selector(descriptor: Descriptor, a: int, b: int) -> Descriptor:
        value = poison.pick("selectors", descriptor.selector, a, b)
        return Descriptor(value, descriptor.base, descriptor.limit, descriptor.attributes)

    return EntryState(
        mode="protected32",
        ip=exact.ip,
        registers=registers,
        cr0=exact.cr0,
        cr4=exact.cr4,
        cs=selector(exact.cs, 0x20, 0x1238),
        ds=selector(exact.ds, 0x28, 0xFFF0),
        es=selector(exact.es, 0x30, 0x0440),
        ss=selector(exact.ss, 0x38, 0x0770),
        fs=selector(exact.fs, 0x40, 0x0888),
        gs=selector(exact.gs, 0x48, 0x0990),
        tr=exact.tr,
        ldtr=exact.ldtr,
        gdtr=TableRegister(
            poison.pick("GDTR", exact.gdtr.base, 0xFFFFF000, 0x7F000000),
            poison.pick("GDTR", exact.gdtr.limit, 0xFFFF, 0x17),
        ),
        idtr=TableRegister(
            poison.pick("IDTR", exact.idtr.base, 0xFFFFF000, 0x7F000000),
            poison.pick("IDTR", exact.idtr.limit, 0xFFFF, 0x07),
        ),
    )


def image_loads(image: ElfImage) -> list[Load]:
    """The PT_LOADs at their physical addresses, .bss zeroed."""
    return [Load(s.paddr, image.content, s.offset, s.filesz, s.memsz) for s in image.loads]


def put(address: int, data: bytes) -> Load:
    """Bytes of the environment's own, at a physical address."""
    return Load(address, MemoryContent(data), 0, len(data), len(data))


def _entry(image: ElfImage) -> int:
    entry = pvh_entry(image)
    if entry is None:
        raise InputError(Problem(NO_ENTRY, image.name, "the file has no PHYS32_ENTRY note"))
    return entry


def _memory(image: ElfImage, offer: Offer) -> int:
    """RAM in bytes: as asked, else 128 MiB, or 512 MiB for images that reach beyond 48 MiB. InputError."""
    memory = offer.memory or (512 * MiB if image.physical_end > 48 * MiB else 128 * MiB)
    if memory not in range(MEMORY.start, MEMORY.end + 1, 4096):
        message = f"{memory:#x} bytes of RAM; this machine has 2 MiB to 3 GiB, in whole pages"
        raise InputError(Problem(DOES_NOT_FIT, "memory", message, _OTHER_MEMORY))
    return memory


def _module_bytes(offer: Offer) -> int:
    return sum(align_up(content.size, 4096) for _, content, _ in offer.modules)


def _check_fit(image: ElfImage, ram: Sequence[Span], need: int) -> None:
    """InputError unless every PT_LOAD lies in RAM, and `need` more bytes above them do."""
    outside = [s for s in image.loads if not any(span.covers(s.physical) for span in ram)]
    problems = [
        Problem(DOES_NOT_FIT, image.name, f"segment {s.physical} is not in RAM ({', '.join(map(str, ram))})")
        for s in outside
    ]
    if not problems and image.physical_end + need > max(span.end for span in ram):
        problems = [
            Problem(
                DOES_NOT_FIT,
                image.name,
                f"the image ends at {image.physical_end:#x}; modules and start_info take {need:#x} bytes",
            )
        ]
    if problems:
        raise InputError(problems)


def _ramdisk(image: ElfImage, offer: Offer) -> Content | None:
    """The one module that a monitor with a single `initrd` option passes on, without a command line."""
    if len(offer.modules) > 1 or any(cmdline for _, _, cmdline in offer.modules):
        names = ", ".join(name for name, _, _ in offer.modules)
        raise InputError(
            Problem(
                MODULES, image.name, f"this monitor passes one module without a command line, not {names}"
            )
        )
    return offer.modules[0][1] if offer.modules else None


def _given_module(address: int, content: Content) -> GivenModule:
    return GivenModule(Span(address, content.size), content_digest(content), b"")


class _PvhProfile:
    """What all PVH profiles share."""

    target = "pvh"
    loader = ""
    undefined = UNDEFINED
    rules = (NO_ENTRY, DOES_NOT_FIT, MODULES)


# pvh.bin's own: null, 32-bit code, 32-bit data, 16-bit code, 16-bit data (read in QEMU 7.2's pvh.bin)
_QEMU_GDT = struct.pack(
    "<5Q", 0, 0x00CF9A000000FFFF, 0x00CF92000000FFFF, 0x00009E000000FFFF, 0x000092000000FFFF
)


class Qemu(_PvhProfile):
    """`qemu-system-x86_64 -M pc -cpu max -kernel FILE`: SeaBIOS and the pvh.bin option ROM."""

    name = "qemu"
    version = "7.2"
    evidence = Evidence.ORACLE
    source = "registers and hvm_start_info dumped under QEMU 7.2.22 (tests/oracles)"
    summary = "QEMU, machine pc (SeaBIOS and pvh.bin)"

    def scene(
        self, image: ElfImage, offer: Offer, filling: Filling, only: frozenset[str] | None = None
    ) -> Scene:
        entry, memory = _entry(image), _memory(image, offer)
        top = memory - 0x20000  # SeaBIOS keeps the last 128 KiB for ACPI
        low, main = Span(0, 0xA0000), Span(MiB, top - MiB)
        _check_fit(image, (low, main), _module_bytes(offer) + 0x29000)
        poison = _poison(filling, only)
        memory_map = (
            MapEntry(0, 0x9FC00, RAM),
            MapEntry(0x9FC00, 0x400, RESERVED),
            MapEntry(0xF0000, 0x10000, RESERVED),
            MapEntry(MiB, top - MiB, RAM),
            MapEntry(top, 0x20000, RESERVED),
            MapEntry(0xFFFC0000, 0x40000, RESERVED),
            MapEntry(0xFD00000000, 0x300000000, RESERVED),  # AMD HyperTransport hole
        )
        info, modlist, cmdline, memmap, rsdp = 0x21E0, 0x21C0, 0x11C0, 0x5A8, 0xF59D0
        loads = image_loads(image)
        modules = []
        at = memory - 0x28000  # hw/i386/pc.c: acpi_data_size, then down to a page
        if ramdisk := _ramdisk(image, offer):
            at = (at - 1 - ramdisk.size) & ~0xFFF
            modules.append(_given_module(at, ramdisk))
            loads.append(Load(at, ramdisk, 0, ramdisk.size, ramdisk.size))
        listed = [HvmModule(m.span.start, m.span.size) for m in modules]
        start_info = HvmStartInfo(
            version=1,
            flags=0,
            nr_modules=len(listed),
            modlist_paddr=modlist if listed else 0,
            cmdline_paddr=cmdline,
            rsdp_paddr=rsdp,
            memmap_paddr=memmap,
            memmap_entries=len(memory_map),
        )
        loads += [
            put(info, start_info.pack()),
            put(modlist, pack_modules(listed)),
            put(cmdline, offer.cmdline + b"\0"),
            put(memmap, pack_memory_map(memory_map)),
            put(rsdp, acpi.rsdp(rsdp + 0x30)),
            put(rsdp + 0x30, acpi.xsdt()),
            put(0xC0118, _QEMU_GDT),
        ]
        given = Given(
            boot_type=BootType.PVH,
            hypervisor_type=HypervisorType.TCG,
            data=info,
            cmdline=offer.cmdline,
            modules=tuple(modules),
            memory_map=memory_map,
            rsdp=rsdp,
            native_map=Span(memmap, MAP_ENTRY_SIZE * len(memory_map)),
            structures=(
                Span(info, SIZE),
                Span(modlist, MODULE_SIZE * len(listed)),
                Span(cmdline, len(offer.cmdline) + 1),
                Span(memmap, MAP_ENTRY_SIZE * len(memory_map)),
            ),
        )
        data = Descriptor(0x10, attributes=0xC093)
        exact = EntryState(
            mode="protected32",
            ip=entry,
            registers={
                "rbx": info,
                "rcx": entry,
                "rdx": 0x518,
                "rsi": cmdline,
                "rdi": 0x6EF4,
                "rsp": 0x6EDC,
                "rflags": 0x6,
            },
            cr0=0x11,
            cs=Descriptor(0x08, attributes=0xC09B),
            ds=data,
            es=data,
            ss=data,
            fs=data,
            gs=data,
            tr=Descriptor(0, limit=0xFFFF, attributes=0x008B),
            gdtr=TableRegister(0xC0118, 0x27),
            idtr=TableRegister(0, 0x3FF),
        )
        return Scene(
            regions=(
                Region(low, RegionKind.RAM),
                Region(Span(0xA0000, 0x20000), RegionKind.MMIO),  # VGA
                Region(Span(0xC0000, 0x40000), RegionKind.ROM),  # option ROMs, BIOS shadow
                Region(main, RegionKind.RAM),
                Region(Span(top, 0x20000), RegionKind.RESERVED),
                Region(Span(0xFEC00000, 0x1000), RegionKind.MMIO),  # I/O APIC
                Region(Span(0xFED00000, 0x1000), RegionKind.MMIO),  # HPET
                Region(Span(0xFEE00000, 0x1000), RegionKind.MMIO),  # local APIC
                Region(Span(0xFFFC0000, 0x40000), RegionKind.ROM),  # flash
            ),
            loads=tuple(loads),
            state=entry_state(exact, poison),
            given=given,
            platform=Pc(pm1_control=0x604, hypervisor=b"TCGTCGTCGTCG", vendor=b"AuthenticAMD"),
            poisoned=poison.names,
            garbage=poison.memory,
        )


class XenDomU(_PvhProfile):
    """`xl create` of a `type = "pvh"` domain: everything lies where libxenguest puts it."""

    name = "xen-domu"
    version = "4.17"
    evidence = Evidence.ORACLE
    source = "tools/libs/guest/xg_dom_x86.c; dumped in a real domU under Xen 4.17.7 (tests/oracles)"
    summary = "Xen, unprivileged PVH domain built by xl"

    _SPECIAL = Span(0xFEFF8000, 0x8000)  #: X86_HVM_END_SPECIAL_REGION - X86_HVM_NR_SPECIAL_PAGES
    _CONSOLE, _STORE = 7, 4  #: SPECIALPAGE_CONSOLE, SPECIALPAGE_XENSTORE
    _STORE_PORT, _CONSOLE_PORT = 1, 2
    _MODULES_MAX, _MODULE_CMDLINE_SIZE = 2, 1024  #: HVMLOADER_MODULE_MAX_COUNT, HVMLOADER_MODULE_CMDLINE_SIZE
    _RSDP, _ACPI_INFO, _ACPI_TABLES = 0xFC008000, Span(0xFC000000, 0x1000), Span(0xFC001000, 0x7000)

    def scene(
        self, image: ElfImage, offer: Offer, filling: Filling, only: frozenset[str] | None = None
    ) -> Scene:
        entry, memory = _entry(image), _memory(image, offer)
        ram = Span(0, memory)
        _check_fit(image, (ram,), _module_bytes(offer) + 0x4000)
        poison = _poison(filling, only)
        memory_map = (
            MapEntry(0, memory, RAM),
            MapEntry(self._SPECIAL.start, self._SPECIAL.size, RESERVED),
            MapEntry(self._RSDP, 0x40, ACPI),
            MapEntry(self._ACPI_INFO.start, self._ACPI_INFO.size, ACPI),
            MapEntry(self._ACPI_TABLES.start, self._ACPI_TABLES.size, ACPI),
        )
        loads = image_loads(image)
        at = align_up(image.physical_end, 4096)
        modules = []
        if ramdisk := _ramdisk(image, offer):
            modules.append(_given_module(at, ramdisk))
            loads.append(Load(at, ramdisk, 0, ramdisk.size, ramdisk.size))
            at = align_up(at + ramdisk.size, 4096)

        # one block: start_info, command line, room for two modules and their strings, memory map
        info, cmdline = at, at + SIZE
        modlist = cmdline + (align_up(len(offer.cmdline) + 1, 8) if offer.cmdline else 0)
        memmap = modlist + self._MODULES_MAX * (MODULE_SIZE + self._MODULE_CMDLINE_SIZE)
        listed = [HvmModule(m.span.start, m.span.size) for m in modules]
        start_info = HvmStartInfo(
            version=1,
            flags=0,
            nr_modules=len(listed),
            modlist_paddr=modlist if listed else 0,
            cmdline_paddr=cmdline if offer.cmdline else 0,
            rsdp_paddr=self._RSDP,
            memmap_paddr=memmap,
            memmap_entries=len(memory_map),
        )
        loads += [put(info, start_info.pack())]
        if offer.cmdline:
            loads.append(put(cmdline, offer.cmdline + b"\0"))
        loads.append(put(modlist, pack_modules(listed)))
        end = memmap + MAP_ENTRY_SIZE * len(memory_map)
        loads += [
            put(memmap, pack_memory_map(memory_map)),
            put(self._SPECIAL.start, bytes(self._SPECIAL.size)),  # the toolstack clears its pages
            put(self._RSDP, acpi.rsdp(self._ACPI_TABLES.start)),
            put(self._ACPI_TABLES.start, acpi.xsdt()),
        ]
        given = Given(
            boot_type=BootType.PVH,
            hypervisor_type=HypervisorType.XEN,
            data=info,
            cmdline=offer.cmdline,
            modules=tuple(modules),
            memory_map=memory_map,
            rsdp=self._RSDP,
            native_map=Span(memmap, MAP_ENTRY_SIZE * len(memory_map)),
            structures=(Span(info, end - info),),
        )
        flat = Descriptor(0, attributes=0xC093)
        null = Descriptor(0, limit=0, attributes=0)
        exact = EntryState(
            mode="protected32",
            ip=entry,
            registers={"rbx": info, "rflags": 0x2},
            cr0=0x11,
            cs=Descriptor(0, attributes=0xC09B),
            ds=flat,
            es=flat,
            ss=flat,
            fs=null,
            gs=null,
            tr=Descriptor(0, limit=0x67, attributes=0x008B),
        )
        return Scene(
            regions=(
                Region(ram, RegionKind.RAM),
                Region(self._SPECIAL, RegionKind.RAM),
                Region(Span(0xFC000000, 0x9000), RegionKind.RAM),  # ACPI, type 3: reclaimable RAM
                Region(Span(0xFEE00000, 0x1000), RegionKind.MMIO),  # local APIC
            ),
            loads=tuple(loads),
            state=entry_state(exact, poison),
            given=given,
            platform=self._platform(memory_map),
            poisoned=poison.names,
            garbage=poison.memory,
        )

    def _platform(self, memory_map: tuple[MapEntry, ...]) -> Platform:
        first = self._SPECIAL.start >> 12
        return XenHvm(
            XenDomain(
                domid=1,
                version=(4, 17),
                extra_version=".7",
                memory_map=memory_map,
                console_frame=first + self._CONSOLE,
                console_port=self._CONSOLE_PORT,
                store_frame=first + self._STORE,
                store_port=self._STORE_PORT,
            )
        )
