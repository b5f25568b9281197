"""The machine that a PV domain is a guest of: its memory map, and what Xen keeps in it for the domain."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from bootbuild.api import Load, MapEntry, MemoryContent, Span, align_up
from bootbuild_xenpv.environments import start_info
from bootbuild_xenpv.environments.frames import PAGE, PCI_HOLE, Frames, GiB, MiB
from bootbuild_xenpv.hypervisor.entries import ACCESSED, DIRTY, LARGE, PRESENT, USER, WRITE

RAM, RESERVED = 1, 2  #: E820 types
_EBDA, _BIOS, _FLASH = Span(0x9FC00, 0x400), Span(0xF0000, 0x10000), Span(0xFFFC0000, 0x40000)

# Xen's memory, at the bottom of the machine. What it shares with the domain: shared_info, the grant table
_XEN = 16 * MiB
SHARED_INFO = _XEN
GRANT_FRAMES = range(SHARED_INFO // PAGE + 1, SHARED_INFO // PAGE + 65)  #: max_grant_frames: 64
STATUS_FRAMES = range(GRANT_FRAMES.stop, GRANT_FRAMES.stop + 8)
# and its own: page tables, the vCPU's descriptors, the M2P.
_OWN = STATUS_FRAMES.stop * PAGE
ZERO_PAGE, _DESCRIPTORS, GDT_L1, _GDT_L2, _GDT_L3, _M2P_L3, _M2P_L2 = (
    _OWN + PAGE * index for index in range(7)
)
M2P = _XEN + 2 * MiB
_M2P_SLOT, _PERDOMAIN_SLOT = 256, 260  #: RO_MPT_VIRT_START, PERDOMAIN_VIRT_START: asm-x86/config.h
GDT = 0xFFFF820000000000  #: virtual
GDT_LIMIT = 0xEFFF  #: LAST_RESERVED_GDT_BYTE
_TABLE = PRESENT | WRITE | ACCESSED | DIRTY
_FLAT = {  # xen/include/public/arch-x86/xen-x86_64.h FLAT_*, and Xen's own two
    0xE008: 0x00AF9B000000FFFF,
    0xE010: 0x00CF93000000FFFF,
    0xE018: 0x00CFBB000000FFFF,
    0xE020: 0x00CFFB000000FFFF,
    0xE028: 0x00CFF3000000FFFF,
    0xE030: 0x00AFFB000000FFFF,
}


def memory_map(frames: Frames) -> tuple[MapEntry, ...]:
    """The machine's E820 map: RAM up to the domain's last frame, but for the hole below 4 GiB."""
    end = frames.region.span.end
    low = (MapEntry(0, _EBDA.start, RAM), _reserved(_EBDA), _reserved(_BIOS))
    middle = (MapEntry(MiB, min(end, PCI_HOLE.start) - MiB, RAM), _reserved(_FLASH))
    high = (MapEntry(4 * GiB, end - 4 * GiB, RAM),) if end > 4 * GiB else ()
    return (*low, *middle, *high)


def _reserved(span: Span) -> MapEntry:
    return MapEntry(span.start, span.size, RESERVED)


def m2p_entries(frames: Frames) -> int:
    """Machine frames that Xen's table has an entry for: all up to the last one."""
    return frames.first + frames.size


def shared_memory() -> Span:
    """What is Xen's, and the domain may map writable."""
    return Span(_XEN, _OWN - _XEN)


def xen_memory(frames: Frames) -> Span:
    """Where all of Xen's own lies."""
    return Span(_OWN, M2P - _OWN + align_up(8 * m2p_entries(frames), 2 * MiB))


def own_slots() -> Mapping[int, int]:
    """What Xen has in its slots of every root."""
    return {_M2P_SLOT: _M2P_L3 | _TABLE | USER, _PERDOMAIN_SLOT: _GDT_L3 | _TABLE}


def xen_loads(frames: Frames) -> list[Load]:
    """Xen's own pages. The M2P is mapped read-only for ring 3, the vCPU's descriptors not at all."""
    m2p = b"\xff" * (8 * frames.first) + frames.m2p.tobytes()
    size = align_up(len(m2p), 2 * MiB)
    leaves = (M2P + at | PRESENT | USER | ACCESSED | DIRTY | LARGE for at in range(0, size, 2 * MiB))
    descriptors = bytearray(PAGE)
    for selector, value in _FLAT.items():
        struct.pack_into("<Q", descriptors, selector & 0xFF8, value)
    gdt = [ZERO_PAGE | _TABLE] * 14 + [_DESCRIPTORS | _TABLE]
    return [
        put(_XEN, bytes(_M2P_L2 + PAGE - _XEN)),
        put(SHARED_INFO, start_info.shared_info()),
        put(_DESCRIPTORS, bytes(descriptors)),
        put(GDT_L1, struct.pack(f"<{len(gdt)}Q", *gdt)),
        put(_GDT_L2, struct.pack("<Q", GDT_L1 | _TABLE)),
        put(_GDT_L3, struct.pack("<Q", _GDT_L2 | _TABLE)),
        put(_M2P_L3, struct.pack("<Q", _M2P_L2 | _TABLE | USER)),
        put(_M2P_L2, b"".join(struct.pack("<Q", leaf) for leaf in leaves)),
        Load(M2P, MemoryContent(m2p), 0, len(m2p), size),
    ]


def put(address: int, data: bytes) -> Load:
    """Bytes at a physical address."""
    return Load(address, MemoryContent(data), 0, len(data), len(data))
