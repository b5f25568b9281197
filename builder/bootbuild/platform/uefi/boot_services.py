"""EFI_BOOT_SERVICES: memory, its map, and the end of them all. UEFI 2.10 §7."""

from __future__ import annotations

import zlib

from bootbuild.model.span import Span
from bootbuild.platform.uefi import status
from bootbuild.platform.uefi.call import Call
from bootbuild.platform.uefi.firmware import Firmware
from bootbuild.platform.uefi.ovmf import DESCRIPTOR_SIZE, DESCRIPTOR_VERSION, Descriptor
from bootbuild.platform.uefi.pages import Refused, is_type
from bootbuild.platform.uefi.system_table import SystemTable

_UNACCEPTED = 15  #: EfiUnacceptedMemoryType, which AllocatePages refuses and AllocatePool does not
_PADDING = 8  #: bytes behind the 40 of a descriptor
_MERGED = 7  #: descriptors for which OVMF wants room, and which are then part of others: CoreGetMemoryMap


class BootServices:
    """Each method is a service; it returns an EFI_STATUS, or raises Refused with it."""

    def __init__(self, firmware: Firmware, system_table: SystemTable) -> None:
        self.firmware = firmware
        self._system_table = system_table
        self._ticks = 0

    # -- memory ----------------------------------------------------------------------------------------

    def allocate_pages(self, call: Call) -> int:
        how, kind, pages, pointer = (call[index] for index in range(4))
        how, kind = how & 0xFFFFFFFF, kind & 0xFFFFFFFF
        if not pointer or kind == _UNACCEPTED:
            raise Refused(status.INVALID_PARAMETER)
        address = call.read64(pointer) if how else 0
        span = self.firmware.pages.allocate(how, kind, pages, address)
        self.firmware.gave(span, kind)
        call.write64(pointer, span.start)
        return status.SUCCESS

    def free_pages(self, call: Call) -> int:
        self.firmware.took(self.firmware.pages.free(call[0], call[1]))
        return status.SUCCESS

    def allocate_pool(self, call: Call) -> int:
        kind, size, pointer = call[0] & 0xFFFFFFFF, call[1], call[2]
        if not pointer or not is_type(kind):
            raise Refused(status.INVALID_PARAMETER)
        call.write64(pointer, 0)
        span = self.firmware.pool.allocate(kind, size)
        self.firmware.put(span.start, self.firmware.garbage(span))
        call.write64(pointer, span.start)
        return status.SUCCESS

    def free_pool(self, call: Call) -> int:
        self.firmware.pool.free(call[0])
        return status.SUCCESS

    def get_memory_map(self, call: Call) -> int:
        size, buffer, key, stride, version = (call[index] for index in range(5))
        if not size:
            raise Refused(status.INVALID_PARAMETER)
        data = self._map()
        fits = call.read64(size) >= len(data) + _MERGED * DESCRIPTOR_SIZE
        call.write64(size, len(data) + (0 if fits else _MERGED * DESCRIPTOR_SIZE))
        if stride:
            call.write64(stride, DESCRIPTOR_SIZE)
        if version:
            call.write32(version, DESCRIPTOR_VERSION)
        if key:
            call.write64(key, self.firmware.pages.key)
        if not fits:
            raise Refused(status.BUFFER_TOO_SMALL)
        if not buffer:
            raise Refused(status.INVALID_PARAMETER)
        call.write(buffer, data)
        self.firmware.last_map = Span(buffer, len(data))
        return status.SUCCESS

    def _map(self) -> bytes:
        """The descriptors; what is behind the 40 bytes of each is undefined."""
        garbage = (
            self.firmware.poison.garbage(_PADDING)
            if "stride" in self.firmware.poison.names
            else bytes(_PADDING)
        )
        return b"".join(
            Descriptor(kind, span).pack()[:-_PADDING] + garbage for span, kind in self.firmware.pages
        )

    def exit_boot_services(self, call: Call) -> int:
        firmware = self.firmware
        if not firmware.exits_refused:
            firmware.pages.key += 1  # the handler of an event or a timer has allocated memory
        if call[1] != firmware.pages.key:
            firmware.exits_refused += 1
            raise Refused(status.INVALID_PARAMETER)
        firmware.end_boot_services(call.cpu)
        self._system_table.end_boot_services(call.cpu)
        return status.SUCCESS

    # -- the rest --------------------------------------------------------------------------------------

    def raise_tpl(self, call: Call) -> int:
        old, self.firmware.tpl = self.firmware.tpl, call[0]
        return old

    def restore_tpl(self, call: Call) -> None:
        self.firmware.tpl = call[0]

    def stall(self, call: Call) -> int:
        return status.SUCCESS

    def set_watchdog_timer(self, call: Call) -> int:
        return status.SUCCESS

    def get_next_monotonic_count(self, call: Call) -> int:
        if not call[0]:
            raise Refused(status.INVALID_PARAMETER)
        self._ticks += 1
        call.write64(call[0], self._ticks)
        return status.SUCCESS

    def calculate_crc32(self, call: Call) -> int:
        if not call[0] or not call[1] or not call[2]:
            raise Refused(status.INVALID_PARAMETER)
        call.write32(call[2], zlib.crc32(call.read(call[0], call[1])))
        return status.SUCCESS

    def copy_mem(self, call: Call) -> None:
        if call[2]:
            call.write(call[0], call.read(call[1], call[2]))

    def set_mem(self, call: Call) -> None:
        if call[1]:
            call.check(call[0], call[1])
            call.write(call[0], bytes([call[2] & 0xFF]) * call[1])
