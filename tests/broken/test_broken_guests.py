"""For every rule about a boot: the smallest mutation of a guest that boots, and exactly its findings."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest

from bootbuild.api import (
    Content,
    ElfImage,
    Evidence,
    Filling,
    Finding,
    Given,
    GuestView,
    LoaderVerdict,
    Offer,
    Profile,
    Scene,
    Span,
    Startup,
    StopKind,
)
from bootbuild.boot.prove import prove
from bootbuild.boot.run import Subject, run_once
from bootbuild.guests.native import Native
from bootbuild.host import Host
from bootbuild.model.verdict import Outcome, ProfileVerdict
from bootbuild_pvh.environments import CloudHypervisor, Firecracker, Qemu, QemuMicrovm, XenDom0, XenDomU
from tiny_guest import BSS, ENTRY, OWN_STACK, PAGE, STARTUP, guest, subject, u32

PROFILES: dict[str, Callable[[], Profile]] = {
    "qemu": Qemu,
    "qemu-microvm": QemuMicrovm,
    "xen-domu": XenDomU,
    "xen-dom0": XenDom0,
    "firecracker": Firecracker,
    "cloud-hypervisor": CloudHypervisor,
}
RAM_TOP = 128 << 20


def proved(what: Subject, name: str, disabled: frozenset[str] = frozenset()) -> ProfileVerdict:
    """The verdict of a profile whose loader model is asked first, as in every boot."""
    profile = PROFILES[name]()
    return prove(what, profile, Host.discover().loader(profile.loader), disabled=disabled)


@dataclass(frozen=True)
class Case:
    """One mutation and all that must be found in it."""

    name: str
    rules: frozenset[str]
    data: bytes = field(repr=False)
    profile: str = "qemu"
    outcome: Outcome = Outcome.FAILED
    expect: bytes = b""
    budget: int = 20_000_000
    timeout: float = 30.0


def case(
    name: str,
    rules: str,
    *,
    profile: str = "qemu",
    outcome: Outcome = Outcome.FAILED,
    expect: bytes = b"",
    budget: int = 20_000_000,
    timeout: float = 30.0,
    first: bytes = b"",
    later: bytes = b"",
    startup: bytes = b"\xfa\xf4\xeb\xfd",
    bits: int = 64,
) -> Case:
    """A case whose guest differs from the good one in one of three places, or in its ELF class."""
    data = guest(first=first, later=later, startup=startup, bits=bits)
    return Case(name, frozenset(rules.split()), data, profile, outcome, expect, budget, timeout)


def branch(test: bytes, taken: bytes = b"\x90" * 4) -> bytes:
    """Test; jz over `taken`: two different blocks whichever way the flags go."""
    return test + b"\x74" + bytes([len(taken)]) + taken


def out_byte(port: int, value: int) -> bytes:
    """mov $port, %dx; mov $value, %al; out %al, %dx."""
    return b"\x66\xba" + port.to_bytes(2, "little") + b"\xb0" + bytes([value]) + b"\xee"


def store_byte(address: int, value: int) -> bytes:
    """movb $value, address."""
    return b"\xc6\x05" + u32(address) + bytes([value])


PM1_POWER_OFF = b"\x66\xba\x04\x06\x66\xb8\x00\x20\x66\xef"  # out $SLP_EN, port 0x604
KEYBOARD_RESET = out_byte(0x64, 0xFE)
RESET_CONTROL = out_byte(0xCF9, 0x06)
GED, PORT_600 = 0xFEA00200, 0x600  #: the sleep control registers of microvm and of Cloud Hypervisor
S5 = 0x34  #: SLP_TYPx 5, SLP_EN
GED_RESET = store_byte(GED + 2, 0x42)

BSS_IS_ZERO = branch(b"\x83\x3d" + u32(BSS) + b"\x00")  # cmpl $0, BSS

TEST_REGISTER = {  # cmp $the profile's value, %reg
    "EAX": b"\x3d" + u32(0),
    "EDX": b"\x81\xfa" + u32(0x518),
    "ESI": b"\x81\xfe" + u32(0x11C0),
    "EDI": b"\x81\xff" + u32(0x6EF4),
    "EBP": b"\x81\xfd" + u32(0),
    "ECX": b"\x81\xf9" + u32(0x101000),
}

CASES = [
    # -- what the machine sees
    case("executes ud2 with no IDT", "BB-B001", later=b"\x0f\x0b"),
    case("reads where there is no memory", "BB-B002", later=b"\xa1" + u32(0xF0000000)),
    case("writes where there is no memory", "BB-B002", later=b"\xa3" + u32(RAM_TOP)),
    case("jumps to where there is no memory", "BB-B002", later=b"\xb8" + u32(0x20000000) + b"\xff\xe0"),
    case("writes to memory that the map calls reserved", "BB-B003", later=b"\xa3" + u32(RAM_TOP - 0x20000)),
    case("loops on the spot", "BB-B004", later=b"\xeb\xfe"),
    case("loops over a few instructions", "BB-B004", later=b"\x90\x31\xc0\x40\xeb\xfa"),
    case("halts with interrupts off", "BB-B005", later=b"\xf4"),
    case("counts for ever", "BB-B006", later=b"\x40\xeb\xfd", budget=3_000_000),
    case("waits for an interrupt", "BB-B007", later=b"\xfb\xf4"),
    case("pushes onto Xen's ESP of 0", "BB-B002", first=b"\x50", profile="xen-domu"),
    # -- what the judge sees
    case("overwrites its startup path", "BB-B020", later=b"\xc7\x05" + u32(STARTUP + 8) + u32(1)),
    case("powers off first", "BB-B022", later=PM1_POWER_OFF),
    case("resets first", "BB-B022", later=KEYBOARD_RESET),
    case("resets by the chipset", "BB-B022", later=RESET_CONTROL),
    case("powers microvm off", "BB-B022", profile="qemu-microvm", later=store_byte(GED, S5)),
    case("resets microvm", "BB-B022", profile="qemu-microvm", later=GED_RESET),
    case("resets Firecracker", "BB-B022", profile="firecracker", later=KEYBOARD_RESET),
    case("powers Cloud Hypervisor off", "BB-B022", profile="cloud-hypervisor",
         later=out_byte(PORT_600, S5)),
    case("resets Cloud Hypervisor by ACPI", "BB-B022", profile="cloud-hypervisor",
         later=out_byte(PORT_600, 1)),
    case("resets Cloud Hypervisor", "BB-B022", profile="cloud-hypervisor", later=KEYBOARD_RESET),
    case("prints nothing", "BB-B023", expect=b"hello"),
    case("prints something else", "BB-B023", expect=b"hello",
         startup=b"\x66\xba\xf8\x03\xb0\x48\xee\xfa\xf4"),  # mov $0x3f8,%dx; mov $'H',%al; out; cli; hlt
    case("faults where it is to print", "BB-B001", expect=b"hello", startup=b"\x0f\x0b"),
    case("powers off where it is to print", "BB-B023", expect=b"hello", startup=KEYBOARD_RESET),
    case("takes too long for the clock", "BB-B025", later=b"\x40\xeb\xfd", budget=10**12, timeout=0.2,
         outcome=Outcome.INCONCLUSIVE),
    # -- what the garbage shows
    *(case(f"relies on {name}", "BB-U001", first=branch(test)) for name, test in TEST_REGISTER.items()),
    case("pushes onto QEMU's stack", "BB-U002", first=b"\x50\x58"),
    case("reloads DS from QEMU's GDT", "BB-U003", first=b"\x66\xb8\x10\x00\x8e\xd8"),
    case("compares the DS selector", "BB-U004", first=branch(b"\x8c\xd8\x66\x3d\x10\x00")),
    case("takes DF for clear", "BB-U005",
         first=OWN_STACK + branch(b"\x9c\x58\xf6\xc4\x04")),  # pushf; pop %eax; test $4, %ah
    case("takes free memory for zero", "BB-U006", later=branch(b"\x83\x3d" + u32(0x3000000) + b"\x00")),
    *(case(f"takes .bss for zero in {profile}", "BB-U007", profile=profile, later=BSS_IS_ZERO)
      for profile in ("firecracker", "cloud-hypervisor")),
    *(case(f"uses a hypercall's argument after the call in {profile}", "BB-U008", profile=profile,
           # mov $17, %eax; xor %ebx, %ebx; vmcall; test %ebx, %ebx
           later=branch(b"\xb8" + u32(17) + b"\x31\xdb\x0f\x01\xc1\x85\xdb"))
      for profile in ("xen-domu", "xen-dom0")),
    case("takes EAX for Multiboot's in microvm", "BB-U001", profile="qemu-microvm",
         first=branch(b"\x3d" + u32(0x2BADB002))),
    # -- what the monitor's loader sees
    *(case(f"is ELF32 for {profile}", "BB-L121", profile=profile, bits=32)
      for profile in ("firecracker", "cloud-hypervisor")),
    case("compares EAX and EDX together", "BB-U009",
         # test %eax,%eax; setne %cl; cmp $0x518,%edx; setne %dl; test %dl,%cl; jz over two nops
         first=b"\x85\xc0\x0f\x95\xc1\x81\xfa" + u32(0x518) + b"\x0f\x95\xc2\x84\xd1\x74\x02\x90\x90"),
]  # fmt: skip


def judged(one: Case, disabled: frozenset[str] = frozenset()) -> tuple[Outcome, frozenset[str]]:
    """Outcome and rules of a case."""
    what = subject(one.data, expect=one.expect, budget=one.budget, timeout=one.timeout)
    verdict = proved(what, one.profile, disabled)
    return verdict.outcome, frozenset(finding.rule for finding in verdict.findings)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_unmutated_guest_boots(profile: str) -> None:
    verdict = proved(subject(guest()), profile)
    assert [f.message for f in verdict.findings] == []
    assert verdict.outcome is Outcome.BOOTED
    assert len({run.digest for run in verdict.runs}) == 1
    assert len(verdict.runs) == 3


ELF32_PROFILES = sorted(PROFILES.keys() - {"firecracker", "cloud-hypervisor"})


@pytest.mark.parametrize("profile", ELF32_PROFILES)
def test_an_elf32_file_boots_where_it_is_read(profile: str) -> None:
    assert proved(subject(guest(bits=32)), profile).findings == ()


@pytest.mark.parametrize("profile", ELF32_PROFILES)
def test_zeros_in_bss_may_be_relied_on_where_the_loader_writes_them(profile: str) -> None:
    data = guest(later=BSS_IS_ZERO)
    assert proved(subject(data), profile).findings == ()


# A way to end one monitor is nothing to another: the guest goes on.
NOT_HEARD = [
    ("qemu-microvm", PM1_POWER_OFF),
    ("qemu-microvm", KEYBOARD_RESET),
    ("qemu-microvm", RESET_CONTROL),
    ("firecracker", PM1_POWER_OFF),
    ("firecracker", RESET_CONTROL),
    ("firecracker", out_byte(PORT_600, S5)),
    ("cloud-hypervisor", PM1_POWER_OFF),
    ("cloud-hypervisor", RESET_CONTROL),
    ("cloud-hypervisor", out_byte(0x80, S5)),
    ("qemu", out_byte(PORT_600, S5)),
]


@pytest.mark.parametrize(("profile", "code"), NOT_HEARD)
def test_a_way_to_end_that_the_monitor_lacks_does_nothing(profile: str, code: bytes) -> None:
    assert prove(subject(guest(later=code)), PROFILES[profile]()).findings == ()


def test_codes_on_the_debug_port_are_in_the_trace() -> None:
    verdict = prove(subject(guest(later=out_byte(0x80, 0x42))), CloudHypervisor())
    assert [(e.kind, e.detail) for e in verdict.runs[0].events] == [("debug port", "code 0x42")]


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_a_mutation_has_exactly_its_findings(one: Case) -> None:
    assert judged(one) == (one.outcome, one.rules)


RULE_CASES = [(rule, one) for one in CASES for rule in sorted(one.rules)]


@pytest.mark.parametrize(("rule", "one"), RULE_CASES, ids=lambda value: getattr(value, "name", value))
def test_disabling_a_rule_changes_its_case(rule: str, one: Case) -> None:
    """By its outcome: what is left out of the findings would differ in any case."""
    outcome, _ = judged(one, frozenset({rule}))
    assert (outcome is Outcome.FAILED) == (len(one.rules) > 1)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (guest(startup=b"\x6a\x00\xc3"), True),  # push $0; ret
        (guest(startup=b"\x31\xc0\xff\xd0"), True),  # xor %eax, %eax; call *%eax
        (guest(startup=b"\x0f\x0b"), False),
        (guest(later=b"\x31\xc0\xff\xd0"), True),
    ],
    ids=["by a return", "by a null pointer", "it did not", "before its startup path"],
)
def test_a_guest_that_went_to_address_0_is_told_so(data: bytes, told: bool) -> None:
    """Whatever stands there keeps it going, so that the end of the run says nothing of the reason."""
    (finding,) = proved(subject(data, expect=b"hello"), "qemu").findings
    assert any(line.startswith("went to address 0") for line in finding.lines) is told


class _HandsOver(Native):
    """A protocol whose handover is the EAX that its startup path is entered with."""

    def judge(
        self, view: GuestView, startup: Startup, given: Given, stub: Span | None, symbols: Mapping[str, int]
    ) -> tuple[Mapping[str, Any], Sequence[Finding]]:
        return {"EAX": hex(view.get("eax"))}, ()


def test_a_handover_that_differs_is_a_reliance_though_the_way_is_the_same() -> None:
    verdict = prove(subject(guest(), guest_protocol=_HandsOver()), Qemu())
    assert [(f.rule, f.message) for f in verdict.findings] == [
        ("BB-U001", "relies on EAX, which pvh leaves undefined: what is handed over changes with it")
    ]
    assert len({run.digest for run in verdict.runs}) == 3
    assert len({run.blocks[: run.startup_blocks] for run in verdict.runs}) == 1


def test_a_digest_tells_whether_the_startup_path_was_reached() -> None:
    middle = Startup("middle", ENTRY + 2, ENTRY + 2, 32)  # of the first block: cli; cld; mov $STACK_TOP, %esp
    what = replace(subject(guest()), startup=middle, code=b"")
    whole = run_once(what, Qemu(), Filling.EXACT, what.budget).trace
    short = run_once(what, Qemu(), Filling.EXACT, whole.instructions - 1).trace
    assert (whole.stop.kind, short.stop.kind) == (StopKind.CHECKPOINT, StopKind.BUDGET)
    assert (whole.blocks, whole.startup_blocks) == (short.blocks, short.startup_blocks)
    assert whole.digest != short.digest


class _Slow(Qemu):
    """A profile whose scene takes longer to build than the whole boot may."""

    def scene(
        self, image: ElfImage, offer: Offer, filling: Filling, only: frozenset[str] | None = None
    ) -> Scene:
        time.sleep(0.6)
        return super().scene(image, offer, filling, only)


def test_what_is_printed_after_the_startup_path_gets_what_is_left_of_the_time() -> None:
    count = b"\xb9" + u32(1_000_000) + b"\x49\x75\xfd"  # mov $1000000, %ecx; 1: dec %ecx; jnz 1b
    what = subject(guest(startup=count + out_byte(0x3F8, 0x48) + b"\xfa\xf4"), expect=b"H", timeout=0.5)
    assert run_once(what, Qemu(), Filling.EXACT, what.budget).findings == ()
    late = run_once(what, _Slow(), Filling.EXACT, what.budget)
    assert [finding.rule for finding in late.findings] == ["BB-B025"]


class _Refusing:
    """A loader that accepts nothing."""

    name, version, evidence, source, rules = "refusing", "1", Evidence.INFERRED, "this test", ()

    def __init__(self, rule: str) -> None:
        self.rule = rule

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        return [LoaderVerdict("pvh", "refuse", rule=self.rule, message="no thanks")]


class _Elsewhere(_Refusing):
    """A loader that enters every file at an address of its own."""

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        return [LoaderVerdict("pvh", "accept", 0x123456)]


def test_a_loader_that_enters_the_file_elsewhere_is_believed() -> None:
    verdict = prove(subject(guest()), Qemu(), _Elsewhere(""))
    assert (verdict.outcome, verdict.runs) == (Outcome.FAILED, ())
    assert [(f.rule, f.message) for f in verdict.findings] == [
        ("BB-B027", "refusing 1 enters it at 0x123456, the profile at 0x101000")
    ]


@pytest.mark.parametrize(("named", "found"), [("", "BB-B024"), ("REFUSING-1", "REFUSING-1")])
def test_a_file_that_the_loader_refuses_is_failed_without_a_boot(named: str, found: str) -> None:
    verdict = prove(subject(guest()), Qemu(), _Refusing(named))
    assert (verdict.outcome, [f.rule for f in verdict.findings]) == (Outcome.FAILED, [found])
    assert verdict.runs == ()
    assert "no thanks" in verdict.findings[0].message


class _Foreign(_Refusing):
    """A loader that speaks of another protocol than the profile's."""

    def __init__(self, verdict: Literal["accept", "refuse"]) -> None:
        super().__init__("REFUSING-1")
        self.verdict: Literal["accept", "refuse"] = verdict

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        return [LoaderVerdict("linux", self.verdict, rule=self.rule, message="no ELF")]


