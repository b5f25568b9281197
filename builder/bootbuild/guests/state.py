"""The CPU as our back stubs leave it to a kernel, whatever its protocol says beside (docs/handover.md)."""

from __future__ import annotations

from collections.abc import Iterator

from bootbuild.api.guest import GuestView
from bootbuild.model.machine import EntryState, TableRegister
from bootbuild.model.span import Span

STACK_SIZE = 0x4000  #: bytes, BB_STACK_SIZE of waist.h
_ARGUMENTS = 32  #: bytes at its top that return address, arguments and alignment may take
_GENERAL = ("ax", "bx", "cx", "dx", "si", "di", "bp")
_ONLY_64 = tuple(f"r{number}" for number in range(8, 16))
_DF, _IF = 1 << 10, 1 << 9
_SEGMENTS = ("cs", "ds", "es", "ss", "fs", "gs")
_ET = 1 << 4  #: hard-wired in every CPU with long mode, whatever a monitor says
# CR0.PE and PG, CR4.PAE, EFER.LME and LMA: SDM volume 3, 2.5 and 2.2.1
_CONTROL = {32: {"cr0": 0x1, "cr4": 0, "efer": 0}, 64: {"cr0": 0x80000001, "cr4": 0x20, "efer": 0x500}}


def state_faults(view: GuestView, width: int, arguments: frozenset[str], stub: Span) -> Iterator[str]:
    """What of the state is not as every back leaves it, in words.

    `arguments`: the registers that its protocol uses, "di" for RDI at width 64 and EDI at 32. `stub`: the
    physical range of the inserted stubs, in which table and stack lie.
    """
    yield from _registers(view, width, arguments)
    if (flags := view.get("rflags")) != 2:
        yield f"RFLAGS is {flags:#x}, not 2"
    for name, expected in _CONTROL[width].items():
        value = view.get(name)
        if value & ~(_ET if name == "cr0" else 0) != expected:
            yield f"{name.upper()} is {value:#x}, not {expected:#x}"
    if limit := view.get("idtr_limit"):
        yield f"the IDT has limit {limit:#x}, not 0"
    last = max(view.get(name) | 7 for name in _SEGMENTS)
    if last > view.get("gdtr_limit"):
        yield f"the GDT has limit {view.get('gdtr_limit'):#x}, a selector's entry ends at {last:#x}"
    if not _inside(view, view.get("gdtr"), stub):
        yield f"the GDT at {view.get('gdtr'):#x} is outside the stub range {stub}"
    yield from _stack(view, width, stub)
    if width == 64:
        yield from identity_faults(view)


def ring3_faults(view: GuestView, width: int, arguments: frozenset[str], stub: Span) -> Iterator[str]:
    """The same where tables, control registers and IF are a hypervisor's: in ring 3, under Xen PV."""
    yield from _registers(view, width, arguments)
    if view.get("rflags") & _DF:
        yield "RFLAGS.DF is set"
    if (selector := view.get("cs")) & 3 != 3:
        yield f"CS is {selector:#x}, which is not of ring 3"
    yield from _stack(view, width, stub)


def firmware_faults(view: GuestView, arguments: frozenset[str], left: EntryState) -> Iterator[str]:
    """The same beside EFI boot services: tables, control registers and IF are as the firmware `left` them.

    CR3 may lead to a copy of the firmware's top table: what it maps one to one is looked at.
    """
    yield from _registers(view, 64, arguments)
    flags = view.get("rflags")
    if flags & _DF:
        yield "RFLAGS.DF is set"
    if not flags & _IF:
        yield "RFLAGS.IF is clear, and the firmware's timer stands still"
    found = {name: view.get(name) for name in ("cr0", "cr4", "efer")}
    kept = {"cr0": left.cr0, "cr4": left.cr4, "efer": left.efer}
    for name in ("gdtr", "idtr"):
        table: TableRegister = getattr(left, name)
        found |= {name: view.get(name), f"{name}_limit": view.get(f"{name}_limit")}
        kept |= {name: table.base, f"{name}_limit": table.limit}
    for name in _SEGMENTS:
        found[name], kept[name] = view.get(name), getattr(left, name).selector
    for name, value in found.items():
        if value != kept[name]:
            yield f"{name.upper()} is {value:#x}, the firmware left {kept[name]:#x}"
    yield from identity_faults(view)


def _registers(view: GuestView, width: int, arguments: frozenset[str]) -> Iterator[str]:
    for stem in _GENERAL if width == 32 else _GENERAL + _ONLY_64:
        name = stem if stem in _ONLY_64 else f"{'r' if width == 64 else 'e'}{stem}"
        if stem not in arguments and (value := view.get(name)):
            yield f"{name.upper()} is {value:#x}, not 0"


def _stack(view: GuestView, width: int, stub: Span) -> Iterator[str]:
    top = view.get("rsp" if width == 64 else "esp")
    bottom = top - (STACK_SIZE - _ARGUMENTS)
    if not (_inside(view, top, stub) and _inside(view, bottom, stub)):
        yield f"the stack from {bottom:#x} to {top:#x} is outside the stub range {stub}"


def identity_faults(view: GuestView) -> Iterator[str]:
    """Whether the first 4 GiB are mapped one to one: the first and the last page of each."""
    pages = [at for gib in range(0, 1 << 32, 1 << 30) for at in (gib, gib + (1 << 30) - 0x1000)]
    if missing := [hex(page) for page in pages if view.translate(page) != page]:
        yield f"physical {', '.join(missing)} is not identity-mapped"


def _inside(view: GuestView, address: int, stub: Span) -> bool:
    physical = view.translate(address)
    return physical is not None and physical in stub
