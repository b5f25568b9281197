"""Target `efi`: a PE32+ application, as UEFI's boot manager starts it."""

from __future__ import annotations

from dataclasses import fields
from typing import NoReturn

from bootbuild.abi.application import CMDLINE, MAX_MODULES, MAX_STRINGS, MODULE, MODULE_CMDLINE, SBAT
from bootbuild.api import (
    Application,
    Content,
    Contribution,
    ElfImage,
    Guest,
    MemoryContent,
    Payload,
    PeError,
    Piece,
    Problem,
    RefusedError,
    Waist,
    chain_of,
    grain_of,
    load_blob,
    read_pe,
    words_of,
)
from bootbuild_efi import sbat
from bootbuild_efi.options import Options
from bootbuild_efi.rules import (
    GUEST_STAYS,
    LOW_LINKED,
    MODULES_OUTSIDE,
    NO_CHAIN,
    NO_ENTRY,
    NO_ROUTE,
    RULES,
    TOO_MUCH,
    UNMOVABLE,
    UNREAD,
)

PACKAGE = "bootbuild_efi"
# stubs/application.h, PLAN_*
_BOOT_SERVICES, _NO_LOAD_OPTIONS, _NO_INITRD, _HIGH = 1, 2, 4, 8
_UPPER_HALF = 1 << 47


class Efi:
    """An application that brings the kernel with it; or a kernel that is one, as it is."""

    name = "efi"
    summary = "UEFI on x86-64: a PE32+ application"
    options = Options
    packed = True
    entry_base = "image base"
    rules = RULES

    def contribute(self, payload: Payload, guest: Guest, options: Options) -> Contribution:
        """The application; behind the payload, (mending →) landing → (switch) → back.

        Raises RefusedError (BB-L502, BB-L504, BB-L506 to BB-L510).
        """
        width = payload.startup.width
        alive = options.boot_services
        landing = load_blob(PACKAGE, "efi_landing")
        if alive:
            waist = Waist(64, owns_paging=False, boot_services=True)
            front = Piece(landing, "bb_efi_landing_alive", None, waist)
            back: Piece | None = _living_back(payload, guest)
        else:
            front = Piece(landing, "bb_efi_landing", None, Waist(64))
            back = guest.back(width)
        flags = _BOOT_SERVICES if alive else 0
        flags |= 0 if options.load_options else _NO_LOAD_OPTIONS
        flags |= 0 if options.initrd else _NO_INITRD
        flags |= _HIGH if options.relocatable == "high" else 0
        chain = chain_of(front, back, payload, guest, NO_ROUTE)
        words, grain = None, 0
        if options.relocatable:
            words, grain = words_of(payload, guest, UNMOVABLE, GUEST_STAYS), grain_of(payload.elf)
            chain = (Piece(load_blob(PACKAGE, "efi_moved"), "bb_efi_moved", None, None), *chain)
        stub = Piece(load_blob(PACKAGE, "efi_application"), "bb_efi_entry", None, None)
        return Contribution(
            target=self.name,
            guest=guest.name,
            container="pe",
            startup=payload.startup,
            chain=chain,
            companions=(load_blob(PACKAGE, f"efi_post_{width}"),),
            addresses=words,
            application=Application(stub, flags, tuple(_sections(payload, options)), grain),
        )

    def native(self, payload: Payload, guest: Guest, options: Options) -> Contribution:
        """The payload's own file, as it is. Raises RefusedError (BB-L501, BB-L505)."""
        said = [f.name for f in fields(options) if getattr(options, f.name) != getattr(Options(), f.name)]
        if said:
            text = f"{', '.join(said)}: the file is the payload's"
            raise RefusedError(Problem(UNREAD, payload.source, text))
        if self.entry_of(payload.elf) is None:
            raise RefusedError(Problem(NO_ENTRY, payload.source, "the payload is no UEFI application"))
        return Contribution(self.name, guest.name, "pe", payload.startup)

    def chain(self, payload: Payload, guest: Guest, options: Options) -> NoReturn:
        """There is no such stub."""
        text = "a chained stub would find all of UEFI's work done"
        raise RefusedError(Problem(NO_CHAIN, payload.source, text))

    def entry_of(self, image: ElfImage) -> int | None:
        """AddressOfEntryPoint: relative to where the firmware loads the file, which is its choice."""
        try:
            pe = read_pe(image.file)
        except PeError:
            return None
        return pe.entry if (pe.machine, pe.subsystem, pe.bits) == (0x8664, 10, 64) else None


def _living_back(payload: Payload, guest: Guest) -> Piece:
    """The guest's back where boot services are alive. Raises RefusedError (BB-L502, BB-L504)."""
    startup = payload.startup
    make = getattr(guest, "boot_services_back", None)
    if make is None or startup.width != 64:
        text = f"guest {guest.name} cannot be entered by a stub while EFI boot services are alive"
        if make is not None:
            text = f"boot services stay alive in 64-bit code, and its startup path is {startup.width}-bit"
        raise RefusedError(Problem(NO_ROUTE, payload.source, text, "leave boot_services out"))
    if startup.vaddr != startup.paddr and startup.vaddr < _UPPER_HALF:
        text = f"{startup.name} is linked at {startup.vaddr:#x} and loaded at {startup.paddr:#x}"
        raise RefusedError(Problem(LOW_LINKED, payload.source, text))
    back: Piece = make()
    return back


def _sections(payload: Payload, options: Options) -> list[tuple[str, Content]]:
    """.sbat, and what the recipe hands to the kernel. Raises RefusedError (BB-L506, BB-L507, BB-L510)."""
    sections: list[tuple[str, Content]] = [(SBAT, MemoryContent(sbat.table(options.sbat)))]
    if not options.embed:
        if len(payload.modules) > 1 or any(m.cmdline for m in payload.modules):
            text = "more than one, or one with a command line, and `embed` is false"
            raise RefusedError(Problem(MODULES_OUTSIDE, payload.source, text))
        return sections
    lines = [payload.cmdline, *(module.cmdline for module in payload.modules)]
    counts = (
        (sum(len(line) + 1 for line in lines if line), MAX_STRINGS, "bytes of command lines"),
        (len(payload.modules), MAX_MODULES, "modules"),
    )
    if wrong := [f"{count} {what}, {most} at the most" for count, most, what in counts if count > most]:
        raise RefusedError(Problem(TOO_MUCH, payload.source, text) for text in wrong)
    if payload.cmdline:
        sections.append((CMDLINE, MemoryContent(payload.cmdline)))
    for module in payload.modules:
        sections.append((MODULE, module.content))
        if module.cmdline:
            sections.append((MODULE_CMDLINE, MemoryContent(module.cmdline)))
    return sections
