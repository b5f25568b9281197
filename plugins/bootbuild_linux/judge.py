"""Each part of what Linux is handed, compared with what the environment gave."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from bootbuild.abi import boot_params
from bootbuild.abi.boot_params import BootParams, Screen, SetupData
from bootbuild.abi.handover import BootType, Handover
from bootbuild.api import Finding, Given, GuestView, MapEntry, Span, Startup, record_faults, state_faults

ISA_HOLE = MapEntry(0xA0000, 0x60000, 2)  #: arch/x86/platform/pvh/enlighten.c adds it as reserved
COMMAND_LINE_MAX = 2048  #: COMMAND_LINE_SIZE, arch/x86/include/asm/setup.h
RAM = 1
MiB = 1 << 20
BOOT_CS, BOOT_DS = 0x10, 0x18  #: __BOOT_CS, __BOOT_DS, arch/x86/include/asm/segment.h
OLDEST = 0x020C  #: protocol 2.12, with ext_ramdisk_image and ext_cmd_line_ptr; enlighten.c states it too
MAX_EXTENSION = 4096 * boot_params.E820_ENTRY_SIZE  #: bytes of a SETUP_E820_EXT that are read


class Memory(Protocol):
    """The machine where somebody hands a kernel over."""

    def get(self, register: str) -> int:
        """A register by its lower-case name."""

    def read_physical(self, address: int, size: int) -> bytes:
        """Bytes at a physical address. LookupError where there is no memory."""


def cpu(view: GuestView, startup: Startup, stub: Span) -> list[Finding]:
    """The state that boot.rst asks for at startup_32 or startup_64, as our back leaves it."""
    wrong = [
        *_wrong_selectors(view),
        *state_faults(view, startup.width, frozenset({"si"}), stub),
        *(_wrong_mapping(view, startup) if startup.width == 64 else []),
    ]
    return [Finding("BB-H026", text) for text in wrong]


def _wrong_selectors(view: GuestView) -> Iterator[str]:
    for register, value in {"cs": BOOT_CS, "ds": BOOT_DS, "es": BOOT_DS, "ss": BOOT_DS}.items():
        if (found := view.get(register)) != value:
            yield f"{register.upper()} is {found:#x}, not {value:#x}"


def _wrong_mapping(view: GuestView, startup: Startup) -> Iterator[str]:
    if (ip := view.get("rip")) != startup.paddr:
        yield f"RIP is {ip:#x}, the kernel's entry is at physical {startup.paddr:#x}"
    page = view.get("rsi")
    for name, address in (("the kernel", startup.paddr), ("boot_params", page)):
        if view.translate(address) != address:
            yield f"{name} at {address:#x} is not identity-mapped"


def header(params: BootParams) -> list[Finding]:
    """What every loader states, whoever it is."""
    wrong = []
    if params.sentinel:
        wrong.append(f"sentinel is {params.sentinel:#x}, not 0")
    if (params.boot_flag, params.header) != (boot_params.BOOT_FLAG, boot_params.HEADER_MAGIC):
        wrong.append(f"boot_flag is {params.boot_flag:#x} and header {params.header:#x}, not 0xaa55 and HdrS")
    if params.version < OLDEST:
        wrong.append(f"version is {params.version:#x}, not {OLDEST:#x} or later")
    if not params.type_of_loader:
        wrong.append("type_of_loader is 0: Linux ignores the ramdisk")
    return [Finding("BB-H027", text) for text in wrong]


def loader(params: BootParams) -> list[Finding]:
    """What of that a loader of Linux has not left out: GRUB zeroes boot_flag, and none of them the rest."""
    wrong = []
    if params.header != boot_params.HEADER_MAGIC:
        wrong.append(Finding("BB-H027", f"header is {params.header:#x}, not HdrS"))
    return [*wrong, *type_of_loader(params)]


def type_of_loader(params: BootParams) -> list[Finding]:
    """All that a kernel's own EFI stub states: it leaves HdrS 0, which the kernel does not ask for."""
    if params.type_of_loader:
        return []
    return [Finding("BB-H027", "type_of_loader is 0: Linux ignores the ramdisk")]


def mapping(view: GuestView, startup: Startup) -> list[Finding]:
    """At startup_64, however the kernel came there."""
    return [Finding("BB-H026", text) for text in _wrong_mapping(view, startup)]


