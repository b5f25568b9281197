"""The memory of a PV domain: scattered machine frames, and the bootstrap region laid out over them."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bootbuild.api import Filling, Load, MemoryContent
from bootbuild_xenpv.environments.frames import EXTENT, PAGE, Frames

COUNTS = [512, 1000, 16384, 70000]


@pytest.mark.parametrize("filling", Filling)
@pytest.mark.parametrize("count", COUNTS)
def test_every_frame_has_one_machine_frame_whose_number_is_none_of_its_own(
    count: int, filling: Filling
) -> None:
    frames = Frames(count, filling)
    assert len(set(frames.p2m)) == count
    assert min(frames.p2m) >= max(count, 0x40000), (
        "a pseudo-physical number is no machine frame of the domain"
    )
    assert all(frames.m2p[mfn - frames.first] == pfn for pfn, mfn in enumerate(frames.p2m))
    assert all(mfn * PAGE in frames.region.span for mfn in frames.p2m)


@pytest.mark.parametrize("count", COUNTS)
def test_only_the_poisoned_runs_part_neighbours(count: int) -> None:
    def neighbours(filling: Filling) -> int:
        p2m = Frames(count, filling).p2m
        return sum(b == a + 1 for a, b in pairwise(p2m))

    assert neighbours(Filling.EXACT) == count - -(-count // EXTENT)
    assert [neighbours(filling) for filling in (Filling.POISON_A, Filling.POISON_B)] == [0, 0]


@pytest.mark.parametrize("filling", Filling)
def test_a_load_is_scattered_and_its_zeros_with_it(filling: Filling) -> None:
    frames = Frames(1024, filling)
    content = MemoryContent(bytes(range(256)) * 64)
    load = Load(0x1FF123, content, 7, 10_000, 20_000)
    memory: dict[int, int] = {}
    for part in frames.scatter(load):
        data = content.read(part.offset, part.size).ljust(part.memsz, b"\0")
        memory.update({part.address + at: byte for at, byte in enumerate(data)})
    seen = bytes(memory[frames.machine(load.address + at)] for at in range(load.memsz))
    assert seen == content.read(7, 10_000) + bytes(10_000)
    assert len(memory) == load.memsz
