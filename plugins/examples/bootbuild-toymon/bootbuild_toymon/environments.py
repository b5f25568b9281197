"""Profiles `toymon@v1` and `pvh@toymon`: the machine as the monitor leaves it, by its protocol and by PVH."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from bootbuild.abi.handover import BootType, HypervisorType
from bootbuild.abi.hvm_start_info import (
    MAP_ENTRY_SIZE,
    HvmModule,
    HvmStartInfo,
    pack_memory_map,
    pack_modules,
)
from bootbuild.api import (
    Cpu,
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
from bootbuild.platform import Pc
from bootbuild_toymon.monitor import NO_ENTRY, TOO_LOW, check_place, read_header

TOYMON_BOOT = 0x70590001  #: boot type: vendor 0x7059, its type 1
INFO, CMDLINE, MODULES, MEMORY_MAP = 0x1000, 0x2000, 0x3000, 0x4000  #: where the monitor's structures lie
CMDLINE_SIZE = 1024  #: bytes, with the NUL
POWER = 0x501  #: I/O port
DEFAULT_MEMORY = 64 << 20  #: bytes

NO_ROOM = Rule(
    "TOYMON-004",
    "too little memory",
    "Every PT_LOAD and the module behind them must lie in RAM, and RAM be no less than note 2 asks for.",
    "give the machine more memory (`[boot] memory`, `--memory`)",
)
NOT_PASSED_ON = Rule(
    "TOYMON-005",
    "more than toymon passes on",
    "toymon passes a command line of up to 1023 bytes, and one module without a command line of its own.",
    "shorten the command line; join the modules into one",
)


def _undefined(pointer: str) -> tuple[Undefined, ...]:
    """What the protocol leaves open when `pointer` is the one register that it defines."""
    general = [name for name in ("EAX", "EBX", "ECX", "EDX", "ESI", "EDI", "EBP") if name != pointer]
    return (
        *(Undefined(name, "BB-U001") for name in general),
        Undefined("ESP", "BB-U002"),
        Undefined("GDTR", "BB-U003"),
        Undefined("IDTR", "BB-U003"),
        Undefined("selectors", "BB-U004"),
        Undefined("EFLAGS", "BB-U005"),
        Undefined("free memory", "BB-U006"),
    )


_GARBAGE = {Filling.POISON_A: 0xDEADBEE1, Filling.POISON_B: 0x5EED0F03}
_FLAGS = {Filling.POISON_A: 0xCD7, Filling.POISON_B: 0x3}  #: DF and the arithmetic flags, then CF alone


class Board(Pc):
    """What the guest meets: a PC's serial port, and a port that ends the machine."""

    def __init__(self) -> None:
        super().__init__(hypervisor=b"ToymonToymon")

    def port_out(self, cpu: Cpu, port: int, size: int, value: int) -> None:
        if port != POWER:
            super().port_out(cpu, port, size, value)
        elif value:
            cpu.stop("crash", f"{value:#x} was written to toymon's power port")
        else:
            cpu.stop("shutdown", "toymon was told to power off")


@dataclass(frozen=True)
class _Machine:
    """Memory as the monitor fills it, before any structure of a protocol."""

    memory: int  #: bytes of RAM, from 0 on
    loads: tuple[Load, ...]
    modules: tuple[GivenModule, ...]

    @property
    def memory_map(self) -> tuple[MapEntry, ...]:
        return (MapEntry(0, self.memory, 1),)


def _put(address: int, data: bytes) -> Load:
    return Load(address, MemoryContent(data), 0, len(data), len(data))


def _cmdline(offer: Offer) -> Load:
    return _put(CMDLINE, offer.cmdline.ljust(CMDLINE_SIZE, b"\0"))


def _load(image: ElfImage, offer: Offer, least: int = 0) -> _Machine:
    """Load image, module and command line. Raises InputError (TOYMON-004, TOYMON-005)."""
    if (
        len(offer.cmdline) >= CMDLINE_SIZE
        or len(offer.modules) > 1
        or any(line for *_, line in offer.modules)
    ):
        text = f"{len(offer.cmdline)} bytes of command line, {len(offer.modules)} modules"
        raise InputError(Problem(NOT_PASSED_ON, image.name, text))
    memory = (offer.memory or DEFAULT_MEMORY) & ~0xFFF
    loads = [Load(s.paddr, image.content, s.offset, s.filesz, s.memsz) for s in image.loads]
    modules = []
    end = image.physical_end
    for _, content, _ in offer.modules:
        span = Span(align_up(end, 4096), content.size)
        modules.append(GivenModule(span, content_digest(content), b""))
        loads.append(Load(span.start, content, 0, span.size, span.size))
        end = span.end
    if max(end, least) > memory:
        text = f"it takes {max(end, least):#x} bytes from 0 on, the machine has {memory:#x}"
        raise InputError(Problem(NO_ROOM, image.name, text))
    return _Machine(memory, tuple(loads), tuple(modules))


