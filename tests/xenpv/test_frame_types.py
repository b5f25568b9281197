"""A frame has a type while something needs it to be of that type, and can become anything afterwards."""

from __future__ import annotations

import struct

import pytest

from bootbuild.api import Filling, MemoryContent, Offer
from bootbuild.formats.elf_read import read_elf
from bootbuild.machine import Machine
from bootbuild.model.trace import StopKind
from bootbuild_xenpv.environments.frames import Frames
from bootbuild_xenpv.environments.xen import XenDomU
from bootbuild_xenpv.hypervisor.frame_types import L1, L2, NONE, WRITABLE, FrameTypes
from bootbuild_xenpv.hypervisor.hypercall import EBUSY, Refused
from tiny_pv_guest import DATA, MMUEXT_OP, STARTUP, call, guest, u64

FRAMES = Frames(1024, Filling.EXACT)
FRAME = FRAMES.p2m[5]


def test_the_last_use_gone_it_is_of_no_type() -> None:
    types = FrameTypes(FRAMES)
    assert [types.take(FRAME, L1), types.take(FRAME, L1)] == [True, False]
    assert (types.drop(FRAME), types.kind(FRAME), types.is_table(FRAME, L1)) == (NONE, L1, True)
    assert (types.drop(FRAME), types.kind(FRAME), types.is_table(FRAME)) == (L1, NONE, False)
    assert types.take(FRAME, WRITABLE)


@pytest.mark.parametrize("kind", [L2, WRITABLE])
def test_while_it_is_of_one_type_it_is_of_no_other(kind: int) -> None:
    types = FrameTypes(FRAMES)
    types.take(FRAME, L1)
    with pytest.raises(Refused, match=r"is a page table of level 1 \(in use 1 time\), not") as refused:
        types.take(FRAME, kind, EBUSY)
    assert refused.value.error == EBUSY
    assert types.kind(FRAME) == L1


def test_a_frame_of_others_has_none() -> None:
    types = FrameTypes(FRAMES)
    for frame in (5, FRAMES.first + FRAMES.size):
        assert not types.is_table(frame)
        with pytest.raises(Refused, match="is not this domain's"):
            types.kind(frame)


def test_a_table_that_is_refused_gives_up_what_it_took() -> None:
    """Its first entry maps a frame writable, its second one nobody's: the first is free for a table then."""
    code = call(MMUEXT_OP, DATA, 1, 0, 0x7FF0) + call(MMUEXT_OP, DATA + 24, 1, 0, 0x7FF0)
    image = read_elf(MemoryContent(guest(first=code)), "guest")
    scene = XenDomU().scene(image, Offer(memory=64 << 20), Filling.EXACT)
    assert scene.frames is not None
    table, mapped = scene.frames[8192:8194]
    with Machine(scene) as machine:
        machine.write(DATA, struct.pack("<IIQQIIQQ", 0, 0, table, 0, 0, 0, mapped, 0))  # MMUEXT_PIN_L1_TABLE
        machine.write_physical(table << 12, u64(mapped << 12 | 7) + u64(5 << 12 | 5))
        stop = machine.run(checkpoints={STARTUP: "startup"}, budget=1000, seconds=60)
        told = [event.detail for event in machine.events]
    assert (stop.kind, stop.registers["rax"], len(told)) == (StopKind.CHECKPOINT, 0, 1), told
