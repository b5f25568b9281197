"""Files and requests that a PVH loader or target refuses, BB-L001 to BB-L006: exactly these findings."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tiny_guest
from bootbuild.api.guest import Guest
from bootbuild.boot.prove import prove
from bootbuild.boot.run import Subject
from bootbuild.errors import RefusedError
from bootbuild.formats.elf_read import read_elf
from bootbuild.host import Host
from bootbuild.model.content import Content, MemoryContent
from bootbuild.model.machine import Offer
from bootbuild.model.payload import Payload, Startup
from bootbuild.model.verdict import Outcome
from bootbuild.model.waist import Piece, Waist

PROFILES = ("pvh@qemu", "pvh@xen-domu")
MiB = 1 << 20

Modules = tuple[tuple[str, Content, bytes], ...]


def note_type(data: bytes, value: int) -> bytes:
    """The image with another type in its one note."""
    at = data.index(b"Xen\0") - 4
    return data[:at] + struct.pack("<I", value) + data[at + 4 :]


def desc_size(data: bytes, value: int) -> bytes:
    """The image with another descsz in its one note."""
    at = data.index(b"Xen\0") - 8
    return data[:at] + struct.pack("<I", value) + data[at + 4 :]


def loaded_at(data: bytes, paddr: int, memsz: int | None = None) -> bytes:
    """The image with another p_paddr (and p_memsz) of its one PT_LOAD: the first program header."""
    out = bytearray(data)
    struct.pack_into("<Q", out, 64 + 24, paddr)
    if memsz is not None:
        struct.pack_into("<Q", out, 64 + 40, memsz)
    return bytes(out)


def module(size: int, cmdline: bytes = b"", name: str = "m") -> tuple[str, Content, bytes]:
    """A module of zeros."""
    return name, MemoryContent(bytes(size)), cmdline


WHOLE = tiny_guest.guest()


def asked(data: bytes, modules: Modules, memory: int) -> Subject:
    """What is to be proved of an image whose unbroken form would boot."""
    image, offer = tiny_guest.image_of(data), Offer(b"", modules, memory)
    return replace(tiny_guest.subject(WHOLE), image=image, offer=offer)


#: name, image, modules, memory, rule, and what is said of it
CASES: list[tuple[str, bytes, Modules, int, str, str]] = [
    ("another note", note_type(WHOLE, 17), (), 0, "BB-L001", "the file has no PHYS32_ENTRY note"),
    ("no number", desc_size(WHOLE, 3), (), 0, "BB-L001", "the file has no PHYS32_ENTRY note"),
    ("across RAM's end", loaded_at(WHOLE, 127 * MiB, 2 * MiB), (), 128 * MiB, "BB-L003", "is not in memory"),
    ("above RAM", loaded_at(WHOLE, 0x1_0000_0000), (), 16 * MiB, "BB-L003", "is not in memory"),
    ("a large module", WHOLE, (module(15 * MiB),), 16 * MiB, "BB-L003", "modules and start_info take"),
    ("too little", WHOLE, (), MiB, "BB-L003", "this machine has 2 MiB to 3 GiB, in whole pages"),
    ("too much", WHOLE, (), 4096 * MiB, "BB-L003", "this machine has 2 MiB to 3 GiB, in whole pages"),
    ("no whole page", WHOLE, (), 16 * MiB + 1, "BB-L003", "this machine has 2 MiB to 3 GiB, in whole pages"),
    ("two modules", WHOLE, (module(1, name="a"), module(1, name="b")), 0, "BB-L004", "not a, b"),
    ("a module's line", WHOLE, (module(1, b"quiet", "a"),), 0, "BB-L004", "not a"),
]


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize(
    ("data", "modules", "memory", "rule", "said"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_a_file_that_is_refused_fails_by_exactly_this_rule_and_is_not_run(
    name: str, data: bytes, modules: Modules, memory: int, rule: str, said: str
) -> None:
    subject = asked(data, modules, memory)
    profile = Host.discover().profile(name)
    verdict = prove(subject, profile)
    (finding,) = verdict.findings
    assert (verdict.outcome, verdict.runs, finding.rule) == (Outcome.FAILED, (), rule)
    assert said in finding.message and finding.remedy
    assert rule in {one.id for one in profile.rules}


@pytest.mark.parametrize("name", PROFILES)
def test_all_segments_beyond_memory_are_one_finding(name: str) -> None:
    image = asked(loaded_at(WHOLE, 200 * MiB), (), 128 * MiB)
    first = image.image.loads[0]
    more = tuple(replace(first, paddr=first.paddr + n * MiB) for n in range(1, 4))
    image = replace(image, image=replace(image.image, segments=(*image.image.segments, *more)))
    (finding,) = prove(image, Host.discover().profile(name)).findings
    assert finding.rule == "BB-L003" and " more) is not in memory (" in finding.message


def test_a_single_modules_command_line_is_what_is_to_go() -> None:
    (finding,) = prove(
        asked(WHOLE, (module(1, b"quiet", "a"),), 0), Host.discover().profile("pvh@qemu")
    ).findings
    assert finding.remedy == "leave its command line out, or this profile out of `profiles`"


@pytest.mark.parametrize("name", PROFILES)
def test_the_same_file_unbroken_boots(name: str) -> None:
    for modules, memory in (((), 0), ((module(5000),), 16 * MiB), ((), 2 * MiB), ((), 3072 * MiB)):
        verdict = prove(asked(WHOLE, modules, memory), Host.discover().profile(name))
        assert (verdict.outcome, verdict.findings) == (Outcome.BOOTED, ())


@pytest.mark.parametrize(("name", "most"), [("pvh@firecracker", 2047), ("pvh@cloud-hypervisor", 65535)])
def test_a_command_line_longer_than_the_monitor_takes(name: str, most: int) -> None:
    profile = Host.discover().profile(name)
    short, long = (replace(tiny_guest.subject(WHOLE), offer=Offer(b"a" * size)) for size in (most, most + 1))
    assert prove(short, profile).outcome is Outcome.BOOTED
    verdict = prove(long, profile)
    assert (verdict.outcome, [finding.rule for finding in verdict.findings]) == (Outcome.FAILED, ["BB-L006"])
    assert f"this monitor takes {most}" in verdict.findings[0].message


# What the target refuses to build.


def payload(data: bytes, width: int = 32) -> Payload:
    """A payload that starts at the tiny guest's startup path."""
    startup = Startup("startup", tiny_guest.STARTUP, tiny_guest.STARTUP, width)
    return Payload(read_elf(MemoryContent(data), "vmlinux"), "vmlinux", "elf", "", "native", startup)


