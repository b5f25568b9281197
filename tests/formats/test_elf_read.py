"""An ELF file is read as pyelftools reads it, or refused by exactly the rules that it breaks."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootbuild.errors import InputError
from bootbuild.formats import rules
from bootbuild.formats.elf_read import read_elf
from bootbuild.model.content import FileContent, MemoryContent
from bootbuild.model.payload import Note

if TYPE_CHECKING:
    TinyElf = Any  # of conftest.py


def broken(data: bytes) -> list[str]:
    """Ids of the rules by which `data` is refused."""
    with pytest.raises(InputError) as caught:
        read_elf(MemoryContent(data), "x.elf")
    assert all(problem.where.startswith("x.elf") for problem in caught.value.problems)
    return sorted(problem.rule.id for problem in caught.value.problems)


def test_a_valid_file_is_read_whole(elf: TinyElf) -> None:
    image = read_elf(MemoryContent(bytes(elf)), "x.elf")
    assert (image.bits, image.machine, image.type, image.entry) == (
        elf.bits,
        {32: 3, 64: 62}[elf.bits],
        2,
        0x100000,
    )
    code, data, _ = image.segments
    assert (code.flags, code.offset, code.paddr, code.filesz, code.align) == (5, 0x200, 0x100000, 0x80, 0x100)
    assert (data.flags, data.filesz, data.memsz) == (6, 0x10, 0x1000)
    assert image.physical_end == 0x101100
    assert image.notes == (
        Note("GNU", 3, b"\x01" * 20, 0x400),
        Note("Xen", 18, b"\x00\x00\x10\x00", 0x424),
    )


def test_symbols_prefer_the_global_and_leave_out_the_undefined(elf: TinyElf) -> None:
    high = elf.phdrs[0]["p_vaddr"] - 0x100000
    symbols = read_elf(MemoryContent(bytes(elf)), "x.elf").symbols
    assert {name: value - high for name, value in symbols.items()} == {
        "startup_64": 0x100000,
        "local": 0x100008,
        "twice": 0x100020,
        "\udcff\udcfe": 0x100030,
    }
    assert len(symbols) == 4
    assert "absent" not in symbols


def test_symbols_are_not_read_before_they_are_asked_for(elf: TinyElf) -> None:
    class Watched(MemoryContent):
        reads: list[tuple[int, int]] = []  # noqa: RUF012

        def read(self, offset: int, size: int) -> bytes:
            self.reads.append((offset, size))
            return super().read(offset, size)

    image = read_elf(Watched(bytes(elf)), "x.elf")
    before = len(Watched.reads)
    assert not any(offset in (0x540, 0x580) for offset, _ in Watched.reads)
    assert image.symbols["local"]
    after = len(Watched.reads)
    assert image.symbols["local"]
    assert (after - before, len(Watched.reads) - after) == (2, 0)
    assert len(image.symbols) > 1
    after = len(Watched.reads)
    assert image.symbols["startup_64"]
    assert len(Watched.reads) == after, "all were read"


def _ehdr(**fields: int) -> Callable[[TinyElf], None]:
    return lambda elf: elf.ehdr.update(fields)


def _phdr(index: int, **fields: int) -> Callable[[TinyElf], None]:
    return lambda elf: elf.phdrs[index].update(fields)


def _shdr(index: int, **fields: int) -> Callable[[TinyElf], None]:
    return lambda elf: elf.shdrs[index].update(fields)


def _ident(at: int, value: int) -> Callable[[TinyElf], None]:
    return lambda elf: elf.ident.__setitem__(at, value)


def _notes(data: bytes, align: int = 4) -> Callable[[TinyElf], None]:
    return lambda elf: elf.notes(data, align)


def _no_loads(elf: TinyElf) -> None:
    for phdr in elf.phdrs[:2]:
        phdr["p_type"] = 0


def _empty_loads(elf: TinyElf) -> None:
    for phdr in elf.phdrs[:2]:
        phdr["p_filesz"] = phdr["p_memsz"] = 0


def _two_symbol_tables(elf: TinyElf) -> None:
    elf.shdrs[1] = dict(elf.shdrs[2])


FULL = 0xFFFFFFFF

BROKEN: list[tuple[str, Callable[[TinyElf], object], list[str]]] = [
    ("no magic", _ident(1, 0x65), ["BB-E001"]),
    ("unknown class", _ident(4, 3), ["BB-E003"]),
    ("big endian", _ident(5, 2), ["BB-E003"]),
    ("unknown class and big endian", lambda e: (_ident(4, 0)(e), _ident(5, 2)(e)), ["BB-E003", "BB-E003"]),
    ("EI_VERSION", _ident(6, 0), ["BB-E003"]),
    ("e_version", _ehdr(e_version=2), ["BB-E003"]),
    ("arm", _ehdr(e_machine=40), ["BB-E004"]),
    ("machine of the other class", lambda e: e.ehdr.update(e_machine=65 - e.ehdr["e_machine"]), ["BB-E004"]),
    ("relocatable", _ehdr(e_type=1), ["BB-E005"]),
    ("core", _ehdr(e_type=4), ["BB-E005"]),
    ("e_ehsize", _ehdr(e_ehsize=48), ["BB-E006"]),
    ("e_phentsize", _ehdr(e_phentsize=0), ["BB-E006"]),
    ("e_shentsize", _ehdr(e_shentsize=0xFFFF), ["BB-E006"]),
    ("no program headers", _ehdr(e_phnum=0), ["BB-E007"]),
    ("PN_XNUM", _ehdr(e_phnum=0xFFFF), ["BB-E007"]),
    ("more program headers than file", _ehdr(e_phnum=1024), ["BB-E008"]),
    ("e_phoff in the header", _ehdr(e_phoff=4), ["BB-E008"]),
    ("e_phoff behind the file", _ehdr(e_phoff=FULL), ["BB-E008"]),
    ("e_shoff behind the file", _ehdr(e_shoff=FULL), ["BB-E009"]),
    ("e_shoff behind the file, no sections", _ehdr(e_shoff=FULL, e_shnum=0, e_shstrndx=0), ["BB-E009"]),
    ("e_shoff 0 with sections", _ehdr(e_shoff=0), ["BB-E009"]),
    ("more sections than file", _ehdr(e_shnum=0xFFFF), ["BB-E009"]),
    ("e_shstrndx", _ehdr(e_shstrndx=4), ["BB-E009"]),
    ("segment behind the file", _phdr(0, p_offset=FULL), ["BB-E010"]),
    ("segment over the end", _phdr(1, p_filesz=0x900), ["BB-E010"]),
    ("note segment over the end", _phdr(2, p_filesz=FULL), ["BB-E010"]),
    ("filesz > memsz", _phdr(1, p_memsz=0xF), ["BB-E011"]),
    ("p_vaddr wraps", lambda e: e.phdrs[1].update(p_vaddr=(1 << e.bits) - 0xFFF), ["BB-E012"]),
    ("p_paddr wraps", lambda e: e.phdrs[1].update(p_paddr=(1 << e.bits) - 0xFFF), ["BB-E012"]),
    (
        "both wrap",
        lambda e: e.phdrs[1].update(p_paddr=(1 << e.bits) - 1, p_vaddr=(1 << e.bits) - 1),
        ["BB-E012", "BB-E012"],
    ),
    ("no PT_LOAD", _no_loads, ["BB-E013"]),
    ("PT_LOADs of nothing", _empty_loads, ["BB-E013"]),
    ("physical overlap", _phdr(1, p_paddr=0x10007F), ["BB-E014"]),
    ("name over the end", _notes(struct.pack("<III", FULL, 0, 1) + b"Xen\0"), ["BB-E015"]),
    ("contents over the end", _notes(struct.pack("<III", 4, 5, 1) + b"Xen\0\1\2\3\4"), ["BB-E015"]),
    ("huge contents", _notes(struct.pack("<III", 4, FULL, 1) + b"Xen\0\1\2\3\4"), ["BB-E015"]),
    ("rest of a note", _notes(b"\0\0\0\0\0\0\0\1"), ["BB-E015"]),
    ("notes that neither padding fits", _notes(struct.pack("<III", 4, 99, 1) + b"Xen\0", 8), ["BB-E015"]),
    ("symbols behind the file", _shdr(2, sh_offset=FULL), ["BB-E016"]),
    ("strings behind the file", _shdr(3, sh_size=FULL), ["BB-E016"]),
    ("strings that are none", _shdr(2, sh_link=0), ["BB-E016"]),
    ("strings of no section", _shdr(2, sh_link=FULL), ["BB-E016"]),
    ("symbols of another size", _shdr(2, sh_entsize=0), ["BB-E016"]),
    ("half a symbol", _shdr(2, sh_size=25), ["BB-E016"]),
    ("two symbol tables", _two_symbol_tables, ["BB-E016"]),
    (
        "five things at once",
        lambda e: (
            e.ehdr.update(e_type=1, e_machine=40, e_shoff=FULL),
            e.phdrs[0].update(p_memsz=1),
            e.phdrs[2].update(p_offset=FULL),
        ),
        ["BB-E004", "BB-E005", "BB-E009", "BB-E010", "BB-E011"],
    ),
]


@pytest.mark.parametrize(("mutation", "expected"), [pytest.param(m, e, id=n) for n, m, e in BROKEN])
def test_one_mutation_breaks_exactly_its_rules(
    elf: TinyElf, mutation: Callable[[TinyElf], object], expected: list[str]
) -> None:
    mutation(elf)
    assert broken(bytes(elf)) == expected


def test_every_rule_of_reading_is_broken_by_a_case() -> None:
    covered = {rule for _, _, expected in BROKEN for rule in expected} | {"BB-E002"}
    assert covered == {rule.id for rule in rules.RULES if rule.id <= "BB-E016"}


def test_every_truncation_is_refused(elf: TinyElf) -> None:
    data = bytes(elf)
    for size in range(len(data)):
        found = broken(data[:size])
        if size < 4:
            assert found == ["BB-E001"]
        elif size < elf.ehdr["e_ehsize"]:
            assert found == ["BB-E002"]
        else:
            assert set(found) <= {"BB-E008", "BB-E009", "BB-E010"}


def test_a_thousand_problems_are_counted_not_listed(elf64: TinyElf) -> None:
    data = bytearray(bytes(elf64))
    table = struct.pack("<IIQQQQQQ", 1, 5, 1 << 40, 0, 0, 9, 8, 1) * 1000
    struct.pack_into("<Q", data, 32, len(data))
    struct.pack_into("<H", data, 56, 1000)
    assert len(broken(bytes(data) + table)) == 21


def test_notes_padded_to_8_are_read_where_p_align_says_so(
    elf64: TinyElf, make_note: Callable[..., bytes]
) -> None:
    padded = make_note(b"GNU\0", 3, b"\1" * 20, 8) + make_note(b"Xen\0", 18, b"\0\0\x10\0", 8)
    elf64.notes(padded, align=8)
    notes = read_elf(MemoryContent(bytes(elf64)), "x.elf").notes
    assert [(n.owner, n.type) for n in notes] == [("GNU", 3), ("Xen", 18)]


def test_notes_padded_to_4_are_read_whatever_p_align_says(elf64: TinyElf) -> None:
    elf64.phdrs[2]["p_align"] = 8  # as GNU ld merges them: Xen and linux-loader read by 4
    notes = read_elf(MemoryContent(bytes(elf64)), "x.elf").notes
    assert [(n.owner, n.type) for n in notes] == [("GNU", 3), ("Xen", 18)]


def test_more_than_a_mebibyte_of_notes_is_refused(elf64: TinyElf) -> None:
    data = bytes(elf64)
    elf64.phdrs[2] |= {"p_offset": len(data), "p_filesz": (1 << 20) + 4}
    assert broken(bytes(elf64) + bytes((1 << 20) + 4)) == ["BB-E015"]


def test_names_that_share_their_bytes_cannot_take_all_memory(elf64: TinyElf) -> None:
    # 100,000 names, each a suffix of the one before: 5 GB if each were kept whole.
    size = 100_000
    strings = b"\0" + b"n" * size + b"\0"
    table = b"".join(struct.pack("<IBBHQQ", 1 + i, 0x10, 0, 1, 0, 0) for i in range(size))
    start = 0x1000
    elf64.shdrs[2] |= {"sh_offset": start, "sh_size": len(table)}
    elf64.shdrs[3] |= {"sh_offset": start + len(table), "sh_size": len(strings)}
    elf64.parts[start] = table + strings
    elf64.ehdr["e_shoff"] = start + len(table) + len(strings)
    symbols = read_elf(MemoryContent(bytes(elf64)), "x.elf").symbols
    assert sum(map(len, symbols)) < 256 << 20
    assert max(map(len, symbols)) < 4096


def test_headers_agree_with_pyelftools(elf: TinyElf) -> None:
    from elftools.elf.elffile import ELFFile

    data = bytes(elf)
    _same_as(ELFFile(io.BytesIO(data)), read_elf(MemoryContent(data), "x.elf"))


def _same_as(theirs: Any, image: Any) -> None:
    fields = ("p_flags", "p_offset", "p_vaddr", "p_paddr", "p_filesz", "p_memsz", "p_align")
    assert theirs["e_entry"] == image.entry
    assert [tuple(s[f] for f in fields) for s in theirs.iter_segments()] == [
        (s.flags, s.offset, s.vaddr, s.paddr, s.filesz, s.memsz, s.align) for s in image.segments
    ]
    notes = [n for s in theirs.iter_segments(type="PT_NOTE") for n in s.iter_notes()]
    assert [(n["n_name"], n["n_descdata"], n["n_offset"]) for n in notes] == [
        (n.owner, n.desc, n.offset) for n in image.notes
    ]


def test_a_linked_program_reads_as_pyelftools_and_nm_read_it(gcc: Path, tmp_path: Path) -> None:
    from elftools.elf.elffile import ELFFile

    source = tmp_path / "k.c"
    source.write_text("static int local; int shared = 1; void _start(void) { local += shared; for (;;); }")
    out = tmp_path / "k.elf"
    subprocess.run(
        [gcc, "-static", "-nostdlib", "-ffreestanding", "-no-pie", "-Wl,--build-id", "-o", out, source],
        check=True,
    )
    image = read_elf(FileContent(out), str(out))
    with out.open("rb") as stream:
        _same_as(ELFFile(stream), image)
    listing = subprocess.run(["nm", out], check=True, capture_output=True, text=True).stdout
    expected = {line.split()[2]: int(line.split()[0], 16) for line in listing.splitlines()}
    assert dict(image.symbols) == expected


def test_a_debian_kernel_is_read_in_little_memory(kernels: Any) -> None:
    from elftools.elf.elffile import ELFFile

    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from bootbuild.formats.elf_read import read_elf\n"
        "from bootbuild.model.content import FileContent\n"
        "image = read_elf(FileContent(Path(sys.argv[1])), 'vmlinux')\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
    )
    image = read_elf(FileContent(kernels.cloud.vmlinux), "vmlinux")
    with kernels.cloud.vmlinux.open("rb") as stream:
        _same_as(ELFFile(stream), image)
    done = subprocess.run(
        [sys.executable, "-c", program, str(kernels.cloud.vmlinux)],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(entry for entry in sys.path if entry)},
    )
    assert int(done.stdout) < 40 << 10  # KiB


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    patches=st.lists(
        st.tuples(st.integers(0, 0x6FF), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6
    )
)
def test_random_damage_is_read_or_refused_with_a_rule(elf: TinyElf, patches: list[tuple[int, bytes]]) -> None:
    data = bytearray(bytes(elf))
    for place, patch in patches:
        at = place % len(data)
        data[at : at + len(patch)] = patch[: len(data) - at]
    try:
        image = read_elf(MemoryContent(data), "x.elf")
    except InputError:
        return
    assert image.loads
    assert dict(image.symbols) is not None


def test_a_header_of_no_segment_may_say_anything(elf: TinyElf) -> None:
    """gABI chapter 5: the other members of a PT_NULL are undefined."""
    elf.phdrs.append(dict.fromkeys(elf.phdrs[0], 0xFFFFFFF0) | {"p_type": 0})
    elf.ehdr["e_phnum"] += 1
    assert len(read_elf(MemoryContent(bytes(elf)), "x.elf").loads) == 2
