"""Target efi: which applications it makes, what it refuses, and that the emulated firmware starts them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bootbuild.api import FileContent, Finding, Payload, ProfileVerdict, Startup, read_elf, read_pe
from bootbuild.boot.subject import request_subject
from bootbuild.errors import InputError, RefusedError
from bootbuild.guests.native import Native
from bootbuild.host import Host
from bootbuild.model.record import BuildRecord
from bootbuild.model.request import BootRequest
from bootbuild.model.verdict import Outcome
from bootbuild_efi import sbat
from bootbuild_efi.options import Options
from bootbuild_efi.rules import RULES
from bootbuild_efi.targets import Efi
from recipe_text import build_text
from workshop import Workshop

CMDLINE = "greeting=hello"
MODULE = "[[payload.modules]]\npath = 'module'\n"
Make = Callable[..., BuildRecord]


@pytest.fixture
def make(hello64: Path, hello32: Path, workshop: Workshop, tmp_path: Path) -> Make:
    (tmp_path / "module").write_bytes(b"a module" * 1000)
    (tmp_path / "second").write_bytes(b"another")
    (tmp_path / "many").mkdir()
    for number in range(33):
        (tmp_path / "many" / str(number)).write_bytes(b"one of many")

    def made(
        target: str,
        *,
        width: int = 64,
        pie: bool = False,
        payload: str = "",
        more: str = MODULE,
        cmdline: str = CMDLINE,
    ) -> BuildRecord:
        kernel = workshop.pie(f"efi-pie{width}", width) if pie else {64: hello64, 32: hello32}[width]
        return build_text(
            f"""
            api = 1
            [payload]
            path = {json.dumps(str(kernel))}
            startup = "startup_{width}"
            width = {width}
            cmdline = "{cmdline}"
            {payload}
            {more}
            [targets.efi]
            {target}
            [expect]
            console = "hello: done"
            """,
            tmp_path,
        )

    return made


def outcomes(record: BuildRecord) -> dict[str, Outcome]:
    return {v.name.removeprefix("efi@"): v.outcome for image in record.images for v in image.verdicts}


def verdict(record: BuildRecord, profile: str) -> ProfileVerdict:
    return next(v for image in record.images for v in image.verdicts if v.name == f"efi@{profile}")


def said(findings: tuple[Finding, ...]) -> list[str]:
    return [line for finding in findings for line in finding.lines if line.startswith("console: bootbuild")]


def sections(record: BuildRecord) -> dict[str, bytes]:
    pe = read_pe(FileContent(Path(record.images[0].path)))
    return {section.name: pe.read(section) for section in pe.sections}


NOT_BOTH = "the firmware has no memory that is writable and executable, as it needs beside them"
USUAL = ["low-memory", "no-initrd", "no-memattr", "ovmf", "secure-boot", "vga", "wx-strict"]


@pytest.mark.parametrize("width", [64, 32])
def test_hello_boots_wherever_its_memory_is_not_taken_for_good(make: Make, width: int) -> None:
    record = make("", width=width)
    assert outcomes(record) == {**dict.fromkeys(USUAL, Outcome.BOOTED), "taken": Outcome.REFUSED}
    assert said(verdict(record, "taken").findings) == [
        "console: bootbuild: cannot start the kernel: the memory that it is linked for is taken for good"
    ]


def test_command_line_and_modules_are_in_the_image(make: Make) -> None:
    found = sections(make('profiles = ["ovmf"]', more=MODULE + "cmdline = 'its own'\n"))
    assert found[".cmdline"] == CMDLINE.encode()
    assert found[".module"] == b"a module" * 1000
    assert found[".modargs"] == b"its own"


def test_command_line_and_initrd_come_with_the_boot_option(make: Make) -> None:
    record = make("embed = false")
    assert outcomes(record) == {**dict.fromkeys(USUAL, Outcome.BOOTED), "taken": Outcome.REFUSED}
    assert not {".cmdline", ".module"} & sections(record).keys()
    handover = verdict(record, "ovmf").handover
    assert handover is not None
    assert handover["cmdline"] == f"{CMDLINE} initrd=initrd"  # as QEMU has it for -initrd
    assert [module["size"] for module in handover["modules"]] == [8000]
    assert verdict(record, "no-initrd").handover != handover


def test_boot_services_live_on_if_asked(make: Make) -> None:
    record = make('boot_services = true\nprofiles = ["ovmf", "no-memattr", "secure-boot"]')
    assert {*outcomes(record).values()} == {Outcome.BOOTED}
    handover = verdict(record, "ovmf").handover
    assert handover is not None
    assert handover["memory_map"] == []


def test_beside_boot_services_memory_must_be_writable_and_executable(make: Make) -> None:
    record = make('boot_services = true\nprofiles = ["wx-strict"]')
    assert said(verdict(record, "wx-strict").findings) == [
        f"console: bootbuild: cannot start the kernel: {NOT_BOTH}"
    ]


def test_without_such_memory_the_others_count_if_nobody_names_the_profile(make: Make) -> None:
    found = outcomes(make("boot_services = true"))
    assert found["wx-strict"] is Outcome.REFUSED
    assert found["ovmf"] is Outcome.BOOTED
    assert [*outcomes(make('boot_services = true\nprofiles = ["wx-strict"]')).values()] == [Outcome.FAILED]


def test_the_post_stub_sets_the_virtual_map(mapping_kernel: Path, tmp_path: Path) -> None:
    record = build_text(
        f"""
        api = 1
        [payload]
        path = {json.dumps(str(mapping_kernel))}
        startup = "startup_64"
        [targets.efi]
        profiles = ["ovmf", "wx-strict"]
        [expect]
        console = "virtual map: done"
        """,
        tmp_path,
    )
    assert [v.findings for image in record.images for v in image.verdicts] == [(), ()]
    assert {*outcomes(record).values()} == {Outcome.BOOTED}


ROWS = b"sbat,1,SBAT Version,sbat,1,https://example.org\nacme,3,Acme,acme,1,https://example.org\n"


def test_a_table_of_sbat_is_taken_from_a_file(make: Make, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(ROWS)
    assert sections(make('sbat = "table.csv"\nprofiles = ["ovmf"]'))[".sbat"] == ROWS


def test_our_own_table_is_right() -> None:
    assert list(sbat.faults(sbat.table(None))) == []


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        (b"acme,3,Acme,acme,1,u\n", "its first row is not that of component sbat"),
        (b"", "its last row does not end with a newline"),
        (ROWS[:-1], "its last row does not end with a newline"),
        (ROWS + b"\0", "it holds a NUL, or more than ASCII"),
        (ROWS.replace(b"Acme", "Äcme".encode()), "it holds a NUL, or more than ASCII"),
        (ROWS.replace(b"acme,3", b"acme,0"), "row 2: '0' is no generation"),
        (ROWS.replace(b",1,https", b",1,u,https"), "row 1 has 7 fields, not 6"),
        (ROWS.replace(b"Acme", b'"Acme, Ltd"'), "row 2 has 7 fields, not 6"),
        (ROWS.replace(b"Acme", b'"Ac\nme"'), "row 2 has 3 fields, not 6"),
        (ROWS.replace(b"Acme", b""), "row 2 has an empty field"),
        (ROWS + ROWS[ROWS.index(b"acme") :], "row 3: component acme is there twice"),
    ],
)
def test_a_table_that_shim_misreads_is_refused(make: Make, tmp_path: Path, table: bytes, fault: str) -> None:
    (tmp_path / "table.csv").write_bytes(table)
    assert fault in list(sbat.faults(table))
    assert "BB-L506" in refused(make, 'sbat = "table.csv"')


def refused(make: Make, target: str, **kernel: str | int) -> list[str]:
    with pytest.raises(RefusedError) as caught:
        make(target, **kernel)
    return [problem.rule.id for problem in caught.value.problems]


#: what is said of the target, of the kernel, and the rule that it breaks
REFUSED: dict[str, tuple[str, dict[str, str | int], str]] = {
    "an ELF file as it is": ('entry = "native"', {}, "BB-L501"),
    "boot services beside 32-bit code": ("boot_services = true", {"width": 32}, "BB-L502"),
    "a stub before the payload's own": ('entry = "chain"', {}, "BB-L503"),
    "options of a file that is kept": ('entry = "native"\nembed = false', {}, "BB-L505"),
    "two modules by a boot option": (
        "embed = false",
        {"more": MODULE + MODULE.replace("module'", "second'")},
        "BB-L507",
    ),
    "a kernel that is no static PIE, to be moved": ('relocatable = "any"', {}, "BB-L508"),
    "a guest that does not know of being moved": (
        'relocatable = "any"',
        {"width": 32, "pie": True, "payload": 'guest = "multiboot2"\nload = 0x1000000'},
        "BB-L509",
    ),
    "more modules than there is room for": (
        "",
        {"more": "".join(MODULE.replace("module'", f"many/{n}'") for n in range(33))},
        "BB-L510",
    ),
    "a module's command line by a boot option": (
        "embed = false",
        {"more": MODULE + "cmdline = 'x'\n"},
        "BB-L507",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused(make: Make, name: str) -> None:
    target, kernel, rule = REFUSED[name]
    assert refused(make, target, **kernel) == [rule]


def test_a_command_line_fits_up_to_its_last_byte(make: Make) -> None:
    """The application's own limit, which it keeps where the boot option brings one."""

    record = make('profiles = ["ovmf"]', cmdline="x" * 8191)
    assert outcomes(record) == {"ovmf": Outcome.BOOTED}
    assert refused(make, "", cmdline="x" * 8192) == ["BB-L510"]
    assert refused(make, "", cmdline="x" * 4192, more=MODULE + f"cmdline = '{'y' * 3999}'\n") == ["BB-L510"]


