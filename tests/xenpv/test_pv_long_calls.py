"""A hypercall takes bounded time: a long one is made again for the rest, as Xen has it when others wait."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace

import pytest

from bootbuild.api import Cpu, Filling, MemoryContent, Offer, Scene
from bootbuild.formats.elf_read import read_elf
from bootbuild.machine import Machine
from bootbuild.model.trace import Stop, StopKind
from bootbuild_xenpv.environments.xen import XenDom0, XenDomU
from bootbuild_xenpv.hypervisor import XenPv
from bootbuild_xenpv.hypervisor.hypercall import STEPS
from tiny_pv_guest import DATA, MMUEXT_OP, SET_TRAP_TABLE, STARTUP, VIRT_BASE, call, guest, u64

SELF, MULTICALL, XEN_VERSION = 0x7FF0, 13, 17
ARRAY = VIRT_BASE + (2 << 20)  #: free, and mapped
# mov $ARRAY, %rdi; mov $6, %eax; mov $words, %ecx; rep stosq: each operation is MMUEXT_TLB_FLUSH_LOCAL
FLUSHES = b"\x48\xbf" + u64(ARRAY) + b"\xb8\x06\0\0\0\xb9\0\0\x03\0\xf3\x48\xab"
TOLD = b"\x31\xc0\xa1" + u64(DATA)  # mov done, %eax


def scene_of(code: bytes, data: bytes = b"") -> Scene:
    image = read_elf(MemoryContent(guest(first=code, data=data)), "guest")
    return XenDomU().scene(image, Offer(memory=64 << 20), Filling.EXACT)


def run(scene: Scene, budget: int = 10_000_000) -> tuple[Stop, int]:
    """How it ended, at the startup path if nothing comes between, and after how many instructions."""
    with Machine(scene) as machine:
        stop = machine.run(checkpoints={STARTUP: "startup"}, budget=budget, seconds=60)
        return stop, machine.instructions


def flushes(count: int) -> bytes:
    return FLUSHES + call(MMUEXT_OP, ARRAY, count, DATA, SELF)


@pytest.mark.parametrize("count", [1, STEPS, STEPS + 1, 5000])
def test_a_long_call_is_made_again_for_the_rest(count: int) -> None:
    (_, shortest), (stop, longer) = run(scene_of(flushes(1))), run(scene_of(flushes(count) + TOLD))
    assert (stop.kind, stop.registers["rax"]) == (StopKind.CHECKPOINT, count)
    assert longer - shortest == -(-count // STEPS) - 1 + 2, "one instruction for each part, and two of TOLD"


def test_the_budget_holds_within_one_call() -> None:
    _, instructions = run(scene_of(flushes(1)))
    stop, _ = run(scene_of(flushes(8000)), budget=instructions + 2)
    assert stop.kind is StopKind.BUDGET
    assert stop.registers["rax"] == MMUEXT_OP, "on its way back into the call"


def test_a_long_call_within_a_multicall() -> None:
    # struct multicall_entry: op, result, args[6]
    entries = [[MMUEXT_OP, 7, ARRAY, 5000, DATA + 0x100, SELF, 0, 0], [XEN_VERSION, 7, 0, 0, 0, 0, 0, 0]]
    data = b"".join(u64(word) for entry in entries for word in entry)
    for offset, found in ((8, 0), (64 + 8, 4 << 16 | 17), (0x100, 5000)):
        code = FLUSHES + call(MULTICALL, DATA, 2) + b"\x48\xa1" + u64(DATA + offset)  # mov …, %rax
        stop, _ = run(scene_of(code, data))
        assert (stop.kind, stop.registers["rax"] & 0xFFFFFFFF) == (StopKind.CHECKPOINT, found), offset


def test_a_multicall_of_many() -> None:
    """All its words are 6, a number that nobody has; each answers with an error and the call goes on."""
    stop, _ = run(scene_of(FLUSHES + call(MULTICALL, ARRAY, 2000) + b"\x48\xa1" + u64(ARRAY + 64 * 1999 + 8)))
    assert (stop.kind, stop.registers["rax"]) == (StopKind.CHECKPOINT, 2**64 - 38)


def test_a_long_trap_table() -> None:
    """All its words are 6: so many entries of vector 6, up to memory that is zero."""
    table = ARRAY + 8 * 0x30000 - 16 * 5000
    (_, none), (stop, longer) = (run(scene_of(FLUSHES + call(SET_TRAP_TABLE, at))) for at in (0, table))
    assert (stop.kind, stop.registers["rax"]) == (StopKind.CHECKPOINT, 0)
    assert longer - none == 5000 // STEPS


ENTRIES = 512
PINS = [struct.pack("<IIQQ", command, 0, 0, 0) for command in (1, 4)]  #: MMUEXT_PIN_L2_TABLE, UNPIN_TABLE


@pytest.mark.parametrize("by", [MMUEXT_OP, MULTICALL])
def test_a_call_of_much_work_is_made_again_for_the_rest(by: int) -> None:
    """Twice a table of level 2 is pinned, with all the entries of its 512 tables, and let go."""
    again = {MMUEXT_OP: call(MMUEXT_OP, ARRAY, 4, 0, SELF), MULTICALL: call(MULTICALL, ARRAY + 96, 4)}
    scene = scene_of(again[by])
    assert scene.frames is not None
    top, leaf, *tables = scene.frames[8192 : 8192 + ENTRIES + 2]
    operations = b"".join(PINS) * 2
    operations = b"".join(operations[at : at + 8] + u64(top) + u64(0) for at in range(0, len(operations), 24))
    calls = b"".join(
        struct.pack("<8Q", MMUEXT_OP, 7, ARRAY + 24 * index, 1, 0, SELF, 0, 0) for index in range(4)
    )
    with Machine(scene) as machine:
        for table in tables:
            machine.write_physical(table << 12, u64(leaf << 12 | 5) * ENTRIES)
        machine.write_physical(top << 12, b"".join(u64(table << 12 | 0x67) for table in tables))
        machine.write(ARRAY, operations + calls)
        stop = machine.run(checkpoints={STARTUP: "startup"}, budget=1000, seconds=60)
        told = [event.detail for event in machine.events]
        assert (stop.kind, stop.registers["rax"], told) == (StopKind.CHECKPOINT, 0, [])
        shortest = 6 if by == MMUEXT_OP else 4
        assert machine.instructions == shortest + 1 + 3, "each time one operation, and one jump"


def test_of_a_console_that_never_ends_the_first_is_kept() -> None:
    """console_io of 1 MiB at a time, six times."""
    code = b"\x41\xbf\x06\0\0\0" + call(18, 0, 1 << 20, ARRAY)  # mov $6, %r15d; …; dec; jnz
    code += b"\x41\xff\xcf\x75" + struct.pack("<b", -(len(code) - 6 + 5))
    image = read_elf(MemoryContent(guest(first=code)), "guest")
    scene = XenDom0().scene(image, Offer(memory=64 << 20), Filling.EXACT)
    with Machine(scene) as machine:
        stop = machine.run(checkpoints={STARTUP: "startup"}, budget=1000, seconds=60)
        assert stop.kind is StopKind.CHECKPOINT
        assert len(scene.platform.console) == 4 << 20
        assert [event.kind for event in machine.events] == ["console"]


class _Defective(XenPv):
    def xen_version(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        missing: dict[int, int] = {}
        return missing[len(arguments)]


def test_a_defect_of_the_emulator_is_not_a_bad_address_of_the_guests() -> None:
    scene = scene_of(call(XEN_VERSION, 0))
    platform = scene.platform
    assert isinstance(platform, XenPv)
    broken = _Defective(platform._pv, version=(4, 17), extra_version="")
    with pytest.raises(KeyError):
        run(replace(scene, platform=broken))
