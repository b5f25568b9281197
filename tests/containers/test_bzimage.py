"""A bzImage as it is laid out, written, refused, and found out when it is damaged."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bootbuild.api import load_blob
from bootbuild.containers import bzimage, bzimage_rules, container, verify_bzimage
from bootbuild.containers.elf import ElfContainer
from bootbuild.errors import RefusedError, VerificationError
from bootbuild.formats.bzimage import header, unpack
from bootbuild.formats.elf_read import read_elf
from bootbuild.formats.setup_header import SETTABLE, sums_up
from bootbuild.model.content import Content, MemoryContent
from bootbuild.model.contribution import BzimageSpec, Contribution, Layout
from bootbuild.model.payload import Payload
from bootbuild.model.waist import Piece, Waist
from tiny_bzimage import bzimage as tiny_bzimage

Make = Callable[..., Any]
CODE = 0xA00  #: bytes of the real-mode code's first sectors that hold no size


def spec(compress: str = "") -> BzimageSpec:
    head = Piece(load_blob("bootbuild_baremetal", "linux_head"), "bb_linux_head", None, Waist(32))
    return BzimageSpec(load_blob("bootbuild_baremetal", "linux_setup"), head, compress)


FIELDS = (("xloadflags", 0x23), ("cmdline_size", 100), ("initrd_addr_max", 0x1FFFFFFF))


@dataclass
class Image:
    """A written bzImage, with what went into it."""

    payload: Payload
    layout: Layout
    parts: bzimage.Parts
    kernel: Content
    data: bytearray

    @property
    def packed(self) -> int:
        """File offset of the kernel in it."""
        return len(self.parts.setup) + len(self.parts.code)

    def put(self, at: int, value: int, kind: str = "<I") -> None:
        struct.pack_into(kind, self.data, at, value)

    def sum_up(self) -> None:
        """A right checksum over whatever is there now."""
        self.put(len(self.data) - 4, zlib.crc32(self.data[:-4]) ^ 0xFFFFFFFF)


def make(payload: Payload, contribution: Make, folder: Path, compress: str = "") -> Image:
    made = contribution(payload, "linux", container="bzimage", bzimage=spec(compress), setup_header=FIELDS)
    holder = container("bzimage")
    layout = holder.lay_out(payload, [made])
    path = folder / "image"
    holder.write(payload, layout, path)
    kernel = ElfContainer().write(payload, layout, folder / "kernel.elf")
    assert layout.bzimage is not None
    parts = bzimage.assemble(payload, layout, layout.bzimage, kernel)
    return Image(payload, layout, parts, kernel, bytearray(path.read_bytes()))


@pytest.fixture(params=["", "lz4"], ids=["stored", "lz4"])
def image(request: pytest.FixtureRequest, payload: Payload, contribution: Make, tmp_path: Path) -> Image:
    return make(payload, contribution, tmp_path, request.param)


def test_the_header_says_what_was_asked_and_what_is_there(image: Image) -> None:
    found = header(MemoryContent(image.data))
    low = 0x100000
    assert dict(found) | dict(FIELDS) == found
    assert found["version"] == 0x020F
    assert (found["boot_flag"], found["loadflags"], found["code32_start"]) == (0xAA55, 1, 0x100000)
    assert (found["relocatable_kernel"], found["pref_address"]) == (0, low)
    assert (found["setup_sects"] + 1) * 512 + found["syssize"] * 16 == len(image.data)
    assert found["init_size"] > image.layout.stub.end - low + len(image.data)
    code = (found["setup_sects"] + 1) * 512
    info = image.data[code + found["kernel_info_offset"] :][:16]
    assert info == b"LToP" + struct.pack("<III", 16, 16, 0x80000009)


def test_bootbuild_and_others_find_the_kernel_in_it(image: Image) -> None:
    kernel, how = unpack(MemoryContent(image.data), "image")
    compress = image.layout.bzimage.compress if image.layout.bzimage else ""
    assert how == (compress or "stored")
    assert kernel.read(0, kernel.size) == image.kernel.read(0, image.kernel.size)
    assert read_elf(kernel, "kernel").loads == read_elf(image.kernel, "kernel").loads


def test_the_whole_sums_up_to_0_as_linux_builds_it(image: Image) -> None:
    """partial_crc32 of arch/x86/boot/tools/build.c (up to 6.15), over the file with its checksum."""
    crc = 0xFFFFFFFF
    for byte in image.data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    assert crc == 0


def test_lz4_is_a_legacy_frame_with_the_size_behind(
    payload: Payload, contribution: Make, tmp_path: Path
) -> None:
    """Linux's lz4 -l and size_append; Xen's xen/common/unlz4.c reads the same."""
    image = make(payload, contribution, tmp_path, "lz4")
    packed = image.data[image.packed :][: image.parts.payload.size]
    assert packed[:4] == struct.pack("<I", 0x184C2102)
    assert packed[-4:] == struct.pack("<I", image.kernel.size)


def noisy(make_payload: Make) -> Payload:
    """A payload of some MiB that nothing compresses: files are read in pieces of one."""
    payload: Payload = make_payload(64)
    raw = payload.elf.content.read(0, payload.elf.content.size)
    raw += random.Random(1).randbytes((3 << 20) + 5)
    return replace(payload, elf=replace(payload.elf, content=MemoryContent(raw)))


@pytest.mark.parametrize("compress", ["", "lz4"])
def test_a_large_kernel_is_written_as_a_small_one(
    make_payload: Make, contribution: Make, tmp_path: Path, compress: str
) -> None:
    """Each step checks the file that it has written: the checksum, and the kernel byte for byte."""
    payload = noisy(make_payload)
    image = make(payload, contribution, tmp_path, compress)
    assert sums_up(MemoryContent(image.data))
    kernel = own(payload, bytes(image.data))
    assert write(kernel, tmp_path / "native") == image.data
    changed = write(kernel, tmp_path / "changed", vid_mode=0x317)
    assert sums_up(MemoryContent(changed))


def test_it_is_the_same_every_time(payload: Payload, contribution: Make, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    one, two = (make(payload, contribution, tmp_path / folder, "lz4").data for folder in ("one", "two"))
    assert one == two


def test_a_kernel_of_several_blocks_comes_back(tmp_path: Path) -> None:
    kernel = MemoryContent(bytes(range(256)) * 70000 + b"end")
    packed = bzimage.pack(kernel, "lz4")
    file = tiny_bzimage(packed.read(0, packed.size), None)
    unpacked, _ = unpack(MemoryContent(file), "image")
    assert unpacked.read(0, unpacked.size) == kernel.read(0, kernel.size)


def found(image: Image, path: Path) -> list[str]:
    path.write_bytes(image.data)
    with pytest.raises(VerificationError) as caught:
        verify_bzimage.verify(image.parts, image.kernel, path, "image")
    assert {problem.where for problem in caught.value.problems} == {"image"}
    return sorted({problem.rule.id for problem in caught.value.problems})


def test_what_was_written_passes(image: Image, tmp_path: Path) -> None:
    path = tmp_path / "again"
    path.write_bytes(image.data)
    verify_bzimage.verify(image.parts, image.kernel, path, "image")


def _field(at: int, value: int, kind: str = "<I") -> Callable[[Image], None]:
    return lambda image: image.put(at, value, kind)


def _longer(image: Image) -> None:
    image.data += bytes(16)


HEADER, SETUP = "BB-W050", "BB-W053"
DAMAGE: dict[str, tuple[Callable[[Image], None], list[str]]] = {
    "boot_flag": (_field(0x1FE, 0, "<H"), [HEADER, SETUP]),
    "HdrS": (_field(0x202, 0x53726449), [HEADER, "BB-W051", SETUP]),
    "version": (_field(0x206, 0x020E, "<H"), [HEADER, SETUP]),
    "setup_sects": (_field(0x1F1, 0, "<B"), [HEADER, "BB-W051", SETUP]),
    "the jump": (_field(0x201, 0x69, "<B"), [HEADER, SETUP]),
    "loadflags": (_field(0x211, 0, "<B"), [HEADER, SETUP]),
    "code32_start": (_field(0x214, 0x200000), [HEADER, SETUP]),
    "syssize": (_field(0x1F4, 1), [HEADER, SETUP]),
    "kernel_info_offset": (_field(0x268, 0), [HEADER, SETUP]),
    "payload_length": (_field(0x24C, 0x7FFFFFFF), ["BB-W051", SETUP]),
    "payload_offset": (_field(0x248, 0), ["BB-W051", SETUP]),
    "init_size": (_field(0x260, 0x1000), [SETUP, "BB-W054"]),
    "pref_address": (_field(0x258, 0x101000, "<Q"), [SETUP, "BB-W054"]),
    "real-mode code": (lambda i: i.put(0x1010, 0x12345678), [SETUP]),
    "protected-mode code": (lambda i: i.put(len(i.parts.setup) + 0x200, 0x12345678), [SETUP]),
    "a byte of the kernel": (lambda i: i.put(i.packed + 0x20, 0xFF, "<B"), ["BB-W051"]),
    "the end": (_longer, [HEADER]),
}


@pytest.mark.parametrize(("damage", "expected"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_found_by_its_rule(
    image: Image, damage: Callable[[Image], None], expected: list[str], tmp_path: Path
) -> None:
    damage(image)
    if damage is not _longer:
        image.sum_up()
    assert found(image, tmp_path / "damaged") == expected


def test_a_wrong_checksum_is_found_by_its_rule(image: Image, tmp_path: Path) -> None:
    image.data[-1] ^= 1
    assert found(image, tmp_path / "damaged") == ["BB-W052"]


def test_every_rule_of_a_written_image_is_broken_by_a_case() -> None:
    covered = {rule for _, expected in DAMAGE.values() for rule in expected}
    covered |= {"BB-W052", "BB-W055"}  # by tests of their own
    assert covered == {rule.id for rule in bzimage_rules.RULES if rule.id >= "BB-W050"}


def refused(payload: Payload, *contributions: Contribution) -> list[tuple[str, str]]:
    with pytest.raises(RefusedError) as caught:
        container("bzimage").lay_out(payload, contributions)
    return [(problem.rule.id, problem.message) for problem in caught.value.problems]


def test_a_kernel_below_1_mib_is_refused(make_payload: Make, contribution: Make) -> None:
    payload = make_payload(64, shift=0, paddr=0x80000, entry=0x80000)
    made = contribution(payload, "linux", container="bzimage", bzimage=spec())
    assert refused(payload, made) == [("BB-W040", "a PT_LOAD of it is at physical 0x80000")]


def test_a_kernel_behind_which_there_is_no_room_is_refused(
    make_payload: Make, contribution: Make, tmp_path: Path
) -> None:
    payload = make_payload(64, shift=0, paddr=0xFFA00000, entry=0xFFA00000)
    made = contribution(payload, "linux", container="bzimage", bzimage=spec("lz4"), bss=0x3FE000)
    holder = container("bzimage")
    layout = holder.lay_out(payload, [made])
    with pytest.raises(RefusedError) as caught:
        holder.write(payload, layout, tmp_path / "image")
    (problem,) = caught.value.problems
    assert problem.rule.id == "BB-W041"
    assert not (tmp_path / "image").exists()


def test_it_holds_one_target_alone(make_payload: Make, contribution: Make) -> None:
    payload = make_payload(64)
    made = contribution(payload, "linux", container="bzimage", bzimage=spec())
    other = contribution(payload, "pvh")
    ((rule, message),) = refused(payload, made, other)
    assert (rule, message) == (
        "BB-W006",
        "needs container elf; this image is bzimage, which holds one target alone",
    )
    with pytest.raises(RefusedError) as caught:
        container("elf").lay_out(payload, [other, made])
    assert [problem.rule.id for problem in caught.value.problems] == ["BB-W006"]


# A payload's own bzImage.


def own(payload: Payload, raw: bytes) -> Payload:
    return replace(payload, format="bzimage (stored)", elf=replace(payload.elf, packing=MemoryContent(raw)))


@pytest.fixture
def theirs(payload: Payload) -> bytes:
    """A bzImage of somebody's, with a right checksum."""
    kernel = payload.elf.content.read(0, payload.elf.content.size)
    raw = bytearray(tiny_bzimage(kernel, None)[:-4])
    struct.pack_into("<I", raw, 0x238, 0x7FF)  # cmdline_size
    return bytes(raw) + (zlib.crc32(raw) ^ 0xFFFFFFFF).to_bytes(4, "little")


