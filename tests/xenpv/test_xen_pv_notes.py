"""Every key of `[targets.xen-pv]`: its note, held to Xen's parser; and what Xen would refuse."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bootbuild.containers.elf import ElfContainer
from bootbuild.errors import RefusedError
from bootbuild.formats.elf_read import read_elf
from bootbuild.formats.notes import XenNote
from bootbuild.host import Host
from bootbuild.model.content import FileContent, MemoryContent
from bootbuild.model.payload import Payload, Startup
from bootbuild.report.inspection import note_name, note_value
from bootbuild_xenpv.options import Options
from bootbuild_xenpv.targets import XenPv
from debian_kernels import Kernels
from real_loaders import ask_toolstack, ask_xen
from tiny_pv_guest import BASE, ENTRY, HYPERCALLS, MEMORY, PHYSICAL, STARTUP, VIRT_BASE, guest, u64

OWN = {
    6: b"tiny\0",
    10: b"writable_page_tables|!dom0\0",
    17: struct.pack("<I", 1),
}  #: of a payload that has much to say
ENTRIES = ("native", "chain", "insert")


def payload(notes: Mapping[int, bytes | None] | None = None) -> Payload:
    data = MemoryContent(guest(notes=notes))
    elf = read_elf(data, "guest")
    startup = Startup("startup_64", STARTUP, STARTUP - VIRT_BASE, 64)
    return Payload(elf, "guest", "elf", "", "native", startup)


def image(
    entry: str, options: Options, folder: Path, notes: Mapping[int, bytes | None] | None = None
) -> Path:
    """What the target makes of a guest with `notes`, as a file."""
    given = payload(notes)
    make = getattr(XenPv(), "contribute" if entry == "insert" else entry)
    contribution = make(given, Host.discover().guest("native"), options)
    container = ElfContainer()
    path = folder / "image.elf"
    container.write(given, container.lay_out(given, [contribution]), path)
    return path


def notes_of(path: Path) -> dict[int, bytes]:
    found = read_elf(FileContent(path), "image").xen_notes
    assert len({note.type for note in found}) == len(found)  # of one type there is one
    return {note.type: note.desc for note in found}


def said(path: Path, model: str) -> tuple[str, str]:
    """(verdict, message) of a loader model about a PV start."""
    verdicts = Host.discover().loader(model).judge(FileContent(path))
    (one,) = [verdict for verdict in verdicts if verdict.boot == "xen-pv"]
    return one.verdict, one.message


@dataclass(frozen=True)
class Right:
    """A key's value, its note, and how libelf reports it."""

    keys: Options
    type: int
    desc: bytes = field(repr=False)
    heard: str


RIGHT = {
    "xen_version": Right(Options(xen_version="xen-3.0-x86_64"), 5, b"xen-3.0-x86_64\0",
                         'XEN_VERSION = "xen-3.0-x86_64"'),
    "pae_mode": Right(Options(pae_mode="bimodal"), 9, b"bimodal\0", 'PAE_MODE = "bimodal"'),
    "guest_os": Right(Options(guest_os="mine"), 6, b"mine\0", 'GUEST_OS = "mine"'),
    "guest_version": Right(Options(guest_version="1.0"), 7, b"1.0\0", 'GUEST_VERSION = "1.0"'),
    "loader": Right(Options(loader="generic2"), 8, b"generic2\0", 'LOADER = "generic2"'),
    "features": Right(Options(features="!writable_page_tables|dom0"), 10, b"!writable_page_tables|dom0\0",
                      'FEATURES = "!writable_page_tables|dom0"'),
    "supported_features": Right(Options(supported_features="dom0|hvm_pirqs"), 17, b"\0\x0c\0\0",
                                "SUPPORTED_FEATURES = 0xc00"),
    "virt_base": Right(Options(virt_base=VIRT_BASE), 3, u64(VIRT_BASE), f"VIRT_BASE = {VIRT_BASE:#x}"),
    "paddr_offset": Right(Options(virt_base=BASE, paddr_offset=PHYSICAL), 4, u64(PHYSICAL),
                          f"PADDR_OFFSET = {PHYSICAL:#x}"),
    "hypercall_page": Right(Options(hypercall_page=HYPERCALLS), 2, u64(HYPERCALLS),
                            f"HYPERCALL_PAGE = {HYPERCALLS:#x}"),
    "init_p2m": Right(Options(init_p2m=0x8000000000), 15, u64(0x8000000000), "INIT_P2M = 0x8000000000"),
    "mod_start_pfn": Right(Options(mod_start_pfn=True), 16, b"\1\0\0\0", "MOD_START_PFN = 0x1"),
    "suspend_cancel": Right(Options(suspend_cancel=True), 14, b"\1\0\0\0", "SUSPEND_CANCEL = 0x1"),
}  # fmt: skip


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("key", RIGHT)
def test_a_key_writes_its_note_and_xen_hears_it(
    key: str, entry: str, toolstack_parser: Path, tmp_path: Path
) -> None:
    one = RIGHT[key]
    made = image(entry, one.keys, tmp_path)
    assert notes_of(made)[one.type] == one.desc
    assert said(made, "xen-libelf") == ("accept", "")
    assert said(made, "xen-xl") == ("accept", "")
    real = ask_toolstack(toolstack_parser, "xen-pv", made)
    assert real.verdict == "accept", real.text
    assert re.search(rf"ELF: note: {re.escape(one.heard)}$", real.text, re.MULTILINE), real.text


