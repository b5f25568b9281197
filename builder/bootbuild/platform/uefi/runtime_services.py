"""EFI_RUNTIME_SERVICES: variables, the clock, resets, and the way to virtual addresses. UEFI 2.10 §8."""

from __future__ import annotations

import struct

from bootbuild.platform.uefi import guids, status
from bootbuild.platform.uefi.call import Call
from bootbuild.platform.uefi.firmware import Firmware
from bootbuild.platform.uefi.pages import Refused

NON_VOLATILE, BOOT_SERVICE, RUNTIME = 1, 2, 4  #: attributes of a variable, §8.2
_KEPT = NON_VOLATILE | RUNTIME  #: what one has that is written when boot services are gone
_HARDWARE_ERROR, _COUNTED, _TIMED, _APPEND = 8, 0x10, 0x20, 0x40
_ATTRIBUTES = 0x7F
_STORE, _LEFT, _LARGEST = 0x3FFC0, 0x3C000, 0x8000  #: bytes of all variables, and of one
_RESETS = {0: "a cold reset", 1: "a warm reset", 2: "power off", 3: "a reset of the platform's own"}
_SHUTDOWN = 2
_OPTIONAL = 1  #: EFI_OPTIONAL_PTR
_DESCRIPTOR, _DESCRIPTOR_VERSION = 40, 1  #: EFI_MEMORY_DESCRIPTOR: the least size in bytes, §7.2.3
#: EFI_TIME of a clock that stands still
_TIME = struct.pack("<HBBBBBxIhBx", 2026, 1, 1, 0, 0, 0, 0, 0x7FF, 0)

Variables = dict[tuple[str, bytes], tuple[int, bytes]]


