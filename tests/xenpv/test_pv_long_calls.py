"""A hypercall takes bounded time: a long one is made again for the rest, as Xen has it when others wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bootbuild.api import Cpu, Filling, MemoryContent, Offer, Scene
from bootbuild.formats.elf_read import read_elf
from bootbuild.machine import Machine
from bootbuild.model.trace import Stop, StopKind
from bootbuild_xenpv.environments.xen import XenDomU
from bootbuild_xenpv.hypervisor import XenPv
from bootbuild_xenpv.hypervisor.hypercall import STEPS
from tiny_pv_guest import DATA, MMUEXT_OP, STARTUP, VIRT_BASE, call, guest, u64

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
