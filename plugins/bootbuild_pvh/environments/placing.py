"""hvm_start_info and all that it points to, where one monitor puts it."""

from __future__ import annotations

from dataclasses import dataclass, field

from bootbuild.abi.handover import BootType, HypervisorType
from bootbuild.abi.hvm_start_info import (
    MAP_ENTRY_SIZE,
    SIF_INITDOMAIN,
    SIZE,
    HvmModule,
    HvmStartInfo,
    pack_memory_map,
    pack_modules,
)
from bootbuild.api import (
    Content,
    Given,
    GivenModule,
    Load,
    MapEntry,
    Span,
    content_digest,
)
from bootbuild.platform.loading import put


@dataclass(frozen=True)
class PlacedModule:
    """The bytes of a module at a physical address, and its command line at another (0: none)."""

    address: int
    content: Content = field(repr=False)
    cmdline: bytes = b""
    cmdline_paddr: int = 0
    reserved: int = 0  #: what the monitor leaves in the list's reserved field


@dataclass(frozen=True)
class Placing:
    """What one monitor hands over, and where. Addresses physical; 0 is handed over as absent."""

    info: int
    cmdline: int
    modlist: int
    memmap: int  #: 0: start_info is version 0, which has no map
    rsdp: int
    memory_map: tuple[MapEntry, ...]  #: also where it has to be asked for by call
    modules: tuple[PlacedModule, ...] = ()
    flags: int = 0

    def loads(self, cmdline: bytes) -> list[Load]:
        """All of it, to be loaded after the image."""
        modules = [Load(m.address, m.content, 0, m.content.size, m.content.size) for m in self.modules]
        return [*self.structures(cmdline), *modules]

    def structures(self, cmdline: bytes) -> list[Load]:
        """All but the modules; start_info first."""
        start_info = HvmStartInfo(
            version=1 if self.memmap else 0,
            flags=self.flags,
            nr_modules=len(self.modules),
            modlist_paddr=self.modlist if self.modules else 0,
            cmdline_paddr=self.cmdline,
            rsdp_paddr=self.rsdp,
            memmap_paddr=self.memmap,
            memmap_entries=len(self.memory_map),
        )
        listed = [HvmModule(m.address, m.content.size, m.cmdline_paddr, m.reserved) for m in self.modules]
        loads = [put(self.info, start_info.pack().ljust(SIZE, b"\0"))]
        if self.cmdline:
            loads.append(put(self.cmdline, cmdline + b"\0"))
        if listed:
            loads.append(put(self.modlist, pack_modules(listed)))
        if self.memmap:
            loads.append(put(self.memmap, pack_memory_map(self.memory_map)))
        loads += [put(m.cmdline_paddr, m.cmdline + b"\0") for m in self.modules if m.cmdline_paddr]
        return loads

    def given(self, cmdline: bytes, hypervisor: HypervisorType) -> Given:
        """The same as what a correct guest must find again."""
        native = Span(self.memmap, MAP_ENTRY_SIZE * len(self.memory_map)) if self.memmap else Span(0, 0)
        return Given(
            boot_type=BootType.PVH,
            hypervisor_type=hypervisor,
            data=self.info,
            cmdline=cmdline,
            modules=tuple(
                GivenModule(Span(m.address, m.content.size), content_digest(m.content), m.cmdline)
                for m in self.modules
            ),
            memory_map=self.memory_map,
            rsdp=self.rsdp,
            native_map=native,
            structures=tuple(self.structures(cmdline)),
            privileged=bool(self.flags & SIF_INITDOMAIN),
        )
