"""Changes of the EFI_SYSTEM_TABLE while the firmware runs, each with a new CRC-32. UEFI 2.10 §4.3, §4.6."""

from __future__ import annotations

import struct

from bootbuild.api.machine import Cpu
from bootbuild.platform.uefi import status
from bootbuild.platform.uefi.call import Call
from bootbuild.platform.uefi.firmware import Firmware
from bootbuild.platform.uefi.ovmf import with_crc
from bootbuild.platform.uefi.pages import Refused

_SIZE, _CRC = 120, 16
#: offsets of ConsoleInHandle, BootServices, NumberOfTableEntries
_CONSOLES, _BOOT_SERVICES, _TABLES = 40, 96, 104
_ENTRY = struct.Struct("<16sQ")


class SystemTable:
    """The table at `firmware.system_table`."""

    def __init__(self, firmware: Firmware) -> None:
        self._firmware = firmware

    def install_configuration_table(self, call: Call) -> int:
        if not call[0]:
            raise Refused(status.INVALID_PARAMETER)
        guid, table = call.guid(0), call[1]
        raw = self._read(call.cpu)
        count, at = struct.unpack_from("<QQ", raw, _TABLES)
        found: dict[bytes, int] = dict(_ENTRY.iter_unpack(call.cpu.read_physical(at, count * _ENTRY.size)))
        if not table and guid not in found:
            raise Refused(status.NOT_FOUND)
        found[guid] = table
        packed = b"".join(_ENTRY.pack(*entry) for entry in found.items() if entry[1])
        struct.pack_into("<QQ", raw, _TABLES, len(packed) // _ENTRY.size, self._firmware.keep(packed))
        self._write(raw)
        return status.SUCCESS

    def end_boot_services(self, cpu: Cpu) -> None:
        """What led to consoles and boot services is 0 afterwards."""
        raw = self._read(cpu)
        raw[_CONSOLES : _CONSOLES + 48] = bytes(48)
        raw[_BOOT_SERVICES : _BOOT_SERVICES + 8] = bytes(8)
        self._write(raw)

    def _read(self, cpu: Cpu) -> bytearray:
        return bytearray(cpu.read_physical(self._firmware.system_table, _SIZE))

    def _write(self, raw: bytearray) -> None:
        struct.pack_into("<I", raw, _CRC, 0)
        self._firmware.put(self._firmware.system_table, with_crc(bytes(raw)))