def native(payload: Payload, **fields: int) -> Contribution:
    return Contribution("linux", "native", "bzimage", payload.startup, setup_header=tuple(fields.items()))


def write(payload: Payload, path: Path, **fields: int) -> bytes:
    holder = container("bzimage")
    written = holder.write(payload, holder.lay_out(payload, [native(payload, **fields)]), path)
    raw = path.read_bytes()
    assert written.read(0, written.size) == raw
    return raw


def test_a_payloads_own_bzimage_is_written_to_the_byte(
    payload: Payload, theirs: bytes, tmp_path: Path
) -> None:
    assert write(own(payload, theirs), tmp_path / "image") == theirs


def test_fields_are_set_and_summed_up(payload: Payload, theirs: bytes, tmp_path: Path) -> None:
    raw = write(own(payload, theirs), tmp_path / "image", vid_mode=0x317, kernel_alignment=0x400000)
    fields = header(MemoryContent(raw))
    assert (fields["vid_mode"], fields["kernel_alignment"]) == (0x317, 0x400000)
    assert sums_up(MemoryContent(raw))
    changed = {i for i, (a, b) in enumerate(zip(raw, theirs, strict=True)) if a != b}
    assert changed <= {0x1FA, 0x1FB, *range(0x230, 0x234), *range(len(raw) - 4, len(raw))}


