"""Where the ELF container puts stubs and notes, and what it refuses to place."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootbuild.containers import container
from bootbuild.containers.front import entry_point
from bootbuild.errors import PluginError, RefusedError
from bootbuild.formats.elf_read import read_elf
from bootbuild.formats.notes import ImageClaim, parse
from bootbuild.model.blob import Fixup
from bootbuild.model.content import FileContent
from bootbuild.model.contribution import AddressOf, Contribution, Layout, NoteSpec
from bootbuild.model.payload import PF_R, PF_W, PF_X, Payload, Startup
from bootbuild.model.span import Span

MIB = 1 << 20
Make = Callable[..., Any]


def lay_out(payload: Payload, *contributions: Contribution) -> Layout:
    return container("elf").lay_out(payload, contributions)


def refused(payload: Payload, *contributions: Contribution) -> list[str]:
    with pytest.raises(RefusedError) as caught:
        lay_out(payload, *contributions)
    return sorted(problem.rule.id for problem in caught.value.problems)


def test_stubs_lie_behind_the_kernel_at_2_mib_text_and_nobits_apart(
    payload: Payload, contribution: Make
) -> None:
    layout = lay_out(payload, contribution(payload))
    shift = payload.startup.vaddr - payload.startup.paddr
    text, bss = layout.segments
    assert (text.flags, text.paddr, text.vaddr) == (PF_R | PF_X, 2 * MIB, 2 * MIB + shift)
    assert (bss.flags, bss.paddr, bss.vaddr) == (PF_R | PF_W, 2 * MIB + 0x1000, 2 * MIB + 0x1000 + shift)
    assert text.memsz == len(text.data)
    assert (bss.data, bss.memsz) == (b"", 0x40)
    assert layout.stub == Span(2 * MIB, 0x1040)
    assert layout.entries == (("pvh", 2 * MIB),)
    assert text.data[8:12] == (2 * MIB + 0x1000).to_bytes(4, "little")


def test_stubs_without_nobits_have_one_segment(payload: Payload, contribution: Make) -> None:
    layout = lay_out(payload, contribution(payload, bss=0))
    assert [segment.flags for segment in layout.segments] == [PF_R | PF_X]


def test_several_targets_lie_behind_each_other_in_one_range(payload: Payload, contribution: Make) -> None:
    layout = lay_out(payload, *(contribution(payload, name) for name in ("pvh", "multiboot2", "linux")))
    assert [segment.paddr - 2 * MIB for segment in layout.segments] == [
        0,
        0x1000,
        0x2000,
        0x3000,
        0x4000,
        0x5000,
    ]
    assert layout.entries == (("pvh", 2 * MIB), ("multiboot2", 2 * MIB + 0x2000), ("linux", 2 * MIB + 0x4000))
    assert layout.stub == Span(2 * MIB, 0x5040)


def test_the_stub_is_told_what_to_clear_and_what_to_map(make_payload: Make, contribution: Make) -> None:
    payload = make_payload(64)
    layout = lay_out(payload, contribution(payload))
    shift = payload.startup.vaddr - payload.startup.paddr
    params = layout.segments[0].data[16:]
    words = [int.from_bytes(params[at : at + 8], "little") for at in range(0, 72, 8)]
    assert words == [
        payload.startup.vaddr,
        layout.stub.start,
        layout.stub.size,
        0,
        2 * MIB + 0x1000,
        0x40,
        MIB + shift,
        MIB,
        layout.stub.end - MIB,
    ]
    zero = [int.from_bytes(params[at : at + 8], "little") for at in (80, 88)]
    assert int.from_bytes(params[72:76], "little") == 1
    assert zero == [MIB + 0x1810, 0x1000 - 0x10]


def test_a_32_bit_startup_gets_no_mapping_and_its_physical_address(
    make_payload: Make, contribution: Make
) -> None:
    payload = make_payload(32)
    params = lay_out(payload, contribution(payload)).segments[0].data[16:]
    assert int.from_bytes(params[:8], "little") == MIB
    assert params[48:72] == bytes(24)


def test_notes_are_in_the_order_that_every_loader_reads(payload: Payload, contribution: Make) -> None:
    pvh = contribution(
        payload,
        notes=(
            NoteSpec("Xen", 8, b"generic\0"),
            NoteSpec("Xen", 18, AddressOf("entry")),
            NoteSpec("X", 1, b""),
        ),
    )
    notes = parse(lay_out(payload, pvh, contribution(payload, "linux")).notes)
    assert [(note.owner, note.type) for note in notes] == [
        ("Xen", 18),  # linux-loader and QEMU take the first
        ("Xen", 8),
        ("Xen", 6),  # the payload's own; its 18 is replaced, its 19 would move our absolute stub
        ("X", 1),
        ("GNU", 3),  # .note.gnu.property is gone
        ("bootbuild", 1),
        ("bootbuild", 1),  # the payload's older record is gone
    ]
    assert notes[0].desc == (2 * MIB).to_bytes(4, "little")
    claims = [ImageClaim.parse(note) for note in notes[-2:]]
    assert [claim.target for claim in claims] == ["pvh", "linux"]
    assert claims[0] == ImageClaim("pvh", "native", payload.startup, Span(2 * MIB, 0x3040))


def test_without_a_new_phys32_entry_the_payload_keeps_its_own(payload: Payload, contribution: Make) -> None:
    notes = parse(lay_out(payload, contribution(payload, "linux")).notes)
    assert [(note.owner, note.type) for note in notes[:3]] == [("Xen", 18), ("Xen", 6), ("Xen", 19)]


def test_addresses_in_notes_may_have_8_bytes(payload: Payload, contribution: Make) -> None:
    specs = (NoteSpec("Xen", 18, AddressOf("entry", 8)),)
    assert parse(lay_out(payload, contribution(payload, notes=specs)).notes)[0].desc == (2 * MIB).to_bytes(
        8, "little"
    )


def test_addresses_in_notes_may_be_those_of_the_linked_mapping(payload: Payload, contribution: Make) -> None:
    shift = payload.startup.vaddr - payload.startup.paddr
    specs = (NoteSpec("Xen", 1, AddressOf("entry", 8, shift)),)
    note = next(n for n in parse(lay_out(payload, contribution(payload, notes=specs)).notes) if n.type == 1)
    assert shift
    assert note.desc == (2 * MIB + shift).to_bytes(8, "little")


def test_a_native_contribution_may_write_notes(
    payload: Payload, contribution: Callable[..., Contribution]
) -> None:
    native = contribution(payload, chain=(), notes=(NoteSpec("Xen", 6, b"mine\0"),))
    layout = lay_out(payload, native)
    assert (layout.segments, layout.entries) == ((), ())
    found = [note.desc for note in parse(layout.notes) if (note.owner, note.type) == ("Xen", 6)]
    assert found == [b"mine\0"]  # in the place of the payload's own


def test_a_native_contribution_adds_nothing(payload: Payload, contribution: Make) -> None:
    native = contribution(payload, chain=())
    assert lay_out(replace(payload, repair=False), native) == Layout((), b"", ())


def test_notes_on_which_loaders_disagree_are_rewritten(payload: Payload, contribution: Make) -> None:
    layout = lay_out(payload, contribution(payload, chain=()))
    assert layout.repairs == ("a .note.gnu.property stands beside the Xen notes",)
    kept = [(note.owner, note.type) for note in parse(layout.notes)]
    assert kept == [("Xen", 18), ("Xen", 6), ("Xen", 19), ("GNU", 3), ("bootbuild", 1)]


def test_beside_an_inserted_one_a_native_one_only_says_so(payload: Payload, contribution: Make) -> None:
    native = contribution(payload, "xen-pv", chain=())
    layout = lay_out(payload, native, contribution(payload))
    assert layout.entries == (("pvh", 2 * MIB),)
    claims = [ImageClaim.parse(note) for note in parse(layout.notes) if note.owner == "bootbuild"]
    assert [(claim.target, claim.stub.size) for claim in claims] == [("xen-pv", 0), ("pvh", 0x1040)]


@pytest.mark.parametrize(
    ("entry", "expected"), [(0, 2 * MIB), (MIB - 1, 2 * MIB), (MIB, MIB), (0xC0100000, 0xC0100000)]
)
def test_e_entry_changes_only_below_1_mib(
    make_payload: Make, contribution: Make, entry: int, expected: int
) -> None:
    payload = make_payload(64, entry=entry)
    assert entry_point(payload.elf, lay_out(payload, contribution(payload))) == expected
    assert entry_point(payload.elf, lay_out(payload, contribution(payload, chain=()))) == entry


GIB = 1 << 30


def test_what_has_no_offset_in_elf32_is_refused(payload: Payload, contribution: Make) -> None:
    os.truncate(payload.source, 4 * GIB - 0x1000)  # its debug sections, say
    large = replace(payload, elf=read_elf(FileContent(Path(payload.source)), "vmlinux"))
    native = replace(large, repair=False)
    assert lay_out(native, contribution(payload, chain=())).notes == b""
    if payload.elf.bits == 64:
        assert lay_out(large, contribution(payload)).notes
        return
    assert refused(large, contribution(payload)) == ["BB-W011"]
    assert refused(large, contribution(payload, chain=())) == ["BB-W011"]  # for its notes


def test_a_linked_address_off_by_less_than_2_mib_is_refused(make_payload: Make, contribution: Make) -> None:
    payload = make_payload(64, shift=0xFFFFFFFF80001000)
    assert refused(payload, contribution(payload)) == ["BB-W001"]
    narrow = replace(payload, startup=replace(payload.startup, width=32))
    assert lay_out(narrow, contribution(narrow)).segments[0].vaddr == 0xFFFFFFFF80201000
    physical = replace(payload, startup=replace(payload.startup, entered_at="physical"))
    assert lay_out(physical, contribution(physical)).segments[0].vaddr == 0xFFFFFFFF80201000


def test_a_linked_address_off_by_less_than_a_page_is_refused(make_payload: Make, contribution: Make) -> None:
    payload = make_payload(32, shift=0xC0000FFE)
    assert refused(payload, contribution(payload)) == ["BB-W001"]
    assert lay_out(payload, contribution(payload, chain=())).segments == ()


def test_code_that_reaches_2_gib_only_is_refused_above(make_payload: Make, contribution: Make) -> None:
    def needy(payload: Payload, addend: int = 0) -> Contribution:
        made: Contribution = contribution(payload)
        (piece,) = made.chain
        signed = replace(piece.blob, fixups=(Fixup(8, "abs32s", ".bss", addend),))
        return replace(made, chain=(replace(piece, blob=signed),))

    low, high = (make_payload(64, shift=0, paddr=at) for at in (2 * GIB - 4 * MIB, 3 * GIB))
    assert lay_out(low, needy(low)).stub.end < 2 * GIB
    assert refused(high, needy(high)) == ["BB-W002"]
    with pytest.raises(PluginError, match="BB-P024"):  # not for where it lies: the stub is wrong
        lay_out(low, needy(low, addend=4 * GIB))


@pytest.mark.parametrize("shift", [2 * GIB, 0x7FFF_FFE0_0000], ids=["first 4 GiB", "no canonical address"])
def test_a_mapping_that_no_page_table_can_have_is_refused(
    make_payload: Make, contribution: Make, shift: int
) -> None:
    payload = make_payload(64, shift=shift)
    assert refused(payload, contribution(payload)) == ["BB-W001"]


def test_a_stub_over_4_gib_is_refused(make_payload: Make, contribution: Make) -> None:
    payload = make_payload(64, shift=0, paddr=4 * GIB - 2 * MIB)
    assert refused(payload, contribution(payload)) == ["BB-W002"]


def test_a_stub_whose_linked_range_wraps_is_refused(make_payload: Make, contribution: Make) -> None:
    payload = make_payload(64, shift=(1 << 64) - 2 * MIB - 0x1000 + 0x1000, width=32)
    layout = lay_out(payload, contribution(payload))  # ends just at 2**64, and begins again at 0
    assert layout.segments[0].vaddr == 0
    payload = make_payload(64, shift=(1 << 64) - 2 * MIB - 0x1000, width=32)
    assert refused(payload, contribution(payload)) == ["BB-W003"]


def test_a_stub_over_another_segments_linked_range_is_refused(make_payload: Make, contribution: Make) -> None:
    payload = make_payload(64, shift=0)
    code, data = payload.elf.loads
    taken = tuple(replace(s, vaddr=2 * MIB) if s == data else s for s in payload.elf.segments)
    payload = replace(payload, elf=replace(payload.elf, segments=taken))
    assert code in payload.elf.segments
    assert refused(payload, contribution(payload)) == ["BB-W003"]


def test_two_targets_may_not_write_one_note(payload: Payload, contribution: Make) -> None:
    other = contribution(payload, "other", notes=(NoteSpec("Xen", 18, AddressOf("entry")),))
    assert refused(payload, contribution(payload), other) == ["BB-W004"]


@pytest.mark.parametrize(
    "spec",
    [
        NoteSpec("Xen", 18, AddressOf("nowhere")),
        NoteSpec("Xen", 18, AddressOf("entry", 2)),
        NoteSpec("X\xe9n", 18, b""),
        NoteSpec("Xen", 1 << 32, b""),
        NoteSpec("Xen", -1, b""),
    ],
    ids=["symbol", "size", "owner", "type", "negative"],
)
def test_a_note_that_cannot_be_written_is_refused(
    payload: Payload, contribution: Make, spec: NoteSpec
) -> None:
    assert refused(payload, contribution(payload, notes=(spec,))) == ["BB-W005"]


def test_a_target_whose_name_no_record_can_hold_is_refused(payload: Payload, contribution: Make) -> None:
    assert refused(payload, contribution(payload, "my target")) == ["BB-W005"]


def test_a_target_of_another_container_is_refused(payload: Payload, contribution: Make) -> None:
    assert refused(payload, contribution(payload, container="pe")) == ["BB-W006"]
    with pytest.raises(RefusedError, match="BB-W006"):
        container("tar")


@pytest.mark.parametrize("vaddr", [0x1000, 0x101800], ids=["no segment", "data"])
def test_a_startup_path_that_is_no_code_is_refused(
    make_payload: Make, contribution: Make, vaddr: int
) -> None:
    payload = make_payload(64, shift=0)
    odd = contribution(payload, startup=Startup("x", vaddr, vaddr, 64))
    assert refused(payload, odd) == ["BB-W007"]


def test_all_contradictions_are_named_at_once(payload: Payload, contribution: Make) -> None:
    pe = contribution(payload, "efi", container="pe")
    again = contribution(payload)
    assert refused(payload, contribution(payload), again, pe) == ["BB-W006", "BB-W008"]


def test_a_kernel_loaded_where_it_is_linked_is_refused_above_4_gib(
    make_payload: Make, contribution: Make
) -> None:
    payload = make_payload(64, shift=0, paddr=0xFFFFFFFF80100000)
    with pytest.raises(RefusedError) as caught:
        lay_out(payload, contribution(payload))
    assert [problem.rule.id for problem in caught.value.problems] == ["BB-W009"]
    assert "p_paddr 0xffffffff80100000" in str(caught.value)
    assert "paddr_offset" in caught.value.problems[0].rule.remedy
