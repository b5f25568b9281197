"""UEFI while its boot services are alive: the CPU as they need it, their memory, and what a call of one does.

No service is modelled: a call is noted, and answered as UEFI has firmware answer what it does not support.
The firmware is OVMF 2022.11; distances from the end of RAM as QEMU's machine q35 shows them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from bootbuild.api.machine import Cpu
from bootbuild.model.machine import (
    Descriptor,
    EntryState,
    Load,
    Region,
    RegionKind,
    TableRegister,
    Undefined,
)
from bootbuild.model.span import Span, holes
from bootbuild.platform.flat32 import Poison, general_garbage
from bootbuild.platform.loading import RESET_TR, put
from bootbuild.platform.pc import Pc
from bootbuild.platform.seabios import TCG, VENDOR
from bootbuild.platform.uefi.ovmf import PAGE, Ovmf, with_crc

EFI_UNSUPPORTED = 1 << 63 | 3  #: UEFI 2.10, appendix D
# Bytes below the end of RAM
_STACK, _STACK_SIZE = 0x17F000, 0x20000  #: 128 KiB, UEFI 2.10 §2.3.4
_GDT, IDT = 0xA25000, 0xF84FE8
TOP_TABLE, _BELOW = 0x7FF000, (0x7FE000, 0x5FD000)  #: PML4, and the tables of its first two entries
BOOT_SERVICES_TABLE, _CODE = 0x148F00, 0x140000
_CONSOLE_IN, _CONSOLE_OUT, _ERROR_OUT = 0x1823DB0, 0x1823EF0, 0x1824010
_CONSOLE_HANDLES = (0x18130E8, 0x1814FE8, 0x1814568)  #: of input, output, errors
IMAGE_HANDLE = 0x1A5ECE8  #: bytes below the end of RAM: of the program that QEMU's -kernel names
_SEGMENTS = (  # UefiCpuPkg's GDT; 0x30 is data, 0x38 is 64-bit code
    0, 0x00CF92000000FFFF, 0x00CF9F000000FFFF, 0x00CF93000000FFFF, 0x00CF9A000000FFFF, 0x008F9A000000FFFF,
    0x00CF93000000FFFF, 0x00AF9A000000FFFF, 0,
)  # fmt: skip
_HUGE = 0xE3  #: present, writable, accessed, dirty, a page of 1 GiB
_TABLE = 0x03  #: present, writable
_ACCESSED = 0x20
_VMCALL_RET = bytes.fromhex("0f01c1c3")
_SLOT = 16  #: bytes of a service's code

# UEFI 2.10 §4.4, EFI_BOOT_SERVICES, from its header on
BOOT_SERVICES = (
    "RaiseTPL RestoreTPL AllocatePages FreePages GetMemoryMap AllocatePool FreePool CreateEvent SetTimer "
    "WaitForEvent SignalEvent CloseEvent CheckEvent InstallProtocolInterface ReinstallProtocolInterface "
    "UninstallProtocolInterface HandleProtocol Reserved RegisterProtocolNotify LocateHandle LocateDevicePath "
    "InstallConfigurationTable LoadImage StartImage Exit UnloadImage ExitBootServices GetNextMonotonicCount "
    "Stall SetWatchdogTimer ConnectController DisconnectController OpenProtocol CloseProtocol "
    "OpenProtocolInformation ProtocolsPerHandle LocateHandleBuffer LocateProtocol "
    "InstallMultipleProtocolInterfaces UninstallMultipleProtocolInterfaces CalculateCrc32 CopyMem SetMem "
    "CreateEventEx"
).split()
# §4.5, EFI_RUNTIME_SERVICES
RUNTIME_SERVICES = (
    "GetTime SetTime GetWakeupTime SetWakeupTime SetVirtualAddressMap ConvertPointer GetVariable "
    "GetNextVariableName SetVariable GetNextHighMonotonicCount ResetSystem UpdateCapsule "
    "QueryCapsuleCapabilities QueryVariableInfo"
).split()
# §12.3, §12.4: input has an event behind its functions, output a mode
_INPUT = ["ConIn.Reset", "ConIn.ReadKeyStroke"]
_OUTPUT = (
    "Reset OutputString TestString QueryMode SetMode SetAttribute ClearScreen SetCursorPosition EnableCursor"
).split()

#: what 64-bit code has beside the registers that 32-bit code knows, and UEFI leaves undefined too
UPPER_REGISTERS = tuple(Undefined(f"R{number}", "BB-U001") for number in range(8, 16))


class Services(Pc):
    """The devices of a PC, and firmware that answers every call with EFI_UNSUPPORTED, and notes it."""

    def __init__(self, firmware: Ovmf) -> None:
        super().__init__(pm1_control=0x604, hypervisor=TCG, vendor=VENDOR)
        self._names = _functions(firmware)

    def hypercall(self, cpu: Cpu, instruction: Literal["vmcall", "vmmcall"]) -> bool:
        name = self._names.get(cpu.get("rip"))
        if name is None:
            return super().hypercall(cpu, instruction)
        cpu.record("boot service", f"{name} was called, which is not modelled: EFI_UNSUPPORTED")
        cpu.set("rax", EFI_UNSUPPORTED)
        return True


def _functions(firmware: Ovmf) -> dict[int, str]:
    """Every function that the firmware offers, by its address."""
    first = firmware.memory - _CODE
    outputs = [f"{which}.{name}" for which in ("ConOut", "StdErr") for name in _OUTPUT]
    names = [*BOOT_SERVICES, *RUNTIME_SERVICES, *_INPUT, *outputs]
    return {first + _SLOT * number: name for number, name in enumerate(names)}


def regions(firmware: Ovmf) -> tuple[Region, ...]:
    """What answers at which address: what is boot services' can be read, but for the stack."""
    free = [*firmware.conventional, *firmware.between, stack(firmware)]
    taken = (hole for span in firmware.ram for hole in holes(span, free))
    others = (region for region in firmware.regions if region.span not in firmware.ram)
    return (
        *(Region(span, RegionKind.RAM) for span in free),
        *(Region(span, RegionKind.RESERVED) for span in taken),
        *others,
    )


