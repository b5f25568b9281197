"""A UEFI application as it is written: read back by other code, each damage found by its rule."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import lief
import pytest

from bootbuild.containers import container, pe_rules
from bootbuild.containers.verify_pe import verify
from bootbuild.errors import ExitCode, RefusedError, VerificationError
from bootbuild.formats.elf_read import read_elf
from bootbuild.formats.pe_read import PeError, PeFile, read_pe
from bootbuild.model.blob import Blob
from bootbuild.model.content import Content, FileContent, MemoryContent
from bootbuild.model.contribution import Application, Contribution, Layout
from bootbuild.model.payload import Payload, Startup
from bootbuild.model.waist import Piece, Waist
from peak_memory import peak

PE_AT, OPTIONAL = 0x40, 0x58  #: file offsets of the signature and the optional header
TABLE = OPTIONAL + 112 + 16 * 8
NAMES = [".text", ".bss", ".reloc", ".bbinfo", ".stubs", ".payload", ".sbat", ".cmdline"]
TEXT, BSS, RELOC, SBAT = 0, 1, 2, 6
# Fields of a section header.
SIZE, ADDRESS, RAW_SIZE, RAW, RELOCATIONS, FLAGS = 8, 12, 16, 20, 24, 36

STUB = Blob("application", 64, b"\xc3" * 100, 16, 200, 16, (), {"bb_efi_entry": (".text", 0)}, "by hand")
CHAIN = Blob("back", 64, b"\xf4" * 40, 16, 64, 16, (), {"bb_back": (".text", 0)}, "by hand")
SECTIONS: tuple[tuple[str, Content], ...] = (
    (".sbat", MemoryContent(b"sbat,1,a,b,1,c\n")),
    (".cmdline", MemoryContent(b"quiet")),
)


def made(payload: Payload, sections: tuple[tuple[str, Content], ...] = SECTIONS) -> Contribution:
    application = Application(Piece(STUB, "bb_efi_entry", None, None), 5, sections)
    chain = (Piece(CHAIN, "bb_back", None, Waist(64)),)
    return Contribution("efi", "native", "pe", payload.startup, chain, application=application)


@dataclass
class Image:
    """A written application, to be damaged."""

    payload: Payload
    layout: Layout
    data: bytearray

    def put(self, at: int, value: int, kind: str = "<I") -> None:
        struct.pack_into(kind, self.data, at, value)

    def section(self, index: int, field: int) -> int:
        return TABLE + 40 * index + field

    def number(self, at: int) -> int:
        return int(struct.unpack_from("<I", self.data, at)[0])

    def sum_up(self) -> None:
        """Set the checksum, word by word as ImageHlp's documentation of it has the sum."""
        self.put(OPTIONAL + 64, 0)
        total = 0
        for (word,) in struct.iter_unpack("<H", bytes(self.data) + bytes(len(self.data) % 2)):
            total += word
            total = (total & 0xFFFF) + (total >> 16)
        self.put(OPTIONAL + 64, total + len(self.data))


@pytest.fixture
def payload(hello64: Path) -> Payload:
    elf = read_elf(FileContent(hello64), "hello64.elf")
    at = elf.symbols["startup_64"]
    return Payload(elf, "hello64.elf", "elf", "", "native", Startup("startup_64", at, at, 64))


@pytest.fixture
def image(payload: Payload, tmp_path: Path) -> Image:
    layout = container("pe").lay_out(payload, [made(payload)])
    path = tmp_path / "image.efi"
    container("pe").write(payload, layout, path)
    return Image(payload, layout, bytearray(path.read_bytes()))


def reread(image: Image) -> PeFile:
    return read_pe(MemoryContent(bytes(image.data)))


def found(image: Image, path: Path) -> list[str]:
    path.write_bytes(image.data)
    with pytest.raises(VerificationError) as caught:
        verify(image.payload, image.layout, path, "image.efi")
    assert caught.value.exit_code is ExitCode.INTERNAL
    return sorted({problem.rule.id for problem in caught.value.problems})


def test_the_sections_are_those_asked_for_each_in_pages_of_its_own(image: Image) -> None:
    pe = reread(image)
    assert [s.name for s in pe.sections] == NAMES
    assert all(s.address % 4096 == 0 for s in pe.sections)
    assert not any(s.writable and s.executable for s in pe.sections)
    by_name = {s.name: s for s in pe.sections}
    assert pe.read(by_name[".cmdline"]) == b"quiet"
    assert by_name[".cmdline"].size == 5
    assert by_name[".cmdline"].raw_size == 0x200
    elf = image.payload.elf.content
    assert pe.read(by_name[".payload"]) == elf.read(0, elf.size)
    assert pe.entry == by_name[".text"].address
    assert pe.timestamp == 0


