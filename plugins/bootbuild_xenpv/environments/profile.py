"""What PV domains share: the image in scattered frames, page tables, start_info, and a CPU in ring 3."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass

from bootbuild.abi.handover import BootType, HypervisorType
from bootbuild.api import (
    Content,
    Descriptor,
    ElfImage,
    EntryState,
    Filling,
    Given,
    GivenModule,
    InputError,
    Load,
    MapEntry,
    MemoryContent,
    Offer,
    Problem,
    Region,
    RegionKind,
    Scene,
    Span,
    TableRegister,
    Undefined,
    content_digest,
)
from bootbuild_xenpv.environments import machine, start_info
from bootbuild_xenpv.environments.frames import PAGE, Frames, GiB, MiB
from bootbuild_xenpv.environments.layout import Layout
from bootbuild_xenpv.environments.machine import put
from bootbuild_xenpv.environments.tables import page_tables
from bootbuild_xenpv.hypervisor import PvDomain, XenPv
from bootbuild_xenpv.notes import M64, PvNotes, read_notes
from bootbuild_xenpv.rules import DOES_NOT_FIT, FRAMES, MODULES, PROFILE_RULES

FREE_MEMORY, MACHINE_FRAMES, ARGUMENTS = "free memory", "machine frames", "hypercall arguments"
_CLOBBERED = {Filling.POISON_A: 0xDEADBEEFDEADF00D, Filling.POISON_B: 0x5EED0B0B5EED0B0B}
_SEEDS = {Filling.EXACT: 0, Filling.POISON_A: 0xA11CE5ED, Filling.POISON_B: 0x0B0B5EED}

_NULL = Descriptor(0, limit=0, attributes=0)


@dataclass(frozen=True)
class Setting:
    """One domain, built. `info`: start_info, whose machine frames are filled in."""

    layout: Layout
    info: start_info.StartInfo
    module: tuple[Content, int] | None  #: bytes, and how many of them the domain is told of
    memory_map: tuple[MapEntry, ...]
    domid: int
    ports: tuple[int, int] = (0, 0)  #: event channels of store and console
    io_memory: tuple[Span, ...] = ()  #: machine ranges of devices that the domain may map
    extended_cr3: bool = False  #: the assistance of that name is on from the start


class XenPvProfile(ABC):
    """A domain of one vCPU. Subclasses say how it is laid out and what start_info says."""

    target = "xen-pv"
    name: str
    version = "4.17"
    loader: str
    undefined = (
        Undefined(FREE_MEMORY, "BB-U006"),
        Undefined(ARGUMENTS, "BB-U008", by="Xen"),
        Undefined(MACHINE_FRAMES, FRAMES.id, by="Xen"),
    )
    rules = PROFILE_RULES
    memory_limit = 3 * GiB
    builds_in_place = False  #: the builder writes through the domain's own page tables

    def scene(
        self, image: ElfImage, offer: Offer, filling: Filling, only: frozenset[str] | None = None
    ) -> Scene:
        names = frozenset() if filling is Filling.EXACT else frozenset(u.name for u in self.undefined)
        poisoned = names if only is None else names & only
        notes = read_notes(image)
        count = self._memory_size(image, offer) // PAGE
        frames = Frames(count, filling if MACHINE_FRAMES in poisoned else Filling.EXACT)
        setting = self.setting(image, notes, offer, frames)
        layout = setting.layout
        domain = self._domain(setting, frames)
        written = [
            *_image_loads(image, notes),
            *self._hypercall_page(notes),
            put(layout.p2m.address, frames.p2m.tobytes()),
            *(put(part.address, bytes(PAGE)) for part in (layout.store, layout.console) if part),
            put(layout.start_info.address, setting.info.pack().ljust(PAGE, b"\0")),
        ]
        dirty = _pages(written) if self.builds_in_place else frozenset[int]()
        tables = page_tables(layout, frames, domain.own_slots, dirty)
        pseudo = [*self._module_loads(setting), *written, *(put(at, table) for at, table in tables)]
        return Scene(
            regions=(
                *(Region(span, RegionKind.MMIO) for span in setting.io_memory),
                Region(machine.shared_memory(), RegionKind.RAM),
                Region(machine.xen_memory(frames), RegionKind.RESERVED),
                frames.region,
            ),
            loads=(*machine.xen_loads(frames), *(part for load in pseudo for part in frames.scatter(load))),
            state=_state(notes.entry, layout, frames),
            given=self._given(setting, notes, offer),
            platform=XenPv(
                domain,
                version=(4, 17),
                extra_version=".7",
                clobber=_CLOBBERED[filling] if ARGUMENTS in poisoned else None,
            ),
            poisoned=poisoned,
            garbage=_SEEDS[filling] if FREE_MEMORY in poisoned else 0,
            frames=frames.p2m,
            first_frame=notes.paddr_offset,
            filled=_filled(notes),
        )

    @abstractmethod
    def setting(self, image: ElfImage, notes: PvNotes, offer: Offer, frames: Frames) -> Setting:
        """The domain as its builder makes it. Raises InputError."""

    def _memory_size(self, image: ElfImage, offer: Offer) -> int:
        """RAM in bytes: as asked, else 64 MiB, or 256 MiB for images beyond 24 MiB. Raises InputError."""
        memory = offer.memory or (256 * MiB if image.physical_end > 24 * MiB else 64 * MiB)
        if memory not in range(2 * MiB, self.memory_limit + 1, PAGE):
            text = (
                f"{memory:#x} bytes of RAM; this domain has 2 MiB to {self.memory_limit // GiB} GiB, in pages"
            )
            raise InputError(
                Problem(DOES_NOT_FIT, "memory", text, "ask for another size (`[boot] memory`, `--memory`)")
            )
        return memory

    def _domain(self, setting: Setting, frames: Frames) -> PvDomain:
        layout = setting.layout
        store, console = (
            0 if part is None else frames.p2m[part.pfn] for part in (layout.store, layout.console)
        )
        return PvDomain(
            domid=setting.domid,
            frames=frames,
            root=frames.p2m[layout.tables.pfn],
            kernel_stack=layout.virtual(layout.stack) + PAGE,
            shared_info=machine.SHARED_INFO,
            m2p=machine.M2P,
            m2p_entries=machine.m2p_entries(frames),
            gdt=machine.GDT,
            gdt_table=machine.GDT_L1,
            zero_page=machine.ZERO_PAGE,
            grant_frames=machine.GRANT_FRAMES,
            status_frames=machine.STATUS_FRAMES,
            own_slots=machine.own_slots(),
            memory_map=setting.memory_map,
            machine_map=machine.memory_map(frames),
            console_frame=console,
            console_port=setting.ports[1],
            store_frame=store,
            store_port=setting.ports[0],
            io_memory=setting.io_memory,
            extended_cr3=setting.extended_cr3,
        )

    def _module_loads(self, setting: Setting) -> list[Load]:
        part = setting.layout.module
        if setting.module is None or part is None:
            return []
        content = setting.module[0]
        return [Load(part.address, content, 0, content.size, part.pages * PAGE)]

    def _hypercall_page(self, notes: PvNotes) -> list[Load]:
        if notes.hypercall_page is None:
            return []
        address = notes.hypercall_page - notes.virt_base
        return [put(address, hypercall_page())]

    def _given(self, setting: Setting, notes: PvNotes, offer: Offer) -> Given:
        layout = setting.layout
        modules: tuple[GivenModule, ...] = ()
        if setting.module is not None and layout.module is not None:
            content, size = setting.module
            padded = (
                content if size == content.size else MemoryContent(content.read(0, size).ljust(size, b"\0"))
            )
            place = Span(layout.module.address + notes.paddr_offset & M64, size)
            modules = (GivenModule(place, content_digest(padded), b""),)
        return Given(
            boot_type=BootType.XEN_PV,
            hypervisor_type=HypervisorType.XEN,
            data=layout.virtual(layout.start_info),
            cmdline=offer.cmdline,
            modules=modules,
            memory_map=setting.memory_map,
            structures=(put(layout.virtual(layout.start_info), setting.info.pack()),),
            privileged=setting.domid == 0,
        )


def one_module(image: ElfImage, offer: Offer) -> Content | None:
    """The bytes of the one module that start_info has room for. Raises InputError (BB-L203)."""
    if len(offer.modules) > 1 or any(cmdline for _, _, cmdline in offer.modules):
        names = ", ".join(name for name, _, _ in offer.modules)
        text = f"a PV domain is given one module without a command line, not {names}"
        raise InputError(Problem(MODULES, image.name, text))
    return next((content for _, content, _ in offer.modules), None)


def hypercall_page() -> bytes:
    """128 entries of 32 bytes; number 23, iret, never returns (hypercall_page_initialise_ring3_kernel)."""
    page = bytearray(b"\xcc" * PAGE)
    for number in range(128):
        load = b"\xb8" + struct.pack("<I", number)
        code = b"\x51\x41\x53" + load + b"\x0f\x05\x41\x5b\x59\xc3"
        if number == 23:
            code = b"\x51\x41\x53\x50" + load + b"\x0f\x05"
        page[32 * number : 32 * number + len(code)] = code
    return bytes(page)


def _pages(loads: list[Load]) -> frozenset[int]:
    """The frames that were written to."""
    return frozenset(
        pfn for load in loads for pfn in range(load.address // PAGE, -(-(load.address + load.memsz) // PAGE))
    )


def _image_loads(image: ElfImage, notes: PvNotes) -> list[Load]:
    """What the builder takes from the file: not the page that it fills itself."""
    page = None if notes.hypercall_page is None else notes.hypercall_page - notes.virt_base
    loads = []
    for s in image.loads:
        at = notes.pseudo_physical(s.paddr)
        if page is None or page not in Span(at, s.memsz):
            loads.append(Load(at, image.content, s.offset, s.filesz, s.memsz))
            continue
        before, behind = page - at, page + PAGE - at
        if before:
            loads.append(Load(at, image.content, s.offset, min(s.filesz, before), before))
        if behind < s.memsz:
            size = max(0, s.filesz - behind)
            loads.append(Load(at + behind, image.content, s.offset + behind, size, s.memsz - behind))
    return loads


def _filled(notes: PvNotes) -> tuple[Span, ...]:
    if notes.hypercall_page is None:
        return ()
    return (Span(notes.hypercall_page - notes.virt_base + notes.paddr_offset & M64, PAGE),)


def _state(entry: int, layout: Layout, frames: Frames) -> EntryState:
    """vcpu_x86_64 (xg_dom_x86.c), arch_set_info_guest: every register that is not named is 0."""
    return EntryState(
        mode="long64-user",
        ip=entry,
        registers={
            "rsi": layout.virtual(layout.start_info),
            "rsp": layout.virtual(layout.stack) + PAGE,
            "rflags": 0x202,
        },
        cr0=0x80050033,
        cr3=frames.p2m[layout.tables.pfn] * PAGE,
        cr4=0x620,
        efer=0xD01,
        cs=Descriptor(0xE033, attributes=0xA0FB),
        ss=Descriptor(0xE02B, attributes=0xC0F3),
        ds=_NULL,
        es=_NULL,
        fs=_NULL,
        gs=_NULL,
        tr=Descriptor(0xE040, limit=0, attributes=0x008B),  # no I/O bitmap: every port traps
        gdtr=TableRegister(machine.GDT, machine.GDT_LIMIT),
    )
