"""Guest `native`: the startup path takes bootbuild's own record (docs/handover.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from bootbuild.abi.handover import (
    BootType,
    Handover,
    boot_type_name,
    hypervisor_type_name,
    read_string,
)
from bootbuild.api.guest import GuestView
from bootbuild.guests.given import cmdline_fault, map_fault, module_faults
from bootbuild.guests.record import record_faults
from bootbuild.guests.rules import RULES
from bootbuild.guests.state import firmware_faults, identity_faults, ring3_faults, state_faults
from bootbuild.model.machine import Given, MapEntry
from bootbuild.model.payload import Startup
from bootbuild.model.span import Span
from bootbuild.model.verdict import Finding
from bootbuild.model.waist import Piece

_LARGE_PAGE = 2 << 20
_RULE_OF_FIELD = {
    "boot_type": "BB-H004",
    "hypervisor_type": "BB-H005",
    "hypervisor_leaf": "BB-H005",
    "data": "BB-H006",
}
_Part = tuple[str, Any, list[Finding]]  #: key and value of the report, and what is wrong with it


class Native:
    """Entered by the core's own back stubs; judged field by field."""

    name = "native"
    summary = "bootbuild's handover record (docs/handover.md)"
    widths = (32, 64)
    entered_at: Literal["linked", "physical"] = "linked"
    movable = True
    rules = RULES

    def back(self, width: int) -> Piece | None:
        from bootbuild.stubs.pieces import native

        return native(width)

    def ring3_back(self) -> Piece:
        from bootbuild.stubs.pieces import native_ring3

        return native_ring3()

    def boot_services_back(self) -> Piece:
        from bootbuild.stubs.pieces import native_boot_services

        return native_boot_services()

    def judge(
        self,
        view: GuestView,
        startup: Startup,
        given: Given,
        stub: Span | None,
        symbols: Mapping[str, int],
    ) -> tuple[Mapping[str, Any], Sequence[Finding]]:
        findings = list(_judge_cpu(view, startup, given, stub))
        try:
            boot_type, address = _arguments(view, startup)
        except LookupError:
            text = f"no arguments: the stack at {_stack(view, startup):#x} is not mapped"
            return {}, [Finding("BB-H001", text)]
        try:
            record = Handover.parse(view.read, address)
        except ValueError as reason:
            handover = {"boot_type": boot_type_name(boot_type), "record": hex(address)}
            return handover, [*findings, Finding("BB-H002", f"record at {address:#x}: {reason}")]
        if boot_type != given.boot_type:
            names = boot_type_name(boot_type), boot_type_name(given.boot_type)
            text = "boot type in the register is {}, entered as {}".format(*names)
            findings.append(Finding("BB-H004", text))
        findings += [
            Finding(_RULE_OF_FIELD.get(field, "BB-H007"), text)
            for field, text in record_faults(record, given, view, startup, stub)
        ]
        report = _scalars(address, record)
        for judge in (_judge_cmdline, _judge_map, _judge_modules):
            try:
                key, value, found = judge(record, given, view)
                report[key] = value
                findings += found or _judge_copies(record, key, stub, view)
            except ValueError as reason:
                findings.append(Finding(_RULE_OF[judge], str(reason)))
        findings += _judge_stub(record, address, stub, view)
        return report, findings


def _stack(view: GuestView, startup: Startup) -> int:
    return view.get("rsp" if startup.width == 64 else "esp")


def _arguments(view: GuestView, startup: Startup) -> tuple[int, int]:
    """(boot type, record) as the startup path's calling convention has them. LookupError without a stack."""
    if startup.width == 64:
        return view.get("edi"), view.get("rsi")
    words = view.read(view.get("esp"), 12)
    return int.from_bytes(words[4:8], "little"), int.from_bytes(words[8:12], "little")


def _judge_cpu(view: GuestView, startup: Startup, given: Given, stub: Span | None) -> list[Finding]:
    """The CPU state that docs/handover.md promises at the startup path."""
    wrong = list(_wrong_stack(view, startup))
    arguments = frozenset({"di", "si"})
    if stub is not None and given.firmware is not None:
        wrong += firmware_faults(view, arguments, given.firmware)
    elif stub is not None:
        faults = ring3_faults if _in_ring_3(given) else state_faults
        wrong += faults(view, startup.width, arguments, stub)
    elif startup.width == 64 and not _in_ring_3(given):
        wrong += identity_faults(view)
    if startup.width == 64:
        wrong += _wrong_mapping(view, startup, given, stub)
    return [Finding("BB-H003", text) for text in wrong]


def _in_ring_3(given: Given) -> bool:
    """Whether page tables and IF are the hypervisor's (docs/handover.md)."""
    return given.boot_type == BootType.XEN_PV


