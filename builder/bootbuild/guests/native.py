"""Guest `native`: the startup path takes bootbuild's own record (docs/handover.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from bootbuild.abi.handover import Handover, boot_type_name, hypervisor_type_name
from bootbuild.api.guest import GuestView
from bootbuild.guests.rules import RULES
from bootbuild.model.machine import Given
from bootbuild.model.payload import Startup
from bootbuild.model.span import Span
from bootbuild.model.verdict import Finding
from bootbuild.model.waist import Piece

T = TypeVar("T")

_EFER_LMA = 1 << 10
_IF, _DF = 1 << 9, 1 << 10
_CHUNK = 1 << 20


class Native:
    """Entered by the core's own back stubs; judged field by field."""

    name = "native"
    summary = "bootbuild's handover record (docs/handover.md)"
    widths = (32, 64)
    rules = RULES

    def back(self, width: int) -> Piece | None:
        from bootbuild.stubs.pieces import native

        return native(width)

    def judge(
        self,
        view: GuestView,
        startup: Startup,
        given: Given,
        stub: Span | None,
        symbols: Mapping[str, int],
    ) -> tuple[Mapping[str, Any], Sequence[Finding]]:
        findings = list(_judge_cpu(view, startup, given))
        try:
            boot_type, address = _arguments(view, startup)
        except LookupError:
            return {}, [
                *findings,
                Finding("BB-H001", f"no arguments: the stack at {_stack(view, startup):#x} is not mapped"),
            ]
        try:
            record = Handover.parse(view.read, address)
        except (LookupError, ValueError) as reason:
            text = f"no record at {address:#x}: {reason}"
            return {"boot_type": boot_type, "record": hex(address)}, [*findings, Finding("BB-H002", text)]
        found = _Found(view, record)
        findings += _judge_pair(boot_type, record, given)
        findings += _judge_fields(record, given)
        findings += _judge_map(found, given)
        findings += _judge_modules(found, given)
        findings += _judge_stub(record, address, stub, view)
        return _report(boot_type, address, record, found), findings


class _Found:
    """What the record points to, read once; an unreadable thing is None."""

    def __init__(self, view: GuestView, record: Handover) -> None:
        self.record = record
        self.view = view
        self.cmdline = self._string(record.cmdline)
        self.memory_map = _try(lambda: record.read_memory_map(view.read))
        self.modules = _try(lambda: record.read_modules(view.read))

    def _string(self, address: int) -> bytes | None:
        if not address:
            return b""
        data = bytearray()
        try:
            while len(data) < 65536:
                part = self.view.read(address + len(data), 64)
                data += part
                if 0 in part:
                    return bytes(data[: data.index(0)])
        except LookupError:
            pass
        return None

    def string(self, address: int) -> bytes | None:
        """A NUL-terminated string of at most 64 KiB; b"" for address 0."""
        return self._string(address)