def test_a_kernel_linked_low_elsewhere_cannot_stand_beside_boot_services(hello64: Path) -> None:
    elf = read_elf(FileContent(hello64), "hello64.elf")
    at = elf.loads[0].paddr
    low = Payload(elf, "kernel", "elf", "", "native", Startup("startup_64", at + (1 << 40), at, 64))
    assert Efi().contribute(low, Native(), Options()).chain
    with pytest.raises(RefusedError) as caught:
        Efi().contribute(low, Native(), Options(boot_services=True))
    assert [problem.rule.id for problem in caught.value.problems] == ["BB-L504"]


def test_every_rule_has_its_case() -> None:
    here = Path(__file__).read_text()
    assert [rule.id for rule in RULES if f'"{rule.id}"' not in here] == []


def test_what_a_boot_is_given_beside_what_the_image_brings_is_refused(make: Make, tmp_path: Path) -> None:
    (image,) = make("profiles = ['ovmf']").images
    given = ((tmp_path / "second", b""),)
    request = BootRequest(Path(image.path), ("efi@ovmf",), cmdline=b"quiet", modules=given)
    with pytest.raises(InputError) as caught:
        request_subject(request, Host.discover(), 1, 1.0)
    assert [(problem.rule.id, problem.message) for problem in caught.value.problems] == [
        ("BB-E083", "it brings a command line of its own"),
        ("BB-E083", "it brings modules of its own"),
    ]


def test_an_image_that_brings_nothing_takes_what_a_boot_is_given(make: Make, tmp_path: Path) -> None:
    (image,) = make("profiles = ['ovmf']\nembed = false").images
    given = ((tmp_path / "second", b""),)
    request = BootRequest(Path(image.path), ("efi@ovmf",), cmdline=b"quiet", modules=given)
    offer = request_subject(request, Host.discover(), 1, 1.0).offer
    assert (offer.cmdline, [name for name, _, _ in offer.modules]) == (b"quiet", ["second"])
