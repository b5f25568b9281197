"""The memory of a PV domain: scattered machine frames, and the bootstrap region laid out over them."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bootbuild.api import Filling, Load, MemoryContent, Profile, Span
from bootbuild.boot.prove import prove
from bootbuild.model.verdict import Outcome
from bootbuild_xenpv.environments import machine
from bootbuild_xenpv.environments.frames import EXTENT, PAGE, PCI_HOLE, Frames
from bootbuild_xenpv.environments.start_info import StartInfo
from bootbuild_xenpv.environments.xen import XenDom0, XenDomU
from tiny_pv_guest import guest, subject

COUNTS = [512, 1000, 16384, 70000]
LARGE = [1 << 18, 0x5FFFF, 3 << 18]  #: 1, 1.5 and 3 GiB


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


@pytest.mark.parametrize("count", [*COUNTS, *LARGE])
def test_the_machine_has_memory_where_the_domain_has_frames(count: int) -> None:
    """And none in the hole below 4 GiB, where a PC has its devices and its flash."""
    frames = Frames(count, Filling.EXACT)
    entries = machine.memory_map(frames)
    spans = [Span(entry.address, entry.size) for entry in entries]
    assert all(one.end <= other.start for one, other in pairwise(spans))
    memory = [span for entry, span in zip(entries, spans) if entry.type == machine.RAM]
    assert any(one.covers(frames.region.span) for one in memory)
    assert any(one.covers(machine.xen_memory(frames)) for one in memory)
    assert not any(one.overlaps(PCI_HOLE) for one in memory)
    assert frames.first >= count, "a pseudo-physical number is no machine frame of the domain"


def test_only_what_does_not_fit_below_the_hole_lies_behind_it() -> None:
    first = [Frames(count, Filling.EXACT).first for count in (1 << 18, (1 << 18) + 1, 0x40200, 3 << 18)]
    assert first == [0x80000, 0x100000, 0x100000, 0x100000]


@pytest.mark.parametrize("profile", [XenDomU(), XenDom0()], ids=lambda profile: profile.name)
def test_the_largest_domain_boots(profile: Profile) -> None:
    verdict = prove(subject(guest(), memory=3 << 30), profile)
    assert verdict.outcome is Outcome.BOOTED, [f.message for f in verdict.findings]


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


def test_a_command_line_is_cut_before_its_nul() -> None:
    """MAX_GUEST_CMDLINE, 1024 bytes."""
    packed = StartInfo(b"xen-3.0-x86_64", 1, 0, 0, 0, 0, 0, cmd_line=b"c" * 2000).pack()
    assert (len(packed), packed.count(b"c")) == (0x490, 1023)