class RuntimeServices:
    """Each method is a service. `variables`: (name, vendor) → attributes and data."""

    def __init__(self, firmware: Firmware, variables: Variables) -> None:
        self._firmware = firmware
        self.variables = variables
        self.virtual = False

    def get_time(self, call: Call) -> int:
        if not call[0]:
            raise Refused(status.INVALID_PARAMETER)
        call.write(call[0], _TIME)
        if call[1]:
            call.write(call[1], struct.pack("<IIB", 1, 50000000, 0))
        return status.SUCCESS

    def get_variable(self, call: Call) -> int:
        name, vendor, attributes, size, data = (call[index] for index in range(5))
        if not name or not vendor or not size:
            raise Refused(status.INVALID_PARAMETER)
        key = call.text(name), call.read(vendor, 16)
        if key not in self.variables or not self._visible(self.variables[key][0]):
            raise Refused(status.NOT_FOUND)
        flags, value = self.variables[key]
        room = call.read64(size)
        call.write64(size, len(value))
        if attributes:
            call.write32(attributes, flags)
        if room < len(value):
            raise Refused(status.BUFFER_TOO_SMALL)
        if not data:
            raise Refused(status.INVALID_PARAMETER)
        call.write(data, value)
        return status.SUCCESS

    def _visible(self, attributes: int) -> bool:
        return bool(attributes & RUNTIME) or not self._firmware.exited

    def get_next_variable_name(self, call: Call) -> int:
        size, name, vendor = (call[index] for index in range(3))
        if not size or not name or not vendor:
            raise Refused(status.INVALID_PARAMETER)
        keys = [key for key, (flags, _) in self.variables.items() if self._visible(flags)]
        last = call.text(name), call.read(vendor, 16)
        if 2 * len(last[0]) + 2 > call.read64(size):
            raise Refused(status.INVALID_PARAMETER)
        if not last[0]:
            following = keys
        elif last in keys:
            following = keys[keys.index(last) + 1 :]
        else:
            raise Refused(status.INVALID_PARAMETER)
        if not following:
            raise Refused(status.NOT_FOUND)
        text = (following[0][0] + "\0").encode("utf-16-le")
        room = call.read64(size)
        call.write64(size, len(text))
        if room < len(text):
            raise Refused(status.BUFFER_TOO_SMALL)
        call.write(name, text)
        call.write(vendor, following[0][1])
        return status.SUCCESS

    def set_variable(self, call: Call) -> int:
        name, vendor, attributes, size, data = (call[index] for index in range(5))
        attributes &= 0xFFFFFFFF
        if not name or not vendor:
            raise Refused(status.INVALID_PARAMETER)
        key = call.text(name), call.read(vendor, 16)
        if not key[0] or not _may_be(attributes):
            raise Refused(status.INVALID_PARAMETER)
        known = self.variables.get(key)
        if self._firmware.exited and known and known[0] & _KEPT != _KEPT:
            raise Refused(status.WRITE_PROTECTED)
        if key[1] == guids.GLOBAL_VARIABLE and key[0] in ("SecureBoot", "SetupMode"):
            raise Refused(status.WRITE_PROTECTED)
        if attributes & (_COUNTED | _TIMED):  # nothing is signed here
            raise Refused(status.UNSUPPORTED if attributes & _COUNTED else status.SECURITY_VIOLATION)
        append, attributes = attributes & _APPEND, attributes & ~_APPEND
        if append and not size:
            return status.SUCCESS
        if not size or not attributes & (BOOT_SERVICE | RUNTIME):
            if self.variables.pop(key, None) is None:
                raise Refused(status.NOT_FOUND)
            return status.SUCCESS
        if self._firmware.exited and attributes & _KEPT != _KEPT:
            raise Refused(status.INVALID_PARAMETER)
        flags, before = known or (attributes, b"")
        if not data or size > _STORE or flags != attributes:
            raise Refused(status.INVALID_PARAMETER)
        before = before if append else b""
        others = sum(len(value) for other, (_, value) in self.variables.items() if other != key)
        if others + len(before) + size > _STORE:
            raise Refused(status.OUT_OF_RESOURCES)
        self.variables[key] = attributes, before + call.read(data, size)
        return status.SUCCESS

    def query_variable_info(self, call: Call) -> int:
        attributes, *pointers = (call[index] for index in range(4))
        attributes &= 0xFFFFFFFF
        if not attributes or not all(pointers):
            raise Refused(status.INVALID_PARAMETER)
        if attributes & ~_ATTRIBUTES:
            raise Refused(status.UNSUPPORTED)
        for pointer, value in zip(pointers, (_STORE, _LEFT, _LARGEST), strict=True):
            call.write64(pointer, value)
        return status.SUCCESS

    def set_virtual_address_map(self, call: Call) -> int:
        if not self._firmware.exited or self.virtual:
            raise Refused(status.UNSUPPORTED)
        if call[1] < _DESCRIPTOR or call[2] & 0xFFFFFFFF != _DESCRIPTOR_VERSION:
            raise Refused(status.INVALID_PARAMETER)
        call.read(call[3], call[0])
        self.virtual = True
        return status.SUCCESS

    def convert_pointer(self, call: Call) -> int:
        """MdeModulePkg/Core/RuntimeDxe/Runtime.c: nothing of a program's is converted."""
        if not call[1]:
            raise Refused(status.INVALID_PARAMETER)
        if call.read64(call[1]):
            return status.NOT_FOUND
        return status.SUCCESS if call[0] & _OPTIONAL else status.INVALID_PARAMETER

    def reset_system(self, call: Call) -> None:
        kind = call[0] & 0xFFFFFFFF
        call.cpu.stop(
            "shutdown" if kind == _SHUTDOWN else "reset",
            f"ResetSystem asked for {_RESETS.get(kind, 'what is no reset')}",
        )


def _may_be(attributes: int) -> bool:
    """Whether a variable may be said to have these."""
    unserved = attributes & RUNTIME and not attributes & BOOT_SERVICE
    alone = attributes & (NON_VOLATILE | BOOT_SERVICE | RUNTIME) == NON_VOLATILE
    return not (unserved or alone or attributes & _HARDWARE_ERROR or attributes & ~_ATTRIBUTES)