def test_no_checksum_is_made_where_none_was(payload: Payload, theirs: bytes, tmp_path: Path) -> None:
    """Linux has none from 6.16 on."""
    bare = theirs[:-4] + b"none"
    assert write(own(payload, bare), tmp_path / "image", root_flags=1)[-4:] == b"none"


def test_an_elf_file_is_no_bzimage(payload: Payload) -> None:
    assert refused(payload, native(payload)) == [("BB-W042", "it is elf")]


OBJECTIONS = {
    "raised": ({"cmdline_size": 0x7FFFFFFF}, "cmdline_size is 0x7ff, and can only be lowered: 0x7fffffff"),
    "lowered": ({"kernel_alignment": 0x1000}, "kernel_alignment is 0x200000, and can only be raised: 0x1000"),
    "no power": ({"kernel_alignment": 0x300000}, "kernel_alignment has to be a power of 2: 0x300000"),
    "more bits": ({"xloadflags": 0x80}, "xloadflags is 0x7f, of which bits can only be cleared: 0x80"),
    "too large": ({"root_flags": 0x10000}, "root_flags: 0x10000 does not fit its 2 bytes"),
    "compiled in": ({"pref_address": 0}, f"pref_address cannot be set; {', '.join(SETTABLE)} can"),
}


@pytest.mark.parametrize(("fields", "message"), OBJECTIONS.values(), ids=OBJECTIONS)
def test_what_the_kernel_does_not_keep_is_not_promised(
    payload: Payload, theirs: bytes, fields: dict[str, int], message: str
) -> None:
    kernel = own(payload, theirs)
    assert refused(kernel, native(kernel, **fields)) == [("BB-W044", message)]


