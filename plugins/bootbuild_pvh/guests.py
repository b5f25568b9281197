"""Guest `pvh`: a 32-bit kernel that understands hvm_start_info, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from bootbuild.abi import hvm_start_info
from bootbuild.abi.handover import (
    MAX_MEMMAP,
    MAX_MODULES,
    Handover,
    pair_of,
    read_string,
)
from bootbuild.abi.hvm_start_info import HvmModule, HvmStartInfo
from bootbuild.api import (
    Blob,
    ElfImage,
    Finding,
    Given,
    GuestView,
    MapEntry,
    Payload,
    Piece,
    Span,
    Startup,
    Waist,
    cmdline_fault,
    load_blob,
    map_fault,
    module_faults,
    phys32_entry,
    record_faults,
    state_faults,
)
from bootbuild_pvh.guest_rules import RULES

TSS_LIMIT = 0x67  #: docs/misc/pvh.pandoc
_INITIAL_DOMAIN = hvm_start_info.SIF_PRIVILEGED | hvm_start_info.SIF_INITDOMAIN


class PvhGuest:
    """Entered as its XEN_ELFNOTE_PHYS32_ENTRY would be, whoever started the image."""

    name = "pvh"
    summary = "a PVH kernel: hvm_start_info in EBX (Xen's docs/misc/pvh.pandoc)"
    widths = (32,)
    entered_at: Literal["linked", "physical"] = "physical"
    movable = True
    rules = RULES

    def back(self, width: int) -> Piece | None:
        if width not in self.widths:
            return None
        return Piece(load_blob("bootbuild_pvh", "pvh_back"), "bb_pvh_back", Waist(32), None)

    def startup_of(self, elf: ElfImage) -> int | None:
        """Where its PHYS32_ENTRY note points."""
        return phys32_entry(elf, repaired=True)

    def settings(self, payload: Payload) -> tuple[Blob, ...]:
        """None: a PVH kernel says nothing more of its start."""
        return ()

    def judge(
        self,
        view: GuestView,
        startup: Startup,
        given: Given,
        stub: Span | None,
        symbols: Mapping[str, int],
    ) -> tuple[Mapping[str, Any], Sequence[Finding]]:
        address = view.get("ebx")
        findings = [] if stub is None else list(_state(view, startup, stub))
        try:
            info = hvm_start_info.read_start_info(view.read_physical, address)
        except ValueError as reason:
            return {}, [*findings, Finding("BB-H060", str(reason))]
        report: dict[str, Any] = {
            "start_info": hex(address),
            "version": info.version,
            "flags": hex(info.flags),
            "rsdp": hex(info.rsdp_paddr) if info.rsdp_paddr else None,
        }
        if stub is not None and info.version != 1:
            findings.append(Finding("BB-H060", f"hvm_start_info is of version {info.version}, not 1"))
        findings += _cmdline(info, given, view, report)
        findings += _modules(info, given, view, report)
        findings += _map(info, given, view, report, inserted=stub is not None)
        findings += _scalars(info, given)
        if stub is not None:
            findings += _pair(address + hvm_start_info.SIZE, given, view, startup, stub, report)
        return report, findings


def _state(view: GuestView, startup: Startup, stub: Span) -> Iterator[Finding]:
    for text in state_faults(view, startup.width, frozenset({"bx"}), stub):
        yield Finding("BB-H066", text)
    if (limit := view.get("tr_limit")) != TSS_LIMIT:
        yield Finding("BB-H066", f"TR has limit {limit:#x}, not {TSS_LIMIT:#x}")


def _cmdline(info: HvmStartInfo, given: Given, view: GuestView, report: dict[str, Any]) -> Iterator[Finding]:
    try:
        found = read_string(view.read_physical, info.cmdline_paddr, "command line")
    except ValueError as reason:
        yield Finding("BB-H061", str(reason))
        return
    report["cmdline"] = None if found is None else found.decode("utf-8", "replace")
    if text := cmdline_fault(found, given):
        yield Finding("BB-H061", text)


def _modules(info: HvmStartInfo, given: Given, view: GuestView, report: dict[str, Any]) -> Iterator[Finding]:
    try:
        found = _module_list(info, view)
        parts = [
            (
                Span(module.paddr, module.size),
                read_string(view.read_physical, module.cmdline_paddr, f"command line of module {index}"),
            )
            for index, module in enumerate(found)
        ]
    except ValueError as reason:
        yield Finding("BB-H062", str(reason))
        return
    report["modules"] = [{"address": hex(m.paddr), "size": m.size} for m in found]
    for text in module_faults(parts, given, view):
        yield Finding("BB-H062", text)


def _module_list(info: HvmStartInfo, view: GuestView) -> tuple[HvmModule, ...]:
    data = _table(view, info.modlist_paddr, info.nr_modules, hvm_start_info.MODULE_SIZE, MAX_MODULES)
    return hvm_start_info.unpack_modules(data)


def _table(view: GuestView, address: int, count: int, size: int, most: int) -> bytes:
    """`count` entries of `size` bytes; ValueError if there are too many, or no memory is there."""
    if count > most:
        raise ValueError(f"a list of {count} entries, more than {most}")
    try:
        return view.read_physical(address, count * size) if count else b""
    except LookupError:
        raise ValueError(f"a list of {count} entries at {address:#x}, which is not memory") from None


def _map(
    info: HvmStartInfo, given: Given, view: GuestView, report: dict[str, Any], *, inserted: bool
) -> Iterator[Finding]:
    """Of version 0 there is none: the kernel asks Xen for it, after its startup path."""
    if not info.version:
        return
    try:
        data = _table(view, info.memmap_paddr, info.memmap_entries, hvm_start_info.MAP_ENTRY_SIZE, MAX_MEMMAP)
    except ValueError as reason:
        yield Finding("BB-H063", str(reason))
        return
    found: Sequence[MapEntry] = hvm_start_info.unpack_memory_map(data)
    report["memory_map"] = [{"address": hex(e.address), "size": hex(e.size), "type": e.type} for e in found]
    if not inserted:
        found = sorted((e for e in found if e.size), key=lambda e: (e.address, e.size, e.type))
    if text := map_fault(found, given):
        yield Finding("BB-H063", text)


def _scalars(info: HvmStartInfo, given: Given) -> Iterator[Finding]:
    if info.rsdp_paddr != given.rsdp:
        text = f"rsdp_paddr is {info.rsdp_paddr:#x}, the environment gave {given.rsdp:#x}"
        yield Finding("BB-H064", text)
    expected = _INITIAL_DOMAIN if given.privileged else 0
    if info.flags != expected:
        yield Finding("BB-H064", f"flags are {info.flags:#x}, not {expected:#x}")


def _pair(
    address: int, given: Given, view: GuestView, startup: Startup, stub: Span, report: dict[str, Any]
) -> Iterator[Finding]:
    try:
        record = Handover.parse(view.read_physical, address)
    except ValueError as reason:
        yield Finding("BB-H065", f"record at {address:#x}: {reason}")
        return
    report["record"] = pair_of(record)
    for _, text in record_faults(record, given, view, startup, stub):
        yield Finding("BB-H065", text)
