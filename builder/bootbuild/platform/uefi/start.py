"""A program started by OVMF: all that it finds at its first instruction, firmware included."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bootbuild.model.content import Content
from bootbuild.model.machine import EntryState, Load, Region, Undefined
from bootbuild.model.span import Span
from bootbuild.platform.flat32 import Poison
from bootbuild.platform.loading import MiB
from bootbuild.platform.uefi import alive, device_path, entry_map, guids, rules
from bootbuild.platform.uefi.authentication import Authentication
from bootbuild.platform.uefi.boot_services import BootServices
from bootbuild.platform.uefi.consoles import TextInput, TextOutput
from bootbuild.platform.uefi.events import EventServices
from bootbuild.platform.uefi.firmware import SHADOW, VOLATILE, Firmware
from bootbuild.platform.uefi.graphics import Display, Graphics
from bootbuild.platform.uefi.load_files import InitrdMedia, KernelFiles
from bootbuild.platform.uefi.ovmf import FREE, MemoryType, Ovmf, with_crc
from bootbuild.platform.uefi.pe_image import PeImage
from bootbuild.platform.uefi.programs import Program, Programs
from bootbuild.platform.uefi.protection import Protection
from bootbuild.platform.uefi.protocol_services import ProtocolServices
from bootbuild.platform.uefi.random_numbers import RandomNumbers
from bootbuild.platform.uefi.runtime_services import BOOT_SERVICE, RUNTIME, RuntimeServices, Variables
from bootbuild.platform.uefi.system_table import SystemTable

_RFLAGS = 0x246  #: IF, and what OVMF's last comparison leaves
_RSP = 0x15F688  #: bytes below the end of RAM: the stack pointer at the first instruction

UNDEFINED = (
    *(Undefined(name, "BB-U001") for name in ("EAX", "ESI", "EDI", "EBP")),
    *alive.UPPER_REGISTERS,
    Undefined("stack", "BB-U002"),
    Undefined("EFLAGS", "BB-U005"),
    Undefined("load base", rules.BASE.id),
    Undefined("stride", rules.STRIDE.id),
    Undefined(VOLATILE, rules.VOLATILE.id),
    Undefined(SHADOW, rules.VOLATILE.id),
    Undefined("free memory", "BB-U006"),
)


@dataclass(frozen=True)
class Traits:
    """In what a firmware differs from OVMF."""

    memory_attribute: bool = False  #: it has EFI_MEMORY_ATTRIBUTE_PROTOCOL
    strict: bool = False  #: no page is writable and executable
    secure_boot: bool = False
    initrd: bool = True  #: an initrd is offered by LoadFile2
    random: bool = False  #: it has EFI_RNG_PROTOCOL
    display: Display | None = None  #: what graphics output there is
    taken: bool = False  #: memory for which kernels are linked is the firmware's for good


@dataclass(frozen=True)
class Started:
    """The first program, entered."""

    firmware: Firmware
    program: Program
    state: EntryState
    loads: tuple[Load, ...]
    regions: tuple[Region, ...]


def start(
    image: PeImage,
    machine: Ovmf,
    poison: Poison,
    traits: Traits = Traits(),
    *,
    options: bytes = b"",
    initrd: Content | None = None,
    files: Mapping[str, Content] | None = None,
    above: int = 0,
) -> Started:
    """Load a PE, `above` an address, and stand at its entry, with LoadOptions. Raises NotAnImage, Refused.

    `files`: those of QEMU, by their names.
    """
    firmware = Firmware(machine, poison)
    programs = Programs(firmware)
    loads = _tables(firmware, programs, traits)
    if traits.taken:
        _take(firmware)
    if traits.strict:
        firmware.protection = Protection(firmware, protocol=traits.memory_attribute)
    medium = KernelFiles(firmware, files or {})
    if initrd is not None:
        InitrdMedia(firmware, initrd)
    if traits.secure_boot:
        firmware.authentication = Authentication(firmware)
    if traits.random:
        RandomNumbers(firmware)
    low = bool(poison.pick("load base", 0, 1, 0)) and image.relocatable
    file_path = device_path.file_path("kernel") + device_path.END
    program = programs.load(
        image,
        0,
        medium.handle,
        file_path,
        whole_path=medium.path + file_path,
        options=options,
        low=low,
        above=above,
    )
    firmware.pages.convert(entry_map.freed(machine), MemoryType.CONVENTIONAL)
    top = machine.memory - _RSP
    registers = programs.first(program, poison.pick("stack", top, top - 0x340, top - 0x1230))
    registers["rflags"] = _RFLAGS
    entered = alive.state(machine, program.base + image.entry, registers)
    tables = firmware.protection.loads() if firmware.protection else alive.page_tables(machine.memory)
    return Started(
        firmware=firmware,
        program=program,
        state=alive.poisoned(entered, poison),
        loads=(*loads, *tables, *firmware.loads),
        regions=firmware.regions(alive.stack(machine)),
    )


def _variables(traits: Traits) -> Variables:
    """Whether Secure Boot is on: UEFI 2.10 §32.3."""
    on = traits.secure_boot
    values = {"SecureBoot": on, "SetupMode": not on}
    flags = BOOT_SERVICE | RUNTIME
    return {(name, guids.GLOBAL_VARIABLE): (flags, bytes([value])) for name, value in values.items()}


def _take(firmware: Firmware) -> None:
    """Keep the memory for which kernels are linked, for good: half as reserved, half as runtime data.

    So what OVMF itself gives back, from 9 to 21 MiB, stays taken here.
    """
    kinds = (MemoryType.RESERVED, MemoryType.RUNTIME_DATA)
    wanted = (Span(MiB, 31 * MiB), Span(32 * MiB, 32 * MiB))
    for part, kind in zip(wanted, kinds, strict=True):
        for span, what in list(firmware.pages):
            start, end = max(span.start, part.start), min(span.end, part.end)
            if what in FREE and start < end:
                firmware.pages.convert(Span(start, end - start), kind)


def _tables(firmware: Firmware, programs: Programs, traits: Traits) -> tuple[Load, ...]:
    """System table, services, consoles, screen, and the processor's tables."""
    machine = firmware.machine
    runtime_services = RuntimeServices(firmware, _variables(traits))
    runtime = firmware.functions([runtime_services], "RuntimeServices", alive.RUNTIME_SERVICES, "runtime")
    system_table = SystemTable(firmware)
    events = EventServices(firmware)
    parts = (
        BootServices(firmware, system_table),
        ProtocolServices(firmware),
        events,
        system_table,
        programs,
    )
    boot = firmware.functions(
        parts, "BootServices", ["" if n == "Reserved" else n for n in alive.BOOT_SERVICES]
    )
    table = with_crc(struct.pack("<8s4I", b"BOOTSERV", 0x20046, 24 + len(boot), 0, 0) + boot)
    firmware.put(machine.memory - alive.BOOT_SERVICES_TABLE, table)
    consoles: Sequence[TextInput | TextOutput] = (
        TextInput(firmware, events.new()), TextOutput(firmware, "ConOut"), TextOutput(firmware, "StdErr"),
    )  # fmt: skip
    if traits.display is not None:
        firmware.graphics = Graphics(firmware, traits.display, consoles[1].handle)
    pairs = [address for console in consoles for address in (console.handle, console.interface)]
    living = (*pairs, machine.memory - alive.BOOT_SERVICES_TABLE)
    return (*machine.tables(services=runtime, alive=living), *alive.descriptor_tables(machine.memory))