def test_a_field_that_came_later_cannot_be_set(payload: Payload, theirs: bytes) -> None:
    old = bytearray(theirs)
    struct.pack_into("<H", old, 0x206, 0x0209)
    kernel = own(payload, bytes(old))
    text = "init_size: its header has no such field"
    assert refused(kernel, native(kernel, init_size=0x7000000)) == [("BB-W044", text)]


@pytest.mark.parametrize(("magic", "directories"), [(0x20B, 112), (0x10B, 96)], ids=["PE32+", "PE32"])
def test_a_signed_kernel_is_left_alone(
    payload: Payload, theirs: bytes, magic: int, directories: int, tmp_path: Path
) -> None:
    raw = bytearray(theirs)
    raw[:2] = b"MZ"
    struct.pack_into("<I", raw, 0x3C, 0x40)
    raw[0x40:0x44] = b"PE\0\0"
    struct.pack_into("<H", raw, 0x58, magic)
    unsigned = own(payload, bytes(raw))
    assert write(unsigned, tmp_path / "image", root_flags=1)
    struct.pack_into("<II", raw, 0x58 + directories + 32, 0x1000, 0x200)
    signed = own(payload, bytes(raw))
    text = "it is signed, and root_flags would change"
    assert refused(signed, native(signed, root_flags=1)) == [("BB-W043", text)]
    wrong = refused(signed, native(signed, rootflags=1))  # what signing does not mend is told at once
    assert [rule for rule, _ in wrong] == ["BB-W044", "BB-W043"]
    assert write(signed, tmp_path / "image") == bytes(raw)


@pytest.mark.parametrize("at", [0, 0x1FA, 0x300, -20, -1])
def test_any_other_change_is_found(payload: Payload, theirs: bytes, at: int, tmp_path: Path) -> None:
    kernel = own(payload, theirs)
    layout = container("bzimage").lay_out(kernel, [native(kernel, root_flags=1)])
    raw = bytearray(write(kernel, tmp_path / "image", root_flags=1))
    raw[at] ^= 1
    path = tmp_path / "damaged"
    path.write_bytes(raw)
    with pytest.raises(VerificationError) as caught:
        verify_bzimage.verify_same(kernel.elf.file, layout, path, "image")
    assert {problem.rule.id for problem in caught.value.problems} == {"BB-W055"}


def test_a_field_that_was_not_set_is_found(payload: Payload, theirs: bytes, tmp_path: Path) -> None:
    kernel = own(payload, theirs)
    layout = container("bzimage").lay_out(kernel, [native(kernel, root_flags=1)])
    path = tmp_path / "same"
    path.write_bytes(theirs)
    with pytest.raises(VerificationError) as caught:
        verify_bzimage.verify_same(kernel.elf.file, layout, path, "image")
    assert [p.message for p in caught.value.problems] == ["root_flags is 0x0, not 0x1"]
