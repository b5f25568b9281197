"""struct start_info and struct shared_info of a 64-bit PV domain: xen/include/public/xen.h."""

from __future__ import annotations

import struct
from dataclasses import dataclass

SIF_PRIVILEGED, SIF_INITDOMAIN, SIF_MULTIBOOT_MOD, SIF_MOD_START_PFN = 1, 2, 4, 8
CMDLINE_SIZE = 1024  #: MAX_GUEST_CMDLINE, with its NUL
SIZE = 0x490
_HEAD = struct.Struct("<32sQQI4xQI4xQI4xQQQQQ")
_TAIL = struct.Struct("<QQ")

LEGACY_VCPUS = 32  #: XEN_LEGACY_MAX_VCPUS
VCPU_INFO_SIZE = 64
UPCALL_MASK = 1  #: offset of evtchn_upcall_mask in vcpu_info
CR2 = 16  #: arch.cr2
TIME = 32  #: struct vcpu_time_info
_TIME = struct.Struct("<I4xQQIbB2x")
_WALLCLOCK = 3072  #: wc_version, wc_sec, wc_nsec in shared_info


@dataclass(frozen=True)
class StartInfo:
    """The fields by their names in xen.h; `console` is (mfn, event channel) or dom0's (offset, size)."""

    magic: bytes
    nr_pages: int
    shared_info: int
    flags: int
    pt_base: int
    nr_pt_frames: int
    mfn_list: int
    store_mfn: int = 0
    store_evtchn: int = 0
    console: tuple[int, int] = (0, 0)
    mod_start: int = 0
    mod_len: int = 0
    cmd_line: bytes = b""
    first_p2m_pfn: int = 0
    nr_p2m_frames: int = 0

    def pack(self) -> bytes:
        """All of it; a command line that is too long is cut, as Xen does."""
        head = _HEAD.pack(
            self.magic,
            self.nr_pages,
            self.shared_info,
            self.flags,
            self.store_mfn,
            self.store_evtchn,
            *self.console,
            self.pt_base,
            self.nr_pt_frames,
            self.mfn_list,
            self.mod_start,
            self.mod_len,
        )
        cmdline = self.cmd_line[: CMDLINE_SIZE - 1].ljust(CMDLINE_SIZE, b"\0")
        return head + cmdline + _TAIL.pack(self.first_p2m_pfn, self.nr_p2m_frames)


def clock(version: int, system_time: int) -> bytes:
    """The clock of a TSC of 1 GHz, struct vcpu_time_info. `system_time`: what it was at TSC 0, ns.

    version, tsc_timestamp, system_time, tsc_to_system_mul, tsc_shift, flags: ns = tsc × 2³¹ / 2³² × 2
    """
    return _TIME.pack(version, 0, system_time, 1 << 31, 1, 0)


def shared_info() -> bytes:
    """One page: events masked on every vCPU, and a clock of 1 GHz for the first one, which runs."""
    page = bytearray(4096)
    for vcpu in range(LEGACY_VCPUS):
        page[vcpu * VCPU_INFO_SIZE + UPCALL_MASK] = 1
    page[TIME : TIME + _TIME.size] = clock(2, 0)
    struct.pack_into("<III", page, _WALLCLOCK, 2, 0, 0)
    return bytes(page)
