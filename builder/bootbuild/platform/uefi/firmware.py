"""The firmware while a program runs: every function that it offers leads here, and is answered in Python."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from bootbuild.api.machine import Cpu
from bootbuild.model.content import Content, chunks
from bootbuild.model.machine import Given, Load, MapEntry, Region, RegionKind
from bootbuild.model.span import Span, align_up, holes
from bootbuild.model.verdict import Finding
from bootbuild.platform.flat32 import Poison
from bootbuild.platform.loading import RESERVED, MiB, put
from bootbuild.platform.pc import Pc
from bootbuild.platform.seabios import TCG, VENDOR
from bootbuild.platform.uefi import entry_map, rules, status
from bootbuild.platform.uefi.alive import IDT
from bootbuild.platform.uefi.call import BadPointer, Call
from bootbuild.platform.uefi.handles import Handles
from bootbuild.platform.uefi.ovmf import (
    DESCRIPTOR_SIZE,
    DESCRIPTOR_VERSION,
    FREE,
    MAP_TYPES,
    PAGE,
    MemoryType,
    Ovmf,
)
from bootbuild.platform.uefi.pages import Pages, Refused
from bootbuild.platform.uefi.pool import Pool

if TYPE_CHECKING:
    from bootbuild.platform.uefi.authentication import Authentication
    from bootbuild.platform.uefi.graphics import Graphics
    from bootbuild.platform.uefi.protection import Protection

_BOOT_CODE, _RUNTIME_CODE = 0x15F000, 0xA14000  #: bytes below the end of RAM: where the functions are
_OWN = 0xF71000  #: bytes below the end of RAM: the firmware's own structures, and all of their pages
_OWN_SIZE = 0x45D * PAGE
_SLOT = 16  #: bytes of a function's code
_VMCALL_RET = bytes.fromhex("0f01c1c3")
_PF = 14
TPL_APPLICATION = 4
# What a function may change, UEFI 2.10 §2.3.4.2
VOLATILE, SHADOW = "registers after a service", "shadow space after a service"
_SCRATCH = ("rcx", "rdx", "r8", "r9", "r10", "r11")
_SHADOW_SIZE = 0x20  #: bytes, above the return address
# What may be called once ExitBootServices was refused, UEFI 2.10 §7.4.6; and what gives up then
_STILL = frozenset(
    f"BootServices.{name}"
    for name in "AllocatePages FreePages GetMemoryMap AllocatePool FreePool ExitBootServices Exit".split()
)
_POISONED = 0xAF  #: what memory is filled with that is given out: PcdDebugClearMemoryValue


@dataclass(frozen=True)
class _Function:
    name: str  #: "BootServices.AllocatePages"
    answer: Callable[[Call], int | None] | None  #: None: it is not modelled


def _in_ram(region: Region, end: int) -> bool:
    return region.kind in (RegionKind.RAM, RegionKind.RESERVED) and region.span.start < end


def _method(name: str) -> str:
    """AllocatePages → allocate_pages, RaiseTPL → raise_tpl."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