def test_lief_reads_the_same_and_hashes_without_a_gap(image: Image, tmp_path: Path) -> None:
    path = tmp_path / "again.efi"
    path.write_bytes(image.data)
    other = lief.PE.parse(str(path))
    assert isinstance(other, lief.PE.Binary)
    own = reread(image)
    assert other.compute_checksum() == own.checksum
    assert [(s.name, s.virtual_address, s.virtual_size) for s in other.sections] == [
        (s.name, s.address, s.size) for s in own.sections
    ]
    # Authenticode over a file without gap or certificate: all of it but the checksum and directory 4
    flat = bytes(image.data)
    checksum, directory = OPTIONAL + 64, OPTIONAL + 112 + 4 * 8
    hashed = flat[:checksum] + flat[checksum + 4 : directory] + flat[directory + 8 :]
    assert other.authentihash_sha256.hex() == hashlib.sha256(hashed).hexdigest()


def test_the_time_is_that_of_source_date_epoch(
    payload: Payload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    layout = container("pe").lay_out(payload, [made(payload)])
    assert read_pe(container("pe").write(payload, layout, tmp_path / "a.efi")).timestamp == 1700000000


@pytest.mark.parametrize("epoch", ["garbage", "-1", " 5", "1_0", "1e9", "٣", "4294967296", "9" * 5000])
def test_a_time_that_is_none_is_refused(
    payload: Payload, monkeypatch: pytest.MonkeyPatch, epoch: str
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    with pytest.raises(RefusedError) as caught:
        container("pe").lay_out(payload, [made(payload)])
    assert [problem.rule.id for problem in caught.value.problems] == ["BB-W079"]


@pytest.mark.parametrize(("epoch", "time"), [("", 0), ("0", 0), ("4294967295", 0xFFFFFFFF)])
def test_each_time_of_32_bits_is_taken(
    payload: Payload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: str, time: int
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    layout = container("pe").lay_out(payload, [made(payload)])
    assert read_pe(container("pe").write(payload, layout, tmp_path / "a.efi")).timestamp == time


def test_each_byte_of_the_kernel_has_its_place_in_the_plan(image: Image) -> None:
    pe = reread(image)
    text = pe.read(pe.sections[TEXT])
    at = len(STUB.text) + -len(STUB.text) % 16
    landing, flags, ranges, moves = struct.unpack_from("<QIII", text, at)
    assert (landing, flags) == (dict(image.layout.entries)["efi"], 5)
    taken = [struct.unpack_from("<QQ", text, at + 24 + 16 * i) for i in range(ranges)]
    kernel = image.payload.elf
    for span in (*(s.physical for s in kernel.loads), image.layout.stub):
        assert any(base <= span.start and span.end <= base + size for base, size in taken)
    moved = [struct.unpack_from("<QQQ", text, at + 24 + 16 * ranges + 24 * i) for i in range(moves)]
    memory = {s.address: pe.read(s) for s in pe.sections}
    for to, where, size in moved:
        home = max(address for address in memory if address <= where)
        part = memory[home][where - home : where - home + size]
        segment = next((s for s in kernel.loads if s.paddr == to), None)
        if segment is not None:
            assert part == kernel.content.read(segment.offset, segment.filesz)
        else:
            assert (to, part) == (image.layout.segments[0].paddr, image.layout.segments[0].data)
    assert len(moved) == len(kernel.loads) + 1


Damage = Callable[[Image], None]


def _section(index: int, field: int, value: int) -> Damage:
    return lambda image: image.put(image.section(index, field), value)


def _flag(index: int, flag: int) -> Damage:
    def damage(image: Image) -> None:
        at = image.section(index, FLAGS)
        image.put(at, image.number(at) | flag)
        wanted = list(image.layout.sections)
        wanted[index] = replace(wanted[index], flags=wanted[index].flags | flag)
        image.layout = replace(image.layout, sections=tuple(wanted))

    return damage


def _entry(address: int) -> Damage:
    def damage(image: Image) -> None:
        image.put(OPTIONAL + 16, address)
        image.layout = replace(image.layout, entry_point=address)

    return damage


def _last_byte_of_text(image: Image) -> None:
    text = image.layout.sections[TEXT].memory
    _entry(text.end - 1)(image)


def _behind(image: Image) -> None:
    image.data += bytes(8)


def _in_the_padding(image: Image) -> None:
    image.data[-1] = 1


def _other_byte(image: Image) -> None:
    image.data[reread(image).sections[SBAT].raw] ^= 1


def _overlap(image: Image) -> None:
    """.bss is said to be as large as what follows it, too."""
    size = 0x2000
    image.put(image.section(BSS, SIZE), size)
    wanted = list(image.layout.sections)
    wanted[BSS] = replace(wanted[BSS], size=size)
    image.layout = replace(image.layout, sections=tuple(wanted))


def _unaligned(image: Image) -> None:
    """The last section begins in the middle of its page."""
    last = len(NAMES) - 1
    address = image.layout.sections[last].address + 0x200
    image.put(image.section(last, ADDRESS), address)
    wanted = list(image.layout.sections)
    wanted[last] = replace(wanted[last], address=address)
    image.layout = replace(image.layout, sections=tuple(wanted))


DAMAGES: dict[str, tuple[Damage, str]] = {
    "the machine is ARM's": (lambda i: i.put(PE_AT + 4, 0xAA64, "<H"), "BB-W065"),
    "it is a driver": (lambda i: i.put(OPTIONAL + 68, 11, "<H"), "BB-W065"),
    "a name is another": (lambda i: i.put(i.section(SBAT, 0), 0x7461622E), "BB-W066"),
    "VirtualSize is padded": (_section(SBAT, SIZE, 0x200), "BB-W066"),
    "a byte is another": (_other_byte, "BB-W066"),
    "two sections share a page": (_overlap, "BB-W067"),
    "a section begins within a page": (_unaligned, "BB-W068"),
    "SectionAlignment is 512": (lambda i: i.put(OPTIONAL + 32, 512), "BB-W068"),
    "code is writable": (_flag(TEXT, 0x80000000), "BB-W069"),
    "no NX_COMPAT": (lambda i: i.put(OPTIONAL + 70, 0, "<H"), "BB-W069"),
    "the entry is the header": (_entry(0x40), "BB-W070"),
    "the entry is data": (_entry(0x3004), "BB-W070"),
    "the entry is the last byte of code": (_last_byte_of_text, "BB-W070"),
    "there is something behind the last section": (_behind, "BB-W071"),
    "the padding is not zero": (_in_the_padding, "BB-W071"),
    "SizeOfImage is a page too small": (
        lambda i: i.put(OPTIONAL + 56, i.number(OPTIONAL + 56) - 4096),
        "BB-W073",
    ),
    "a symbol table is said to be there": (lambda i: i.put(PE_AT + 12, 0x400), "BB-W074"),
    "certificates are said to be there": (lambda i: i.put(OPTIONAL + 112 + 32, 0x400), "BB-W074"),
    "a section has relocations of objects": (_section(SBAT, RELOCATIONS, 0x400), "BB-W074"),
    "relocations are stripped": (lambda i: i.put(PE_AT + 22, 0x23, "<H"), "BB-W076"),
    "the relocation directory is empty": (lambda i: i.put(OPTIONAL + 112 + 44, 0), "BB-W076"),
    "a section may be discarded": (_flag(SBAT, 0x02000000), "BB-W077"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_application_is_found_out_by_its_rule(image: Image, tmp_path: Path, name: str) -> None:
    damage, rule = DAMAGES[name]
    damage(image)
    image.sum_up()
    assert found(image, tmp_path / "damaged.efi") == [rule]


def test_section_headers_beyond_the_headers_are_found(image: Image, tmp_path: Path) -> None:
    image.put(OPTIONAL + 60, 0x200)
    image.sum_up()
    assert "BB-W072" in found(image, tmp_path / "damaged.efi")


def test_a_wrong_checksum_is_found(image: Image, tmp_path: Path) -> None:
    image.put(OPTIONAL + 64, image.number(OPTIONAL + 64) ^ 0x10)
    assert found(image, tmp_path / "damaged.efi") == ["BB-W075"]


def test_the_checksum_is_that_of_adding_words(image: Image) -> None:
    before = bytes(image.data)
    image.sum_up()
    assert bytes(image.data) == before


@pytest.mark.parametrize("size", [0, 1, 0x3F, 0x43, 0x57, 0xC7, TABLE + 41])
def test_a_file_that_ends_within_its_headers_is_no_pe(image: Image, tmp_path: Path, size: int) -> None:
    del image.data[size:]
    with pytest.raises(PeError):
        reread(image)
    assert found(image, tmp_path / "short.efi") == ["BB-W065"]


def refused(payload: Payload, contribution: Contribution) -> list[str]:
    with pytest.raises(RefusedError) as caught:
        container("pe").lay_out(payload, [contribution])
    return [problem.rule.id for problem in caught.value.problems]


REFUSED: dict[str, tuple[tuple[tuple[str, Content], ...], str]] = {
    "more sections than headers": ((*((".module", MemoryContent(b"x")) for _ in range(89)),), "BB-W062"),
    "a name of nine bytes": (((".sections", MemoryContent(b"x")),), "BB-W063"),
    "a long name of COFF's": ((("/4", MemoryContent(b"x")),), "BB-W063"),
    "an empty section": (((".module", MemoryContent(b"")),), "BB-W063"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_loaders_would_misread_is_refused(payload: Payload, name: str) -> None:
    sections, rule = REFUSED[name]
    assert refused(payload, made(payload, sections)) == [rule]


class Vast:
    """2 GiB of zeros that are nowhere."""

    size = 1 << 31

    def read(self, offset: int, size: int) -> bytes:
        return bytes(size)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        return len(buffer)


def test_an_image_that_is_too_large_is_refused(payload: Payload) -> None:
    assert refused(payload, made(payload, ((".module", Vast()),))) == ["BB-W064"]


BEFORE = """
from pathlib import Path
from bootbuild.boot.subject import find_startup
from bootbuild.containers import container
from bootbuild.containers.verify_pe import verify
from bootbuild.formats.payload import open_payload
from bootbuild.guests.native import Native
from bootbuild.host import Host
from bootbuild.model.content import FileContent
from bootbuild.model.payload import Module, Payload

opened = open_payload(Path({kernel!r}))
startup = find_startup(opened.elf, opened.elf.entry, 64)
module = Module("module", FileContent(Path({module!r})))
payload = Payload(opened.elf, "kernel", opened.format, opened.digest, "native", startup, modules=(module,))
target, holder = Host.discover().target("efi"), container("pe")
"""
WRITE = """
layout = holder.lay_out(payload, [target.contribute(payload, Native(), target.options())])
holder.write(payload, layout, Path({image!r}))
verify(payload, layout, Path({image!r}), "image")
"""


def test_a_module_passes_through_without_being_held(hello64: Path, tmp_path: Path) -> None:
    module, image = tmp_path / "module", tmp_path / "image.efi"
    with module.open("wb") as output:
        for _ in range(64):  # no hole
            output.write(bytes(1 << 20))
    grown, _ = peak(BEFORE.format(kernel=str(hello64), module=str(module)), WRITE.format(image=str(image)))
    assert image.stat().st_size > 64 << 20
    assert grown < 16 << 20


def test_a_kernel_of_too_many_segments_is_refused(payload: Payload) -> None:
    last = payload.elf.loads[-1]
    more = [
        replace(last, paddr=0x1000000 + i * 4096, vaddr=0x1000000 + i * 4096, memsz=1) for i in range(160)
    ]
    elf = replace(payload.elf, segments=(*payload.elf.segments, *more))
    assert refused(replace(payload, elf=elf), made(payload)) == ["BB-W061"]


def test_a_kernel_that_is_no_application_cannot_be_kept_as_one(payload: Payload) -> None:
    assert refused(payload, Contribution("efi", "native", "pe", payload.startup)) == ["BB-W060"]


def test_a_file_that_is_kept_is_kept_to_the_byte(payload: Payload, image: Image, tmp_path: Path) -> None:
    packed = replace(payload, elf=replace(payload.elf, packing=MemoryContent(bytes(image.data))))
    layout = container("pe").lay_out(packed, [Contribution("efi", "native", "pe", payload.startup)])
    path = tmp_path / "kept.efi"
    container("pe").write(packed, layout, path)
    assert path.read_bytes() == image.data
    for damaged in (bytes(image.data[:-1]), b"\0" + bytes(image.data[1:])):
        path.write_bytes(damaged)
        with pytest.raises(VerificationError) as caught:
            verify(packed, layout, path, "kept.efi")
        assert [problem.rule.id for problem in caught.value.problems] == ["BB-W078"]


def test_every_rule_has_its_case() -> None:
    here = Path(__file__).read_text()
    assert [rule.id for rule in pe_rules.RULES if f'"{rule.id}"' not in here] == []
