"""Hypercalls of a Xen guest: by the code's mode, from CPL 0 only, and what they leave in registers."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from bootbuild.machine.run import Machine
from bootbuild.model.machine import Descriptor
from bootbuild.platform.xen import CONSOLE_IO, EFAULT, ENOSYS, EPERM, XEN_VERSION, XenDomain
from bootbuild.platform.xen_hvm import XenHvm
from machine_guests import (
    CODE,
    HANDLERS,
    MEMORY,
    STACK,
    Guest,
    finish,
    identity,
    long,
    long_guest,
    protected_guest,
    tables,
)

Make = Callable[[Guest | bytes], Machine]

VMCALL = b"\x0f\x01\xc1"
VERSION = 4 << 16 | 17
GARBAGE = 0xDEADBEEFDEADF00D
UNKNOWN = 99
TEXT = bytes(range(0x20, 0x7F)) * 60
BUFFER = 0x200000


def xen(*, privileged: bool = False, clobber: int | None = None) -> XenHvm:
    """A domain of Xen 4.17."""
    domid = 0 if privileged else 1
    domain = XenDomain(domid, (4, 17), "", (), 0, 0, 0, 0, privileged=privileged)
    return XenHvm(domain, clobber=clobber)


def called(machine: Make, guest: Guest, platform: XenHvm | None = None) -> Any:
    """Registers after the run."""
    guest.platform = platform or xen()
    return finish(machine(guest)).registers


def minus(number: int, bits: int = 64) -> int:
    return -number & (1 << bits) - 1


def test_64_bit_code_passes_arguments_in_rdi_rsi_and_rdx(machine: Make) -> None:
    registers = {"rax": XEN_VERSION, "rdi": 0, "rbx": 6}
    assert called(machine, long_guest(VMCALL + b"\xf4", registers=registers))["rax"] == VERSION


def test_32_bit_code_passes_arguments_in_ebx_ecx_and_edx(machine: Make) -> None:
    registers = {"rax": XEN_VERSION, "rdi": 6, "rbx": 0}
    assert called(machine, protected_guest(VMCALL + b"\xf4", registers=registers))["rax"] == VERSION


def test_32_bit_code_in_long_mode_does_as_32_bit_code_elsewhere(machine: Make) -> None:
    """hvm_guest_x86_mode looks at CS.L beside EFER.LMA; structures are the 32-bit ones, too."""
    leave = b"\x6a\x10\x68" + struct.pack("<I", CODE + 9) + b"\x48\xcb"  # push $0x10; push $next; lretq
    registers = {"rax": XEN_VERSION, "rdi": 6, "rbx": 0}
    assert called(machine, long_guest(leave + VMCALL + b"\xf4", registers=registers))["rax"] == VERSION


@pytest.mark.parametrize("bits", [32, 64])
def test_outside_of_cpl_0_a_hypercall_is_not_permitted(machine: Make, bits: int) -> None:
    registers = {"rax": XEN_VERSION, "rdi": 0, "rbx": 0}
    if bits == 64:
        memory = tables(True) | identity(True)
        guest = Guest(VMCALL + b"\xf4", "long64-user", long(True, registers=registers), memory)
    else:
        leave = b"\x6a\x33\x68" + struct.pack("<I", STACK) + b"\x6a\x2b\x68"
        leave += struct.pack("<I", CODE + 15) + b"\xcb"  # to 0x2b:next, on the stack 0x33:STACK
        guest = protected_guest(leave + VMCALL + b"\xf4", registers=registers)
    guest.platform = xen()
    stop = finish(machine(guest))
    assert stop.ip == HANDLERS + 13 + 1  # #GP for the HLT behind it, and no #UD
    assert stop.registers["rax"] == minus(EPERM)


def test_real_mode_has_no_privilege_levels(machine: Make) -> None:
    code = Descriptor(0x1003, 0x10030, 0xFFFF, 0x9B)  # a selector that ends in 3
    state = {"cr0": 0x10, "ip": 0, "cs": code, "registers": {"rax": XEN_VERSION, "rbx": 0}}
    assert called(machine, Guest(b"", "real16", state, {0x10030: VMCALL + b"\xf4"}))["rax"] == VERSION


@pytest.mark.parametrize("clobber", [None, GARBAGE])
def test_the_registers_of_the_arguments_may_be_lost(machine: Make, clobber: int | None) -> None:
    """XENVER_version has two arguments, of which the second is not looked at."""
    registers = {"rax": XEN_VERSION, "rdi": 0, "rsi": 7, "rdx": 8, "rbx": 9}
    after = called(machine, long_guest(VMCALL + b"\xf4", registers=registers), xen(clobber=clobber))
    lost = (0, 7) if clobber is None else (clobber, clobber)
    assert (after["rdi"], after["rsi"], after["rdx"], after["rbx"]) == (*lost, 8, 9)


def test_32_bit_code_loses_them_in_32_bits(machine: Make) -> None:
    registers = {"rax": XEN_VERSION, "rbx": 0, "rcx": 7, "rdx": 8}
    after = called(machine, protected_guest(VMCALL + b"\xf4", registers=registers), xen(clobber=GARBAGE))
    assert (after["rbx"], after["rcx"], after["rdx"]) == (0xDEADF00D, 0xDEADF00D, 8)


def test_a_call_loses_as_many_registers_as_it_has_arguments(machine: Make) -> None:
    registers = {"rax": CONSOLE_IO, "rdi": 0, "rsi": 0, "rdx": BUFFER, "r10": 8}
    platform = xen(privileged=True, clobber=GARBAGE)
    after = called(machine, long_guest(VMCALL + b"\xf4", registers=registers), platform)
    assert [after[name] for name in ("rax", "rdi", "rsi", "rdx", "r10")] == [0, *[GARBAGE] * 3, 8]


@pytest.mark.parametrize("call", [UNKNOWN, XEN_VERSION])
def test_a_call_that_is_not_there_changes_rax_alone(call: int, machine: Make) -> None:
    """Neither a number nor a command (rdi) that is not known."""
    registers = {"rax": call, "rdi": 99, "rsi": 7}
    after = called(machine, long_guest(VMCALL + b"\xf4", registers=registers), xen(clobber=GARBAGE))
    assert (after["rax"], after["rdi"], after["rsi"]) == (minus(ENOSYS), 99, 7)


def write(machine: Make, at: int, size: int) -> tuple[int, bytes]:
    """CONSOLEIO_write of dom0: its answer, and what is printed; TEXT is at BUFFER and ends the memory."""
    guest = protected_guest(VMCALL + b"\xf4", registers={"rax": CONSOLE_IO, "rbx": 0, "rcx": size, "rdx": at})
    guest.memory |= {BUFFER: TEXT, MEMORY - len(TEXT): TEXT}
    platform = xen(privileged=True)
    return called(machine, guest, platform)["rax"], bytes(platform.console)


def test_console_io_writes_all_that_it_is_given(machine: Make) -> None:
    assert len(TEXT) > 4096
    assert write(machine, BUFFER, len(TEXT)) == (0, TEXT)


def test_console_io_writes_in_pieces_what_can_be_read(machine: Make) -> None:
    """guest_console_write copies 127 bytes at a time."""
    assert write(machine, MEMORY - 300, 400) == (minus(EFAULT, 32), TEXT[-300:][:254])


def test_console_io_shows_a_part_of_what_would_fill_our_memory(machine: Make) -> None:
    answer, printed = write(machine, BUFFER, 0x500000)
    assert (answer, len(printed), printed[: len(TEXT)]) == (0, 1 << 20, TEXT)
