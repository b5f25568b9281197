"""A frame has a type while something needs it to be of that type, and can become anything afterwards."""

from __future__ import annotations

import pytest

from bootbuild.api import Filling
from bootbuild_xenpv.environments.frames import Frames
from bootbuild_xenpv.hypervisor.frame_types import L1, L2, NONE, WRITABLE, FrameTypes
from bootbuild_xenpv.hypervisor.hypercall import EBUSY, Refused

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
    with pytest.raises(Refused, match="is a page table of level 1 .in use 1 time., not") as refused:
        types.take(FRAME, kind, EBUSY)
    assert refused.value.error == EBUSY
    assert types.kind(FRAME) == L1


def test_a_frame_of_others_has_none() -> None:
    types = FrameTypes(FRAMES)
    for frame in (5, FRAMES.first + FRAMES.size):
        assert not types.is_table(frame)
        with pytest.raises(Refused, match="is not this domain's"):
            types.kind(frame)
