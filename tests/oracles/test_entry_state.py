"""What real monitors hand over at a PVH entry. Source: QEMU and Xen themselves, run here."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

import entry_dump
import monitors
from debian_kernels import Kernels
from entry_dump import EntryDump, Segment

CMDLINE = "root=/dev/none quiet"
MODULE = b"the bytes of a module, of an odd length\n" * 111 + b"\0"
FLAT_CODE, FLAT_DATA = 0xC09B, 0xC093


@pytest.fixture(scope="module")
def guest(gcc: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return entry_dump.compile_guest(gcc, tmp_path_factory.mktemp("guest"))


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("module") / "module.bin"
    path.write_bytes(MODULE)
    return path


@pytest.fixture(scope="module", params=["pc", "q35", "microvm"])
def from_qemu(
    request: pytest.FixtureRequest,
    qemu: Path,
    guest: Path,
    module: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> EntryDump:
    command = monitors.qemu_kernel(
        qemu, guest, machine=request.param, cmdline=CMDLINE, initrd=module, debug_port=True
    )
    return entry_dump.observe(command, tmp_path_factory.mktemp("qemu"))[0]


@pytest.fixture(scope="module")
def from_xen(
    qemu: Path, kernels: Kernels, guest: Path, module: Path, tmp_path_factory: pytest.TempPathFactory
) -> EntryDump:
    command = monitors.xen_dom0(qemu, kernels.xen, guest, pvh=True, cmdline=CMDLINE, modules=[module])
    return entry_dump.observe(command, tmp_path_factory.mktemp("xen"), monitors.XEN_FAILS)[0]


def _promised(dump: EntryDump) -> None:
    """Xen docs/misc/pvh.pandoc, the state that every PVH entry has."""
    assert dump.cpu["ebx"] == dump.start_info["address"]
    assert dump.start_info["magic"] == 0x336EC578
    assert dump.cpu["cr0"] & ~0x10 == 0x1
    assert dump.cpu["cr4"] == 0
    assert dump.cpu["eflags"] & (1 << 17 | 1 << 9 | 1 << 8) == 0
    accessed = 1
    for name, attributes in {"cs": FLAT_CODE, "ds": FLAT_DATA, "es": FLAT_DATA, "ss": FLAT_DATA}.items():
        hidden = dump.hidden[name]
        assert (hidden.base, hidden.limit) == (0, 0xFFFFFFFF), name
        assert hidden.attributes | accessed == attributes, name
    assert dump.hidden["tr"].attributes == 0x8B


def test_qemu_keeps_the_promises_of_the_abi(from_qemu: EntryDump) -> None:
    _promised(from_qemu)


def test_xen_keeps_the_promises_of_the_abi(from_xen: EntryDump) -> None:
    _promised(from_xen)
    assert from_xen.hidden["tr"] == Segment(0, 0, 0x67, 0x8B)


def test_qemu_hands_over_version_1_with_a_memory_map(from_qemu: EntryDump) -> None:
    info = from_qemu.start_info
    assert (info["version"], info["flags"], info["reserved"]) == (1, 0, 0)
    assert info["rsdp_paddr"] != 0
    assert len(from_qemu.memmap) == info["memmap_entries"]
    assert sum(size for _, size, kind in from_qemu.memmap if kind == 1) <= 128 << 20


def test_xen_hands_dom0_version_0_without_a_memory_map(from_xen: EntryDump) -> None:
    assert (from_xen.start_info["version"], from_xen.start_info["flags"]) == (0, 3)
    assert from_xen.memmap == ()


def test_qemu_leaves_its_own_values_where_the_abi_promises_nothing(from_qemu: EntryDump) -> None:
    assert from_qemu.cpu["esp"] != 0
    assert from_qemu.hidden["tr"].limit == 0xFFFF


def test_xen_zeroes_what_the_abi_does_not_promise(from_xen: EntryDump) -> None:
    registers = ("eax", "ecx", "edx", "esi", "edi", "ebp", "esp", "gdtr_limit", "idtr_limit")
    assert {name: from_xen.cpu[name] for name in registers} == dict.fromkeys(registers, 0)
    assert {from_xen.cpu[name] for name in ("cs", "ds", "es", "ss", "fs", "gs", "tr")} == {0}


def test_command_line_and_module_arrive_whole(from_qemu: EntryDump, from_xen: EntryDump) -> None:
    for dump in (from_qemu, from_xen):
        _given(dump)


def _given(dump: EntryDump) -> None:
    assert dump.cmdline == CMDLINE.encode()
    (module,) = dump.modules
    assert (module["size"], module["crc32"]) == (len(MODULE), zlib.crc32(MODULE))


def test_the_hypervisor_leaves_name_who_runs_us(from_qemu: EntryDump, from_xen: EntryDump) -> None:
    assert set(from_qemu.hypervisors.values()) == {b"TCGTCGTCGTCG"}
    assert from_xen.hypervisors[0x40000000] == b"XenVMMXenVMM"


def test_an_incomplete_dump_is_an_error() -> None:
    with pytest.raises(ValueError, match="no complete dump"):
        entry_dump.parse("dump: [begin]\ndump: [cpu]\ndump: eax=0x00000001\n")