class Firmware(Pc):
    """OVMF on a machine with this memory; `poison` of this run in what it gives out.

    Until the run begins, what is `put` into memory is one of `loads`; afterwards it is written.
    """

    def __init__(self, machine: Ovmf, poison: Poison) -> None:
        super().__init__(pm1_control=0x604, hypervisor=TCG, vendor=VENDOR)
        self.machine = machine
        self.poison = poison
        self.pages = Pages(entry_map.descriptors(machine), machine.memory - entry_map.USUAL_END)
        self.pool = Pool(self.pages, self.gave)
        self.handles = Handles()
        self.loads: list[Load] = []
        #: by handle: what it has behind its own path, asked for by boot policy or not
        self.files: dict[int, Callable[[tuple[bytes, ...], bool], Content | None]] = {}
        self.exited = False
        self.protection: Protection | None = None
        self.authentication: Authentication | None = None
        self.graphics: Graphics | None = None
        self.given_out: list[Span] = []  #: the program, and what it got, in this order
        self.idt = machine.memory - IDT
        self.last_map = Span(0, 0)  #: where the program has the memory map
        self.exits_refused = 0
        self.tpl = TPL_APPLICATION
        self._lent: list[Span] = []  #: before the run
        self._cpu: Cpu | None = None
        self._functions: dict[int, _Function] = {}
        self._ends = {
            "boot": machine.memory - _BOOT_CODE,
            "runtime": machine.memory - _RUNTIME_CODE,
            "own": machine.memory - _OWN,
        }

    # -- what is there before the run ------------------------------------------------------------------

    def reserve(self, size: int, align: int = 8) -> int:
        """The address of memory for a structure of the firmware's own. Raises Refused without room."""
        at = align_up(self._ends["own"], align)
        if at + size > self.machine.memory - _OWN + _OWN_SIZE:
            raise Refused(status.OUT_OF_RESOURCES)
        self._ends["own"] = at + size
        return at

    def keep(self, data: bytes) -> int:
        """Put a structure of the firmware's own somewhere; its address. Raises Refused without room."""
        at = self.reserve(len(data))
        self.put(at, data)
        return at

    def lend(self, data: bytes) -> int:
        """The same for one that programs may change: it has whole pages to itself."""
        span = Span(self.reserve(align_up(len(data), PAGE), PAGE), align_up(len(data), PAGE))
        self.put(span.start, data)
        if self._cpu is None:
            self._lent.append(span)
        else:
            self._cpu.retype(span, RegionKind.RAM)
        return span.start

    def functions(
        self,
        parts: Sequence[object],
        group: str,
        names: Iterable[str],
        where: Literal["boot", "runtime"] = "boot",
    ) -> bytes:
        """Pointers to the functions of a table; 0 for one without a name.

        A function is a method of one of `parts`, by its name in lower case, and takes a `Call`.
        """
        pointers = []
        for name in names:
            if not name:
                pointers.append(0)
                continue
            at = self._ends[where]
            self._ends[where] = at + _SLOT
            method = next((found for part in parts if (found := getattr(part, _method(name), None))), None)
            self._functions[at] = _Function(f"{group}.{name}", method)
            self.put(at, _VMCALL_RET.ljust(_SLOT, b"\xcc"))
            pointers.append(at)
        return struct.pack(f"<{len(pointers)}Q", *pointers)

    def put(self, address: int, data: bytes | bytearray) -> None:
        """Write as the firmware, at a physical address. `data` must not change any more."""
        self.load(put(address, data))

    def load(self, load: Load) -> None:
        """Put a part of a content somewhere, and zeros behind it."""
        if self._cpu is None:
            self.loads.append(load)
            return
        at = load.address
        for part in chunks(load.content, load.offset, load.size):
            self._cpu.write_physical(at, bytes(part))
            at += len(part)
        self._cpu.write_physical(at, bytes(load.memsz - load.size))

    @property
    def system_table(self) -> int:
        """Physical address of the EFI_SYSTEM_TABLE."""
        return self.machine.system_table

    def regions(self, stack: Span) -> tuple[Region, ...]:
        """What answers at which address, when the run begins. `stack`: the program's."""
        own = frozenset({MemoryType.LOADER_CODE, MemoryType.LOADER_DATA})
        free = [span for span, kind in self.pages if kind == MemoryType.CONVENTIONAL]
        ours = [stack, *self._lent, *(span for span, kind in self.pages if kind in own)]
        end = self.machine.memory
        rest = [Span(0, 0xA0000), Span(MiB, end - MiB)]
        firmwares = [hole for span in rest for hole in holes(span, [*ours, *free])]
        return (
            *(Region(span, RegionKind.RAM) for span in ours),
            *(Region(span, RegionKind.FREE) for span in free),
            *(Region(span, RegionKind.RESERVED) for span in firmwares),
            *(
                region
                for region in self.machine.regions
                if region.span not in rest and not _in_ram(region, end)
            ),
            *((self.graphics.region,) if self.graphics else ()),
        )

    # -- for who judges the run -------------------------------------------------------------------------

    def handed(self, given: Given) -> Given:
        """The screen, and the map in its normal form; no map while the boot services live, whose it is."""
        given = replace(given, framebuffer=self.graphics.framebuffer if self.graphics else None)
        if not self.exited:
            return given
        entries: list[MapEntry] = []
        for span, kind in self.pages:
            what = MAP_TYPES.get(kind, RESERVED)
            if entries and entries[-1].type == what and entries[-1].address + entries[-1].size == span.start:
                entries[-1] = replace(entries[-1], size=entries[-1].size + span.size)
            else:
                entries.append(MapEntry(span.start, span.size, what))
        return replace(
            given,
            memory_map=tuple(entries),
            efi_memmap=self.last_map,
            efi_memmap_descriptor_size=DESCRIPTOR_SIZE,
            efi_memmap_descriptor_version=DESCRIPTOR_VERSION,
            firmware=None,
        )

    def faults(self) -> Sequence[Finding]:
        """ExitBootServices was refused, and the program went on all the same."""
        if self.exited or not self.exits_refused:
            return ()
        text = "ExitBootServices was refused, and boot services still live at the startup path"
        return (Finding(rules.MAP_KEY.id, text),)

    def steady(self, address: int) -> int:
        """In the program, or in what it was given: the same, wherever that lies."""
        for number, span in enumerate(self.given_out):
            if address in span:
                return (number + 1 << 48) + address - span.start
        return address

    # -- while it runs ---------------------------------------------------------------------------------

    def hypercall(self, cpu: Cpu, instruction: Literal["vmcall", "vmmcall"]) -> bool:
        function = self._functions.get(cpu.get("rip"))
        if function is None:
            return super().hypercall(cpu, instruction)
        self._cpu = cpu
        self._serve(function, Call(cpu, function.name))
        return True

    def _serve(self, function: _Function, call: Call) -> None:
        cpu = call.cpu
        living = function.name.startswith(("RuntimeServices.", "Program."))
        if self.exited and not living:
            cpu.stop(
                "crash", f"{function.name} was called, and boot services have ended", rules.AFTER_EXIT.id
            )
            return
        if self.exits_refused and not living and function.name not in _STILL:
            text = f"{function.name} was called, and ExitBootServices was refused before"
            cpu.stop("crash", text, rules.HALF_EXIT.id)
            return
        if cpu.get("rsp") % 16 != 8 and not function.name.startswith("Program."):
            text = f"{function.name} was called with RSP at {cpu.get('rsp') + 8:#x}, no multiple of 16"
            cpu.stop("crash", text, rules.STACK.id)
            return
        if function.answer is None:
            text = f"{function.name} was called, which is not modelled: EFI_UNSUPPORTED"
            cpu.record("boot service", text)
            self._return(call, status.UNSUPPORTED)
            return
        try:
            result = function.answer(call)
        except Refused as refused:
            result = refused.code
        except BadPointer as bad:
            cpu.stop("crash", f"{function.name}: {bad}", rules.BAD_POINTER.id)
            return
        if result is not None:
            self._return(call, result)

    def _return(self, call: Call, result: int) -> None:
        """Back to the caller, whose scratch registers and shadow space the function has made use of."""
        call.cpu.set("rax", result)
        for number, name in enumerate(_SCRATCH):
            exact = call.cpu.get(name)
            left = self.poison.pick(VOLATILE, exact, 0xDEAD0010 + number, 0x5EED0202 * (number + 1))
            if left != exact:
                call.cpu.set(name, left)
        if SHADOW in self.poison.names:
            call.write(call.cpu.get("rsp") + 8, self.poison.garbage(_SHADOW_SIZE))

    def unmodelled(self, call: Call, what: str) -> int:
        """Answer what this firmware does not know, and note it."""
        call.cpu.record("boot service", f"{call.name}: {what}, which is not modelled: EFI_UNSUPPORTED")
        return status.UNSUPPORTED

    @property
    def running(self) -> bool:
        """Whether the program has begun."""
        return self._cpu is not None

    def gave(self, span: Span, kind: int) -> None:
        """Pages that the program gets, and may write from now on."""
        self.given_out.append(span)
        if self._cpu is not None:
            self._cpu.retype(span, RegionKind.RAM)
        if self.protection is not None:
            self.protection.allocated(span, kind)

    def took(self, span: Span) -> None:
        """Pages that the program has given back."""
        if self._cpu is not None:
            self._cpu.retype(span, RegionKind.FREE)
        if self.protection is not None:
            self.protection.freed(span)

    def exception(self, cpu: Cpu, vector: int, error_code: int) -> bool:
        """While the firmware's IDT is in force it is told, and the machine stands still."""
        if cpu.get("idtr") != self.idt:
            return False
        address = cpu.get("cr2")
        why = self.protection.denied(address, error_code) if self.protection and vector == _PF else ""
        if why:
            cpu.stop("crash", f"{why}, which the firmware's page tables do not allow", rules.PROTECTED.id)
        else:
            text = f"exception {vector} with error code {error_code:#x} came to the firmware"
            text += f", by an access to {address:#x}" if vector == _PF else ""
            cpu.stop("crash", text, rules.EXCEPTION.id)
        return True

    def end_boot_services(self, cpu: Cpu) -> None:
        """All that is not kept for good is the program's."""
        self.exited = True
        spans: list[Span] = []
        for span, kind in self.pages:
            if kind not in FREE:
                continue
            if spans and spans[-1].end == span.start:
                spans[-1] = Span(spans[-1].start, spans[-1].size + span.size)
            else:
                spans.append(span)
        for span in spans:
            cpu.retype(span, RegionKind.RAM)

    def garbage(self, span: Span) -> bytes:
        """What a program finds in memory that it gets: as OVMF leaves it, or this run's garbage."""
        return self.poison.garbage(span.size) if self.poison.memory else bytes([_POISONED]) * span.size
