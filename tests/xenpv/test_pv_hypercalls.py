"""What Xen 4.17 refuses of a PV guest, and how: by what the call answers, on the way to the startup path."""

from __future__ import annotations

import struct

import pytest

from bootbuild.boot.prove import prove
from bootbuild.model.span import Span
from bootbuild.model.verdict import Outcome
from bootbuild_xenpv.environments.frames import PAGE
from bootbuild_xenpv.environments.xen import XenDom0, XenDomU
from tiny_pv_guest import (
    DATA,
    DATAS_FRAME,
    HYPERCALLS,
    MMUEXT_OP,
    PHYSICAL,
    PT_BASE,
    UPDATE_VA_MAPPING,
    VIRT_BASE,
    answer,
    call,
    guest,
    subject,
    u64,
)

MULTICALL, MMU_UPDATE, XEN_VERSION, VM_ASSIST, VCPU_OP, SET_SEGMENT_BASE = 13, 1, 17, 21, 24, 25
EPERM, ESRCH, ENXIO, EFAULT, EINVAL, ENOSYS = 1, 3, 6, 14, 22, 38
SELF = 0x7FF0
CAN_WRITE = 0x67  #: present, writable, user, accessed, dirty
FRAME_TO = b"\x48\xa3"  # mov %rax, address
TABLES = b"\x48\x8b\x76" + bytes([PT_BASE])  # mov PT_BASE(%rsi), %rsi
VERSION_TO_RSI = b"\xbf\x01\0\0\0\xb8\x11\0\0\0\x0f\x05"  # XENVER_extraversion
HIGH, UNCANONICAL = 0xFFFF888000001234, 1 << 63


def maps(flags: int) -> bytes:
    """update_va_mapping of a page of its own with these bits."""
    entry = b"\x48\xc1\xe0\x0c\x48\xb9" + u64(flags) + b"\x48\x09\xc8\x48\x89\xc6"  # shl; or; mov %rax, %rsi
    rest = b"\x48\xbf" + u64(HYPERCALLS) + b"\x31\xd2\xb8" + struct.pack("<I", UPDATE_VA_MAPPING)
    return DATAS_FRAME + entry + rest + b"\x0f\x05"


@pytest.mark.parametrize(
    ("flags", "domu", "dom0"),
    [
        (CAN_WRITE, 0, 0),
        (CAN_WRITE | 0x100, 0, 0),  # global: for user mappings
        (CAN_WRITE | 0x8, -EINVAL, 0),  # PWT, PCD, PAT: of who has devices
        (CAN_WRITE | 0x10, -EINVAL, 0),
        (CAN_WRITE | 0x80, -EINVAL, 0),
        (CAN_WRITE | 1 << 63 | 1 << 62 | 1 << 53, 0, 0),  # NX, and those that are software's
    ],
)
def test_which_bits_an_entry_may_have(flags: int, domu: int, dom0: int) -> None:
    assert (answer(maps(flags)), answer(maps(flags), dom0=True)) == (domu, dom0)


FLUSH = struct.pack("<IIQQ", 6, 0, 0, 0)


@pytest.mark.parametrize(
    ("domid", "domu", "dom0"),
    [(SELF, 0, 0), (0, -EPERM, -ESRCH), (1, -ESRCH, -ESRCH), (0x7FF1, -EPERM, -EPERM)],
)
def test_a_domain_names_itself_by_domid_self_alone(domid: int, domu: int, dom0: int) -> None:
    flush = call(MMUEXT_OP, DATA, 1, 0, domid)
    assert (answer(flush, FLUSH), answer(flush, FLUSH, dom0=True)) == (domu, dom0)


def test_an_update_names_its_domain_so_too() -> None:
    assert [answer(call(MMU_UPDATE, DATA, 0, 0, domid)) for domid in (SELF, 1)] == [0, -ESRCH]
    found = [answer(call(MMU_UPDATE, DATA, 0, 0, domid), dom0=True) for domid in (SELF, 0, 0x7FF1)]
    assert found == [0, -ESRCH, 0]


