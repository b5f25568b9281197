"""A PVH kernel entered by our stubs: each way of spoiling what they hand over is exactly one finding."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from bootbuild.abi.hvm_start_info import SIZE
from bootbuild.boot.prove import prove
from bootbuild.boot.run import Subject
from bootbuild.model.machine import MapEntry
from bootbuild.model.verdict import Outcome
from bootbuild_pvh.environments import Firecracker, Qemu, XenDom0
from bootbuild_pvh.guest_rules import RULES
from bootbuild_pvh.guests import PvhGuest
from own_start_info import OwnStartInfo
from sabotage import CMDLINE, INITRD, field_of_record, kernel, rules, sabotaged, store
from tiny_guest import PAGE, STARTUP, guest, u32
from tiny_guest import subject as native_subject

VERSION, FLAGS, MODULES, MODULE_LIST, COMMAND_LINE, ACPI, MAP, MAP_ENTRIES = 4, 8, 12, 16, 24, 32, 40, 48
NOWHERE = 0x3FFFF000  #: no memory of pvh@qemu


def subject(folder: Path, sabotage: bytes = b"", cmdline: bytes = CMDLINE, modules: int = 1) -> Subject:
    payload = kernel(PvhGuest(), sabotage, 32)
    return sabotaged(folder, payload, PvhGuest(), cmdline=cmdline, modules=modules)


def through(field: int, offset: int, value: int) -> bytes:
    """mov field(%ebx), %ecx; movl $value, offset(%ecx); xor %ecx, %ecx; flags again."""
    return b"\x8b\x8b" + u32(field) + b"\xc7\x81" + u32(offset) + u32(value) + b"\x31\xc9\x6a\x02\x9d"


CASES: dict[str, tuple[str, bytes]] = {
    "another magic": ("BB-H060", store(0, 0x2BADB002)),
    "start_info nowhere": ("BB-H060", b"\xbb" + u32(NOWHERE)),
    "a later version": ("BB-H060", store(VERSION, 2)),
    "another command line": ("BB-H061", store(COMMAND_LINE, STARTUP)),
    "a command line nowhere": ("BB-H061", store(COMMAND_LINE, NOWHERE)),
    "no module": ("BB-H062", store(MODULES, 0)),
    "a million modules": ("BB-H062", store(MODULES, 1 << 20)),
    "a module list nowhere": ("BB-H062", store(MODULE_LIST, NOWHERE)),
    "a module that begins elsewhere": ("BB-H062", through(MODULE_LIST, 0, STARTUP)),
    "a module with words nowhere": ("BB-H062", through(MODULE_LIST, 16, NOWHERE)),
    "RAM that is called reserved": ("BB-H063", through(MAP, 16, 2)),
    "a map entry that is lost": ("BB-H063", store(MAP_ENTRIES, 1)),
    "a million map entries": ("BB-H063", store(MAP_ENTRIES, 1 << 20)),
    "a map nowhere": ("BB-H063", store(MAP, NOWHERE)),
    "no RSDP": ("BB-H064", store(ACPI, 0)),
    "a domU that is told to be dom0": ("BB-H064", store(FLAGS, 3)),
    "no pair": ("BB-H065", store(SIZE, 0)),
    "a record whose checksum does not hold": ("BB-H065", store(SIZE + 0xC, 0)),
    "another boot type": ("BB-H065", field_of_record(SIZE, "boot_type", 5)),
    "another hypervisor": ("BB-H065", field_of_record(SIZE, "hypervisor_type", 1)),
    "other data": ("BB-H065", field_of_record(SIZE, "data", 0x9000)),
}
STATES = {
    "interrupts on": b"\xfb",
    "the direction flag": b"\xfd",
    "EAX": b"\xb8" + u32(0x2BADB002),
    "no stack": b"\xbc" + u32(0x1000),
    "CR0.NE": b"\x0f\x20\xc1\x83\xc9\x20\x0f\x22\xc1\x31\xc9\x6a\x02\x9d",  # %cr0 |= 0x20 by %ecx
    # the descriptor of the TSS, at 0x20 of the table, available again and a byte longer; ltr: through 8(%esp)
    "another TSS": (
        b"\x0f\x01\x44\x24\xf0\x8b\x4c\x24\xf2"  # sgdt -16(%esp); mov -14(%esp), %ecx
        b"\xc7\x41\x20\x68\0\0\0\xc7\x41\x24\0\x89\0\0"  # movl $0x68, 32(%ecx); movl $0x8900, 36(%ecx)
        b"\xb9\x20\0\0\0\x0f\x00\xd9\x31\xc9\x6a\x02\x9d"  # mov $0x20, %ecx; ltr %cx; xor %ecx, %ecx; flags
    ),
}


def test_what_the_stubs_hand_over_boots(tmp_path: Path) -> None:
    verdict = prove(subject(tmp_path), Qemu())
    assert (verdict.findings, verdict.outcome) == ((), Outcome.BOOTED)
    assert verdict.handover is not None
    assert verdict.handover["cmdline"] == CMDLINE.decode()
    assert verdict.handover["version"] == 1
    assert verdict.handover["record"] == {"boot_type": "pvh", "hypervisor_type": "tcg", "data": "0x21e0"}


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_field_is_exactly_one_finding(name: str, tmp_path: Path) -> None:
    rule, sabotage = CASES[name]
    what = subject(tmp_path, sabotage)
    verdict = prove(what, Qemu())
    assert (rules(verdict), verdict.outcome) == ([rule], Outcome.FAILED), verdict.findings
    assert prove(what, Qemu(), disabled=frozenset({rule})).findings == ()


@pytest.mark.parametrize("name", STATES)
def test_a_wrong_state_at_the_entry_is_one_finding(name: str, tmp_path: Path) -> None:
    what = subject(tmp_path, STATES[name])
    verdict = prove(what, Qemu())
    assert rules(verdict) == ["BB-H066"], verdict.findings
    assert prove(what, Qemu(), disabled=frozenset({"BB-H066"})).findings == ()


def test_every_rule_has_its_case() -> None:
    assert {rule for rule, _ in CASES.values()} | {"BB-H066"} == {rule.id for rule in RULES}


def test_dom0_is_told_that_it_is_and_gets_the_map_that_xen_left_out(tmp_path: Path) -> None:
    """Its own start_info is of version 0, without a map: the front asked Xen for it."""
    verdict = prove(subject(tmp_path), XenDom0())
    assert (verdict.findings, verdict.outcome) == ((), Outcome.BOOTED)
    assert verdict.handover is not None
    assert (verdict.handover["version"], verdict.handover["flags"]) == (1, "0x3")
    assert len(verdict.handover["memory_map"]) > 2
    verdict = prove(subject(tmp_path, store(FLAGS, 0)), XenDom0())
    assert rules(verdict) == ["BB-H064"]


def test_as_long_a_map_as_a_front_passes_on_arrives_sorted_and_whole(tmp_path: Path) -> None:
    low = (MapEntry(0, 0x9F000, 1), MapEntry(1 << 20, 0x7E00000, 1))
    given = (*low, *(MapEntry(0x10000000 + (1024 - i) * 8192, 4096, 2) for i in range(1022)))
    verdict = prove(subject(tmp_path), OwnStartInfo(memory_map=given))
    assert (verdict.findings, verdict.outcome) == ((), Outcome.BOOTED)
    assert verdict.handover is not None
    found = [(int(e["address"], 16), int(e["size"], 16), e["type"]) for e in verdict.handover["memory_map"]]
    assert found == sorted((e.address, e.size, e.type) for e in given)


def test_what_was_not_given_is_absent(tmp_path: Path) -> None:
    verdict = prove(subject(tmp_path, cmdline=b"", modules=0), Firecracker())
    assert (verdict.findings, verdict.outcome) == ((), Outcome.BOOTED)
    assert verdict.handover is not None
    assert (verdict.handover["rsdp"], verdict.handover["modules"]) == (None, [])


@pytest.mark.parametrize("profile", [Qemu, XenDom0, Firecracker], ids=lambda profile: profile.__name__)
def test_a_kernels_own_entry_is_judged_by_what_it_was_given(profile: type[Qemu]) -> None:
    """With no stub of ours the environment's own start_info stands there, whatever its version."""
    what = native_subject(guest(), cmdline=CMDLINE, modules=(INITRD,), guest_protocol=PvhGuest())
    verdict = prove(what, profile())
    assert (verdict.findings, verdict.outcome) == ((), Outcome.BOOTED)
    page = struct.pack("<IIIIQQQQII", 0x336EC578, 0, 0, 0, 0, PAGE + 56, 0, 0, 0, 0) + b"another\0"
    spoilt = guest(later=b"\xbb" + u32(PAGE), page=page)
    what = native_subject(spoilt, cmdline=CMDLINE, guest_protocol=PvhGuest())
    assert "BB-H061" in rules(prove(what, profile()))