def _state(entry: int, pointer: str, filling: Filling, poisoned: frozenset[str]) -> EntryState:
    """The CPU at the entry, `pointer` holding INFO; what `poisoned` names is garbage, not the monitor's."""

    def value(name: str, exact: int) -> int:
        return _GARBAGE[filling] if name in poisoned else exact

    registers = {
        f"r{u.name[1:].lower()}": value(u.name, 0) for u in _undefined(pointer) if u.rule == "BB-U001"
    }
    registers[f"r{pointer[1:].lower()}"] = INFO
    registers["rsp"] = value("ESP", 0x8000)
    registers["rflags"] = _FLAGS[filling] if "EFLAGS" in poisoned else 0x2
    code, data = value("selectors", 0x08) & 0xFFF8, value("selectors", 0x10) & 0xFFF8
    flat = Descriptor(data, attributes=0xC093)
    return EntryState(
        mode="protected32",
        ip=entry,
        registers=registers,
        cs=Descriptor(code, attributes=0xC09B),
        ds=flat,
        es=flat,
        ss=flat,
        gdtr=TableRegister(value("GDTR", 0x800), 0x17),
        idtr=TableRegister(value("IDTR", 0), 0),
    )


class _Profile:
    """What both profiles share: one monitor, at one version."""

    version = "1"
    evidence = Evidence.INFERRED
    source = "README.md of bootbuild-toymon"
    undefined: tuple[Undefined, ...]
    pointer: str  #: the register that the protocol defines

    def finish(
        self,
        entry: int,
        machine: _Machine,
        given: Given,
        filling: Filling,
        only: frozenset[str] | None,
    ) -> Scene:
        """The scene of a loaded machine: `given` is what the protocol passes, and what that says."""
        names = frozenset(one.name for one in self.undefined)
        poisoned = frozenset() if filling is Filling.EXACT else names if only is None else names & only
        return Scene(
            regions=(Region(Span(0, machine.memory), RegionKind.RAM),),
            loads=(*machine.loads, *given.structures),
            state=_state(entry, self.pointer, filling, poisoned),
            given=given,
            platform=Board(),
            poisoned=poisoned,
            garbage=_GARBAGE[filling] if "free memory" in poisoned else 0,
        )


class ToymonV1(_Profile):
    """`toymon IMAGE`."""

    target = "toymon"
    name = "v1"
    summary = "toymon 1"
    loader = "toymon"
    pointer = "ESI"
    undefined = _undefined("ESI")
    rules = (NO_ROOM, NOT_PASSED_ON)

    def scene(
        self, image: ElfImage, offer: Offer, filling: Filling, only: frozenset[str] | None = None
    ) -> Scene:
        header = read_header(image)
        machine = _load(image, offer, header.memory)
        module = machine.modules[0].span if machine.modules else Span(0, 0)
        cmdline = CMDLINE if offer.cmdline else 0
        info = struct.pack("<4sIIIII", b"TOYM", 1, machine.memory >> 10, cmdline, module.start, module.size)
        given = Given(
            boot_type=TOYMON_BOOT,
            hypervisor_type=HypervisorType.UNKNOWN,
            data=INFO,
            cmdline=offer.cmdline,
            modules=machine.modules,
            memory_map=machine.memory_map,
            structures=(_put(INFO, info), _cmdline(offer)),
        )
        return self.finish(header.entry, machine, given, filling, only)


class PvhToymon(_Profile):
    """`toymon IMAGE`, where the image has no toymon entry but that of PVH."""

    target = "pvh"
    name = "toymon"
    summary = "toymon 1, which starts PVH images too"
    loader = ""
    pointer = "EBX"
    undefined = _undefined("EBX")
    rules = (NO_ENTRY, TOO_LOW, NO_ROOM, NOT_PASSED_ON)

    def scene(
        self, image: ElfImage, offer: Offer, filling: Filling, only: frozenset[str] | None = None
    ) -> Scene:
        notes = [note for note in image.notes if (note.owner, note.type) == ("Xen", 18)]
        if not notes:
            raise InputError(Problem(NO_ENTRY, image.name, "the file has no note 18 of owner Xen"))
        check_place(image)
        machine = _load(image, offer)
        modules = [HvmModule(one.span.start, one.span.size) for one in machine.modules]
        map_size = MAP_ENTRY_SIZE * len(machine.memory_map)
        info = HvmStartInfo(
            version=1,
            flags=0,
            nr_modules=len(modules),
            modlist_paddr=MODULES if modules else 0,
            cmdline_paddr=CMDLINE if offer.cmdline else 0,
            rsdp_paddr=0,
            memmap_paddr=MEMORY_MAP,
            memmap_entries=len(machine.memory_map),
        )
        structures = [
            _put(INFO, info.pack()),
            _cmdline(offer),
            _put(MODULES, pack_modules(modules)),
            _put(MEMORY_MAP, pack_memory_map(machine.memory_map)),
        ]
        given = Given(
            boot_type=BootType.PVH,
            hypervisor_type=HypervisorType.UNKNOWN,
            data=INFO,
            cmdline=offer.cmdline,
            modules=machine.modules,
            memory_map=machine.memory_map,
            native_map=Span(MEMORY_MAP, map_size),
            structures=tuple(structures),
        )
        entry = int.from_bytes(notes[-1].desc[:4], "little")
        return self.finish(entry, machine, given, filling, only)
