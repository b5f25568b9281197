"""For every rule about a boot: the smallest mutation of a guest that boots, and exactly its findings."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from bootbuild.boot.prove import prove
from bootbuild.model.verdict import Outcome
from bootbuild_pvh.environments import CloudHypervisor
from profile_proof import BSS_IS_ZERO, PROFILES, branch, out_byte, proved
from tiny_guest import OWN_STACK, STARTUP, guest, subject, u32

RAM_TOP = 128 << 20


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


def store_byte(address: int, value: int) -> bytes:
    """movb $value, address."""
    return b"\xc6\x05" + u32(address) + bytes([value])


PM1_POWER_OFF = b"\x66\xba\x04\x06\x66\xb8\x00\x20\x66\xef"  # out $SLP_EN, port 0x604
KEYBOARD_RESET = out_byte(0x64, 0xFE)
RESET_CONTROL = out_byte(0xCF9, 0x06)
GED, PORT_600 = 0xFEA00200, 0x600  #: the sleep control registers of microvm and of Cloud Hypervisor
S5 = 0x34  #: SLP_TYPx 5, SLP_EN
GED_RESET = store_byte(GED + 2, 0x42)


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
