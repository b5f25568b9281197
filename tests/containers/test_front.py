"""Headers that loaders search for, program headers where GRUB reads them, and e_entry where it wants it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bootbuild.containers import container
from bootbuild.containers.verify import verify
from bootbuild.errors import RefusedError, VerificationError
from bootbuild.formats.elf_read import read_elf
from bootbuild.model.content import FileContent, MemoryContent
from bootbuild.model.contribution import AddressOf, Contribution, HeaderSpec, Layout, Loaded
from bootbuild.model.payload import PT_LOAD, ElfImage, Payload

MIB = 1 << 20
MAGIC = b"\xd6\x50\x52\xe8"
HEADER = HeaderSpec(MAGIC + bytes(12), 8, 0x2000, ((8, AddressOf("entry")),))
Make = Callable[..., Any]


def with_header(contribution: Contribution, **changes: Any) -> Contribution:
    """The contribution of a target that is found by a header."""
    return replace(contribution, **{"headers": (HEADER,), "search": 0x2000, **changes})


def write(payload: Payload, layout: Layout, path: Path) -> ElfImage:
    return read_elf(container("elf").write(payload, layout, path), "image")


def problems(payload: Payload, *contributions: Contribution) -> list[tuple[str, str]]:
    with pytest.raises(RefusedError) as caught:
        container("elf").lay_out(payload, contributions)
    return [(problem.rule.id, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize("bits", [64, 32])
def test_a_header_goes_into_the_padding_behind_the_program_headers(
    make_payload: Make, contribution: Make, tmp_path: Path, bits: int
) -> None:
    payload = make_payload(bits)
    layout = container("elf").lay_out(payload, [with_header(contribution(payload))])
    image = write(payload, layout, tmp_path / "image.elf")
    raw = (tmp_path / "image.elf").read_bytes()
    size, each = {32: (52, 32), 64: (64, 56)}[bits]
    assert layout.relaid is None
    # the table where it was, or at the next multiple of 8; the header behind it
    phoff = int.from_bytes(raw[28:32] if bits == 32 else raw[32:40], "little")
    assert phoff == layout.table == -(-size // 8) * 8
    (placed,) = layout.headers
    assert placed.offset == -(-(phoff + each * len(image.segments)) // 8) * 8
    assert raw[placed.offset :][:16] == MAGIC + bytes(4) + struct.pack("<II", 2 * MIB, 0)
    # of the payload only padding changed
    own = payload.elf.content.read(0, payload.elf.content.size)
    assert raw[placed.offset + 16 : len(own)] == own[placed.offset + 16 :]


def test_a_file_whose_first_page_is_loaded_is_laid_out_anew(
    make_payload: Make, contribution: Make, tmp_path: Path
) -> None:
    """A PT_LOAD brings the ELF header into memory: the guest finds its own there, from another offset."""
    payload = make_payload(64, before=0x1000)
    layout = container("elf").lay_out(payload, [with_header(contribution(payload))])
    image = write(payload, layout, tmp_path / "image.elf")
    assert layout.relaid is not None
    for old in payload.elf.loads:
        (new,) = (s for s in image.loads if (s.vaddr, s.paddr) == (old.vaddr, old.paddr))
        assert (new.filesz, new.memsz, new.flags) == (old.filesz, old.memsz, old.flags)
        assert (new.offset - new.vaddr) % 0x1000 == 0
        assert image.content.read(new.offset, new.filesz) == payload.elf.content.read(old.offset, old.filesz)
    # one null section: GRUB from 2.14 on refuses a file without any
    shoff, shnum = struct.unpack("<40xQ12xH2x", image.content.read(0, 64))
    assert shnum == 1
    assert image.content.read(shoff, 64) == bytes(64)


@pytest.mark.parametrize("what", ["relocations", "bytes in the way"])
def test_a_file_that_grub_would_not_take_as_it_is_is_laid_out_anew(
    make_payload: Make, contribution: Make, what: str
) -> None:
    payload: Payload = make_payload(64)
    raw = bytearray(payload.elf.content.read(0, payload.elf.content.size))
    if what == "relocations":
        table = int.from_bytes(raw[40:48], "little")
        raw[table + 64 + 4] = 4  # SHT_RELA in the place of the string table
    else:
        raw[64 + 5 * 56 + 8] = 1  # behind the program headers, where a sixth has to go
    payload = replace(payload, elf=read_elf(MemoryContent(raw), payload.source))
    layout = container("elf").lay_out(payload, [with_header(contribution(payload))])
    assert layout.relaid is not None
    assert layout.relaid.bits == 64


def test_a_class_that_a_loader_asks_for_makes_every_address_physical(
    make_payload: Make, contribution: Make, tmp_path: Path
) -> None:
    payload = make_payload(64)
    asked = with_header(contribution(payload), elf_class=32, entry_point="entry")
    image = write(payload, container("elf").lay_out(payload, [asked]), tmp_path / "image.elf")
    assert (image.bits, image.entry) == (32, 2 * MIB)
    assert all(s.vaddr == s.paddr for s in image.loads)
    assert [s.paddr for s in image.loads] == [MIB, MIB + 0x1800, 2 * MIB, 2 * MIB + 0x1000]


def test_e_entry_is_moved_into_a_segment_by_its_linked_address(
    make_payload: Make, contribution: Make
) -> None:
    """Linux's is physical: GRUB says `entry point isn't in a segment`, although a tag names another entry."""
    payload = make_payload(64)
    assert not any(payload.elf.entry in s.virtual for s in payload.elf.loads)
    layout = container("elf").lay_out(payload, [with_header(contribution(payload))])
    assert layout.entry_point == payload.startup.vaddr
    linked = make_payload(64, entry=payload.startup.vaddr + 4)
    layout = container("elf").lay_out(linked, [with_header(contribution(linked))])
    assert layout.entry_point == linked.elf.entry


def test_an_e_entry_that_is_nowhere_is_refused(make_payload: Make, contribution: Make) -> None:
    payload = make_payload(64, entry=0x5000000)
    ((rule, text),) = problems(payload, with_header(contribution(payload)))
    assert (rule, text[:17]) == ("BB-W016", "e_entry 0x5000000")
    container("elf").lay_out(payload, [contribution(payload)])  # nobody else minds


def test_an_e_entry_that_linux_loader_refuses_is_the_stub(make_payload: Make, contribution: Make) -> None:
    """Below 1 MiB: in an image that GRUB starts as in any other, by the linked address of the stub."""
    payload = make_payload(64, entry=0)
    layout = container("elf").lay_out(payload, [with_header(contribution(payload))])
    stub = layout.segments[0]
    assert layout.entry_point == stub.vaddr + dict(layout.entries)["pvh"] - stub.paddr


def test_a_kernels_own_header_stays_where_it_is(make_payload: Make, contribution: Make) -> None:
    """Beside a stub of another target the program headers have to be at the front all the same."""
    payload = make_payload(64)
    own = replace(contribution(payload, "multiboot2", chain=()), search=0x2000)
    layout = container("elf").lay_out(payload, [contribution(payload), own])
    assert (layout.table, layout.headers, layout.relaid) == (64, (), None)
    covered = make_payload(64, before=0x1000)
    own = replace(contribution(covered, "multiboot2", chain=()), search=0x2000)
    ((rule, text),) = problems(covered, contribution(covered), own)
    assert rule == "BB-W012"
    assert "a PT_LOAD brings the ELF header into memory" in text


def test_what_does_not_fit_into_the_searched_bytes_is_refused(make_payload: Make, contribution: Make) -> None:
    payload = make_payload(64)
    small = replace(HEADER, limit=0x100)
    asked = with_header(contribution(payload), headers=(small,))
    assert [rule for rule, _ in problems(payload, asked)] == ["BB-W012"]


def test_the_header_that_must_be_nearest_comes_first(make_payload: Make, contribution: Make) -> None:
    payload = make_payload(64)
    far, near = HeaderSpec(b"FAR " + bytes(0x200), 8, 0x2000), HeaderSpec(b"NEAR", 4, 0x280)
    asked = [with_header(contribution(payload, name), headers=(h,)) for name, h in (("a", far), ("b", near))]
    layout = container("elf").lay_out(payload, asked)
    assert [placed.spec for placed in layout.headers] == [near, far]
    assert layout.headers[0].file.end <= near.limit and layout.relaid is None


def test_program_headers_lie_where_each_loader_reads(make_payload: Make, contribution: Make) -> None:
    payload = make_payload(64)
    asked = [
        with_header(contribution(payload, name), headers=(), search=search)
        for name, search in (("a", 0x2000), ("b", 0x100))
    ]
    ((rule, text),) = problems(payload, *asked)
    assert (rule, text.endswith("into the first 0x100 bytes")) == ("BB-W012", True)


def test_one_file_has_one_class_and_one_entry_point(make_payload: Make, contribution: Make) -> None:
    payload = make_payload(64)
    first = with_header(contribution(payload, "one"), elf_class=32, entry_point="entry")
    second = with_header(contribution(payload, "two"), elf_class=64)
    assert problems(payload, first, second) == [("BB-W013", "one takes ELF32 only, two takes ELF64 only")]
    second = with_header(contribution(payload, "two"), entry_point="entry")
    assert problems(payload, first, second) == [("BB-W013", "one and two are both entered at e_entry")]


@pytest.mark.parametrize("part", ["header", "e_entry"])
def test_only_what_a_stub_exports_can_be_filled_in(make_payload: Make, contribution: Make, part: str) -> None:
    payload = make_payload(64)
    changes: dict[str, Any] = {"entry_point": "nowhere"}
    if part == "header":
        changes = {"headers": (replace(HEADER, fields=((8, AddressOf("nowhere")),)),)}
    asked = with_header(contribution(payload), **changes)
    assert problems(payload, asked) == [("BB-W014", "no stub exports nowhere")]


FLAT = HeaderSpec(
    MAGIC + bytes(20),
    4,
    0x2000,
    ((4, Loaded.START), (8, Loaded.END), (12, Loaded.BSS_END), (16, AddressOf("entry"))),
)


@pytest.mark.parametrize("bits", [64, 32])
def test_a_flat_file_is_one_piece_from_its_header_on(
    make_payload: Make, contribution: Make, tmp_path: Path, bits: int
) -> None:
    """Two targets' stubs, and .bss between: loaded by the header's addresses it is what its PT_LOADs say."""
    payload = make_payload(64, paddr=4 * MIB, entry=4 * MIB)
    flat = with_header(contribution(payload), headers=(FLAT,), elf_class=bits)
    layout = container("elf").lay_out(payload, [flat, contribution(payload, "other")])
    image = write(payload, layout, tmp_path / "image.elf")
    at = layout.headers[0].offset
    start, end, bss_end, entry = struct.unpack("<4I", image.content.read(at + 4, 16))
    memory = image.content.read(at, end - start).ljust(bss_end - start, b"\0")
    said = bytearray(bss_end - start)
    for s in image.loads:
        said[s.paddr - start : s.paddr - start + s.filesz] = image.content.read(s.offset, s.filesz)
    head = min(s.paddr for s in image.loads) - start  # the header and padding behind it
    assert memory[head:] == said[head:]
    assert (image.bits, entry) == (bits, dict(layout.entries)["pvh"])
    assert bss_end == max(s.physical.end for s in image.loads)
    assert MIB <= start < 4 * MIB


def test_a_kernel_without_room_below_it_is_not_loaded_as_one_piece(
    make_payload: Make, contribution: Make
) -> None:
    payload = make_payload(64)
    ((rule, message),) = problems(payload, with_header(contribution(payload), headers=(FLAT,)))
    assert rule == "BB-W015"
    assert message.startswith("its header would be loaded at 0xff")


def test_a_kernel_of_little_but_gaps_is_not_written_as_one_piece(
    make_payload: Make, contribution: Make
) -> None:
    payload = make_payload(64, paddr=4 * MIB, entry=4 * MIB)
    first, *rest = payload.elf.segments
    far = [replace(s, paddr=s.paddr + (1 << 29)) if s.filesz == 0x10 else s for s in rest]
    payload = replace(payload, elf=replace(payload.elf, segments=(first, *far)))
    ((rule, message),) = problems(payload, with_header(contribution(payload), headers=(FLAT,)))
    assert rule == "BB-W015"
    assert message.endswith("zeros would stand between its segments")


@pytest.mark.parametrize(("field", "by"), [(4, -0x10), (8, -0x10), (12, -0x10), (8, 0x100000)])
def test_addresses_that_load_something_else_are_found(
    make_payload: Make, contribution: Make, tmp_path: Path, field: int, by: int
) -> None:
    """Too low; or an end that is behind that of the file."""
    payload = make_payload(64, paddr=4 * MIB, entry=4 * MIB)
    asked = with_header(contribution(payload), headers=(FLAT,))
    layout = container("elf").lay_out(payload, [asked])
    path = tmp_path / "image.elf"
    write(payload, layout, path)
    (placed,) = layout.headers
    data = bytearray(placed.data)
    struct.pack_into("<I", data, field, struct.unpack_from("<I", data, field)[0] + by)
    layout = replace(layout, headers=(replace(placed, data=bytes(data)),))
    assert Written(payload, layout, path).found(placed.offset, bytes(data)) == ["BB-W033"]


def test_what_stands_in_a_gap_of_a_flat_file_is_found(
    make_payload: Make, contribution: Make, tmp_path: Path
) -> None:
    payload = make_payload(64, paddr=4 * MIB, entry=4 * MIB)
    layout = container("elf").lay_out(payload, [with_header(contribution(payload), headers=(FLAT,))])
    image = write(payload, layout, tmp_path / "image.elf")
    gap = image.loads[0].offset + image.loads[0].filesz
    damaged = Written(payload, layout, tmp_path / "image.elf")
    assert damaged.found(gap, b"\1") == ["BB-W023", "BB-W033"]


@dataclass
class Written:
    """An image with a header, to be damaged."""

    payload: Payload
    layout: Layout
    path: Path

    def found(self, at: int, data: bytes) -> list[str]:
        """The rules that say so when `data` stands at `at`."""
        raw = bytearray(self.path.read_bytes())
        raw[at : at + len(data)] = data
        self.path.write_bytes(raw)
        with pytest.raises(VerificationError) as caught:
            verify(self.payload, self.layout, self.path, "image.elf")
        return sorted({problem.rule.id for problem in caught.value.problems})


@pytest.fixture
def written(make_payload: Make, contribution: Make, tmp_path: Path) -> Written:
    payload = make_payload(64)
    layout = container("elf").lay_out(payload, [with_header(contribution(payload))])
    write(payload, layout, tmp_path / "image.elf")
    verify(payload, layout, tmp_path / "image.elf", "image.elf")
    return Written(payload, layout, tmp_path / "image.elf")


@pytest.mark.parametrize("change", [0, 8, 15])
def test_a_damaged_header_is_found(written: Written, change: int) -> None:
    at = written.layout.headers[0].offset + change
    assert written.found(at, b"\x55") == ["BB-W032"]


def unloaded(written: Written) -> int:
    """The offset of GNU_STACK's p_vaddr and p_paddr, by which nothing is loaded."""
    return written.layout.table + 56 * 2 + 16


@pytest.mark.parametrize("whole", [False, True])
def test_a_header_that_another_precedes_is_found(written: Written, whole: bool) -> None:
    """Bytes of a program header that look like one: the loader would take them."""
    like = written.layout.headers[0].data if whole else MAGIC
    assert "BB-W032" in written.found(unloaded(written), like)


def test_what_looks_like_a_header_where_no_loader_looks_is_none(written: Written) -> None:
    """At no multiple of the header's alignment."""
    assert "BB-W032" not in written.found(unloaded(written) + 4, MAGIC)


def test_bytes_beside_the_header_are_found(written: Written) -> None:
    assert written.found(written.layout.headers[0].file.end + 4, b"\1") == ["BB-W023"]


@pytest.mark.parametrize("phoff", [0x100, 0x600])
def test_former_program_headers_count_as_room(
    make_payload: Make, contribution: Make, tmp_path: Path, phoff: int
) -> None:
    payload = make_payload(64, phoff=phoff)
    layout = container("elf").lay_out(payload, [with_header(contribution(payload))])
    image = write(payload, layout, tmp_path / "image.elf")
    end = layout.headers[0].file.end
    assert layout.table == 64 and layout.relaid is None
    own = payload.elf.content.read(end, 0x1000 - end)  # zeros, where the former ones are written over
    assert image.content.read(end, 0x1000 - end) == (bytes(0x1000 - end) if phoff < end else own)
    damaged = Written(payload, layout, tmp_path / "image.elf")
    assert damaged.found(end + 8, b"\1") == ["BB-W023"]


def test_bytes_between_program_headers_and_header_are_found(
    make_payload: Make, contribution: Make, tmp_path: Path
) -> None:
    payload = make_payload(64)
    asked = with_header(contribution(payload), headers=(replace(HEADER, align=0x400),))
    layout = container("elf").lay_out(payload, [asked])
    write(payload, layout, tmp_path / "image.elf")
    assert layout.headers[0].offset == 0x400
    assert Written(payload, layout, tmp_path / "image.elf").found(0x3F8, b"\1") == ["BB-W023"]


def test_a_moved_segment_that_is_beyond_the_file_is_found(
    make_payload: Make, contribution: Make, tmp_path: Path
) -> None:
    payload = make_payload(64, before=0x1000)
    layout = container("elf").lay_out(payload, [with_header(contribution(payload))])
    write(payload, layout, tmp_path / "image.elf")
    p_offset = layout.table + 56 + 8  # of the second, a PT_LOAD
    far = struct.pack("<Q", 0x1000000)
    found = Written(payload, layout, tmp_path / "image.elf").found(p_offset, far)
    assert "BB-W022" in found


def test_an_entry_in_no_segment_is_found(written: Written) -> None:
    assert written.found(24, struct.pack("<Q", 0x5000000)) == ["BB-W021"]


def test_a_moved_segment_with_other_bytes_is_found(
    make_payload: Make, contribution: Make, tmp_path: Path
) -> None:
    payload = make_payload(64, before=0x1000)
    layout = container("elf").lay_out(payload, [with_header(contribution(payload))])
    image = write(payload, layout, tmp_path / "image.elf")
    code = next(s for s in image.segments if s.type == PT_LOAD and s.paddr == MIB - 0x1000)
    damaged = Written(payload, layout, tmp_path / "image.elf")
    assert damaged.found(code.offset + 0x1000, b"\0") == ["BB-W022", "BB-W023"]


def test_what_was_written_over_is_padding(written: Written) -> None:
    """Were the payload's own bytes not zero there, the image would be said to have lost them."""
    raw = bytearray(FileContent(Path(written.payload.source)).read(0, written.payload.elf.content.size))
    raw[written.layout.headers[0].offset] = 1
    full = replace(written.payload, elf=read_elf(MemoryContent(raw), "full"))
    with pytest.raises(VerificationError) as caught:
        verify(full, written.layout, written.path, "image.elf")
    assert {problem.rule.id for problem in caught.value.problems} == {"BB-W023"}
