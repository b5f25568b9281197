"""The devices of a PC that a kernel meets before it has drivers: a 16550 UART, and the ways to power off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bootbuild.api.machine import Cpu, Cpuid, Platform

COM1 = 0x3F8
_LSR_EMPTY = 0x60  #: transmitter holding register and shift register empty (16550 data sheet, LSR)
_IIR_NONE = 0x01  #: no interrupt pending
_MSR_READY = 0xB0  #: carrier, data set ready, clear to send
_KBD_COMMAND, _KBD_RESET = 0x64, 0xFE
_RESET_CONTROL = 0xCF9
_SLP_EN, _SLP_TYP_SHIFT = 1 << 13, 10  #: ACPI 6.4 §4.8.3.2.1, PM1 control
_SLP_TYP = {0: "ACPI power off", 1: "ACPI suspend to RAM, and nothing wakes it", 2: "ACPI suspend to disk"}
"""What PIIX4 and ICH9 do in QEMU (hw/acpi/core.c, acpi_pm1_cnt_write); every other SLP_TYPx is ignored."""
_SLEEP_S5 = 5 << 2 | 1 << 5  #: ACPI 6.4 §4.8.3.7, sleep control: SLP_TYPx 5, SLP_EN
HYPERVISOR_BIT = 1 << 31  #: CPUID.1:ECX


def signature(text: bytes) -> tuple[int, int, int]:
    """EBX, ECX, EDX of a CPUID leaf that spells twelve characters."""
    return (
        int.from_bytes(text[0:4], "little"),
        int.from_bytes(text[4:8], "little"),
        int.from_bytes(text[8:12], "little"),
    )


@dataclass(frozen=True)
class ReducedAcpi:
    """The byte-wide registers of hardware-reduced ACPI, in I/O or memory space, where S5 has SLP_TYPx 5.

    `sleep_control`: ACPI 6.4 §4.8.3.7. `reset`: the register to which `reset_value` is written, §4.8.3.6.
    """

    space: Literal["io", "memory"]
    sleep_control: int
    reset: int
    reset_value: int

    def has(self, space: Literal["io", "memory"], address: int) -> bool:
        """Whether one of the registers lies there."""
        return space == self.space and address in (self.sleep_control, self.reset)


class Pc(Platform):
    """A PC with one serial port, whose output is the console.

    `pm1_control`: I/O port of the ACPI PM1a control register as QEMU has it, 0 for none.
    `acpi`: hardware-reduced ACPI.
    `keyboard`: status that an i8042 shows at port 0x64, None where there is none to reset the CPU.
    `reset_control`: the chipset's port 0xCF9. `debug_port`: I/O port whose codes are recorded, 0 for none.
    `absent`: byte that a port reads which nothing has. `hypervisor`: twelve characters that CPUID leaf
    0x40000000 spells, b"" for bare metal; no features are offered with it. `vendor` replaces the CPU's own.
    """

    def __init__(
        self,
        *,
        pm1_control: int = 0,
        acpi: ReducedAcpi | None = None,
        keyboard: int | None = 0x1C,
        reset_control: bool = True,
        debug_port: int = 0,
        absent: int = 0xFF,
        hypervisor: bytes = b"",
        vendor: bytes = b"",
    ) -> None:
        super().__init__()
        self._uart = [0] * 8
        self._pm1_control = pm1_control
        self._acpi = acpi
        self._keyboard = keyboard
        self._reset_control = reset_control
        self._debug_port = debug_port
        self._absent = absent
        self._hypervisor = hypervisor
        self._vendor = vendor

    def cpuid(self, cpu: Cpu, leaf: int, subleaf: int, native: Cpuid) -> Cpuid:
        eax, ebx, ecx, edx = native
        if leaf == 0 and self._vendor:
            ebx, edx, ecx = signature(self._vendor)
        elif leaf == 1 and self._hypervisor:
            ecx |= HYPERVISOR_BIT
        elif leaf == 0x40000000 and self._hypervisor:
            return (0x40000001, *signature(self._hypervisor))
        elif 0x40000000 <= leaf < 0x40010000:
            return (0, 0, 0, 0)
        return (eax, ebx, ecx, edx)

    def port_in(self, cpu: Cpu, port: int, size: int) -> int:
        if COM1 <= port < COM1 + 8 and size == 1:
            return self._uart_in(port - COM1)
        if port == _KBD_COMMAND and self._keyboard is not None:
            return self._keyboard
        if self._acpi is not None and self._acpi.has("io", port):
            return 0
        return int.from_bytes(bytes([self._absent]) * size, "little")

    def port_out(self, cpu: Cpu, port: int, size: int, value: int) -> None:
        if COM1 <= port < COM1 + 8 and size == 1:
            self._uart_out(port - COM1, value)
        elif port == _KBD_COMMAND and self._keyboard is not None and value & 0xFF == _KBD_RESET:
            cpu.stop("reset", "the keyboard controller was told to reset the CPU")
        elif port == _RESET_CONTROL and self._reset_control and value & 0x04:
            cpu.stop("reset", "a reset was written to port 0xcf9")
        elif self._pm1_control and port == self._pm1_control:
            sleep = _SLP_TYP.get(value >> _SLP_TYP_SHIFT & 7)
            if sleep and size == 2 and value & _SLP_EN:
                cpu.stop("shutdown", sleep)
        elif self._debug_port and port == self._debug_port:
            cpu.record("debug port", f"code {value:#x}")
        else:
            self._acpi_write(cpu, "io", port, size, value)

    def mmio_read(self, cpu: Cpu, address: int, size: int) -> int:
        if self._acpi is not None and self._acpi.has("memory", address):
            return 0
        return super().mmio_read(cpu, address, size)

    def mmio_write(self, cpu: Cpu, address: int, size: int, value: int) -> None:
        self._acpi_write(cpu, "memory", address, size, value)

    def _acpi_write(
        self, cpu: Cpu, space: Literal["io", "memory"], address: int, size: int, value: int
    ) -> None:
        acpi = self._acpi
        if acpi is None or size != 1 or not acpi.has(space, address):
            return
        if address == acpi.sleep_control and value == _SLEEP_S5:
            cpu.stop("shutdown", "ACPI power off")
        elif address == acpi.reset and value == acpi.reset_value:
            cpu.stop("reset", "ACPI reset")

    def _uart_in(self, register: int) -> int:
        if register in (0, 1) and self._uart[3] & 0x80:  # DLAB: the divisor latch
            return 1 if register == 0 else 0
        return {0: 0, 2: _IIR_NONE, 5: _LSR_EMPTY, 6: _MSR_READY}.get(register, self._uart[register])

    def _uart_out(self, register: int, value: int) -> None:
        if register == 0 and not self._uart[3] & 0x80:
            self.console.append(value)
        elif not (register == 1 and self._uart[3] & 0x80):
            self._uart[register] = value
