"""EFI_RNG_PROTOCOL, with numbers that are the same in every run: UEFI 2.10 §37.5, OVMF's VirtioRngDxe."""

from __future__ import annotations

import hashlib

from bootbuild.platform.uefi import guids, status
from bootbuild.platform.uefi.call import Call
from bootbuild.platform.uefi.firmware import Firmware
from bootbuild.platform.uefi.pages import Refused


class RandomNumbers:
    """The one handle that has them. There is one algorithm: raw entropy."""

    def __init__(self, firmware: Firmware) -> None:
        self._calls = 0
        interface = firmware.keep(firmware.functions([self], "Rng", ["GetInfo", "GetRNG"]))
        firmware.handles.install(firmware.keep(bytes(64)), {guids.RNG: interface})

    def get_info(self, call: Call) -> int:
        size, algorithms = call[1], call[2]
        if not call[0] or not size:
            raise Refused(status.INVALID_PARAMETER)
        room = call.read64(size)
        call.write64(size, len(guids.RNG_ALGORITHM_RAW))
        if room < len(guids.RNG_ALGORITHM_RAW):
            raise Refused(status.BUFFER_TOO_SMALL)
        if not algorithms:
            raise Refused(status.INVALID_PARAMETER)
        call.write(algorithms, guids.RNG_ALGORITHM_RAW)
        return status.SUCCESS

    def get_rng(self, call: Call) -> int:
        algorithm, size, numbers = call[1], call[2], call[3]
        if not call[0] or not size or not numbers:
            raise Refused(status.INVALID_PARAMETER)
        if algorithm and call.guid(1) != guids.RNG_ALGORITHM_RAW:
            raise Refused(status.UNSUPPORTED)
        call.check(numbers, size)
        self._calls += 1
        call.write(numbers, hashlib.shake_256(self._calls.to_bytes(8, "little")).digest(size))
        return status.SUCCESS