def _try(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except (LookupError, ValueError):
        return None


def _stack(view: GuestView, startup: Startup) -> int:
    return view.get("rsp" if startup.width == 64 else "esp")


def _arguments(view: GuestView, startup: Startup) -> tuple[int, int]:
    """(boot type, record) as the startup path's calling convention has them. LookupError without a stack."""
    if startup.width == 64:
        return view.get("edi"), view.get("rsi")
    words = view.read(view.get("esp"), 12)
    return int.from_bytes(words[4:8], "little"), int.from_bytes(words[8:12], "little")


def _judge_cpu(view: GuestView, startup: Startup, given: Given) -> list[Finding]:
    """The CPU state that docs/handover.md promises at the startup path."""
    wrong = [*_wrong_mode(view, startup), *_wrong_stack(view, startup)]
    if startup.width == 64:
        wrong += _wrong_mapping(view, startup, given)
    return [Finding("BB-H003", text) for text in wrong]


def _wrong_mode(view: GuestView, startup: Startup) -> Iterator[str]:
    long_mode = bool(view.get("efer") & _EFER_LMA)
    if long_mode != (startup.width == 64):
        yield f"the CPU is {'' if long_mode else 'not '}in long mode at a {startup.width}-bit startup path"
    if startup.width == 32 and view.get("cr0") >> 31:
        yield "paging is on"
    flags = view.get("rflags")
    for mask, name in ((_IF, "IF"), (_DF, "DF")):
        if flags & mask:
            yield f"RFLAGS.{name} is set"


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
        yield f"the stack at {stack:#x} is not mapped"


def _wrong_mapping(view: GuestView, startup: Startup, given: Given) -> Iterator[str]:
    probes = {0x1000, given.data, *(m.span.start for m in given.modules), 0xFFFFF000}
    missing = [hex(p) for p in sorted(probes) if p < 1 << 32 and view.translate(p) != p]
    if missing:
        yield f"physical {', '.join(missing)} is not identity-mapped"
    if view.translate(startup.vaddr) != startup.paddr:
        yield f"the startup path's linked address {startup.vaddr:#x} is not mapped to {startup.paddr:#x}"


def _judge_pair(boot_type: int, record: Handover, given: Given) -> list[Finding]:
    entered = boot_type_name(given.boot_type)
    findings = [
        Finding("BB-H004", f"boot type in the {where} is {boot_type_name(value)}, entered as {entered}")
        for where, value in (("register", boot_type), ("record", record.boot_type))
        if value != given.boot_type
    ]
    if record.hypervisor_type != given.hypervisor_type:
        findings.append(
            Finding(
                "BB-H005",
                f"hypervisor type is {hypervisor_type_name(record.hypervisor_type)}, "
                f"underneath is {hypervisor_type_name(given.hypervisor_type)}",
            )
        )
    return findings


def _judge_fields(record: Handover, given: Given) -> list[Finding]:
    findings = []
    if record.data != given.data:
        findings.append(
            Finding("BB-H006", f"data is {record.data:#x}, the environment's structure is at {given.data:#x}")
        )
    for name, value, offered in (
        ("rsdp", record.rsdp, given.rsdp),
        ("efi_system_table", record.efi_system_table, given.efi_system_table),
        ("env_memmap", record.env_memmap, given.native_map.start),
    ):
        if value != offered:
            findings.append(Finding("BB-H007", f"{name} is {value:#x}, the environment gave {offered:#x}"))
    return findings


def _judge_map(found: _Found, given: Given) -> list[Finding]:
    findings = []
    if found.cmdline is None:
        findings.append(Finding("BB-H008", f"command line at {found.record.cmdline:#x} cannot be read"))
    elif found.cmdline != given.cmdline:
        findings.append(
            Finding("BB-H008", f"command line is {found.cmdline!r}, the environment gave {given.cmdline!r}")
        )
    offered = sorted((e.address, e.size, e.type) for e in given.memory_map)
    if found.memory_map is None:
        findings.append(Finding("BB-H009", f"memory map at {found.record.memmap:#x} cannot be read"))
    else:
        got = [(e.address, e.size, e.type) for e in found.memory_map]
        if got != offered:
            findings.append(Finding("BB-H009", _map_difference(got, offered)))
    return findings


def _map_difference(got: Sequence[tuple[int, int, int]], offered: Sequence[tuple[int, int, int]]) -> str:
    if len(got) != len(offered):
        return f"memory map has {len(got)} entries, the environment gave {len(offered)}"
    for index, (a, b) in enumerate(zip(got, offered, strict=True)):
        if a != b:
            return f"memory map entry {index} is {_entry(a)}, the environment gave {_entry(b)}"
    return "memory map differs"  # unreachable: called on a difference


def _entry(entry: tuple[int, int, int]) -> str:
    return f"{entry[0]:#x}+{entry[1]:#x} type {entry[2]}"


def _judge_modules(found: _Found, given: Given) -> list[Finding]:
    if found.modules is None:
        return [Finding("BB-H010", f"module list at {found.record.modules:#x} cannot be read")]
    if len(found.modules) != len(given.modules):
        return [
            Finding("BB-H010", f"{len(found.modules)} modules, the environment gave {len(given.modules)}")
        ]
    findings = []
    for index, (module, offered) in enumerate(zip(found.modules, given.modules, strict=True)):
        if module.size != offered.span.size:
            text = f"module {index} has {module.size} bytes, the environment gave {offered.span.size}"
        elif _digest(found.view, module.address, module.size) != offered.digest:
            text = f"module {index} at {module.address:#x} does not hold the bytes that the environment gave"
        elif (own := found.string(module.cmdline)) != offered.cmdline:
            text = f"module {index} has command line {own!r}, the environment gave {offered.cmdline!r}"
        else:
            continue
        findings.append(Finding("BB-H010", text))
    return findings


def _digest(view: GuestView, address: int, size: int) -> str:
    state = hashlib.sha256()
    try:
        for offset in range(0, size, _CHUNK):
            state.update(view.read(address + offset, min(_CHUNK, size - offset)))
    except LookupError:
        return ""
    return state.hexdigest()


def _judge_stub(record: Handover, address: int, stub: Span | None, view: GuestView) -> list[Finding]:
    """The record, its stub range and the post stub belong together."""
    if stub is None:
        return []
    wrong = []
    if (record.stub_base, record.stub_size) != (stub.start, stub.size):
        wrong.append(f"stub range is {record.stub_base:#x}+{record.stub_size:#x}, the image's is {stub}")
    for name, value in (("the record", address), ("post_stub", record.post_stub)):
        if view.translate(value) not in _Addresses(stub):
            wrong.append(f"{name} at {value:#x} is outside the stub range {stub}")
    return [Finding("BB-H011", text) for text in wrong]


class _Addresses:
    """A span that None is never in."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def __contains__(self, address: int | None) -> bool:
        return address is not None and address in self._span


def _report(boot_type: int, address: int, record: Handover, found: _Found) -> dict[str, Any]:
    return {
        "boot_type": boot_type_name(boot_type),
        "hypervisor_type": hypervisor_type_name(record.hypervisor_type),
        "record": hex(address),
        "version": record.version,
        "data": hex(record.data),
        "cmdline": None if found.cmdline is None else found.cmdline.decode("utf-8", "replace"),
        "modules": None
        if found.modules is None
        else [{"address": hex(m.address), "size": m.size} for m in found.modules],
        "memory_map": None
        if found.memory_map is None
        else [{"address": hex(e.address), "size": hex(e.size), "type": e.type} for e in found.memory_map],
        "rsdp": hex(record.rsdp) if record.rsdp else None,
        "post_stub": hex(record.post_stub),
        "stub": {"base": hex(record.stub_base), "size": hex(record.stub_size)},
    }