def efi(params: BootParams, given: Given) -> list[Finding]:
    """What boot_params say of EFI, whoever filled them: a loader, or the kernel's own EFI stub."""
    signature, table = params.efi_loader_signature, given.efi_system_table
    if not table:
        if any(signature):
            return [Finding("BB-H029", f"efi_loader_signature is {signature!r}, the environment has no EFI")]
        return []
    wrong = []
    if signature not in (b"EL64", b"EL32"):
        wrong.append(f"efi_loader_signature is {signature!r}, neither EL64 nor EL32")
    if params.efi_systab != table:
        wrong.append(f"efi_systab is {params.efi_systab:#x}, the system table is at {table:#x}")
    found = Span(params.efi_memmap, params.efi_memmap_size)
    if found != given.efi_memmap:
        wrong.append(f"efi_memmap is {found}, the environment gave {given.efi_memmap}")
    elif found.size:
        form = params.efi_memdesc_size, params.efi_memdesc_version
        own = given.efi_memmap_descriptor_size, given.efi_memmap_descriptor_version
        if form != own:
            wrong.append(
                f"its descriptors are of {form[0]} bytes and version {form[1]}, the environment's of "
                f"{own[0]} and {own[1]}"
            )
    return [Finding("BB-H029", text) for text in wrong]


def secure_boot(params: BootParams, given: Given, inserted: bool) -> list[Finding]:
    """Whether Secure Boot is on. A kernel's own EFI stub may not say it: before Linux 4.11 none did."""
    off = boot_params.SECURE_BOOT_OFF if given.boot_type == BootType.EFI else 0
    expected = boot_params.SECURE_BOOT_ON if given.secure_boot else off
    if params.secure_boot == expected or not (params.secure_boot or inserted):
        return []
    text = f"secure_boot is {params.secure_boot}, and Secure Boot {'on' if given.secure_boot else 'not'}"
    return [Finding("BB-H031", f"{text}: {expected}")]


def inserted_efi(params: BootParams, given: Given) -> list[Finding]:
    """The same of our back, which says nothing of firmware whose map nobody gave: Linux needs it."""
    return efi(params, given if given.efi_memmap.size else replace(given, efi_system_table=0))


def screen(params: BootParams, given: Given) -> list[Finding]:
    """The linear framebuffer: the environment's, of EFI's sort where there is EFI."""
    text = _wrong_screen(params.screen, given)
    return [Finding("BB-H030", text)] if text else []


def _wrong_screen(found: Screen | None, given: Given) -> str:
    offered = given.framebuffer
    if found is None or offered is None:
        if found is None and offered is None:
            return ""
        return f"screen_info has {found}, the environment gave {offered}"
    kind = boot_params.VIDEO_TYPE_EFI if given.efi_system_table else boot_params.VIDEO_TYPE_VLFB
    if found.type != kind:
        return f"orig_video_isVGA is {found.type:#x}, not {kind:#x}"
    if found.framebuffer != offered:
        return f"screen_info has {found.framebuffer}, the environment gave {offered}"
    if not offered.size <= found.size < offered.size + MiB:
        return f"lfb_size is {found.size:#x} bytes, the screen has {offered.size:#x}"
    ends = [start + bits for start, bits in zip(offered.colours[::2], offered.colours[1::2], strict=True)]
    bits = max(*ends, sum(found.reserved))
    if bits != offered.bits_per_pixel:
        return f"Linux would find {bits} bits in a pixel of {offered.bits_per_pixel}"
    return ""


def string(view: Memory, address: int) -> bytes | None:
    """The command line at a physical address, without its NUL; None if it cannot be read."""
    if not address:
        return b""
    for size in (COMMAND_LINE_MAX, 256, 1):  # the end of memory may be near
        try:
            data = view.read_physical(address, size)
        except LookupError:
            continue
        return data.split(b"\0", 1)[0] if b"\0" in data else None
    return None


def cmdline(found: bytes | None, params: BootParams, given: Given) -> list[Finding]:
    """The command line, byte for byte."""
    if found is None:
        return [Finding("BB-H021", f"command line at {params.cmd_line_ptr:#x} cannot be read")]
    if found != given.cmdline:
        return [Finding("BB-H021", f"command line is {found!r}, the environment gave {given.cmdline!r}")]
    return []


def ramdisk(view: Memory, params: BootParams, given: Given) -> list[Finding]:
    """The one module, byte for byte."""
    text = _wrong_ramdisk(view, params, given)
    return [Finding("BB-H022", text)] if text else []


