"""What PV domains share: the image in scattered frames, page tables, start_info, and a CPU in ring 3."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping
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
    align_up,
    content_digest,
)
from bootbuild_xenpv.environments import start_info
from bootbuild_xenpv.environments.frames import PAGE, Frames
from bootbuild_xenpv.environments.layout import Layout
from bootbuild_xenpv.environments.tables import page_tables
from bootbuild_xenpv.hypervisor import PvDomain, XenPv
from bootbuild_xenpv.hypervisor.entries import ACCESSED, DIRTY, LARGE, PRESENT, USER, WRITE
from bootbuild_xenpv.notes import PvNotes, read_notes
from bootbuild_xenpv.rules import DOES_NOT_FIT, FRAMES, MODULES, PROFILE_RULES

MiB, GiB = 1 << 20, 1 << 30
FREE_MEMORY, MACHINE_FRAMES, ARGUMENTS = "free memory", "machine frames", "hypercall arguments"
_CLOBBERED = {Filling.POISON_A: 0xDEADBEEFDEADF00D, Filling.POISON_B: 0x5EED0B0B5EED0B0B}
_SEEDS = {Filling.EXACT: 0, Filling.POISON_A: 0xA11CE5ED, Filling.POISON_B: 0x0B0B5EED}

# Xen's own memory, at the bottom of the machine: page tables, the vCPU's descriptors, shared_info, the M2P.
XEN = 16 * MiB
SHARED_INFO, _ZERO, _DESCRIPTORS, _GDT_L1, _GDT_L2, _GDT_L3, _M2P_L3, _M2P_L2 = (
    XEN + PAGE * index for index in range(8)
)
_GRANT_FRAMES = range(XEN // PAGE + 8, XEN // PAGE + 8 + 64)  #: max_grant_frames
_STATUS_FRAMES = range(_GRANT_FRAMES.stop, _GRANT_FRAMES.stop + 8)
_M2P = XEN + 2 * MiB
_M2P_SLOT, _PERDOMAIN_SLOT = 256, 260  #: RO_MPT_VIRT_START, PERDOMAIN_VIRT_START: asm-x86/config.h
_GDT = 0xFFFF820000000000
_GDT_LIMIT = 0xEFFF  #: LAST_RESERVED_GDT_BYTE
_TABLE = PRESENT | WRITE | ACCESSED | DIRTY
_FLAT = {  # xen/include/public/arch-x86/xen-x86_64.h FLAT_*, and Xen's own two
    0xE008: 0x00AF9B000000FFFF,
    0xE010: 0x00CF93000000FFFF,
    0xE018: 0x00CFBB000000FFFF,
    0xE020: 0x00CFFB000000FFFF,
    0xE028: 0x00CFF3000000FFFF,
    0xE030: 0x00AFFB000000FFFF,
}
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
    machine_map: tuple[MapEntry, ...] = ()  #: the host's, for the control domain
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
            _put(layout.p2m.address, frames.p2m.tobytes()),
            *(_put(part.address, bytes(PAGE)) for part in (layout.store, layout.console) if part),
            _put(layout.start_info.address, setting.info.pack().ljust(PAGE, b"\0")),
        ]
        dirty = _pages(written) if self.builds_in_place else frozenset[int]()
        tables = page_tables(layout, frames, domain.own_slots, dirty)
        pseudo = [*self._module_loads(setting), *written, *(_put(at, table) for at, table in tables)]
        return Scene(
            regions=(
                *(Region(span, RegionKind.MMIO) for span in setting.io_memory),
                Region(_xen_memory(frames), RegionKind.RESERVED),
                frames.region,
            ),
            loads=(*_xen_loads(frames), *(part for load in pseudo for part in frames.scatter(load))),
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
            shared_info=SHARED_INFO,
            m2p=_M2P,
            m2p_entries=_m2p_entries(frames),
            gdt=_GDT,
            gdt_table=_GDT_L1,
            zero_page=_ZERO,
            grant_frames=_GRANT_FRAMES,
            status_frames=_STATUS_FRAMES,
            own_slots=_own_slots(),
            memory_map=setting.memory_map,
            machine_map=setting.machine_map,
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
        return [_put(address, hypercall_page())]

    def _given(self, setting: Setting, notes: PvNotes, offer: Offer) -> Given:
        layout = setting.layout
        modules: tuple[GivenModule, ...] = ()
        if setting.module is not None and layout.module is not None:
            content, size = setting.module
            padded = (
                content if size == content.size else MemoryContent(content.read(0, size).ljust(size, b"\0"))
            )
            place = Span(layout.module.address + notes.paddr_offset, size)
            modules = (GivenModule(place, content_digest(padded), b""),)
        return Given(
            boot_type=BootType.XEN_PV,
            hypervisor_type=HypervisorType.XEN,
            data=layout.virtual(layout.start_info),
            cmdline=offer.cmdline,
            modules=modules,
            memory_map=setting.memory_map,
            structures=(_put(layout.virtual(layout.start_info), setting.info.pack()),),
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
    return (Span(notes.hypercall_page - notes.virt_base + notes.paddr_offset, PAGE),)


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
        gdtr=TableRegister(_GDT, _GDT_LIMIT),
    )


def _m2p_entries(frames: Frames) -> int:
    return frames.first + frames.size


def _xen_memory(frames: Frames) -> Span:
    return Span(XEN, _M2P - XEN + align_up(8 * _m2p_entries(frames), 2 * MiB))


def _own_slots() -> Mapping[int, int]:
    return {_M2P_SLOT: _M2P_L3 | _TABLE | USER, _PERDOMAIN_SLOT: _GDT_L3 | _TABLE}


def _xen_loads(frames: Frames) -> list[Load]:
    """Xen's own pages. The M2P is mapped read-only for ring 3, the vCPU's descriptors not at all."""
    m2p = b"\xff" * (8 * frames.first) + frames.m2p.tobytes()
    size = align_up(len(m2p), 2 * MiB)
    leaves = (_M2P + at | PRESENT | USER | ACCESSED | DIRTY | LARGE for at in range(0, size, 2 * MiB))
    descriptors = bytearray(PAGE)
    for selector, value in _FLAT.items():
        struct.pack_into("<Q", descriptors, selector & 0xFF8, value)
    gdt = [_ZERO | _TABLE] * 14 + [_DESCRIPTORS | _TABLE]
    return [
        _put(XEN, bytes(_STATUS_FRAMES.stop * PAGE - XEN)),
        _put(SHARED_INFO, start_info.shared_info()),
        _put(_DESCRIPTORS, bytes(descriptors)),
        _put(_GDT_L1, struct.pack(f"<{len(gdt)}Q", *gdt)),
        _put(_GDT_L2, struct.pack("<Q", _GDT_L1 | _TABLE)),
        _put(_GDT_L3, struct.pack("<Q", _GDT_L2 | _TABLE)),
        _put(_M2P_L3, struct.pack("<Q", _M2P_L2 | _TABLE | USER)),
        _put(_M2P_L2, b"".join(struct.pack("<Q", leaf) for leaf in leaves)),
        Load(_M2P, MemoryContent(m2p), 0, len(m2p), size),
    ]


def _put(address: int, data: bytes) -> Load:
    return Load(address, MemoryContent(data), 0, len(data), len(data))