def test_a_loader_without_an_answer_for_the_protocol() -> None:
    """What it says of the whole file is the reason; if it takes the file another way, there is `check`."""
    (whole,) = prove(subject(guest()), Qemu(), _Foreign("refuse")).findings
    assert (whole.rule, whole.message) == ("REFUSING-1", "refusing 1: refuse: no ELF")
    (other,) = prove(subject(guest()), Qemu(), _Foreign("accept")).findings
    assert (other.rule, other.message) == ("BB-B024", "refusing 1 does not start this file as pvh")
    assert "`bootbuild check`" in other.remedy


def test_what_a_guest_relies_on_is_named() -> None:
    verdict = prove(subject(guest(first=b"\x50\x58")), Qemu())
    assert verdict.findings[0].message.startswith("relies on ESP, which pvh leaves undefined: ")
    verdict = prove(subject(guest(later=BSS_IS_ZERO)), Firecracker())
    assert verdict.findings[0].message.startswith("relies on .bss, which linux-loader leaves undefined: ")


#: out to the serial port
SAY_OK = b"".join(b"\x66\xba\xf8\x03\xb0" + bytes([byte]) + b"\xee" for byte in b"OK")


def test_what_is_printed_before_the_startup_path_does_not_count() -> None:
    early = prove(subject(guest(later=SAY_OK), expect=b"OK"), Qemu())
    assert (early.outcome, [f.rule for f in early.findings]) == (Outcome.FAILED, ["BB-B023"])
    late = prove(subject(guest(startup=SAY_OK + b"\xfa\xf4"), expect=b"OK"), Qemu())
    assert late.outcome is Outcome.BOOTED