def _wrong_ramdisk(view: Memory, params: BootParams, given: Given) -> str:
    at, size = params.ramdisk_image, params.ramdisk_size
    if not given.modules:
        return f"a ramdisk of {size} bytes, the environment gave none" if size else ""
    if len(given.modules) > 1:
        return f"Linux takes one ramdisk, the environment gave {len(given.modules)} modules"
    offered = given.modules[0]
    if size != offered.span.size:
        return f"ramdisk has {size} bytes, the environment gave {offered.span.size}"
    try:
        data = view.read_physical(at, size)
    except LookupError:
        return f"ramdisk at {at:#x} is not memory"
    if hashlib.sha256(data).hexdigest() != offered.digest:
        return f"ramdisk at {at:#x} does not hold the bytes that the environment gave"
    return ""


def e820_table(view: GuestView, params: BootParams, nodes: Sequence[SetupData]) -> list[MapEntry]:
    """The zero page's entries and those of every SETUP_E820_EXT, of each as many as can be meant."""
    table = list(params.e820)
    for node in nodes:
        if node.type == boot_params.SETUP_E820_EXT:
            size = min(node.size, MAX_EXTENSION)
            with suppress(LookupError):  # it lies in no memory: its entries are missing
                table += boot_params.unpack_e820(view.read_physical(node.address, size))
    return table


def entries(table: Sequence[MapEntry]) -> list[dict[str, Any]]:
    """A table for the report."""
    return [{"address": hex(e.address), "size": hex(e.size), "type": e.type} for e in table]


def e820(table: Sequence[MapEntry], given: Given, inserted: bool) -> list[Finding]:
    """The memory map: as our stub must give it, or as a kernel's own entry may."""
    offered = list(given.memory_map)
    allowed = [offered, [*offered, ISA_HOLE]]
    if given.boot_type == BootType.XEN_PV:
        allowed = [[]]  # xen_memory_setup asks for the map later, by hypercall, and keeps it elsewhere
    if inserted:
        offered = sorted((e for e in offered if e.size), key=lambda e: e.address)
        if needs_isa_hole(offered):
            offered.append(ISA_HOLE)
        allowed = [offered]
    if list(table) in allowed:
        return []
    for index, (a, b) in enumerate(zip(table, offered, strict=False)):
        if a != b:
            text = f"e820 entry {index} is {a.address:#x}+{a.size:#x} type {a.type}"
            return [
                Finding("BB-H023", f"{text}, the environment gave {b.address:#x}+{b.size:#x} type {b.type}")
            ]
    return [Finding("BB-H023", f"e820 has {len(table)} entries, not {len(offered)}")]


def needs_isa_hole(table: Sequence[MapEntry]) -> bool:
    """Whether a sorted map leaves any of the ISA hole out, or calls it RAM."""
    taken = ISA_HOLE.address
    for entry in table:
        if entry.type != RAM and entry.address <= taken < entry.address + entry.size:
            taken = entry.address + entry.size
    return taken < ISA_HOLE.address + ISA_HOLE.size


def rsdp(params: BootParams, given: Given, inserted: bool) -> list[Finding]:
    """The ACPI root pointer."""
    if params.acpi_rsdp_addr in ((given.rsdp,) if inserted else (0, given.rsdp)):
        return []
    text = f"acpi_rsdp_addr is {params.acpi_rsdp_addr:#x}, the RSDP is at {given.rsdp:#x}"
    return [Finding("BB-H024", text)]


def pair(
    view: GuestView, nodes: Sequence[SetupData], given: Given, startup: Startup, stub: Span, fresh: bool
) -> tuple[Handover | None, list[Finding]]:
    """The record in its node of setup_data, and what is wrong with it."""
    own = [node for node in nodes if node.type == boot_params.SETUP_BOOTBUILD]
    if len(own) != 1:
        text = f"setup_data has {len(own)} nodes of type {boot_params.SETUP_BOOTBUILD:#x}, not one"
        return None, [Finding("BB-H025", text)]
    try:
        record = Handover.parse(view.read_physical, own[0].address)
    except ValueError as reason:
        return None, [Finding("BB-H025", f"record at {own[0].address:#x}: {reason}")]
    wrong = []
    if own[0].size != record.size:
        wrong.append(f"its node has {own[0].size} bytes, the record {record.size}")
    wrong += [text for _, text in record_faults(record, given, view, startup, stub, kept=False, fresh=fresh)]
    return record, [Finding("BB-H025", text) for text in wrong]