@pytest.mark.parametrize(
    "where",
    [
        call(XEN_VERSION, 1, 0xFFFF820000000000),  # the vCPU's descriptors
        call(XEN_VERSION, 1, 0xFFFF800000000000),  # the M2P, which it can read
        call(XEN_VERSION, 1, 0),
        TABLES + VERSION_TO_RSI,  # its own page tables
    ],
)
def test_a_hypercall_writes_only_where_the_guest_can(where: bytes) -> None:
    assert answer(where) == -EFAULT


def test_a_hypercall_reads_nothing_of_xens() -> None:
    assert answer(call(MMUEXT_OP, 0xFFFF820000000000, 1, 0, SELF)) == -EFAULT
    assert answer(call(MMUEXT_OP, 0xFFFF800000000000 - 8, 1, 0, SELF)) == -EFAULT


def test_the_number_of_a_hypercall_is_all_of_rax() -> None:
    high = b"\x31\xff\x48\xb8" + u64(XEN_VERSION | 1 << 40) + b"\x0f\x05"
    assert answer(high) == -ENOSYS
    assert answer(call(XEN_VERSION, 0)) == 4 << 16 | 17


def test_a_command_is_the_lower_half_of_its_register() -> None:
    assert answer(call(XEN_VERSION, 1 << 40)) == 4 << 16 | 17
    assert answer(call(29, 1 << 40)) == 0  # SCHEDOP_yield
    assert answer(call(33, 1 << 40 | 6, DATA), b"\4") == -EINVAL  # PHYSDEVOP_set_iopl


@pytest.mark.parametrize(
    ("dr7", "result"),
    [
        (2 << 16, 0),  # DR0 would watch a port, and is not in use
        (1 | 2 << 16, -EPERM),
        (1 | 3 << 16, 0),
        (1 << 13, -EPERM),  # GD
        (1 << 32, -EINVAL),
    ],
)
def test_which_breakpoints_a_guest_may_set(dr7: int, result: int) -> None:
    assert answer(call(8, 7, dr7)) == result


UNCANONICAL_TWIN = HYPERCALLS & (1 << 48) - 1  #: the same entries of the tables lead there


@pytest.mark.parametrize(
    ("address", "flags", "result"),
    [
        (UNCANONICAL_TWIN, 0, -EINVAL),
        (HYPERCALLS, 1 | 4, 0),  # UVMF_TLB_FLUSH | UVMF_ALL
        (HYPERCALLS, 2 | DATA & -8, 0),  # UVMF_INVLPG, of a set of vCPUs
        (HYPERCALLS, 2 | 0x1000, -EFAULT),
        (HYPERCALLS, 3 | 0x1000, 0),  # of no kind that Xen knows
    ],
)
def test_which_address_is_updated_and_where_the_translation_goes(
    address: int, flags: int, result: int
) -> None:
    assert answer(call(UPDATE_VA_MAPPING, address, 0, flags)) == result


def test_a_multicall_in_a_multicall_is_refused() -> None:
    inner = struct.pack("<8Q", MULTICALL, 0, DATA, 1, 0, 0, 0, 0)
    assert answer(call(MULTICALL, DATA, 1), inner) == 0
    looks = call(MULTICALL, DATA, 1) + b"\x48\xa1" + u64(DATA + 8)  # mov result, %rax
    assert answer(looks, inner) == -EINVAL
    version = struct.pack("<8Q", XEN_VERSION, 0, 0, 0, 0, 0, 0, 0)
    assert answer(call(MULTICALL, DATA, 1) + looks, version) == 4 << 16 | 17


@pytest.mark.parametrize(
    ("offset", "result"), [(0x900, 0), (PAGE - 64, 0), (PAGE - 56, -ENXIO), (4, -ENXIO), (0x7FFFFFF0, -ENXIO)]
)
def test_where_vcpu_info_may_be(offset: int, result: int) -> None:
    code = DATAS_FRAME + FRAME_TO + u64(DATA + 0x100) + call(VCPU_OP, 10, 0, DATA + 0x100)
    assert answer(code, bytes(0x108) + struct.pack("<Q", offset)) == result


