"""Firmware that protects memory: page tables by 4 KiB, and EFI_MEMORY_ATTRIBUTE_PROTOCOL. UEFI 2.10 §37.6.

No page of a program is writable and executable: an image's code is read-only, all else is not executable,
as MdeModulePkg/Core/Dxe/Misc/MemoryProtection.c has it. Whether memory that is allocated as code may be
executed depends on the firmware: one without the protocol could never allow it otherwise.
"""

from __future__ import annotations

import struct
from array import array

from bootbuild.model.machine import Load
from bootbuild.model.span import Span, align_up
from bootbuild.platform.loading import GiB, MiB, put
from bootbuild.platform.uefi import guids, status
from bootbuild.platform.uefi.alive import TOP_TABLE
from bootbuild.platform.uefi.call import Call
from bootbuild.platform.uefi.firmware import Firmware
from bootbuild.platform.uefi.ovmf import PAGE, MemoryType
from bootbuild.platform.uefi.pages import Refused
from bootbuild.platform.uefi.pe_image import SCN_EXECUTE, SCN_WRITE, PeImage

READ_PROTECT, NO_EXECUTE, READ_ONLY = 0x2000, 0x4000, 0x20000  #: EFI_MEMORY_RP, XP, RO
_PRESENT, _WRITE, _NX = 1, 2, 1 << 63
_USED = 0x60  #: accessed and dirty
_LARGE = 0x80
_ENTRIES = 512
_CODE = frozenset({MemoryType.BOOT_SERVICES_CODE, MemoryType.RUNTIME_CODE})
_FUNCTIONS = ["GetMemoryAttributes", "SetMemoryAttributes", "ClearMemoryAttributes"]


class Protection:
    """The page tables of RAM: a flat array of entries behind the upper levels. Addresses physical."""

    def __init__(self, firmware: Firmware, *, protocol: bool) -> None:
        """`protocol`: it can be changed; otherwise memory that is allocated as code is executable at once."""
        self._firmware = firmware
        self._protocol = protocol
        memory = firmware.machine.memory
        self._directories = align_up(memory, GiB) // GiB
        self._top = memory - TOP_TABLE
        self._tables = self._top + (2 + self._directories) * PAGE
        flags = _PRESENT | _WRITE | _USED | _NX
        self._entries = array("Q", range(flags, flags + memory, PAGE))
        for span, kind in firmware.pages:
            if kind in _CODE:
                self._set(span, writable=False, executable=True)
        if protocol:
            interface = firmware.keep(firmware.functions([self], "MemoryAttribute", _FUNCTIONS))
            firmware.handles.install(firmware.keep(bytes(64)), {guids.MEMORY_ATTRIBUTE: interface})

    def loads(self) -> tuple[Load, ...]:
        """All levels, as the run finds them."""
        large = _PRESENT | _WRITE | _USED | _LARGE | _NX
        upper = [self._top + (2 + i) * PAGE | _PRESENT | _WRITE | _USED for i in range(self._directories)]
        upper += [gib * GiB | large for gib in range(self._directories, _ENTRIES)]
        lower = [
            self._tables + i * PAGE | _PRESENT | _WRITE | _USED for i in range(len(self._entries) // _ENTRIES)
        ]
        lower += [
            at | large for at in range(len(lower) * 2 * MiB, self._directories * GiB, 2 * MiB)
        ]  # above the end of RAM
        top = struct.pack("<Q", self._top + PAGE | _PRESENT | _WRITE | _USED).ljust(PAGE, b"\0")
        levels = top + struct.pack(f"<{_ENTRIES}Q", *upper) + struct.pack(f"<{len(lower)}Q", *lower)
        return put(self._top, levels), put(self._tables, self._entries.tobytes())

    def image(self, image: PeImage, span: Span) -> None:
        """A program that was loaded: code read-only, if its sections are made of pages; else nothing runs.

        Code is what is executable and not writable.
        """
        self._set(span, writable=True, executable=False)
        if image.section_alignment % PAGE or any(section.rva % PAGE for section in image.sections):
            return
        for section in image.sections:
            if section.flags & (SCN_EXECUTE | SCN_WRITE) == SCN_EXECUTE:
                code = Span(span.start + section.rva, align_up(section.span.size, PAGE))
                self._set(code, writable=False, executable=True)

    def allocated(self, span: Span, kind: int) -> None:
        """Pages that a program was given."""
        code = kind in (MemoryType.LOADER_CODE, *_CODE)
        self._set(span, writable=True, executable=code and not self._protocol)

    def freed(self, span: Span) -> None:
        """Pages that are nobody's again."""
        self._set(span, writable=True, executable=False)

    def denied(self, address: int, code: int) -> str:
        """Why an access faulted, in words, by the error code of #PF; "" where it was not for this."""
        index = address // PAGE
        if index >= len(self._entries):
            return ""
        if code & 0x10 and self._entries[index] & _NX:
            return f"code at {address:#x} is in a page that is not executable"
        if code & 2 and not self._entries[index] & _WRITE:
            return f"a write to {address:#x}, in a page that is read-only"
        return ""

    def _set(self, span: Span, *, writable: bool, executable: bool) -> None:
        flags = _PRESENT | _USED | (_WRITE if writable else 0) | (0 if executable else _NX)
        first, last = span.start // PAGE, span.end // PAGE
        self._write(first, array("Q", (page * PAGE | flags for page in range(first, last))))

    def _write(self, first: int, entries: array[int]) -> None:
        self._entries[first : first + len(entries)] = entries
        if self._firmware.running:
            self._firmware.put(self._tables + 8 * first, entries.tobytes())

    # -- the protocol ----------------------------------------------------------------------------------

    def _range(self, call: Call) -> range:
        base, length = call[1], call[2]
        if not length:
            raise Refused(status.INVALID_PARAMETER)
        if base % PAGE or length % PAGE or (base + length) // PAGE > len(self._entries):
            raise Refused(status.UNSUPPORTED)
        return range(base // PAGE, (base + length) // PAGE)

    def get_memory_attributes(self, call: Call) -> int:
        if not call[3]:
            raise Refused(status.INVALID_PARAMETER)
        found = {_attributes(self._entries[page]) for page in self._range(call)}
        if len(found) > 1:
            raise Refused(status.NO_MAPPING)
        call.write64(call[3], found.pop())
        return status.SUCCESS

    def set_memory_attributes(self, call: Call) -> int:
        return self._change(call, wanted=True)

    def clear_memory_attributes(self, call: Call) -> int:
        return self._change(call, wanted=False)

    def _change(self, call: Call, *, wanted: bool) -> int:
        pages, mask = self._range(call), call[3]
        if not mask or mask & ~(READ_PROTECT | NO_EXECUTE | READ_ONLY):
            raise Refused(status.INVALID_PARAMETER)
        entries = array("Q")
        for page in pages:
            now = _attributes(self._entries[page])
            now = now | mask if wanted else now & ~mask
            if not now & (NO_EXECUTE | READ_ONLY):
                raise Refused(status.ACCESS_DENIED)  # it would be writable and executable
            flags = (0 if now & READ_PROTECT else _PRESENT) | (0 if now & READ_ONLY else _WRITE)
            entries.append(page * PAGE | _USED | flags | (_NX if now & NO_EXECUTE else 0))
        self._write(pages.start, entries)
        return status.SUCCESS


def _attributes(entry: int) -> int:
    return (
        (0 if entry & _PRESENT else READ_PROTECT)
        | (NO_EXECUTE if entry & _NX else 0)
        | (0 if entry & _WRITE else READ_ONLY)
    )
