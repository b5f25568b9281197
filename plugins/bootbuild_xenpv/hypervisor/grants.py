"""The grant table of one domain: its size, its frames, its version (xen/common/grant_table.c).

Nobody grants this domain anything and nobody maps what it grants: there are no other domains.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from bootbuild.api import Cpu
from bootbuild.platform.xen import EINVAL, EPERM
from bootbuild_xenpv.hypervisor.domain import PvDomain
from bootbuild_xenpv.hypervisor.hypercall import BadAddressError, UnmodelledError, not_itself

_PAGE = 4096
_GENERAL_ERROR, _BAD_DOMAIN, _BAD_ADDRESS, _DENIED = -1, -2, -5, -8  #: GNTST_*: public/grant_table.h
_RESERVED_ENTRIES, _ENTRY = 8, {1: 8, 2: 16}  #: GNTTAB_NR_RESERVED_ENTRIES; bytes, by version
_STATES = 2048  #: of grants, in a page of them: two bytes each


class GrantTable:
    """How far it has grown, and in which version it is."""

    def __init__(self, domain: PvDomain) -> None:
        self._domain = domain
        self._count = 1  #: INITIAL_NR_GRANT_FRAMES
        self._version = 1

    def serve(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        """A grant_table_op. Raises BadAddressError and UnmodelledError."""
        command, pointer, count = arguments[0] & 0xFFFFFFFF, arguments[1], arguments[2] & 0xFFFFFFFF
        if count >> 31:
            return -EINVAL
        if command in (2, 6, 9) and count != 1:
            return -EINVAL
        if command == 2:
            return self._setup_table(cpu, pointer)
        if command == 6:
            return self._query_size(cpu, pointer)
        if command == 8:
            return self._set_version(cpu, pointer)
        if command == 9:
            return self._get_status_frames(cpu, pointer)
        if command == 10:
            return self._get_version(cpu, pointer)
        raise UnmodelledError(arguments)

    def _owner(self, domid: int) -> int:
        """GNTST_okay for the domain itself, else why not."""
        error = not_itself(self._domain.domid, domid)
        return {0: 0, -EPERM: _DENIED}.get(error, _BAD_DOMAIN)

    def _setup_table(self, cpu: Cpu, pointer: int) -> int:
        # struct gnttab_setup_table: domid_t dom; uint32_t nr_frames; int16_t status; frame_list
        domid, count, frames = struct.unpack("<H2xI8xQ", cpu.read(pointer, 24))
        cpu.read(frames, 0)
        status = self._owner(domid)
        if not status and count > len(self._domain.grant_frames):
            status = _GENERAL_ERROR
        if not status:
            self._count = max(self._count, count)
            status = _give(cpu, frames, self._domain.grant_frames[:count])
        cpu.write(pointer + 8, struct.pack("<h", status))
        return 0

    def _query_size(self, cpu: Cpu, pointer: int) -> int:
        # struct gnttab_query_size: domid_t dom; uint32_t nr_frames, max_nr_frames; int16_t status
        (domid,) = struct.unpack("<H14x", cpu.read(pointer, 16))
        status = self._owner(domid)
        if not status:
            cpu.write(pointer + 4, struct.pack("<II", self._count, len(self._domain.grant_frames)))
        cpu.write(pointer + 12, struct.pack("<h", status))
        return 0

    def _set_version(self, cpu: Cpu, pointer: int) -> int:
        (version,) = struct.unpack("<I", cpu.read(pointer, 4))
        if version not in _ENTRY:
            return -EINVAL
        if version != self._version:
            self._convert(cpu, version)
            self._version = version
        cpu.write(pointer, struct.pack("<I", self._version))
        return 0

    def _convert(self, cpu: Cpu, version: int) -> None:
        """All is cleared but the toolstack's grants."""
        kept = []
        for entry in range(_RESERVED_ENTRIES):
            at = self._domain.grant_frames[0] * _PAGE + entry * _ENTRY[self._version]
            layout = "<HHI" if self._version == 1 else "<HH4xQ"
            kept.append(struct.unpack(layout, cpu.read_physical(at, _ENTRY[self._version])))
        for frame in self._domain.grant_frames[: self._count]:
            cpu.write_physical(frame * _PAGE, bytes(_PAGE))
        for entry, fields in enumerate(kept):
            at = self._domain.grant_frames[0] * _PAGE + entry * _ENTRY[version]
            cpu.write_physical(at, struct.pack("<HHI" if version == 1 else "<HH4xQ", *fields))

    def _get_version(self, cpu: Cpu, pointer: int) -> int:
        # struct gnttab_get_version: domid_t dom; uint16_t pad; uint32_t version
        (domid,) = struct.unpack("<H6x", cpu.read(pointer, 8))
        if error := not_itself(self._domain.domid, domid):
            return error
        cpu.write(pointer + 4, struct.pack("<I", self._version))
        return 0

    def _get_status_frames(self, cpu: Cpu, pointer: int) -> int:
        # struct gnttab_get_status_frames: uint32_t nr_frames; domid_t dom; int16_t status; frame_list
        count, domid, frames = struct.unpack("<IH2xQ", cpu.read(pointer, 16))
        cpu.read(frames, 0)
        status = self._owner(domid)
        have = 0 if self._version == 1 else -(-self._count * _PAGE // _ENTRY[2] // _STATES)
        if not status and count > have:
            status = _GENERAL_ERROR
        if not status:
            status = _give(cpu, frames, self._domain.status_frames[:count])
        cpu.write(pointer + 6, struct.pack("<h", status))
        return 0


def _give(cpu: Cpu, address: int, frames: range) -> int:
    """Write the numbers of machine frames; GNTST_okay, or that the place for them is none."""
    try:
        for index, frame in enumerate(frames):
            cpu.write(address + 8 * index, struct.pack("<Q", frame))
    except BadAddressError:
        return _BAD_ADDRESS
    return 0
