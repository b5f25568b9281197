"""Where a Linux's own EFI stub hands the kernel over, and what of it is not as it was given.

Up to Linux 6.5 the stub enters the decompressor in its file at the 64-bit entry, with boot_params in RSI
(arch/x86/boot/compressed/head_64.S, efi_stub_entry). Later ones, and 6.1 as it is now, unpack the kernel
themselves, and enter that.
"""

from __future__ import annotations

from collections.abc import Sequence

from bootbuild.abi import boot_params
from bootbuild.api import Content, Finding, Given, Packed
from bootbuild_linux import judge

_CODE = 64  #: bytes of the decompressor by which its entry is known


class OwnStub:
    """One run of one file, whose EFI stub runs before the decompressor."""

    def __init__(self, file: Content, packed: Packed, given: Given) -> None:
        assert packed.entry is not None
        self._file, self._packed, self._given = file, packed, given
        self._inside = packed.offset - packed.entry  #: bytes from the decompressor's entry to what it unpacks
        self._code = file.read(packed.entry, _CODE)
        self._entry = 0

    def is_left(self, cpu: judge.Memory, physical: int, code: bytes) -> bool:
        """Whether a block (physical address, bytes) is the decompressor's first one.

        That is six bytes long, for a block ends where a segment register is loaded: what follows it tells.
        """
        size = min(len(code), _CODE)
        if code[:size] != self._code[:size]:
            return False
        try:
            found = cpu.read_physical(physical, _CODE) == self._code
        except LookupError:
            return False
        self._entry = physical if found else self._entry
        return found

    def findings(self, cpu: judge.Memory, patches: Sequence[tuple[int, bytes]]) -> list[Finding]:
        """What of kernel, command line and ramdisk is not as it was given. The host has written `patches`."""
        at = self._first_change(cpu, patches)
        wrong = [] if at is None else [Finding("BB-B091", f"the byte at {at:#x} is not the packed kernel's")]
        page = cpu.get("rsi")
        try:
            params = boot_params.parse(cpu.read_physical(page, boot_params.SIZE))
        except LookupError:
            text = f"boot_params would be at {page:#x}, which is not memory"
            return [*wrong, Finding("BB-H020", f"where the EFI stub hands over {text}")]
        except ValueError as reason:
            return [*wrong, Finding("BB-H020", f"where the EFI stub hands over {reason}")]
        cmdline = judge.string(cpu, params.cmd_line_ptr)
        return [
            *wrong,
            *judge.cmdline(cmdline, params, self._given),
            *judge.ramdisk(cpu, params, self._given),
        ]

    def _first_change(self, cpu: judge.Memory, patches: Sequence[tuple[int, bytes]]) -> int | None:
        packed, place = self._packed, self._entry + self._inside
        expected = self._file.read(packed.offset, packed.size)
        try:
            found = bytearray(cpu.read_physical(place, packed.size))
        except LookupError:
            return place
        for offset, data in patches:
            end = offset + len(data)
            if found[offset:end] == data:
                found[offset:end] = expected[offset:end]
        if found == expected:
            return None
        return place + next(
            i for i, pair in enumerate(zip(expected, found, strict=True)) if pair[0] != pair[1]
        )
