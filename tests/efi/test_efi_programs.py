"""Boot programs in emulated UEFI firmware: one that is right boots, each that is wrong has its finding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import efi_dump
from bootbuild.api import Filling, MemoryContent, Offer, Profile, ProfileVerdict, Startup, read_pe
from bootbuild.boot.prove import prove
from bootbuild.boot.run import Subject
from bootbuild.formats.elf_read import read_elf
from bootbuild.host import Host
from bootbuild.model.span import Span
from bootbuild.model.verdict import Outcome
from bootbuild.platform.flat32 import poison_of
from bootbuild.platform.uefi.firmware import Firmware
from bootbuild.platform.uefi.ovmf import MemoryType
from bootbuild.platform.uefi.ovmf import Ovmf as Machine
from bootbuild.platform.uefi.pages import Refused
from bootbuild.platform.uefi.pe_image import read_pe as read_efi
from bootbuild.platform.uefi.start import UNDEFINED, start
from bootbuild_efi.environments import LowMemory, NoInitrd, NoMemattr, Ovmf, SecureBoot, Taken, WxStrict
from broken_file import Change
from pe_edits import DATA_, TEXT, fields, get_of, section
from tiny_file import Load, elf_file
from uki import uki

SOURCE = Path(__file__).with_name("program.c")
KERNEL, CODE = 0x1800000, b"\xf4\xeb\xfd"  #: as program.c has them
OVMF = Ovmf()
LINKED = 0x2000000
NOT_EXECUTABLE = "is in a page that is not executable"
MAJOR_IMAGE_VERSION = 0x344  #: file offset in what compile_pe makes


def program(
    gcc: Path,
    folder: Path,
    broken: str = "NOTHING",
    base: int = 0,
    options: tuple[str, ...] = (),
    changes: dict[int, bytes] | None = None,
) -> bytes:
    return efi_dump.compile_pe(gcc, [SOURCE], folder, (f"-DBREAK={broken}", *options), base, changes)


def verdict_of(
    pe: bytes, profile: Profile = OVMF, required: bool = True, offer: Offer | None = None
) -> ProfileVerdict:
    kernel = read_elf(
        MemoryContent(elf_file(64, KERNEL, Load(KERNEL, KERNEL, CODE, len(CODE), 0x1000), b"")), "kernel"
    )
    startup = Startup("startup_64", KERNEL, KERNEL, 64)
    subject = Subject(
        image=replace(kernel, packing=MemoryContent(pe)),
        startup=startup,
        guest=None,
        offer=offer or Offer(),
        stub=None,
        symbols={},
        expect=b"",
        budget=1_000_000,
        timeout=30.0,
        code=CODE,
    )
    return prove(subject, profile, required=required)


@pytest.mark.parametrize("profile", [Ovmf(), NoInitrd(), SecureBoot(), LowMemory()], ids=lambda p: p.name)
def test_a_program_that_is_right_boots(gcc: Path, tmp_path: Path, profile: Profile) -> None:
    verdict = verdict_of(program(gcc, tmp_path), profile)
    assert [finding.message for finding in verdict.findings] == []
    assert verdict.outcome is Outcome.BOOTED
    assert len({run.digest for run in verdict.runs}) == 1


@pytest.mark.parametrize("name", ["ALLOCATES", "GIVEN_BACK", "OWN_IDT", "TAKES_ALL"])
def test_what_else_is_right(gcc: Path, tmp_path: Path, name: str) -> None:
    verdict = verdict_of(program(gcc, tmp_path, name))
    assert [finding.message for finding in verdict.findings] == []
    assert verdict.outcome is Outcome.BOOTED


def test_a_program_without_relocations_is_where_it_was_linked(gcc: Path, tmp_path: Path) -> None:
    verdict = verdict_of(fields(characteristics=0x23)(program(gcc, tmp_path, "BASE", LINKED)))
    assert [finding.message for finding in verdict.findings] == []
    assert verdict.outcome is Outcome.BOOTED


BROKEN = {
    "AFTER_EXIT": ("BB-B070", "BootServices.Stall was called"),
    "RETURNED": ("BB-B071", "returned EFI_SUCCESS"),
    "FAILED": ("BB-B072", "returned EFI_NOT_FOUND"),
    "EXIT": ("BB-B072", "returned EFI_NOT_FOUND"),
    "STACK": ("BB-B073", "BootServices.Stall was called with RSP"),
    "NO_RETRY": ("BB-B074", "ExitBootServices was refused, and boot services still live"),
    "GIVES_UP": ("BB-B074", "returned EFI_INVALID_PARAMETER to the firmware, which had refused"),
    "OLD_KEY": ("BB-B074", "returned EFI_INVALID_PARAMETER to the firmware, which had refused"),
    "TALKS": ("BB-B094", "ConOut.OutputString was called, and ExitBootServices was refused before"),
    "STRIDE": ("BB-B075", "relies on stride"),
    "BASE": ("BB-B076", "relies on load base, which efi leaves undefined: startup_64 was not reached"),
    "REGISTER": ("BB-U001", "relies on R15"),
    "FLAG": ("BB-U005", "relies on EFLAGS"),
    "TOP": ("BB-U002", "relies on stack"),
    "MEMORY": ("BB-U006", "relies on free memory"),
    "VOLATILE": ("BB-B093", "relies on registers after a service"),
    "SHADOW": ("BB-B093", "relies on shadow space after a service"),
    "POOL": ("BB-U006", "relies on free memory"),
    "FREED": ("BB-B077", "write of 1 bytes at physical 0x1800000, which was not allocated"),
    "EXITS": ("BB-B074", "returned EFI_INVALID_PARAMETER to the firmware, which had refused"),
    "SELECTOR": ("BB-B080", "exception 13 with error code 0x50 came to the firmware"),
    "NOT_ALLOCATED": ("BB-B077", "write of 1 bytes at physical 0x1800000, which was not allocated"),
    "KEY": ("BB-B079", "WaitForEvent waits for what does not happen"),
    "UNDEFINED": ("BB-B080", "exception 6 with error code 0x0 came to the firmware"),
    "BAD_POINTER": ("BB-B078", "BootServices.GetMemoryMap: 8 bytes at 0x700000000000 cannot be read"),
    "COPIES": ("BB-B078", "CopyMem: 3 bytes at 0x1800000 cannot be written: 0x1800000 was not allocated"),
    "OVERWRITES": ("BB-B078", "BootServices.SetMem: 8 bytes at 0x1f5eb018 cannot be written"),
    "FILLS": ("BB-B078", "BootServices.SetMem: 4611686018427387904 bytes at"),
    "SUMS": ("BB-B078", "CalculateCrc32: 4611686018427387904 bytes at 0x90000 cannot be read"),
    "NO_END": ("BB-B078", "BootServices.LocateDevicePath: the device path at"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_program_has_exactly_its_finding(gcc: Path, tmp_path: Path, name: str) -> None:
    rule, text = BROKEN[name]
    verdict = verdict_of(program(gcc, tmp_path, name, LINKED if name == "BASE" else 0))
    assert verdict.outcome is Outcome.FAILED
    assert [finding.rule for finding in verdict.findings] == [rule]
    assert text in verdict.findings[0].message


def test_more_random_numbers_than_memory_holds(gcc: Path, tmp_path: Path) -> None:
    verdict = verdict_of(program(gcc, tmp_path, "LONG"), SecureBoot())
    assert [finding.rule for finding in verdict.findings] == ["BB-B078"]
    assert "Rng.GetRNG: 4611686018427387904 bytes at" in verdict.findings[0].message


def test_a_firmware_without_room_for_its_own_structures_says_so() -> None:
    machine = Machine(512 << 20)
    firmware = Firmware(machine, poison_of(Filling.EXACT, None, ()))
    with pytest.raises(Refused, match="EFI_OUT_OF_RESOURCES"):
        firmware.reserve(8 << 20)


#: how a program is broken, how its headers are, and what is told
STRICT: dict[str, tuple[str, Change | None, str]] = {
    "memory of a kernel": ("NOTHING", None, f"code at 0x1800000 {NOT_EXECUTABLE}"),
    "memory that is data": ("AS_DATA", None, f"code at 0x1800000 {NOT_EXECUTABLE}"),
    "memory that was given back": ("GIVEN_BACK", None, f"code at 0x1800000 {NOT_EXECUTABLE}"),
    "read-only data": ("OWN_DATA", None, "a write to 0x1800000, in a page that is read-only"),
    "its own code": ("OWN_CODE", None, "in a page that is read-only"),
    "SectionAlignment 0x200": ("ALLOWED", fields(section_alignment=0x200), NOT_EXECUTABLE),
    "a section within a page": ("ALLOWED", lambda pe: _shifted(pe, DATA_), NOT_EXECUTABLE),
    "writable code": ("ALLOWED", section(TEXT, flags=0xE0000020), NOT_EXECUTABLE),
}


def _shifted(pe: bytes, number: int) -> bytes:
    return section(number, address=get_of(pe, number, "address") + 0x200)(pe)


@pytest.mark.parametrize("name", STRICT)
def test_what_memory_protection_does_not_allow(gcc: Path, tmp_path: Path, name: str) -> None:
    broken, change, text = STRICT[name]
    profile = NoMemattr() if broken in ("AS_DATA", "GIVEN_BACK") else WxStrict()
    pe = program(gcc, tmp_path, broken)
    verdict = verdict_of(change(pe) if change else pe, profile)
    assert [finding.rule for finding in verdict.findings] == ["BB-B081"]
    assert text in verdict.findings[0].message


@pytest.mark.parametrize("name", ["ALLOWED", "ATTRIBUTES"])
def test_code_that_is_made_read_only_may_be_executed(gcc: Path, tmp_path: Path, name: str) -> None:
    verdict = verdict_of(program(gcc, tmp_path, name), WxStrict())
    assert [finding.message for finding in verdict.findings] == []


def test_code_is_not_made_executable_while_it_is_writable(gcc: Path, tmp_path: Path) -> None:
    verdict = verdict_of(program(gcc, tmp_path, "ALLOWED_AT_ONCE"), WxStrict())
    assert [finding.rule for finding in verdict.findings] == ["BB-B072"]
    assert "0x8000000000000016" in verdict.findings[0].message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        # The bits of a selector are where a page fault says that code was fetched; CR2 is what it was
        ("SELECTOR", "exception 13 with error code 0x50"),
        ("UNREADABLE", "exception 14 with error code 0x10 came to the firmware, by an access to 0x1800000"),
    ],
)
def test_other_exceptions_are_none_of_the_protections(
    gcc: Path, tmp_path: Path, name: str, text: str
) -> None:
    verdict = verdict_of(program(gcc, tmp_path, name), WxStrict())
    assert [finding.rule for finding in verdict.findings] == ["BB-B080"]
    assert text in verdict.findings[0].message


def test_a_program_that_lies_elsewhere_has_as_much_memory(gcc: Path, tmp_path: Path) -> None:
    image = read_efi(MemoryContent(program(gcc, tmp_path)))
    started = [start(image, Machine(512 << 20), poison_of(filling, None, UNDEFINED)) for filling in Filling]
    top, bottom = (one.program.base for one in started[:2])
    exact = started[0].firmware.pages
    assert (Span(bottom, top - bottom), MemoryType.CONVENTIONAL) in exact  # the rest of one hole
    for one in started:
        code = [span for span, kind in one.firmware.pages if kind == MemoryType.LOADER_CODE]
        assert code == [one.program.span]


def test_without_the_protocol_memory_allocated_as_code_may_be_executed(gcc: Path, tmp_path: Path) -> None:
    verdict = verdict_of(program(gcc, tmp_path), NoMemattr())
    assert [finding.message for finding in verdict.findings] == []


def test_memory_that_the_firmware_keeps_is_not_given(gcc: Path, tmp_path: Path) -> None:
    verdict = verdict_of(program(gcc, tmp_path), Taken())
    assert [finding.rule for finding in verdict.findings] == ["BB-B072"]
    assert "EFI_NOT_FOUND" in verdict.findings[0].message


def test_a_program_may_give_up_where_its_memory_is_kept(gcc: Path, tmp_path: Path) -> None:
    pe = program(gcc, tmp_path)
    assert verdict_of(pe, Taken()).outcome is Outcome.FAILED
    assert verdict_of(pe, Taken(), required=False).outcome is Outcome.REFUSED
    broken = program(gcc, tmp_path, "RETURNED")  # without a word
    assert verdict_of(broken, Taken(), required=False).outcome is Outcome.FAILED
    assert verdict_of(program(gcc, tmp_path, "FAILED"), required=False).outcome is Outcome.FAILED


def test_what_a_failing_program_printed_is_told(gcc: Path, tmp_path: Path) -> None:
    verdict = verdict_of(program(gcc, tmp_path, "FAILED"))
    assert "console: no kernel was found" in verdict.findings[0].lines


@pytest.mark.parametrize("modules", [("first", "second"), ("first=line",)])
def test_more_than_one_initrd_is_refused(gcc: Path, tmp_path: Path, modules: tuple[str, ...]) -> None:
    given = [module.partition("=") for module in modules]
    offer = Offer(modules=tuple((name, MemoryContent(b"x"), line.encode()) for name, _, line in given))
    verdict = verdict_of(program(gcc, tmp_path), offer=offer)
    assert [finding.rule for finding in verdict.findings] == ["BB-L004"]


@pytest.mark.parametrize("line", ["caf\u00e9".encode(), b"caf\xe9"])
def test_a_command_line_that_is_not_ascii_is_refused(gcc: Path, tmp_path: Path, line: bytes) -> None:
    """OVMF widens each byte: what a program makes of that is not its fault."""
    verdict = verdict_of(program(gcc, tmp_path), offer=Offer(line))
    assert [finding.rule for finding in verdict.findings] == ["BB-L561"]
    assert verdict_of(program(gcc, tmp_path), offer=Offer(b"cafe")).outcome is Outcome.BOOTED


def test_a_program_starts_another_from_memory(gcc: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner.efi"
    inner.write_bytes(program(gcc, tmp_path))
    verdict = verdict_of(program(gcc, tmp_path, "NESTED", options=(f'-DINNER="{inner}"',)))
    assert [finding.message for finding in verdict.findings] == []
    assert verdict.outcome is Outcome.BOOTED


def test_what_a_file_does_not_have_of_a_section_is_zero(gcc: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner.efi"
    inner.write_bytes(section(DATA_, size=0x1000)(program(gcc, tmp_path, options=("-DCLEARED",))))
    assert verdict_of(inner.read_bytes()).outcome is Outcome.BOOTED
    verdict = verdict_of(program(gcc, tmp_path, "NESTED", options=(f'-DINNER="{inner}"',)))
    assert [finding.message for finding in verdict.findings] == []
    assert verdict.outcome is Outcome.BOOTED


def test_a_program_gives_another_its_options(gcc: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner.efi"
    inner.write_bytes(program(gcc, tmp_path))
    verdict = verdict_of(program(gcc, tmp_path, "NESTED", options=(f'-DINNER="{inner}"', "-DOPTIONS")))
    assert [finding.message for finding in verdict.findings] == []
    assert verdict.outcome is Outcome.BOOTED


def test_a_program_that_another_started_returns_to_that(gcc: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner.efi"
    inner.write_bytes(program(gcc, tmp_path, "FAILED"))
    verdict = verdict_of(program(gcc, tmp_path, "NESTED", options=(f'-DINNER="{inner}"',)))
    assert [finding.rule for finding in verdict.findings] == ["BB-B072"]
    assert "EFI_NOT_FOUND" in verdict.findings[0].message


@pytest.mark.parametrize("profile", [Ovmf(), NoInitrd(), SecureBoot(), LowMemory()], ids=lambda p: p.name)
def test_systemds_stub_starts_a_kernel(
    gcc: Path, tmp_path: Path, systemd_stub: bytes, profile: Profile
) -> None:
    """Its sections are not made of whole pages; it loads the kernel from memory, and gives it LoadOptions."""
    kernel = program(gcc, tmp_path, "TOLD", changes={MAJOR_IMAGE_VERSION: b"\1"})
    verdict = verdict_of(uki(systemd_stub, kernel), profile, offer=Offer(b"quiet"))
    assert [finding.message for finding in verdict.findings] == []
    assert verdict.outcome is Outcome.BOOTED


def test_a_section_of_the_stub_that_has_grown_over_the_next_is_found(
    gcc: Path, tmp_path: Path, systemd_stub: bytes
) -> None:
    """ukify gives an older stub a table of SBAT as large as its data may be: the stub itself says so, too."""
    image = uki(systemd_stub, program(gcc, tmp_path, "TOLD", changes={MAJOR_IMAGE_VERSION: b"\1"}))
    sections = read_pe(MemoryContent(image)).sections
    (number,) = (number for number, one in enumerate(sections) if one.name == ".sbat")
    room = sections[number + 1].address - sections[number].address
    assert room < sections[number].raw_size
    edk2 = Host.discover(plugins=False).loader("edk2")
    for size, rule, said in ((room, "BB-L528", b""), (room + 1, "BB-L532", b"Overlapping PE sections")):
        grown = section(number, size=size)(image)
        assert [one.rule for one in edk2.judge(MemoryContent(grown))] == [rule]
        console = verdict_of(grown, offer=Offer(b"quiet")).runs[0].console
        assert console.startswith(said)
        assert bool(console) == bool(said)


def test_runtime_services_go_on_at_virtual_addresses(gcc: Path, tmp_path: Path) -> None:
    verdict = verdict_of(program(gcc, tmp_path, "CONVERTED"))
    assert [finding.message for finding in verdict.findings] == []


def test_a_service_that_is_not_modelled_is_told(gcc: Path, tmp_path: Path) -> None:
    verdict = verdict_of(program(gcc, tmp_path, "UNMODELLED"))
    assert [finding.message for finding in verdict.findings] == []
    event = "BootServices.CreateEvent: a function to be notified at 0x1800000, which is not modelled"
    assert [e.detail for e in verdict.runs[0].events] == [
        "BootServices.ConnectController was called, which is not modelled: EFI_UNSUPPORTED",
        *[f"{event}: EFI_UNSUPPORTED"] * 2,
    ]


def test_an_image_of_a_file_that_the_program_offers_itself_is_told(gcc: Path, tmp_path: Path) -> None:
    verdict = verdict_of(program(gcc, tmp_path, "OWN_FILES"))
    assert [finding.message for finding in verdict.findings] == []
    told = "BootServices.LoadImage: an image of a device that is no file of QEMU's, which is not modelled"
    assert [e.detail for e in verdict.runs[0].events] == [f"{told}: EFI_UNSUPPORTED"]


def test_what_a_program_prints_is_on_the_console(gcc: Path, tmp_path: Path) -> None:
    verdict = verdict_of(program(gcc, tmp_path, "PRINTED"))
    assert verdict.runs[0].console == b"no kernel was found\n"


def test_a_file_that_is_no_pe_is_refused() -> None:
    verdict = verdict_of(b"MZ" + bytes(1000))
    assert [finding.rule for finding in verdict.findings] == ["BB-L560"]