def test_a_fault_before_the_expected_text_says_that_it_is_missing() -> None:
    (finding,) = prove(subject(guest(startup=b"\x0f\x0b"), expect=b"hello"), Qemu()).findings
    assert finding.message.startswith("'hello' was not printed: ") and "#UD" in finding.message


def test_the_startup_paths_address_must_lead_to_the_startup_path() -> None:
    """Linked at PAGE, loaded at STARTUP: without such a mapping a jump to PAGE executes something else."""
    elsewhere = guest(later=b"\xb8" + u32(PAGE) + b"\xff\xe0", page=b"\xf4" * 64)
    asked = replace(subject(elsewhere), startup=Startup("startup_32", PAGE, STARTUP, 32))
    verdict = prove(asked, Qemu())
    assert (verdict.outcome, {f.rule for f in verdict.findings}) == (Outcome.FAILED, {"BB-B020"})
    assert f"which leads to physical {PAGE:#x}, not to {STARTUP:#x}" in verdict.findings[0].message


def test_the_startup_path_must_be_reached_in_its_own_mode() -> None:
    """64-bit code that a 32-bit guest jumps to: the same bytes, executed as other instructions."""
    asked = replace(subject(guest()), startup=Startup("startup_64", STARTUP, STARTUP, 64))
    verdict = prove(asked, Qemu())
    assert (verdict.outcome, [f.rule for f in verdict.findings]) == (Outcome.FAILED, ["BB-B028"])
    assert verdict.findings[0].message == "startup_64 was reached in 32-bit code, its own is 64-bit"
    assert prove(asked, Qemu(), disabled=frozenset({"BB-B028"})).findings == ()