def _wrong_stack(view: GuestView, startup: Startup) -> Iterator[str]:
    stack = _stack(view, startup)
    if startup.width == 64 and stack % 16 != 8:
        yield f"RSP is {stack:#x}, not 8 above a multiple of 16"
    try:
        if any(view.read(stack, startup.width // 8)):
            yield f"no zero return address at the top of the stack {stack:#x}"
        if startup.width == 32 and _arguments(view, startup) != (view.get("edi"), view.get("esi")):
            yield "EDI and ESI are not the arguments on the stack"
    except LookupError:
        if startup.width == 64:  # at 32 there are no arguments either, which is said by itself
            yield f"the stack at {stack:#x} is not mapped"


def _wrong_mapping(view: GuestView, startup: Startup, given: Given, stub: Span | None) -> Iterator[str]:
    probes = {given.data, *(m.span.start for m in given.modules)}
    missing = [hex(p) for p in sorted(probes) if p < 1 << 32 and view.translate(p) != p]
    if missing and not _in_ring_3(given):
        yield f"physical {', '.join(missing)} is not identity-mapped"
    linked = startup.vaddr - startup.paddr
    pages = [startup.paddr] if stub is None else [*range(startup.paddr, stub.end, _LARGE_PAGE), stub.end - 1]
    for page in pages:
        if view.translate(page + linked) != page:
            yield f"the linked address {page + linked:#x} is not mapped to {page:#x}"
            return


def _judge_cmdline(record: Handover, given: Given, view: GuestView) -> _Part:
    cmdline = record.read_cmdline(view.read)
    wrong = cmdline_fault(cmdline, given)
    shown = None if cmdline is None else cmdline.decode("utf-8", "replace")
    return "cmdline", shown, [Finding("BB-H008", wrong)] if wrong else []


def _judge_map(record: Handover, given: Given, view: GuestView) -> _Part:
    found = [MapEntry(e.address, e.size, e.type) for e in record.read_memory_map(view.read)]
    wrong = map_fault(found, given)
    shown = [{"address": hex(e.address), "size": hex(e.size), "type": e.type} for e in found]
    return "memory_map", shown, [Finding("BB-H009", wrong)] if wrong else []


def _judge_modules(record: Handover, given: Given, view: GuestView) -> _Part:
    modules = record.read_modules(view.read)
    found = [
        (Span(m.address, m.size), read_string(view.read, m.cmdline, f"command line of module {index}"))
        for index, m in enumerate(modules)
    ]
    shown = [{"address": hex(m.address), "size": m.size} for m in modules]
    return "modules", shown, [Finding("BB-H010", text) for text in module_faults(found, given, view)]


_RULE_OF = {_judge_cmdline: "BB-H008", _judge_map: "BB-H009", _judge_modules: "BB-H010"}


def _judge_stub(record: Handover, address: int, stub: Span | None, view: GuestView) -> list[Finding]:
    """The record, its stub range and the post stub belong together."""
    if stub is None:
        return []
    wrong = []
    if (view.translate(record.stub_base), record.stub_size) != (stub.start, stub.size):
        wrong.append(f"stub range is {record.stub_base:#x}+{record.stub_size:#x}, the image's is {stub}")
    for name, value in (("the record", address), ("post_stub", record.post_stub)):
        if view.translate(value) not in _Addresses(stub):
            wrong.append(f"{name} at {value:#x} is outside the stub range {stub}")
    return [Finding("BB-H011", text) for text in wrong]


def _judge_copies(record: Handover, key: str, stub: Span | None, view: GuestView) -> list[Finding]:
    """What `key` of the report was read from: copies in the stub range, which the guest keeps."""
    field = {"cmdline": "cmdline", "memory_map": "memmap", "modules": "modules"}[key]
    copies = [(field, getattr(record, field))]
    if key == "modules":
        modules = record.read_modules(view.read)
        copies += [(f"command line of module {index}", m.cmdline) for index, m in enumerate(modules)]
    return [
        Finding("BB-H011", f"{what} at {at:#x} is outside the stub range {stub}")
        for what, at in copies
        if stub is not None and at and view.translate(at) not in _Addresses(stub)
    ]


class _Addresses:
    """A span that None is never in."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def __contains__(self, address: int | None) -> bool:
        return address is not None and address in self._span


def _scalars(address: int, record: Handover) -> dict[str, Any]:
    return {
        "boot_type": boot_type_name(record.boot_type),
        "hypervisor_type": hypervisor_type_name(record.hypervisor_type),
        "record": hex(address),
        "version": record.version,
        "data": hex(record.data),
        "rsdp": hex(record.rsdp) if record.rsdp else None,
        "post_stub": hex(record.post_stub),
        "stub": {"base": hex(record.stub_base), "size": hex(record.stub_size)},
    }
