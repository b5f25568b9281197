"""A PC's BIOS for real-mode code: interrupt vectors, the data area, and the services that start a kernel.

Each vector leads to two instructions in ROM, VMCALL and IRET: the platform serves the first, and the second
returns with the flags that it left on the stack. So a guest may hook a vector and call the old one, as on a
PC. What is answered is what SeaBIOS 1.16 answers where QEMU has no disk and no display.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Literal

from bootbuild.api.machine import Cpu
from bootbuild.model.machine import Load, MapEntry
from bootbuild.platform.loading import MiB, put
from bootbuild.platform.pc import COM1, Pc
from bootbuild.platform.seabios import EBDA, TCG, VENDOR, SeabiosPc

SEGMENT = 0xF000
#: where IBM's BIOS had its services, which SeaBIOS keeps; every other vector leads to an IRET
ENTRIES = {
    0x10: 0xF065,
    0x11: 0xF84D,
    0x12: 0xF841,
    0x13: 0xE3FE,
    0x15: 0xF859,
    0x16: 0xE82E,
    0x1A: 0xFE6E,
}
NO_SERVICE = 0xFF53
_STUB = b"\x0f\x01\xc1\xcf"  # vmcall; iret
_DATA_AREA, _DATA_AREA_SIZE, _EBDA_SIZE = 0x400, 0x100, 0x400
_LOW_MEMORY = EBDA // 1024  #: KiB
_EQUIPMENT = 0x0206  #: a coprocessor, a pointing device, one serial port
_CARRY, _ZERO = 1 << 0, 1 << 6
_SMAP = 0x534D4150
_UNSUPPORTED, _BAD_PARAMETER = 0x86, 0x01  #: in AH
#: INT 15h by AX: A20 off, on (here it is always on), its state, how it is switched; APM 1.2 is there
_SYSTEM: dict[int, dict[str, int]] = {
    0x2400: {"ax": 0x00},
    0x2401: {"ax": 0x01},
    0x2402: {"ax": 0x01},
    0x2403: {"ax": 0x03, "bx": 3},
    0x5300: {"ax": 0x0102, "bx": 0x504D, "cx": 3},
}
_CONFIGURATION = 0xE6F5  #: the table that INT 15h, C0 tells


def low_memory() -> tuple[Load, ...]:
    """The vectors, of the BIOS data areas what a kernel may look at (the rest is 0), and the code in ROM."""
    vectors = (ENTRIES.get(number, NO_SERVICE) for number in range(256))
    table = b"".join(struct.pack("<HH", offset, SEGMENT) for offset in vectors)
    area = struct.pack("<4H6xHHxH", COM1, 0, 0, 0, EBDA >> 4, _EQUIPMENT, _LOW_MEMORY)
    stubs = [put((SEGMENT << 4) + at, _STUB) for at in ENTRIES.values()]
    rest = put((SEGMENT << 4) + NO_SERVICE, _STUB[-1:])
    extended = put(EBDA, b"\x01".ljust(_EBDA_SIZE, b"\0"))
    return (put(0, table), put(_DATA_AREA, area.ljust(_DATA_AREA_SIZE, b"\0")), extended, *stubs, rest)


class BiosPc(Pc):
    """QEMU's PC with its firmware's services: INT 10h to 16h and 1Ah."""

    def __init__(self, pc: SeabiosPc, pm1_control: int) -> None:
        super().__init__(pm1_control=pm1_control, hypervisor=TCG, vendor=VENDOR)
        self._map: tuple[MapEntry, ...] = pc.memory_map
        self._end = pc.top  #: of RAM
        services: dict[int, Callable[[Cpu, int], bool]] = {
            0x10: lambda _cpu, _ax: True,  # there is no display, and so no video BIOS
            0x11: lambda cpu, _ax: _answer(cpu, ax=_EQUIPMENT),
            0x12: lambda cpu, _ax: _answer(cpu, ax=_LOW_MEMORY),
            0x13: lambda cpu, _ax: _fail(cpu, _BAD_PARAMETER),
            0x15: self._system,
            0x16: self._key_service,
            0x1A: self._clock,
        }
        self._services = {ENTRIES[vector]: service for vector, service in services.items()}

    def hypercall(self, cpu: Cpu, instruction: Literal["vmcall", "vmmcall"]) -> bool:
        service = self._services.get(cpu.get("rip"))
        if cpu.get("cr0") & 1 or cpu.get("cs") != SEGMENT or service is None:
            return super().hypercall(cpu, instruction)
        done = service(cpu, cpu.get("eax") & 0xFFFF)
        _flag(cpu, _CARRY, not done)
        return True

    # -- INT 15h -------------------------------------------------------------------------------------

    def _system(self, cpu: Cpu, ax: int) -> bool:
        if ax == 0xE820 and cpu.get("edx") == _SMAP:
            return self._memory_map(cpu)
        if ax == 0xE801:
            low, high = extended(self._end)
            return _answer(cpu, ax=low, bx=high, cx=low, dx=high)
        if ax >> 8 == 0x88:
            return _answer(cpu, ax=min(self._end - MiB >> 10, 63 << 10))
        if ax in _SYSTEM:
            return _answer(cpu, **_SYSTEM[ax])
        if ax >> 8 == 0xC0:
            cpu.set("es", SEGMENT)
            return _answer(cpu, ax=ax & 0xFF, bx=_CONFIGURATION)
        cpu.record("bios", f"INT 15h with AX={ax:#x}: not supported")
        return _fail(cpu, _UNSUPPORTED)

    def _memory_map(self, cpu: Cpu) -> bool:
        """One entry, to ES:DI; EBX tells the next one, and 0 behind the last."""
        index = cpu.get("ebx") & 0xFFFF
        if index >= len(self._map):
            return _fail(cpu, _UNSUPPORTED)
        entry = self._map[index]
        at = (cpu.get("es") << 4) + (cpu.get("edi") & 0xFFFF)
        cpu.write(at, struct.pack("<QQI", entry.address, entry.size, entry.type))
        cpu.set("ebx", index + 1 if index + 1 < len(self._map) else 0)
        cpu.set("eax", _SMAP)
        cpu.set("ecx", 20)
        return True

    # -- the rest ------------------------------------------------------------------------------------

    def _key_service(self, cpu: Cpu, ax: int) -> bool:
        function = ax >> 8
        if function in (0x00, 0x10):
            cpu.stop("crash", "INT 16h waits for a key, and nobody presses one")
        elif function in (0x01, 0x11):  # no key is there
            _flag(cpu, _ZERO, True)
        elif function in (0x02, 0x12):  # no shift key is down
            return _answer(cpu, ax=ax & 0xFF00)
        return True

    def _clock(self, cpu: Cpu, ax: int) -> bool:
        if ax >> 8:
            return False
        return _answer(cpu, ax=0, cx=0, dx=0)  # no time has passed since midnight


def extended(end: int) -> tuple[int, int]:
    """What INT 15h, E801 says of RAM up to `end`: KiB from 1 to 16 MiB, and units of 64 KiB from there on."""
    if end > 16 * MiB:
        return 15 << 10, end - 16 * MiB >> 16
    return end - MiB >> 10, 0


def _answer(cpu: Cpu, **registers: int) -> bool:
    for name, value in registers.items():
        cpu.set(f"e{name}", cpu.get(f"e{name}") & 0xFFFF0000 | value & 0xFFFF)
    return True


def _fail(cpu: Cpu, code: int) -> bool:
    cpu.set("eax", cpu.get("eax") & 0xFFFF00FF | code << 8)
    return False


def _flag(cpu: Cpu, flag: int, value: bool) -> None:
    """A flag as it will be when IRET has been executed."""
    at = (cpu.get("ss") << 4) + (cpu.get("esp") + 4 & 0xFFFF)
    flags = int.from_bytes(cpu.read(at, 2), "little")
    cpu.write(at, (flags | flag if value else flags & ~flag).to_bytes(2, "little"))
