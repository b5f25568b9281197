"""VMCALL, VMMCALL and SYSCALL reach the platform; without one they do what the processor does."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Literal

import pytest

from bootbuild.machine.run import Machine
from bootbuild.model.trace import StopKind
from machine_guests import (
    CODE,
    HANDLERS,
    STACK,
    Box,
    Guest,
    finish,
    identity,
    long,
    long_guest,
    protected_guest,
    tables,
)

Make = Callable[[Guest | bytes], Machine]

CALLS = {"vmcall": b"\x0f\x01\xc1", "vmmcall": b"\x0f\x01\xd9"}
STAR, LSTAR, FMASK = 0xC0000081, 0xC0000082, 0xC0000084


class Hypervisor(Box):
    """Serves one of the two instructions: RAX = 2 * RDI. `jump`: where it sends the guest instead."""

    def __init__(self, instruction: str, jump: int = 0) -> None:
        super().__init__()
        self._instruction = instruction
        self._jump = jump

    def hypercall(self, cpu: Any, instruction: Literal["vmcall", "vmmcall"]) -> bool:
        self.asked.append((instruction, cpu.get("eax"), cpu.get("rip"), cpu.get("cs") & 3))
        if instruction != self._instruction:
            return False
        cpu.set("rax", 2 * cpu.get("rdi"))
        if self._jump:
            cpu.set("rip", self._jump)
        return True


@pytest.mark.parametrize("make", [protected_guest, long_guest], ids=["32", "64"])
@pytest.mark.parametrize("name", CALLS)
def test_a_hypercall_is_served_and_the_guest_goes_on(
    name: str, make: Callable[..., Guest], machine: Make
) -> None:
    guest = make(CALLS[name] + b"\x89\xc3\xf4", registers={"rax": 17, "rdi": 21})  # …; mov ebx, eax; hlt
    guest.platform = box = Hypervisor(name)
    one = machine(guest)
    stop = finish(one)
    assert (stop.kind, stop.registers["rbx"], one.instructions) == (StopKind.HALTED, 42, 3)
    assert box.asked == [(name, 17, CODE, 0)]


@pytest.mark.parametrize("name", CALLS)
def test_the_instruction_of_the_other_vendor_is_undefined(name: str, machine: Make) -> None:
    other = next(call for call in CALLS if call != name)
    guest = long_guest(CALLS[name])
    guest.platform = box = Hypervisor(other)
    assert finish(machine(guest)).ip == HANDLERS + 6 + 1
    assert [asked[0] for asked in box.asked] == [name]


@pytest.mark.parametrize("name", CALLS)
def test_without_a_hypervisor_and_a_handler_it_is_a_triple_fault(name: str, machine: Make) -> None:
    stop = finish(machine(CALLS[name]))
    assert (stop.kind, stop.ip) == (StopKind.TRIPLE_FAULT, CODE)
    assert stop.detail.startswith("#UD ")


def test_the_platform_sees_from_where_it_was_called(machine: Make) -> None:
    guest = Guest(CALLS["vmcall"] + b"\xf4", "long64-user", long(True), tables(True) | identity(True))
    guest.platform = box = Hypervisor("vmcall")
    assert finish(machine(guest)).ip == HANDLERS + 13 + 1  # the HLT behind it
    assert box.asked == [("vmcall", 0, CODE, 3)]


def test_a_hypercall_may_send_the_guest_elsewhere(machine: Make) -> None:
    guest = long_guest(CALLS["vmcall"] + b"\xf4\x90\x43\xf4")
    guest.platform = Hypervisor("vmcall", jump=CODE + 5)
    assert finish(machine(guest)).ip == CODE + 7


def test_a_hypercall_page_of_the_guest_s_own_making(machine: Make) -> None:
    guest = long_guest(
        b"\xbf\x04\x00\x00\x00"  # mov edi,4
        b"\xe8\xf6\x03\x00\x00"  # call 0x100400
        b"\xbf\x05\x00\x00\x00"  # mov edi,5
        b"\xe8\xec\x03\x00\x00"  # call 0x100400
        b"\xf4"  # hlt
    )
    guest.memory[CODE + 0x400] = CALLS["vmcall"] + b"\xc3"
    guest.platform = box = Hypervisor("vmcall")
    stop = finish(machine(guest))
    assert (stop.registers["rax"], len(box.asked)) == (10, 2)


# -- SYSCALL -----------------------------------------------------------------------------------------


class Paravirtual(Box):
    """Serves SYSCALL, as Xen does for a PV guest, and #GP."""

    def __init__(self, jump: int = 0) -> None:
        super().__init__()
        self._jump = jump

    def syscall(self, cpu: Any) -> bool:
        self.asked.append(("syscall", cpu.get("rax"), cpu.get("rip"), cpu.get("cs")))
        cpu.set("rax", 7)
        if self._jump:
            cpu.set("rip", self._jump)
        return True

    def exception(self, cpu: Any, vector: int, error_code: int) -> bool:
        self.asked.append(("exception", vector, error_code, cpu.get("rip")))
        if vector != 13:
            return False
        cpu.set("rip", cpu.get("rip") + 1)  # as if the one-byte instruction had been emulated
        return True


def user(code: bytes, platform: Box) -> Guest:
    return Guest(
        code, "long64-user", long(True, registers={"rax": 29}), tables(True) | identity(True), (), platform
    )


