"""Guest `linux`: what a Linux kernel must find in struct boot_params when it reaches its startup path."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from bootbuild.abi import boot_params
from bootbuild.abi.boot_params import BootParams
from bootbuild.api import Finding, Given, GuestView, MapEntry, Piece, Rule, Span, Startup, Waist, load_blob

ISA_HOLE = MapEntry(0xA0000, 0x60000, 2)  #: arch/x86/platform/pvh/enlighten.c adds it as reserved
COMMAND_LINE_MAX = 2048  #: COMMAND_LINE_SIZE, arch/x86/include/asm/setup.h

_FIX = "compare the fields in `bootbuild boot --json` with what the environment offered"
RULES = (
    Rule(
        "BB-H020",
        "no boot_params at the startup path",
        "startup_64 takes the physical address of struct boot_params in RSI, x86_64_start_kernel in RDI; "
        "later functions use the kernel's own copy, the symbol boot_params.",
        "name one of these as `startup`, or give `symbols` so that boot_params can be found",
    ),
    Rule(
        "BB-H021",
        "command line in boot_params",
        "hdr.cmd_line_ptr points to the environment's command line, byte for byte.",
        _FIX,
    ),
    Rule(
        "BB-H022",
        "ramdisk in boot_params",
        "hdr.ramdisk_image and ramdisk_size give the first module, byte for byte.",
        _FIX,
    ),
    Rule(
        "BB-H023",
        "e820 table in boot_params",
        "The table holds the environment's memory map; the PVH entry adds the ISA hole as reserved.",
        _FIX,
    ),
    Rule(
        "BB-H024",
        "ACPI root pointer in boot_params",
        "acpi_rsdp_addr is 0 or the environment's RSDP.",
        _FIX,
    ),
)

#: Where the handover stands when control is at a symbol: (register, …) of boot.rst and head_64.S.
_REGISTER = {"startup_64": "rsi", "startup_32": "esi", "x86_64_start_kernel": "rdi"}


class Linux:
    """Linux, entered by its own entries; the boot_params are judged."""

    name = "linux"
    summary = "Linux: struct boot_params (Documentation/arch/x86/boot.rst)"
    widths = (32, 64)
    entered_at: Literal["linked", "physical"] = "physical"
    rules = RULES

    def back(self, width: int) -> Piece | None:
        return Piece(load_blob("bootbuild_linux", f"linux_{width}"), f"bb_linux_{width}", Waist(width), None)

    def judge(
        self,
        view: GuestView,
        startup: Startup,
        given: Given,
        stub: Span | None,
        symbols: Mapping[str, int],
    ) -> tuple[Mapping[str, Any], Sequence[Finding]]:
        where, page = _zero_page(view, startup, symbols)
        if page is None:
            return {}, [Finding("BB-H020", f"at {startup.name} {where}")]
        try:
            params = boot_params.parse(page)
        except ValueError as reason:
            return {"boot_params": where}, [Finding("BB-H020", str(reason))]
        cmdline = _string(view, params.cmd_line_ptr)
        findings = [
            *_judge_cmdline(cmdline, params, given),
            *_judge_ramdisk(view, params, given),
            *_judge_e820(params, given),
        ]
        if params.acpi_rsdp_addr not in (0, given.rsdp):
            findings.append(
                Finding(
                    "BB-H024", f"acpi_rsdp_addr is {params.acpi_rsdp_addr:#x}, the RSDP is at {given.rsdp:#x}"
                )
            )
        return _report(where, params, cmdline), findings


def _zero_page(view: GuestView, startup: Startup, symbols: Mapping[str, int]) -> tuple[str, bytes | None]:
    """Address (hex) and bytes of boot_params, or the reason why there are none."""
    if register := _REGISTER.get(startup.name):
        address, read = view.get(register), view.read_physical
    elif "boot_params" in symbols:
        address, read = symbols["boot_params"], view.read
    else:
        return "nothing tells where boot_params is: the symbol is not known", None
    try:
        return hex(address), read(address, boot_params.SIZE)
    except LookupError:
        return f"boot_params would be at {address:#x}, which is not memory", None


def _string(view: GuestView, address: int) -> bytes | None:
    if not address:
        return b""
    for size in (COMMAND_LINE_MAX, 256, 1):  # the end of memory may be near
        try:
            data = view.read_physical(address, size)
        except LookupError:
            continue
        return data.split(b"\0", 1)[0] if b"\0" in data else None
    return None


def _judge_cmdline(cmdline: bytes | None, params: BootParams, given: Given) -> list[Finding]:
    if cmdline is None:
        return [Finding("BB-H021", f"command line at {params.cmd_line_ptr:#x} cannot be read")]
    if cmdline != given.cmdline:
        return [Finding("BB-H021", f"command line is {cmdline!r}, the environment gave {given.cmdline!r}")]
    return []


def _judge_ramdisk(view: GuestView, params: BootParams, given: Given) -> list[Finding]:
    if not given.modules:
        if params.ramdisk_size:
            return [
                Finding("BB-H022", f"a ramdisk of {params.ramdisk_size} bytes, the environment gave none")
            ]
        return []
    offered = given.modules[0]
    if params.ramdisk_size != offered.span.size:
        return [
            Finding(
                "BB-H022",
                f"ramdisk has {params.ramdisk_size} bytes, the environment gave {offered.span.size}",
            )
        ]
    try:
        data = view.read_physical(params.ramdisk_image, params.ramdisk_size)
    except LookupError:
        return [Finding("BB-H022", f"ramdisk at {params.ramdisk_image:#x} is not memory")]
    if hashlib.sha256(data).hexdigest() != offered.digest:
        text = f"ramdisk at {params.ramdisk_image:#x} does not hold the bytes that the environment gave"
        return [Finding("BB-H022", text)]
    return []


def _judge_e820(params: BootParams, given: Given) -> list[Finding]:
    table, offered = list(params.e820), list(given.memory_map)
    if table in (offered, [*offered, ISA_HOLE]):
        return []
    for index, (a, b) in enumerate(zip(table, offered, strict=False)):
        if a != b:
            text = f"e820 entry {index} is {a.address:#x}+{a.size:#x} type {a.type}"
            return [
                Finding("BB-H023", f"{text}, the environment gave {b.address:#x}+{b.size:#x} type {b.type}")
            ]
    return [Finding("BB-H023", f"e820 has {len(table)} entries, the environment gave {len(offered)}")]


def _report(where: str, params: BootParams, cmdline: bytes | None) -> dict[str, Any]:
    return {
        "boot_params": where,
        "type_of_loader": hex(params.type_of_loader),
        "version": hex(params.version),
        "cmdline": None if cmdline is None else cmdline.decode("utf-8", "replace"),
        "ramdisk": {"address": hex(params.ramdisk_image), "size": params.ramdisk_size}
        if params.ramdisk_size
        else None,
        "e820": [{"address": hex(e.address), "size": hex(e.size), "type": e.type} for e in params.e820],
        "acpi_rsdp_addr": hex(params.acpi_rsdp_addr) if params.acpi_rsdp_addr else None,
        "hardware_subarch": params.hardware_subarch,
    }
