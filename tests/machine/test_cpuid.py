"""CPUID answers for what the core executes and for what the platform is; nothing is random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bootbuild.api.machine import Platform
from bootbuild.machine.cpuid import native_cpuid
from bootbuild.machine.run import Machine
from bootbuild.machine.strict import CR4_DEFINED
from bootbuild.platform.pc import Pc
from bootbuild.platform.xen import XenDomain
from bootbuild.platform.xen_hvm import XenHvm
from machine_guests import Box, Guest, finish, long_guest

Make = Callable[[Guest | bytes], Machine]


def ask(
    machine: Make, leaf: int, subleaf: int = 0, platform: Platform | None = None, **more: Any
) -> list[int]:
    """EAX, EBX, ECX, EDX, from the guest's side."""
    guest = long_guest(
        b"\x0f\xa2\xf4", registers={"rax": leaf, "rcx": subleaf, "rbx": -1 & 2**64 - 1}, **more
    )
    guest.platform = platform or Platform()
    one = machine(guest)
    finish(one)
    return [one.get(name) for name in ("rax", "rbx", "rcx", "rdx")]


ABSENT = {  # what the engine either lacks or would do in a way of its own: leaf, register, bit
    "MONITOR": (1, 2, 3), "FMA": (1, 2, 12), "OSXSAVE": (1, 2, 27), "AVX": (1, 2, 28), "RDRAND": (1, 2, 30),
    "HYPERVISOR": (1, 2, 31), "AVX2": (7, 1, 5), "BMI2": (7, 1, 8), "INVPCID": (7, 1, 10),
    "RDSEED": (7, 1, 18), "LA57": (7, 2, 16), "RDPID": (7, 2, 22), "AVX state": (0xD, 0, 2),
}  # fmt: skip
PRESENT = {
    "PSE": (1, 3, 3), "TSC": (1, 3, 4), "MSR": (1, 3, 5), "PAE": (1, 3, 6), "SSE2": (1, 3, 26),
    "CX16": (1, 2, 13), "ERMS": (7, 1, 9), "SYSCALL": (0x80000001, 3, 11), "NX": (0x80000001, 3, 20),
    "1 GiB pages": (0x80000001, 3, 26), "RDTSCP": (0x80000001, 3, 27), "long mode": (0x80000001, 3, 29),
}  # fmt: skip


@pytest.mark.parametrize("name", [*ABSENT, *PRESENT])
def test_the_bare_core_reports_what_it_does_and_no_more(name: str, machine: Make) -> None:
    leaf, register, bit = (ABSENT | PRESENT)[name]
    assert ask(machine, leaf)[register] >> bit & 1 == (name in PRESENT)


def test_osxsave_is_the_guest_s_own_choice(machine: Make) -> None:
    assert ask(machine, 1, cr4=0x40620)[2] >> 27 & 1 == 1


def test_cr4_takes_exactly_what_cpuid_reports(machine: Make) -> None:
    features = {  # CR4 bit: leaf, register, bit (SDM 3A, 2.5)
        0: (1, 3, 1), 1: (1, 3, 1), 2: (1, 3, 4), 3: (1, 3, 2), 4: (1, 3, 3), 5: (1, 3, 6), 6: (1, 3, 7),
        7: (1, 3, 13), 9: (1, 3, 24), 10: (1, 3, 25), 11: (7, 2, 2), 12: (7, 2, 16), 13: (1, 2, 5),
        14: (1, 2, 6), 16: (7, 1, 0), 17: (1, 2, 17), 18: (1, 2, 26), 20: (7, 1, 7), 21: (7, 1, 20),
        22: (7, 2, 3),
    }  # fmt: skip
    reported = 1 << 8  # PCE comes with RDPMC
    for bit, (leaf, register, at) in features.items():
        reported |= (native_cpuid(leaf, 0)[register] >> at & 1) << bit
    assert reported == CR4_DEFINED


def test_addresses_have_the_widths_that_the_machine_checks(machine: Make) -> None:
    assert ask(machine, 0x80000008)[0] == 48 << 8 | 40


PLATFORMS: dict[str, tuple[Callable[[], Platform], list[int], int]] = {
    # the platform; EBX, ECX, EDX of leaf 40000000h; the hypervisor bit
    "nothing": (Box, [2, 3, 4], 0),
    "a bare PC": (Pc, [0, 0, 0], 0),
    "KVM": (lambda: Pc(hypervisor=b"KVMKVMKVM\0\0\0"), [0x4B4D564B, 0x564B4D56, 0x4D], 1),
    "Xen": (
        lambda: XenHvm(XenDomain(1, (4, 17), "", (), 0, 0, 0, 0)),
        [0x566E6558, 0x65584D4D, 0x4D4D566E],
        1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLATFORMS)
def test_a_hypervisor_shows_itself(name: str, machine: Make) -> None:
    make, words, bit = PLATFORMS[name]
    assert ask(machine, 0x4000_0000, platform=make())[1:] == words
    assert ask(machine, 1, platform=make())[2] >> 31 & 1 == bit


def test_a_platform_may_change_the_vendor(machine: Make) -> None:
    assert ask(machine, 0)[1:] == [0x756E6547, 0x6C65746E, 0x49656E69]  # "Genu" "ntel" "ineI"
    assert ask(machine, 0, platform=Pc(vendor=b"AuthenticAMD"))[1:] == [0x68747541, 0x444D4163, 0x69746E65]