class Particular:
    """A guest whose back needs what no PVH front leaves."""

    name = "particular"
    summary = "needs boot services"
    widths = (32, 64)
    rules = ()

    def __init__(self, native: Guest) -> None:
        self._native = native

    def back(self, width: int) -> Piece:
        piece = self._native.back(width)
        assert piece is not None
        needs = Waist(width, privilege=3, owns_paging=False, boot_services=True)
        return Piece(piece.blob, piece.entry, needs, None)

    def judge(self, *given: object) -> Any:
        raise AssertionError("never called")


def refusal(data: bytes, guest: Any, entry: str, width: int = 32) -> tuple[str, str]:
    """Rule and message of the one problem."""
    target = Host.discover().target("pvh")
    make = target.contribute if entry == "insert" else target.native
    with pytest.raises(RefusedError) as caught:
        make(payload(data, width), guest, None)
    (problem,) = caught.value.problems
    assert problem.where == "vmlinux"
    return problem.rule.id, problem.message


def test_a_native_entry_that_is_not_there() -> None:
    guest = Host.discover().guest("native")
    said = refusal(note_type(WHOLE, 17), guest, "native")
    assert said == ("BB-L001", "the payload has no PVH entry of its own")
    assert Host.discover().target("pvh").native(payload(WHOLE), guest, None).chain == ()


@pytest.mark.parametrize("width", [32, 64])
def test_a_guest_whose_back_no_front_reaches(width: int) -> None:
    host = Host.discover()
    rule, message = refusal(WHOLE, Particular(host.guest("native")), "insert", width)
    assert rule == "BB-L002"
    assert message.startswith("pvh_front leaves what native_")
    assert message.endswith(
        "CPL 0 against CPL 3; page tables of its own against page tables of the environment's; "
        "boot services ended against boot services alive"
    )
    assert host.target("pvh").contribute(payload(WHOLE, width), host.guest("native"), None).chain


class Entryless(Particular):
    """A guest for which there is no back at all."""

    def back(self, width: int) -> None:  # type: ignore[override]
        return None


@pytest.mark.parametrize("width", [32, 64])
def test_a_guest_that_no_stub_can_enter(width: int) -> None:
    guest = Entryless(Host.discover().guest("native"))
    assert refusal(WHOLE, guest, "insert", width) == (
        "BB-L002",
        f"guest particular cannot be entered by a stub at width {width}",
    )


def test_the_cases_cover_the_rules_of_every_pvh_plugin(repository: Path) -> None:
    host = Host.discover()
    plugins: list[Any] = [host.target("pvh"), *(host.profile(name) for name in PROFILES)]
    rules = {rule.id for plugin in plugins for rule in plugin.rules}
    source = Path(__file__).read_text(encoding="utf-8")
    assert {rule for rule in rules if f'"{rule}"' not in source} == set()