def test_syscall_is_a_hypercall_of_a_paravirtual_guest(machine: Make) -> None:
    box = Paravirtual()
    one = machine(user(b"\x0f\x05\x89\xc3\x0f\x0b", box))  # syscall; mov ebx, eax; ud2
    assert finish(one).ip == HANDLERS + 6 + 1
    assert one.get("rbx") == 7
    assert box.asked == [("syscall", 29, CODE, 0x23), ("exception", 6, 0, CODE + 4)]


def test_a_paravirtual_syscall_may_send_the_guest_elsewhere(machine: Make) -> None:
    one = machine(user(b"\x0f\x05\x0f\x0b\x90\x0f\x0b", Paravirtual(jump=CODE + 4)))  # syscall; ud2; nop; ud2
    finish(one)
    assert struct.unpack("<Q", one.read(one.get("rsp"), 8)) == (CODE + 5,)


def test_a_platform_may_take_a_fault_before_the_guest(machine: Make) -> None:
    box = Paravirtual()
    one = machine(user(b"\xfa\xfb\x0f\x0b", box))  # cli; sti; ud2
    assert finish(one).ip == HANDLERS + 6 + 1
    assert [asked[1:] for asked in box.asked] == [(13, 0, CODE), (13, 0, CODE + 1), (6, 0, CODE + 2)]


def system(code: bytes, **more: Any) -> Guest:
    """A guest in ring 0 that has set STAR, LSTAR and FMASK, then executes `code` at CODE + 0x100."""
    setup = b"".join(
        b"\xb9" + struct.pack("<I", index)  # mov ecx, index
        + b"\xb8" + struct.pack("<I", value & 0xFFFFFFFF)  # mov eax, low
        + b"\xba" + struct.pack("<I", value >> 32)  # mov edx, high
        + b"\x0f\x30"  # wrmsr
        for index, value in ((STAR, 0x0013_0008 << 32), (LSTAR, CODE + 0x200), (FMASK, 0x40600))
    )  # fmt: skip
    guest = long_guest(setup.ljust(0x100, b"\x90") + code, **more)
    guest.memory |= identity(True)
    # SYSRET takes CS 13h + 16, SS 13h + 8; SYSCALL takes CS 8, SS 10h.
    guest.memory[0x1000] = struct.pack(
        "<5Q", 0, 0xAF9B000000FFFF, 0xCF93000000FFFF, 0xCFF3000000FFFF, 0xAFFB000000FFFF
    )
    return guest


def test_syscall_enters_the_system_as_star_lstar_and_fmask_say(machine: Make) -> None:
    one = machine(system(b"\x0f\x05\xf4", registers={"rflags": 0x40E97}))
    stop = finish(one, checkpoints={CODE + 0x200: "entry"})
    registers = stop.registers
    assert stop.checkpoint == "entry"
    assert (registers["rcx"], registers["r11"]) == (CODE + 0x102, 0x40E97)
    assert (registers["cs"], registers["ss"], registers["cpl"], registers["rsp"]) == (0x08, 0x10, 0, STACK)
    assert registers["rflags"] == 0x897


def test_sysret_goes_back_to_ring_3(machine: Make) -> None:
    guest = system(
        b"\xb9\x80\x01\x10\x00"  # mov ecx,0x100180
        b"\x41\xbb\x02\x02\x00\x00"  # mov r11d,0x202
        b"\x48\x0f\x07"  # sysretq
    )
    guest.memory |= {
        CODE + 0x180: b"\x0f\x05",
        CODE + 0x200: b"\x49\x89\xcf\xf4",
    }  # syscall; mov r15, rcx; hlt
    one = machine(guest)
    stop = finish(one, checkpoints={CODE + 0x180: "user"})
    assert (stop.checkpoint, stop.registers["cpl"], stop.registers["cs"], stop.registers["ss"]) == (
        "user",
        3,
        0x23,
        0x1B,
    )
    stop = finish(one)
    assert (stop.registers["r15"], stop.registers["cpl"]) == (CODE + 0x182, 0)


@pytest.mark.parametrize(
    "guest",
    [
        long_guest(b"\x0f\x05", efer=0xD00),
        protected_guest(b"\x0f\x05", efer=0x1),
        long_guest(
            (
                b"\x6a\x10"  # push 0x10
                b"\x68\x00\x04\x10\x00"  # push 0x100400
                b"\x48\xcb"  # lretq
            ),
            memory={CODE + 0x400: b"\x0f\x05"},
        ),
    ],
    ids=["SCE off", "legacy mode", "compatibility mode"],
)
def test_syscall_is_undefined_where_the_processor_has_none(guest: Guest, machine: Make) -> None:
    assert finish(machine(guest)).ip == HANDLERS + 6 + 1


# -- INT n as a call of firmware ---------------------------------------------------------------------


class Firmware(Box):
    def interrupt(self, cpu: Any, vector: int) -> bool:
        self.asked.append((vector, cpu.get("rip")))
        cpu.set("rax", 0x1234)
        return vector == 0x15


def test_a_platform_may_serve_an_interrupt(machine: Make) -> None:
    guest = protected_guest(b"\xcd\x15\x89\xc3\xcd\x42")  # int 0x15; mov ebx, eax; int 0x42
    guest.platform = box = Firmware()
    one = machine(guest)
    assert finish(one).ip == HANDLERS + 0x42 + 1
    assert (one.get("ebx"), box.asked) == (0x1234, [(0x15, CODE + 2), (0x42, CODE + 6)])
