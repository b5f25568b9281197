"""Guest `linux`: entered by our stubs or its own, judged by struct boot_params at its startup path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from bootbuild.abi import boot_params
from bootbuild.abi.boot_params import BootParams, Screen, SetupData
from bootbuild.abi.handover import BootType, pair_of
from bootbuild.api import (
    ElfImage,
    Finding,
    Given,
    GuestView,
    Level,
    Piece,
    Scene,
    Span,
    Startup,
    Waist,
    load_blob,
    packed_kernel,
)
from bootbuild_linux import judge
from bootbuild_linux.rules import RULES
from bootbuild_linux.unpacking import Unpacking

#: Where the handover stands when control is at a symbol: (register, …) of boot.rst and head_64.S.
_REGISTER = {"startup_64": "rsi", "startup_32": "esi", "x86_64_start_kernel": "rdi"}
_START_KERNEL_MAP = 0xFFFFFFFF80000000  #: what is linked there is physical 0 (page_64_types.h)
_ENTRY = {64: "startup_64", 32: "startup_32"}
_LOADERS = (BootType.LINUX_16, BootType.LINUX_32, BootType.LINUX_64)


class Linux:
    """Linux, entered at startup_32 or startup_64, or by an entry of its own."""

    name = "linux"
    summary = "Linux: struct boot_params (Documentation/arch/x86/boot.rst)"
    widths = (32, 64)
    entered_at: Literal["linked", "physical"] = "physical"
    movable = True
    rules = RULES

    def back(self, width: int) -> Piece | None:
        return Piece(load_blob("bootbuild_linux", f"linux_{width}"), f"bb_linux_{width}", Waist(width), None)

    def finds_itself(self, image: ElfImage, startup: Startup) -> bool:
        """Whether it is a 64-bit Linux: startup_64 finds out where it runs (__startup_64 in head64.c)."""
        linux = any(note.owner == "Linux" for note in image.notes)
        return linux and startup.width == 64 and startup.vaddr - startup.paddr == _START_KERNEL_MAP

    def follow(
        self, image: ElfImage, scene: Scene, exact: str, level: Level | None = None
    ) -> Unpacking | None:
        packed = packed_kernel(image)
        return None if packed is None else Unpacking(image, packed, scene, exact, level)

    def judge(
        self,
        view: GuestView,
        startup: Startup,
        given: Given,
        stub: Span | None,
        symbols: Mapping[str, int],
    ) -> tuple[Mapping[str, Any], Sequence[Finding]]:
        point = _point(startup, symbols)
        at_entry = point == _ENTRY[startup.width]
        findings = judge.cpu(view, startup, stub) if stub is not None and at_entry else []
        where, page = _zero_page(view, point, symbols)
        if page is None:
            return {}, [*findings, Finding("BB-H020", f"at {startup.name} {where}")]
        try:
            params = boot_params.parse(page)
        except ValueError as reason:
            return {"boot_params": where}, [*findings, Finding("BB-H020", str(reason))]
        nodes: tuple[SetupData, ...] | None = None
        try:
            nodes = boot_params.read_setup_data(view.read_physical, params.setup_data)
        except ValueError as reason:
            findings.append(Finding("BB-H028", f"the list at {params.setup_data:#x} {reason}"))
        inserted = stub is not None
        cmdline = judge.string(view, params.cmd_line_ptr)
        table = judge.e820_table(view, params, nodes or ())
        findings += [
            *judge.cmdline(cmdline, params, given),
            *judge.ramdisk(view, params, given),
            *judge.e820(table, given, inserted),
            *judge.rsdp(params, given, inserted),
            *judge.secure_boot(params, given, inserted),
        ]
        if given.boot_type in (*_LOADERS, BootType.EFI) and not inserted:
            stated = judge.type_of_loader if given.boot_type == BootType.EFI else judge.loader
            findings += [*stated(params), *judge.efi(params, given)]
            if given.framebuffer is not None:
                findings += judge.screen(params, given)
            if at_entry and startup.width == 64:
                findings += judge.mapping(view, startup)
        report = _report(where, params, cmdline) | {"e820": judge.entries(table)}
        if inserted:
            findings += judge.header(params)
            findings += judge.inserted_efi(params, given)
            findings += judge.screen(params, given)
        if stub is not None and nodes is not None:
            record, wrong = judge.pair(view, nodes, given, startup, stub, at_entry)
            findings += wrong
            report["record"] = None if record is None else pair_of(record)
        return report, findings


def _point(startup: Startup, symbols: Mapping[str, int]) -> str:
    """The name of the place where the kernel stands, as `_REGISTER` knows it, or the startup path's own.

    A bare address is known by the symbol there, and without symbols taken for the kernel's entry.
    """
    if startup.name in _REGISTER or not startup.name.startswith("0x"):
        return startup.name
    if "boot_params" not in symbols:
        return _ENTRY[startup.width]
    return next((name for name in _REGISTER if symbols.get(name) == startup.vaddr), startup.name)


def _zero_page(view: GuestView, point: str, symbols: Mapping[str, int]) -> tuple[str, bytes | None]:
    """Address (hex) and bytes of boot_params, or the reason why there are none."""
    if register := _REGISTER.get(point):
        address, read = view.get(register), view.read_physical
    elif "boot_params" in symbols:
        address, read = symbols["boot_params"], view.read
    else:
        return "nothing tells where boot_params is: the symbol is not known", None
    try:
        return hex(address), read(address, boot_params.SIZE)
    except LookupError:
        return f"boot_params would be at {address:#x}, which is not memory", None


def _shown(screen: Screen | None) -> dict[str, Any] | None:
    if screen is None:
        return None
    pixels = screen.framebuffer
    return {
        "type": hex(screen.type),
        "address": hex(pixels.address),
        "width": pixels.width,
        "height": pixels.height,
        "pitch": pixels.pitch,
        "bits_per_pixel": pixels.bits_per_pixel,
    }


def _report(where: str, params: BootParams, cmdline: bytes | None) -> dict[str, Any]:
    return {
        "boot_params": where,
        "type_of_loader": hex(params.type_of_loader),
        "version": hex(params.version),
        "cmdline": None if cmdline is None else cmdline.decode("utf-8", "replace"),
        "ramdisk": {"address": hex(params.ramdisk_image), "size": params.ramdisk_size}
        if params.ramdisk_size
        else None,
        "acpi_rsdp_addr": hex(params.acpi_rsdp_addr) if params.acpi_rsdp_addr else None,
        "hardware_subarch": params.hardware_subarch,
        "efi": params.efi_loader_signature.decode("latin-1") if any(params.efi_loader_signature) else None,
        "screen": _shown(params.screen),
    }
