"""Where a Linux's own EFI stub hands the kernel over, and what of it is not as it was given.

Up to Linux 6.5 the stub enters the decompressor in its file at the 64-bit entry, with boot_params in RSI
(arch/x86/boot/compressed/head_64.S, efi_stub_entry). Later ones, and 6.1 as it is now, unpack the kernel
themselves, and enter that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bootbuild.abi import boot_params
from bootbuild.api import Content, Cpu, Finding, Given, Load, MemoryContent, Packed, Span, holes
from bootbuild_linux import judge

_CODE = 64  #: bytes of the decompressor by which its entry is known


class Machine(judge.Memory, Protocol):
    """What is asked of it where the kernel is handed over."""

    def first_change(self, load: Load) -> int | None:
        """As `Cpu.first_change`."""


class OwnStub:
    """One run of one file, whose EFI stub runs before the decompressor."""

    def __init__(self, file: Content, packed: Packed, given: Given) -> None:
        assert packed.entry is not None
        self._file, self._packed, self._given = file, packed, given
        self._inside = packed.offset - packed.entry  #: bytes from the decompressor's entry to what it unpacks
        self._code = file.read(packed.entry, _CODE)

    def left_at(self, cpu: Cpu, address: int, code: bytes) -> int | None:
        """Where the packed kernel is, if a block (linear address, bytes) is the decompressor's first one.

        That is six bytes long, for a block ends where a segment register is loaded: what follows it tells.
        """
        size = min(len(code), _CODE)
        if code[:size] != self._code[:size]:
            return None
        physical = cpu.translate(address)
        try:
            found = physical is not None and cpu.read_physical(physical, _CODE) == self._code
        except LookupError:
            return None
        return physical + self._inside if physical is not None and found else None

    def findings(self, cpu: Machine, place: int, patches: Sequence[tuple[int, bytes]] = ()) -> list[Finding]:
        """What of the packed kernel at `place`, the command line and the ramdisk is not as it was given.

        The host has written `patches`.
        """
        at = first_change(cpu, self._file, self._packed, place)
        if at is not None and patches:
            at = first_change(cpu, self._file, self._packed, place, patches)
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


def first_change(
    cpu: Machine, file: Content, packed: Packed, place: int, patches: Sequence[tuple[int, bytes]] = ()
) -> int | None:
    """Address of the first byte that is not the packed kernel's, as the file has it but for `patches`."""
    written = [Load(place + at, MemoryContent(data), 0, len(data), len(data)) for at, data in patches]
    untouched = holes(Span(0, packed.size), [Span(at, len(data)) for at, data in patches])
    as_packed = [
        Load(place + part.start, file, packed.offset + part.start, part.size, part.size) for part in untouched
    ]
    for load in sorted([*written, *as_packed], key=lambda load: load.address):
        try:
            at = cpu.first_change(load)
        except LookupError:
            return load.address
        if at is not None:
            return at
    return None
