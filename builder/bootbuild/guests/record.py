"""The scalars of a handover record, compared with what the environment gave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bootbuild.abi.handover import Handover, HandoverFlag, boot_type_name, hypervisor_type_name
from bootbuild.api.guest import GuestView
from bootbuild.model.machine import Framebuffer, Given, Load
from bootbuild.model.payload import Startup
from bootbuild.model.span import Span

_FLAGS = ~HandoverFlag(0)  #: all that there are
#: Fields of what lies in the stub range, beside `data` that was copied there.
_IN_STUB_RANGE = ("cmdline", "modules", "memmap", "module_count", "memmap_count", "framebuffer", "post_stub")


def record_faults(
    record: Handover,
    given: Given,
    view: GuestView,
    startup: Startup,
    stub: Span | None,
    *,
    kept: bool = True,
    fresh: bool = True,
) -> Iterator[tuple[str, str]]:
    """(field, what is wrong with it) for every scalar that does not say what the environment gave.

    `stub`: physical range of the inserted stubs, None for a native entry. `kept`: whether the guest keeps
    that range; if not, what lies in it is absent. `fresh`: whether nothing of the kernel has
    run, so that the environment's structures must still be as it wrote them.
    """
    if not fresh:
        given = replace(given, structures=())
    if record.boot_type != given.boot_type:
        entered = boot_type_name(given.boot_type)
        yield (
            "boot_type",
            f"boot type in the record is {boot_type_name(record.boot_type)}, entered as {entered}",
        )
    if record.hypervisor_type != given.hypervisor_type:
        found, underneath = map(hypervisor_type_name, (record.hypervisor_type, given.hypervisor_type))
        yield "hypervisor_type", f"hypervisor type is {found}, underneath is {underneath}"
    expected = {
        "hypervisor_leaf": given.hypervisor_leaf,
        "rsdp": given.rsdp,
        "efi_system_table": given.efi_system_table,
        "efi_memmap": given.efi_memmap.start,
        "efi_memmap_size": given.efi_memmap.size,
        "efi_memmap_descriptor_size": given.efi_memmap_descriptor_size,
        "efi_memmap_descriptor_version": given.efi_memmap_descriptor_version,
    }
    for name, offered in expected.items():
        if (value := getattr(record, name)) != offered:
            yield name, f"{name} is {value:#x}, the environment gave {offered:#x}"
    if record.load_offset != startup.load_offset:
        text = f"load_offset is {record.load_offset:#x}, the kernel was moved by {startup.load_offset:#x}"
        yield "load_offset", text
    yield from _flags(record, given)
    yield from _framebuffer(record, given.framebuffer, view, kept)
    if not kept:
        for name in _IN_STUB_RANGE:
            if getattr(record, name):
                yield name, f"{name} is not absent: the guest does not keep what it tells of"
    yield from _data(record, given, view, stub, kept)
    yield from _native_map(record, given, view)


def _flags(record: Handover, given: Given) -> Iterator[tuple[str, str]]:
    """Each flag that is true is set, and no other."""
    privileged = bool(record.flags & HandoverFlag.PRIVILEGED)
    if privileged != given.privileged:
        text = f"flag PRIVILEGED is {'' if privileged else 'not '}set"
        yield "flags", f"{text}, the guest is {'' if given.privileged else 'not '}the initial domain"
    if (alive := given.firmware is not None) != bool(record.flags & HandoverFlag.BOOT_SERVICES):
        text = f"flag BOOT_SERVICES is {'not ' if alive else ''}set"
        yield "flags", f"{text}, and EFI boot services are {'' if alive else 'not '}alive"
    if (secure := bool(record.flags & HandoverFlag.SECURE_BOOT)) != given.secure_boot:
        text = f"flag SECURE_BOOT is {'' if secure else 'not '}set"
        yield "flags", f"{text}, and Secure Boot is {'on' if given.secure_boot else 'off'}"
    if unknown := int(record.flags) & ~int(_FLAGS):
        yield "flags", f"flags {unknown:#x} are set, of which nothing is true here"


def _framebuffer(
    record: Handover, given: Framebuffer | None, view: GuestView, kept: bool
) -> Iterator[tuple[str, str]]:
    """The screen, as the environment shows it; of a guest that does not keep it only that there is one."""
    if given is None and record.framebuffer:
        yield "framebuffer", f"framebuffer is {record.framebuffer:#x}, the environment gave none"
    if given is None or not kept:
        return
    try:
        found = record.read_framebuffer(view.read)
    except ValueError as reason:
        yield "framebuffer", str(reason)
        return
    if found != given:
        yield "framebuffer", f"framebuffer is {found}, the environment gave {given}"


def _data(
    record: Handover, given: Given, view: GuestView, stub: Span | None, kept: bool
) -> Iterator[tuple[str, str]]:
    """`data` is the environment's structure, or a copy of it that says so."""
    if not record.flags & HandoverFlag.DATA_COPIED:
        if record.data != given.data:
            text = f"data is {record.data:#x}, the environment's structure is at {given.data:#x}"
            yield "data", text
            return
    elif not kept:
        if record.data:
            yield "data", f"data is {record.data:#x}, a copy that the guest does not keep"
        return
    elif stub is not None and view.translate(record.data) not in range(stub.start, stub.end):
        yield "data", f"data is a copy at {record.data:#x}, outside the stub range {stub}"
    structure = _structure(given, given.data)
    if structure is not None and not _holds(view, record.data, structure):
        yield "data", f"the structure at {record.data:#x} is not as the environment wrote it"


def _native_map(record: Handover, given: Given, view: GuestView) -> Iterator[tuple[str, str]]:
    """`env_memmap` is the environment's own map, or absent where clearing the kernel's .bss destroyed it."""
    offered, structure = given.native_map, _structure(given, given.native_map.start)
    found = (record.env_memmap, record.env_memmap_size)
    there = structure is None or _holds(view, offered.start, structure)
    if found != (offered.start, offered.size) and (there or any(found)):
        text = f"env_memmap is {found[0]:#x}, {found[1]:#x} bytes"
        yield "env_memmap", f"{text}, the environment gave {offered.start:#x}, {offered.size:#x} bytes"
    elif any(found) and not there:
        yield "env_memmap", f"the map at {offered.start:#x} is not as the environment wrote it"


def _structure(given: Given, address: int) -> Load | None:
    return next((load for load in given.structures if load.address == address and load.size), None)


def _holds(view: GuestView, address: int, structure: Load) -> bool:
    """Whether the guest reads at `address` what the environment wrote."""
    try:
        return view.read(address, structure.size) == structure.content.read(structure.offset, structure.size)
    except LookupError:
        return False