def stack(firmware: Ovmf) -> Span:
    """What OVMF gives its programs, 128 KiB."""
    return Span(firmware.memory - _STACK, _STACK_SIZE)


def tables(firmware: Ovmf) -> tuple[Load, ...]:
    """All that `Ovmf.tables` has, and what is there beside while boot services are alive."""
    memory = firmware.memory
    functions = {name: address for address, name in _functions(firmware).items()}

    def services(names: list[str]) -> bytes:
        return struct.pack(f"<{len(names)}Q", *(functions[name] for name in names))

    boot = with_crc(struct.pack("<8s4I", b"BOOTSERV", 0x20046, 376, 0, 0) + services(BOOT_SERVICES))
    handles = [memory - below for below in _CONSOLE_HANDLES]
    consoles = [memory - below for below in (_CONSOLE_IN, _CONSOLE_OUT, _ERROR_OUT)]
    pairs = [address for pair in zip(handles, consoles, strict=True) for address in pair]
    outputs = [[f"{which}.{name}" for name in _OUTPUT] for which in ("ConOut", "StdErr")]
    return (
        *firmware.tables(services=services(RUNTIME_SERVICES), alive=(*pairs, memory - BOOT_SERVICES_TABLE)),
        put(memory - BOOT_SERVICES_TABLE, boot),
        put(consoles[0], services(_INPUT) + bytes(8)),
        *(put(at, services(names) + bytes(8)) for at, names in zip(consoles[1:], outputs, strict=True)),
        put(memory - _CODE, b"".join(_VMCALL_RET.ljust(_SLOT, b"\xcc") for _ in functions)),
        *descriptor_tables(memory),
        *page_tables(memory),
    )


def descriptor_tables(memory: int) -> tuple[Load, ...]:
    """GDT and IDT, on a machine with `memory` bytes."""
    return put(memory - _GDT, struct.pack("<9Q", *_SEGMENTS)), put(memory - IDT, bytes(PAGE))


def page_tables(memory: int) -> tuple[Load, ...]:
    """The first TiB one to one, all that 40 bits of physical address reach: OVMF by smaller pages."""
    top = struct.pack("<2Q", memory - _BELOW[0] | _TABLE | _ACCESSED, memory - _BELOW[1] | _TABLE)
    pages = [gib << 30 | _HUGE for gib in range(1024)]
    below = (struct.pack("<512Q", *half) for half in (pages[:512], pages[512:]))
    loads = (put(memory - at, data) for at, data in zip(_BELOW, below, strict=True))
    return (put(memory - TOP_TABLE, top.ljust(PAGE, b"\0")), *loads)


def state(firmware: Ovmf, entry: int, registers: Mapping[str, int]) -> EntryState:
    """The CPU as the firmware has it for its programs (UEFI 2.10 §2.3.4). `registers`: beside RFLAGS."""
    memory = firmware.memory
    data = Descriptor(0x30, attributes=0xC093)
    return EntryState(
        mode="long64",
        ip=entry,
        registers={"rflags": 0x200206, **registers},
        cr0=0x80010033,
        cr3=memory - TOP_TABLE,
        cr4=0x668,
        efer=0xD00,
        fcw=0x37F,
        cs=Descriptor(0x38, attributes=0xA09B),
        ds=data,
        es=data,
        ss=data,
        fs=data,
        gs=data,
        tr=RESET_TR,
        gdtr=TableRegister(memory - _GDT, 8 * len(_SEGMENTS) - 1),
        idtr=TableRegister(memory - IDT, PAGE - 1),
    )


def poisoned(exact: EntryState, poison: Poison) -> EntryState:
    """The state with garbage in everything that is named in `poison`.

    The stack pointer stays in the stack, aligned or not. Not replaced: EBX, tables, segments and control
    registers, all of which are the firmware's, IF and DF (UEFI 2.10 §2.3.4).
    """
    registers = dict(exact.registers)
    registers |= general_garbage(registers, poison)
    for number in range(8, 16):
        name = f"r{number}"
        garbage = 0xFFFF_DEAD_0000_0000 + number, 0x5EED_0101_0101_0101 * number % (1 << 64)
        registers[name] = poison.pick(name.upper(), registers.get(name, 0), *garbage)
    stack = registers["rsp"]
    registers["rsp"] = poison.pick("ESP", stack, stack - 0x348, stack - 0x1230)
    registers["rflags"] = poison.pick("EFLAGS", registers["rflags"], 0x2D7, 0x240203)  # IF set, DF clear
    return replace(exact, registers=registers)
