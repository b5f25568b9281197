"""SimpleTextOutput and SimpleTextInput: what is printed is the console, nobody types. UEFI 2.10 §12."""

from __future__ import annotations

import struct

from bootbuild.platform.uefi import guids, status
from bootbuild.platform.uefi.call import Call
from bootbuild.platform.uefi.firmware import Firmware
from bootbuild.platform.uefi.pages import Refused

_OUTPUT = (
    "Reset OutputString TestString QueryMode SetMode SetAttribute ClearScreen SetCursorPosition EnableCursor"
).split()
_INPUT = ["Reset", "ReadKeyStroke"]
_MODES = ((80, 25), (80, 50), (100, 31))  #: columns and rows
_FIRST_MODE, _GREY = 1, 7
_MODE = struct.Struct("<5i?3x")  #: and CursorVisible


class TextOutput:
    """One of the consoles that are written to; all of them end on COM1."""

    def __init__(self, firmware: Firmware, group: str) -> None:
        self._firmware = firmware
        self._mode = _FIRST_MODE
        mode = _MODE.pack(len(_MODES), self._mode, _GREY, 0, 0, True)
        self._mode_at = firmware.keep(mode)
        pointers = firmware.functions([self], group, _OUTPUT)
        self.interface = firmware.keep(pointers + struct.pack("<Q", self._mode_at))
        self.handle = firmware.keep(bytes(64))
        firmware.handles.install(self.handle, {guids.SIMPLE_TEXT_OUTPUT: self.interface})

    def reset(self, call: Call) -> int:
        return status.SUCCESS

    def output_string(self, call: Call) -> int:
        self._firmware.console += call.text(call[1]).replace("\r", "").encode("utf-8", "replace")
        return status.SUCCESS

    def test_string(self, call: Call) -> int:
        return status.SUCCESS

    def query_mode(self, call: Call) -> int:
        if call[1] >= len(_MODES):
            raise Refused(status.UNSUPPORTED)
        for pointer, value in zip((call[2], call[3]), _MODES[call[1]], strict=True):
            call.write64(pointer, value)
        return status.SUCCESS

    def set_mode(self, call: Call) -> int:
        if call[1] >= len(_MODES):
            raise Refused(status.UNSUPPORTED)
        self._mode = call[1]
        self._firmware.put(self._mode_at + 4, struct.pack("<I", self._mode))
        return status.SUCCESS

    def set_attribute(self, call: Call) -> int:
        if call[1] & ~0x7F:
            raise Refused(status.UNSUPPORTED)
        self._firmware.put(self._mode_at + 8, struct.pack("<I", call[1]))
        return status.SUCCESS

    def clear_screen(self, call: Call) -> int:
        return status.SUCCESS

    def set_cursor_position(self, call: Call) -> int:
        columns, rows = _MODES[self._mode]
        return status.SUCCESS if call[1] < columns and call[2] < rows else status.UNSUPPORTED

    def enable_cursor(self, call: Call) -> int:
        return status.SUCCESS


class TextInput:
    """The console that is read from: no key is ever pressed."""

    def __init__(self, firmware: Firmware, key_event: int) -> None:
        pointers = firmware.functions([self], "ConIn", _INPUT)
        self.interface = firmware.keep(pointers + struct.pack("<Q", key_event))
        self.handle = firmware.keep(bytes(64))
        firmware.handles.install(self.handle, {guids.SIMPLE_TEXT_INPUT: self.interface})

    def reset(self, call: Call) -> int:
        return status.SUCCESS

    def read_key_stroke(self, call: Call) -> int:
        return status.NOT_READY
