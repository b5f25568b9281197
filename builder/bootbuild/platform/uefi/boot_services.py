"""EFI_BOOT_SERVICES: memory, handles and protocols, images, and their end. UEFI 2.10 §7."""

from __future__ import annotations

import struct
import zlib

from bootbuild.model.span import Span
from bootbuild.platform.uefi import device_path, guids, status
from bootbuild.platform.uefi.call import Call
from bootbuild.platform.uefi.firmware import Firmware
from bootbuild.platform.uefi.ovmf import DESCRIPTOR_SIZE, DESCRIPTOR_VERSION, Descriptor, MemoryType
from bootbuild.platform.uefi.pages import Refused
from bootbuild.platform.uefi.system_table import SystemTable

_ALL_HANDLES, _BY_REGISTER, _BY_PROTOCOL = range(3)  #: EFI_LOCATE_SEARCH_TYPE
_APPLICATION = 4  #: TPL_APPLICATION
_PADDING = 8  #: bytes behind the 40 of a descriptor
_KINDS = 15  #: EfiMaxMemoryType


class BootServices:
    """Each method is a service; it returns an EFI_STATUS, or raises Refused with it."""

    def __init__(self, firmware: Firmware, system_table: SystemTable) -> None:
        self.firmware = firmware
        self._system_table = system_table
        self._tpl = _APPLICATION
        self._ticks = 0

    # -- memory ----------------------------------------------------------------------------------------

    def allocate_pages(self, call: Call) -> int:
        how, kind, pages, pointer = (call[index] for index in range(4))
        how, kind = how & 0xFFFFFFFF, kind & 0xFFFFFFFF
        if not pointer:
            raise Refused(status.INVALID_PARAMETER)
        address = call.read64(pointer) if how else 0
        span = self.firmware.pages.allocate(how, kind, pages, address)
        self.firmware.gave(span)
        call.write64(pointer, span.start)
        return status.SUCCESS

    def free_pages(self, call: Call) -> int:
        self.firmware.took(self.firmware.pages.free(call[0], call[1]))
        return status.SUCCESS

    def allocate_pool(self, call: Call) -> int:
        kind, size, pointer = call[0] & 0xFFFFFFFF, call[1], call[2]
        if not pointer or kind == MemoryType.CONVENTIONAL or _KINDS <= kind < 0x70000000:
            raise Refused(status.INVALID_PARAMETER)
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
        room = call.read64(size)
        call.write64(size, len(data))
        if stride:
            call.write64(stride, DESCRIPTOR_SIZE)
        if version:
            call.write32(version, DESCRIPTOR_VERSION)
        if room < len(data):
            raise Refused(status.BUFFER_TOO_SMALL)
        if not buffer:
            raise Refused(status.INVALID_PARAMETER)
        call.write(buffer, data)
        self.firmware.last_map = Span(buffer, len(data))
        if key:
            call.write64(key, self.firmware.pages.key)
        return status.SUCCESS

    def _map(self) -> bytes:
        """The descriptors; what is behind the 40 bytes of each is undefined."""
        garbage = (
            self.firmware.poison.garbage(_PADDING)
            if "stride" in self.firmware.poison.names
            else bytes(_PADDING)
        )
        return b"".join(
            Descriptor(kind, span).pack()[:-_PADDING] + garbage
            for span, kind in self.firmware.pages
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

    # -- handles and protocols -------------------------------------------------------------------------

    def handle_protocol(self, call: Call) -> int:
        if not call[2]:
            raise Refused(status.INVALID_PARAMETER)
        call.write64(call[2], 0)
        call.write64(call[2], self.firmware.handles.interface(call[0], call.guid(1)))
        return status.SUCCESS

    def open_protocol(self, call: Call) -> int:
        interface = self.firmware.handles.interface(call[0], call.guid(1))
        if call[2]:
            call.write64(call[2], interface)
        return status.SUCCESS

    def close_protocol(self, call: Call) -> int:
        self.firmware.handles.interface(call[0], call.guid(1))
        return status.SUCCESS

    def locate_protocol(self, call: Call) -> int:
        protocol, pointer = call.guid(0), call[2]
        found = self.firmware.handles.with_protocol(protocol)
        call.write64(pointer, self.firmware.handles.interface(found[0], protocol) if found else 0)
        return status.SUCCESS if found else status.NOT_FOUND

    def _located(self, call: Call) -> list[int]:
        how = call[0] & 0xFFFFFFFF
        handles = self.firmware.handles
        if how not in (_ALL_HANDLES, _BY_PROTOCOL):
            raise Refused(status.INVALID_PARAMETER)
        found = list(handles) if how == _ALL_HANDLES else handles.with_protocol(call.guid(1))
        if not found:
            raise Refused(status.NOT_FOUND)
        return found

    def locate_handle(self, call: Call) -> int:
        size, buffer = call[3], call[4]
        found = self._located(call)
        room = call.read64(size)
        call.write64(size, 8 * len(found))
        if room < 8 * len(found):
            raise Refused(status.BUFFER_TOO_SMALL)
        call.write(buffer, struct.pack(f"<{len(found)}Q", *found))
        return status.SUCCESS

    def locate_handle_buffer(self, call: Call) -> int:
        found = self._located(call)
        span = self.firmware.pool.allocate(MemoryType.BOOT_SERVICES_DATA, 8 * len(found))
        self.firmware.put(span.start, struct.pack(f"<{len(found)}Q", *found))
        call.write64(call[3], len(found))
        call.write64(call[4], span.start)
        return status.SUCCESS

    def protocols_per_handle(self, call: Call) -> int:
        found = [*self.firmware.handles.protocols(call[0])]
        span = self.firmware.pool.allocate(MemoryType.BOOT_SERVICES_DATA, 8 * len(found))
        at = [self.firmware.keep(protocol) for protocol in found]
        self.firmware.put(span.start, struct.pack(f"<{len(at)}Q", *at))
        call.write64(call[1], span.start)
        call.write64(call[2], len(at))
        return status.SUCCESS

    def locate_device_path(self, call: Call) -> int:
        """The handle with this protocol whose path begins the given one by most nodes."""
        protocol, pointer = call.guid(0), call[1]
        if not pointer or not call.read64(pointer) or not call[2]:
            raise Refused(status.INVALID_PARAMETER)
        path = call.read64(pointer)
        asked = list(device_path.nodes(call.read, path))[:-1]
        best: tuple[int, int] | None = None
        for handle in self.firmware.handles.with_protocol(protocol):
            at = self.firmware.handles.protocols(handle).get(guids.DEVICE_PATH)
            if at is None:
                continue
            own = list(device_path.nodes(call.read, at))[:-1]
            if asked[: len(own)] == own and (best is None or len(own) > best[0]):
                best = len(own), handle
        if best is None:
            raise Refused(status.NOT_FOUND)
        call.write64(call[2], best[1])
        call.write64(pointer, path + sum(map(len, asked[: best[0]])))
        return status.SUCCESS

    # -- the rest --------------------------------------------------------------------------------------

    def raise_tpl(self, call: Call) -> int:
        old, self._tpl = self._tpl, call[0]
        return old

    def restore_tpl(self, call: Call) -> None:
        self._tpl = call[0]

    def stall(self, call: Call) -> int:
        return status.SUCCESS

    def set_watchdog_timer(self, call: Call) -> int:
        return status.SUCCESS

    def get_next_monotonic_count(self, call: Call) -> int:
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
            call.write(call[0], bytes([call[2] & 0xFF]) * call[1])