def test_vcpu_info_has_one_place_which_is_writable() -> None:
    code = DATAS_FRAME + FRAME_TO + u64(DATA + 0x100) + call(VCPU_OP, 10, 0, DATA + 0x100)
    assert answer(code + call(VCPU_OP, 10, 0, DATA + 0x100), bytes(0x108) + u64(PAGE - 64)) == -EINVAL
    root = (
        DATAS_FRAME + TABLES + b"\x48\x8b\x06" + FRAME_TO + u64(DATA + 0x100)
    )  # the frame of the table below
    root = root.replace(b"\x48\x8b\x06", b"\x48\x8b\x86" + struct.pack("<I", 8 * 511) + b"\x48\xc1\xe8\x0c")
    root = root.replace(b"\x48\xc1\xe8\x0c", b"\x48\xc1\xe0\x0c\x48\xc1\xe8\x18")  # of bits 12 to 51
    assert answer(root + call(VCPU_OP, 10, 0, DATA + 0x100), bytes(0x110)) == -EINVAL


@pytest.mark.parametrize("source", [0x1000, 2**64 - 1])
def test_a_page_is_copied_of_the_guests_own_alone(source: int) -> None:
    copy = DATAS_FRAME + FRAME_TO + u64(DATA + 8) + call(MMUEXT_OP, DATA, 1, 0, SELF)
    assert answer(copy, struct.pack("<IIQQ", 17, 0, 0, source)) == -EINVAL


@pytest.mark.parametrize(("kind", "result"), [(2, 0), (0, 0), (32, 0), (6, -EINVAL), (77, -EINVAL)])
def test_which_assistances_there_are(kind: int, result: int) -> None:
    assert answer(call(VM_ASSIST, 0, kind)) == result


def rdmsr(index: int) -> bytes:
    return b"\xb9" + struct.pack("<I", index) + b"\x0f\x32\x48\xc1\xe2\x20\x48\x09\xd0"


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_segment_base_is_an_address(which: int) -> None:
    assert answer(call(SET_SEGMENT_BASE, which, UNCANONICAL)) == -EINVAL
    assert answer(call(SET_SEGMENT_BASE, which, HIGH)) == 0


@pytest.mark.parametrize("selector", [0, 3, 0xE02B, 0x1234, 0xFFFF])
def test_the_selector_of_user_modes_gs_leaves_the_kernels_base(selector: int) -> None:
    """What cannot be loaded is null, and the call answers 0."""
    code = call(SET_SEGMENT_BASE, 2, HIGH) + call(SET_SEGMENT_BASE, 3, selector)
    assert answer(code) == 0
    assert answer(code + rdmsr(0xC0000101)) == HIGH - (1 << 64)
    assert answer(code + b"\x31\xc0\x66\x8c\xe8") == (
        selector if selector in (3, 0xE02B) else 0
    )  # mov %gs, %ax


def test_apic_base_says_that_the_apic_is_on() -> None:
    assert answer(rdmsr(0x1B)) == 0xFEE00900


def linked_at(base: int) -> bytes:
    """The guest at another VIRT_BASE: ENTRY, VIRT_BASE, e_entry and p_vaddr."""
    data = bytearray(guest(notes={1: u64(base + PHYSICAL), 3: u64(base)}))
    struct.pack_into("<Q", data, 24, base + PHYSICAL)
    struct.pack_into("<Q", data, 64 + 16, base + PHYSICAL)
    return bytes(data)


def test_nothing_of_a_guest_is_mapped_in_xens_slots() -> None:
    what = subject(linked_at(0xFFFF810000000000), stub=Span(0, 0))
    assert [f.rule for f in prove(what, XenDomU()).findings] == ["BB-B040"]


@pytest.mark.parametrize("profile", [XenDomU, XenDom0])
def test_a_frame_table_that_reaches_beyond_virt_base_is_refused(profile: type[XenDomU | XenDom0]) -> None:
    size = 8 * ((64 << 20) // PAGE)
    verdict = prove(subject(guest(notes={15: u64(VIRT_BASE - PAGE)})), profile())
    assert [f.rule for f in verdict.findings] == ["BB-L207"]
    touches = prove(subject(guest(notes={15: u64(VIRT_BASE - size)})), profile())
    assert (touches.outcome is Outcome.BOOTED) == (profile is XenDomU)  # setup_pv_physmap: <=