def test_every_key_has_a_right_case() -> None:
    assert {*RIGHT, "notes"} == set(Options.__dataclass_fields__)


@dataclass(frozen=True)
class Broken:
    """Keys that make no domain, with the payload's own notes; the same notes in a file; who refuses that."""

    keys: Options
    rule: str
    file: Mapping[int, bytes | None] = field(repr=False)
    by: tuple[str, ...] = (
        "xen-libelf",
        "xen-xl",
    )  #: models that refuse the file; none: Xen takes it otherwise
    own: Mapping[int, bytes | None] = field(default_factory=dict, repr=False)


BROKEN = {
    "a loader that nobody knows": Broken(Options(loader="bogus"), "BB-L210", {8: b"bogus\0"}),
    "another system for Linux, without a loader": Broken(
        Options(guest_os="mine"), "BB-L210", {6: b"mine\0", 8: None}, own={6: b"linux\0", 8: None}
    ),
    "another Xen of its own": Broken(
        Options(loader="generic"), "BB-L210", {5: b"xen-2\0"}, own={5: b"xen-2\0"}
    ),
    "an offset without a base": Broken(
        Options(paddr_offset=0), "BB-L210", {3: None, 4: u64(0)}, own={3: None}
    ),
    "a base behind the kernel": Broken(
        Options(virt_base=BASE + 0x1000), "BB-L210", {3: u64(BASE + 0x1000)}
    ),
    "an offset that moves the kernel from its entry": Broken(
        Options(paddr_offset=PHYSICAL), "BB-L210", {4: u64(PHYSICAL)}
    ),
    "a frame table in the kernel": Broken(Options(init_p2m=STARTUP), "BB-L210", {15: u64(STARTUP)}),
    "a frame table above VIRT_BASE": Broken(
        Options(init_p2m=VIRT_BASE + (1 << 30)), "BB-L207", {15: u64(VIRT_BASE + (1 << 30))}, ()
    ),
    "a hypercall page below VIRT_BASE": Broken(
        Options(hypercall_page=VIRT_BASE - 0x1000), "BB-L206", {2: u64(VIRT_BASE - 0x1000)}, ("xen-libelf",)
    ),
    "a hypercall page behind the kernel": Broken(
        Options(hypercall_page=BASE + MEMORY), "BB-L206", {2: u64(BASE + MEMORY)}, ()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_xen_refuses_is_refused_before_with_its_words(
    name: str, toolstack_parser: Path, qemu: Path, kernels: Kernels, tmp_path: Path
) -> None:
    """The words are those of real Xen as it builds dom0; xl has none but `no loader found`."""
    one = BROKEN[name]
    with pytest.raises(RefusedError) as refused:
        image("native", one.keys, tmp_path, one.own)
    (problem,) = refused.value.problems
    assert problem.rule.id == one.rule
    quoted = re.findall(r"Xen says `(.*)`", problem.message)
    assert len(quoted) == bool(one.by)
    file = tmp_path / "guest"
    file.write_bytes(guest(notes=one.file))
    for model in ("xen-libelf", "xen-xl"):
        assert said(file, model)[0] == ("refuse" if model in one.by else "accept")
    real = ask_toolstack(toolstack_parser, "xen-pv", file)
    assert real.verdict == ("refuse" if "xen-xl" in one.by else "accept"), real.text
    if "xen-libelf" in one.by:
        assert quoted[0] in said(file, "xen-libelf")[1]
        text = ask_xen(qemu, kernels.xen, "xen-pv", file, stops=False).text
        assert quoted[0] in text, text


@pytest.mark.parametrize("entry", ENTRIES)
def test_without_a_key_a_kernels_own_notes_stand(entry: str, tmp_path: Path) -> None:
    found = notes_of(image(entry, Options(), tmp_path, OWN | {2: u64(HYPERCALLS)}))
    assert found[10] == OWN[10]
    assert found[2] == u64(HYPERCALLS)
    if entry != "insert":
        assert (found[6], found[17], found[8]) == (OWN[6], OWN[17], b"generic\0")


NEW = Options(
    guest_os="mine", guest_version="2", features="dom0|pae_pgdir_above_4gb", supported_features="dom0"
)
BY_RULE = {  # GUEST_OS, GUEST_VERSION, FEATURES, SUPPORTED_FEATURES
    "replace": (b"mine\0", b"2\0", b"dom0|pae_pgdir_above_4gb\0", 0x800),
    "merge": (b"mine\0", b"2\0", b"writable_page_tables|dom0|pae_pgdir_above_4gb\0", 0x801),
    "keep": (OWN[6], b"2\0", OWN[10], 1),
}  # fmt: skip


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("rule", BY_RULE)
def test_own_notes_are_replaced_merged_or_kept(rule: str, entry: str, tmp_path: Path) -> None:
    options = NEW.over(Options(notes=rule)) if rule == "replace" else Options(**{**vars(NEW), "notes": rule})
    found = notes_of(image(entry, options, tmp_path, OWN))
    assert (found[6], found[7], found[10], int.from_bytes(found[17], "little")) == BY_RULE[rule]
    assert found[5] == b"xen-3.0\0"


ALL = {  # every type that elfnote.h has, and how `inspect` shows it
    0: ("INFO", b"KEY=value\0", "KEY=value"),
    1: ("ENTRY", u64(ENTRY), f"{ENTRY:#x}"),
    2: ("HYPERCALL_PAGE", u64(HYPERCALLS), f"{HYPERCALLS:#x}"),
    3: ("VIRT_BASE", u64(VIRT_BASE), f"{VIRT_BASE:#x}"),
    4: ("PADDR_OFFSET", u64(0), "0x0"),
    5: ("XEN_VERSION", b"xen-3.0\0", "xen-3.0"),
    6: ("GUEST_OS", b"tiny\0", "tiny"),
    7: ("GUEST_VERSION", b"1\0", "1"),
    8: ("LOADER", b"generic\0", "generic"),
    9: ("PAE_MODE", b"yes\0", "yes"),
    10: ("FEATURES", b"dom0|pae_pgdir_above_4gb\0", "dom0|pae_pgdir_above_4gb"),
    11: ("BSD_SYMTAB", b"no\0", "no"),
    12: ("HV_START_LOW", u64(0xFFFF800000000000), "0xffff800000000000"),
    13: ("L1_MFN_VALID", u64(1) + u64(1), "0x1 0x1"),
    14: ("SUSPEND_CANCEL", struct.pack("<I", 1), "0x1"),
    15: ("INIT_P2M", u64(0x8000000000), "0x8000000000"),
    16: ("MOD_START_PFN", b"\1", "0x1"),
    17: ("SUPPORTED_FEATURES", struct.pack("<II", 0x800, 1), "0x800 0x1"),
    18: ("PHYS32_ENTRY", struct.pack("<I", PHYSICAL), f"{PHYSICAL:#x}"),
    19: ("PHYS32_RELOC", struct.pack("<III", 0x200000, 0, 0xFFFFFFFF), "0x200000 0x0 0xffffffff"),
}


def test_every_type_is_named_and_read() -> None:
    own = {note.type: note for note in payload({kind: desc for kind, (_, desc, _) in ALL.items()}).elf.notes}
    assert {kind: (note_name(note), note.desc, note_value(note)) for kind, note in own.items()} == ALL
    assert [*ALL] == [kind.value for kind in XenNote]


@pytest.mark.parametrize("rule", ["replace", "merge", "keep"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_what_no_key_speaks_of_stays_as_it_is(entry: str, rule: str, tmp_path: Path) -> None:
    own = {kind: desc for kind, (_, desc, _) in ALL.items()}
    found = notes_of(image(entry, Options(notes=rule, suspend_cancel=True), tmp_path, own))
    written = {"native": set(), "chain": {1}, "insert": {1, 3, 4, 5, 6, 8, 17}}[entry]
    assert {kind: found[kind] for kind in own if kind not in written} == {
        kind: desc for kind, desc in own.items() if kind not in written
    }
    assert set(found) == set(own)


def test_a_stub_must_be_where_its_code_expects(tmp_path: Path) -> None:
    """VIRT_BASE and PADDR_OFFSET that agree with each other and not with the startup path's segment."""
    with pytest.raises(RefusedError) as refused:
        image("insert", Options(virt_base=VIRT_BASE - 0x1000, paddr_offset=0), tmp_path)
    (problem,) = refused.value.problems
    assert problem.rule.id == "BB-L210"
    assert "the startup path is linked 0xffffffff80000000 above it" in problem.message


def test_a_symbol_may_name_the_hypercall_page(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="hypercall_page is 'nowhere', which is no symbol of the payload"):
        image("native", Options(hypercall_page="nowhere"), tmp_path)


def test_a_page_of_the_stubs_is_for_the_stubs(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="the kernel alone knows which it calls"):
        image("chain", Options(hypercall_page="stub"), tmp_path)


def test_a_native_image_differs_in_its_notes_alone(tmp_path: Path) -> None:
    before = guest()
    after = image("native", Options(suspend_cancel=True), tmp_path).read_bytes()
    assert after[0x40 : len(before)] == before[0x40:]
    elf = read_elf(MemoryContent(after), "image")
    assert (elf.entry, [s for s in elf.segments if s.type == 1]) == (
        ENTRY, [s for s in read_elf(MemoryContent(before), "guest").segments if s.type == 1]
    )  # fmt: skip
