"""The check before the first run: this is the engine that the machine was made for.

Small programs in 32-bit protected mode, each ending in a known way after a known number of
instructions. What they rest on is what has changed between versions of the engine before.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from bootbuild.api.environment import Scene
from bootbuild.api.machine import Cpuid, Platform
from bootbuild.machine.calibrate import Layout, calibrate, failure
from bootbuild.machine.run import Machine
from bootbuild.model.content import MemoryContent
from bootbuild.model.machine import EntryState, Given, Load, Region, RegionKind
from bootbuild.model.span import Span
from bootbuild.model.trace import Stop, StopKind

_CODE, _MEMORY = 0x1000, 0x10000


@dataclass(frozen=True)
class Case:
    """One program; `eax` afterwards, and how and when it ends."""

    name: str
    code: bytes
    kind: StopKind
    instructions: int
    eax: int = 0
    budget: int = 100_000


class _Probe(Platform):
    """Stops at port 1, prints what is written to port 2, answers CPUID and hypercalls."""

    def cpuid(self, cpu: object, leaf: int, subleaf: int, native: Cpuid) -> Cpuid:
        return 0x1234, *native[1:]

    def port_out(self, cpu: object, port: int, size: int, value: int) -> None:
        self.console.append(value & 0xFF)

    def hypercall(self, cpu: object, instruction: str) -> bool:
        return True


# An IDT at 0x1800, whose #DE, #UD and #GP gates lead to 0x1700, and a flat GDT at 0x1900.
_GATE = bytes.fromhex("0017 0800 008e 0000")
_TABLES = {
    0x700: b"\x03\x04\x24\xf4",  # add eax, [esp]; hlt
    0x800: b"".join(_GATE if vector in (0, 6, 13) else bytes(8) for vector in range(14)),
    0x900: bytes(8) + bytes.fromhex("ffff0000009bcf00 ffff00000093cf00"),
    0x9E0: (14 * 8 - 1).to_bytes(2, "little") + (0x1800).to_bytes(4, "little"),
    0x9F0: (23).to_bytes(2, "little") + (0x1900).to_bytes(4, "little"),
}
_SETUP = bytes.fromhex("0f0115f0190000 0f011de0190000 bc00900000")  # lgdt; lidt; mov esp, 0x9000

CASES = (
    Case("halt", b"\x90\x90\xf4", StopKind.HALTED, 3),
    Case("count", b"\xb9\x00\x04\x00\x00\x49\x75\xfd\xf4", StopKind.HALTED, 2 + 2 * 1024),  # dec ecx; jnz
    Case("budget", b"\x40\xeb\xfd", StopKind.BUDGET, 1001, 501, budget=1001),  # inc eax; jmp
    Case("cpuid", b"\x0f\xa2\xf4", StopKind.HALTED, 2, 0x1234),
    Case("rdmsr", b"\xb9\xfe\x00\x00\x00\x0f\x32\xf4", StopKind.HALTED, 3, 0x508),  # MTRRCAP
    Case("hypercall", b"\x40\x0f\x01\xc1\x40\xf4", StopKind.HALTED, 4, 2),  # inc eax; vmcall; inc eax
    Case("outside", b"\xa1\x00\x00\x00\x40", StopKind.OUTSIDE, 1),  # mov eax, [0x40000000]
    Case("triple fault", b"\x0f\x0b", StopKind.TRIPLE_FAULT, 1),  # ud2
    # mov eax, 0x5678; mov ds, eax: a selector beyond the GDT, so #GP with error code 0x5678
    Case("fault", _SETUP + b"\xb8\x78\x56\x00\x00\x8e\xd8", StopKind.HALTED, 7, 0x5678 * 2),
    Case("illegal", _SETUP + b"\x31\xc0\x0f\x0b", StopKind.HALTED, 7, 0x1000 + 21),  # xor eax, eax; ud2
    Case("console", b"\xb0\x4f\xe6\x02\xb0\x4b\xe6\x02\x40\x40\xf4", StopKind.CONSOLE, 4, 0x4B),  # "OK"
)


@functools.cache
def self_test() -> None:
    """Calibrate the engine and run the known cases, once per process. Raises MachineError (BB-B090)."""
    calibrate()
    for case in CASES:
        check(case)


def check(case: Case, layout: Layout | None = None) -> None:
    """Run one case. Raises MachineError (BB-B090) if it comes out differently."""
    image = bytearray(0xA00)
    image[: len(case.code)] = case.code
    for at, data in _TABLES.items():
        image[at : at + len(data)] = data
    content = MemoryContent(image)
    scene = Scene(
        regions=(Region(Span(0, _MEMORY), RegionKind.RAM),),
        loads=(Load(_CODE, content, 0, content.size, content.size),),
        state=EntryState("protected32", _CODE),
        given=Given(0, 0, 0, b"", (), ()),
        platform=_Probe(),
    )
    with Machine(scene, layout) as machine:
        stop: Stop = machine.run(checkpoints={}, budget=case.budget, seconds=5.0, console=b"OK")
        found = (stop.kind, machine.instructions, machine.get("eax"))
    expected = (case.kind, case.instructions, case.eax)
    if found != expected:
        raise failure(f"self-test {case.name!r} came out as {found}, not as {expected}")
