"""EFI_BOOT_SERVICES: handles, and the protocols on them. UEFI 2.10 §7.3."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from bootbuild.platform.uefi import device_path, guids, status
from bootbuild.platform.uefi.call import Call
from bootbuild.platform.uefi.firmware import Firmware
from bootbuild.platform.uefi.ovmf import MemoryType
from bootbuild.platform.uefi.pages import Refused

_ALL_HANDLES, _BY_REGISTER, _BY_PROTOCOL = range(3)  #: EFI_LOCATE_SEARCH_TYPE
_HANDLE_SIZE = 0x58  #: bytes that a handle takes; what is in them is the firmware's own
_BY_HANDLE_PROTOCOL, _GET, _TEST, _BY_CHILD, _BY_DRIVER, _EXCLUSIVE = (
    1,
    2,
    4,
    8,
    0x10,
    0x20,
)  #: EFI_OPEN_PROTOCOL_*
_OPENINGS = frozenset(
    {_BY_HANDLE_PROTOCOL, _GET, _TEST, _BY_CHILD, _BY_DRIVER, _EXCLUSIVE, _BY_DRIVER | _EXCLUSIVE}
)
_MOST = 64  #: pairs of arguments that are read


class ProtocolServices:
    """Each method is a service; it returns an EFI_STATUS, or raises Refused with it."""

    def __init__(self, firmware: Firmware) -> None:
        self._firmware = firmware
        self._handles = firmware.handles
        #: handle, protocol, agent and controller of what was opened and not closed
        self._opened: set[tuple[int, bytes, int, int]] = set()

    def handle_protocol(self, call: Call) -> int:
        return self._open(call, test=False)

    def open_protocol(self, call: Call) -> int:
        attributes = call[5] & 0xFFFFFFFF
        agent, controller = call[3], call[4]
        needed = [agent] if attributes & (_BY_CHILD | _BY_DRIVER | _EXCLUSIVE) else []
        needed += [controller] if attributes & (_BY_CHILD | _BY_DRIVER) else []
        if attributes not in _OPENINGS or any(handle not in self._handles for handle in needed):
            raise Refused(status.INVALID_PARAMETER)
        if attributes == _BY_CHILD and controller == call[0]:
            raise Refused(status.INVALID_PARAMETER)
        result = self._open(call, test=attributes == _TEST)
        self._opened.add((call[0], call.guid(1), agent, controller))
        return result

    def _open(self, call: Call, test: bool) -> int:
        protocol, pointer = call.guid(1), call[2]
        if not pointer and not test:
            raise Refused(status.INVALID_PARAMETER)
        self._handles.protocols(call[0])
        if pointer:
            call.write64(pointer, 0)
        interface = self._handles.interface(call[0], protocol)
        if pointer:
            call.write64(pointer, interface)
        return status.SUCCESS

    def close_protocol(self, call: Call) -> int:
        opened = call[0], call.guid(1), call[2], call[3]
        self._handles.protocols(call[0])
        if call[2] not in self._handles or (call[3] and call[3] not in self._handles):
            raise Refused(status.INVALID_PARAMETER)
        if opened not in self._opened:
            raise Refused(status.NOT_FOUND)
        self._opened.remove(opened)
        return status.SUCCESS

    def locate_protocol(self, call: Call) -> int:
        protocol, pointer = call.guid(0), call[2]
        if not pointer:
            raise Refused(status.INVALID_PARAMETER)
        found = self._handles.with_protocol(protocol)
        call.write64(pointer, self._handles.interface(found[0], protocol) if found else 0)
        return status.SUCCESS if found else status.NOT_FOUND

    def _located(self, call: Call) -> list[int]:
        how = call[0] & 0xFFFFFFFF
        handles = self._handles
        if how not in (_ALL_HANDLES, _BY_PROTOCOL):
            raise Refused(status.INVALID_PARAMETER)
        found = list(handles) if how == _ALL_HANDLES else handles.with_protocol(call.guid(1))
        if not found:
            raise Refused(status.NOT_FOUND)
        return found

    def locate_handle(self, call: Call) -> int:
        size, buffer = call[3], call[4]
        if not size:
            raise Refused(status.INVALID_PARAMETER)
        found = self._located(call)
        room = call.read64(size)
        call.write64(size, 8 * len(found))
        if room < 8 * len(found):
            raise Refused(status.BUFFER_TOO_SMALL)
        if not buffer:
            raise Refused(status.INVALID_PARAMETER)
        call.write(buffer, struct.pack(f"<{len(found)}Q", *found))
        return status.SUCCESS

    def locate_handle_buffer(self, call: Call) -> int:
        if not call[3] or not call[4]:
            raise Refused(status.INVALID_PARAMETER)
        for pointer in (call[3], call[4]):
            call.write64(pointer, 0)
        found = self._located(call)
        span = self._firmware.pool.allocate(MemoryType.BOOT_SERVICES_DATA, 8 * len(found))
        self._firmware.put(span.start, struct.pack(f"<{len(found)}Q", *found))
        call.write64(call[3], len(found))
        call.write64(call[4], span.start)
        return status.SUCCESS

    def protocols_per_handle(self, call: Call) -> int:
        found = [*self._handles.protocols(call[0])]
        if not call[1] or not call[2]:
            raise Refused(status.INVALID_PARAMETER)
        span = self._firmware.pool.allocate(MemoryType.BOOT_SERVICES_DATA, 8 * len(found))
        at = [self._firmware.keep(protocol) for protocol in found]
        self._firmware.put(span.start, struct.pack(f"<{len(at)}Q", *at))
        call.write64(call[1], span.start)
        call.write64(call[2], len(at))
        return status.SUCCESS

    def locate_device_path(self, call: Call) -> int:
        """The handle with this protocol whose path begins the given one by most nodes."""
        protocol, pointer = call.guid(0), call[1]
        if not pointer or not call.read64(pointer):
            raise Refused(status.INVALID_PARAMETER)
        path = call.read64(pointer)
        found = self._handles.nearest(call.read, protocol, path)
        if found is None:
            raise Refused(status.NOT_FOUND)
        if not call[2]:
            raise Refused(status.INVALID_PARAMETER)
        handle, rest = found
        call.write64(call[2], handle)
        whole = sum(map(len, device_path.nodes(call.read, path)))
        call.write64(pointer, path + whole - sum(map(len, rest)))
        return status.SUCCESS

    # -- installing ------------------------------------------------------------------------------------

    def install_protocol_interface(self, call: Call) -> int:
        pointer, guid, native, interface = (call[index] for index in range(4))
        if not pointer or not guid or native & 0xFFFFFFFF:
            raise Refused(status.INVALID_PARAMETER)
        self._install(call, pointer, {call.read(guid, 16): interface})
        return status.SUCCESS

    def _install(self, call: Call, pointer: int, protocols: dict[bytes, int]) -> None:
        handle = call.read64(pointer)
        if handle and handle not in self._handles:
            raise Refused(status.INVALID_PARAMETER)
        handle = handle or self._firmware.keep(bytes(_HANDLE_SIZE))
        self._handles.install(handle, protocols)
        call.write64(pointer, handle)

    def reinstall_protocol_interface(self, call: Call) -> int:
        handle, protocol, old, new = call[0], call.guid(1), call[2], call[3]
        if self._handles.protocols(handle).get(protocol) != old:
            raise Refused(status.NOT_FOUND)
        self._handles.protocols(handle)[protocol] = new
        return status.SUCCESS

    def uninstall_protocol_interface(self, call: Call) -> int:
        self._handles.uninstall(call[0], {call.guid(1): call[2]})
        return status.SUCCESS

    def install_multiple_protocol_interfaces(self, call: Call) -> int:
        if not call[0]:
            raise Refused(status.INVALID_PARAMETER)
        pairs = list(_pairs(call))
        protocols = dict(pairs)
        if len(protocols) < len(pairs):
            raise Refused(status.INVALID_PARAMETER)
        path = protocols.get(guids.DEVICE_PATH)
        if path is not None and self._known(call, path):
            raise Refused(status.ALREADY_STARTED)
        if protocols:
            self._install(call, call[0], protocols)
        return status.SUCCESS

    def _known(self, call: Call, path: int) -> bool:
        """Whether a handle has the same device path."""
        asked = list(device_path.nodes(call.read, path))
        paths = (
            self._handles.interface(h, guids.DEVICE_PATH)
            for h in self._handles.with_protocol(guids.DEVICE_PATH)
        )
        return any(list(device_path.nodes(call.read, at)) == asked for at in paths)

    def uninstall_multiple_protocol_interfaces(self, call: Call) -> int:
        try:
            self._handles.uninstall(call[0], dict(_pairs(call)))
        except Refused:
            raise Refused(status.INVALID_PARAMETER) from None
        return status.SUCCESS


def _pairs(call: Call) -> Iterator[tuple[bytes, int]]:
    """GUIDs and interfaces from the second argument on, up to a null pointer."""
    for index in range(1, 2 * _MOST, 2):
        if not call[index]:
            return
        yield call.guid(index), call[index + 1]
