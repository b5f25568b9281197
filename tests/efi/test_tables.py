"""UEFI's tables, as they stand before a run where Multiboot2 enters a kernel: UEFI 2.10 §4.2 to §4.5."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import pytest

from bootbuild.model.machine import Load
from bootbuild.platform.uefi import alive
from bootbuild.platform.uefi.ovmf import Ovmf

MACHINE = Ovmf(512 << 20)
SERVICES_AT = 88  #: offset of RuntimeServices in EFI_SYSTEM_TABLE; BootServices follow


@pytest.mark.parametrize("loads", [MACHINE.tables(), alive.tables(MACHINE)], ids=["ended", "alive"])
def test_each_table_has_its_checksum_and_all_functions(loads: Sequence[Load]) -> None:
    memory = {load.address: load.content.read(load.offset, load.size) for load in loads}
    system = memory[MACHINE.system_table]
    runtime, boot = struct.unpack_from("<2Q", system, SERVICES_AT)
    services = [memory[at] for at in (runtime, boot) if at]
    for table in (system, *services):
        size, checksum = struct.unpack_from("<2I", table, 12)
        assert size == len(table)
        assert checksum == zlib.crc32(table[:16] + bytes(4) + table[20:])
    functions = [address for table in services for (address,) in struct.iter_unpack("<Q", table[24:])]
    assert len(functions) == (14 + 44 if boot else 14)
    assert all(any(at <= address < at + len(code) for at, code in memory.items()) for address in functions)