LOSES_ITS_WAY = b"\xa8\x02\x74\x03\x40\xeb\xfd"  # test $2, %al; jz 1f; 0: inc %eax; jmp 0b; 1:


@pytest.mark.parametrize(
    ("first", "rules", "outcome"),
    [
        # POISON_A loses its way, POISON_B halts: the one proves nothing, the other does
        (LOSES_ITS_WAY + branch(b"\xa8\x01"), {"BB-U001"}, Outcome.FAILED),
        (LOSES_ITS_WAY, {"BB-B025"}, Outcome.INCONCLUSIVE),
    ],
    ids=["beside a proof", "alone"],
)
def test_what_the_clock_ends_neither_proves_nor_hides(
    first: bytes, rules: set[str], outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bootbuild.boot.prove._SLACK", 10**12)
    verdict = prove(subject(guest(first=first), budget=10**12, timeout=0.3), Qemu())
    assert ({f.rule for f in verdict.findings}, verdict.outcome) == (rules, outcome)


def test_a_clock_that_runs_out_behind_a_proved_finding_leaves_it_proved() -> None:
    """The handover is wrong (there is none), then the text does not come in time."""
    counts = guest(startup=b"\x40\xeb\xfd")
    asked = subject(counts, expect=b"hello", budget=10**12, timeout=0.3, guest_protocol=Native())
    verdict = prove(asked, Qemu())
    assert "BB-B025" in {f.rule for f in verdict.findings}
    assert verdict.outcome is Outcome.FAILED


GOAL = Startup("goal", PAGE, PAGE, 32)
ON = b"\xe9" + u32(PAGE - STARTUP - 5)  # jmp PAGE
SAY_AND_GO_ON = SAY_OK + b"\xe9" + u32(PAGE - STARTUP - len(SAY_OK) - 5)


@pytest.mark.parametrize(
    ("startup", "expect", "outcome", "rules", "reached"),
    [
        (ON, b"", Outcome.BOOTED, [], "startup_32, goal"),
        (SAY_AND_GO_ON, b"OK", Outcome.BOOTED, [], "startup_32, goal, console 'OK'"),
        (ON, b"OK", Outcome.FAILED, ["BB-B023"], "startup_32, goal"),
        (b"\xfa\xf4", b"", Outcome.FAILED, ["BB-B005"], "startup_32"),
        (b"\x0f\x0b", b"", Outcome.FAILED, ["BB-B001"], "startup_32"),
    ],
    ids=["it is", "text before it", "text that does not come", "halts first", "faults first"],
)  # fmt: skip
def test_a_place_behind_the_startup_path_may_be_expected(
    startup: bytes, expect: bytes, outcome: Outcome, rules: list[str], reached: str
) -> None:
    asked = subject(guest(startup=startup, page=b"\xfa\xf4"), expect=expect)
    verdict = prove(replace(asked, goal=GOAL), Qemu())
    assert ([f.rule for f in verdict.findings], verdict.outcome) == (rules, outcome)
    assert verdict.reached == reached
    if reached == "startup_32":
        assert verdict.findings[0].message.startswith("goal was not reached: ")


def test_a_startup_path_that_is_not_reached_is_named() -> None:
    verdict = prove(replace(subject(guest()), budget=3), Qemu())
    (finding,) = verdict.findings
    assert (finding.rule, finding.message) == (
        "BB-B006",
        "startup_32 was not reached: 3 instructions were executed",
    )


def test_the_expected_places_address_must_lead_to_it() -> None:
    asked = replace(subject(guest(startup=ON, page=b"\xfa\xf4")), goal=replace(GOAL, paddr=PAGE + 16))
    verdict = prove(asked, Qemu())
    assert [f.rule for f in verdict.findings] == ["BB-B020"]
    assert verdict.findings[0].message.startswith("goal was reached at ")
