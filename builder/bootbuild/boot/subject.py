"""What a boot has to reach: from a recipe's words, or from what an image says of itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from bootbuild.api.guest import SelfDescribed
from bootbuild.api.target import linux_joins
from bootbuild.boot.run import Subject, code_at
from bootbuild.errors import InputError, Problem
from bootbuild.host.nearest import nearest_symbol
from bootbuild.model.machine import Offer
from bootbuild.model.payload import ElfImage, Startup
from bootbuild.model.rule import Rule

if TYPE_CHECKING:
    from bootbuild.api.guest import Guest
    from bootbuild.host.host import Host
    from bootbuild.model.request import BootRequest

STARTUP_UNKNOWN = Rule(
    "BB-E080",
    "startup path unknown",
    "A boot is proved by reaching the kernel's shared startup path, so its address must be known: from a "
    "symbol of the file or of a System.map, from an address, or from the record in an image of bootbuild's.",
    "name a symbol or address, of a Linux `startup_64`: `startup` in the recipe, `--until` on the command "
    "line, and `symbols` where the file is stripped",
)
STARTUP_OUTSIDE = Rule(
    "BB-E081",
    "startup path outside the kernel",
    "The startup path must lie in an executable PT_LOAD segment: code elsewhere is never loaded.",
    "give the linked virtual address (or, for a kernel at its physical address, that) of the startup code",
)
STARTUP_AMBIGUOUS = Rule(
    "BB-E082",
    "startup path at two places",
    "PT_LOAD segments whose virtual ranges overlap are loaded at different physical addresses, so that the "
    "linked address of the startup path names two places in memory.",
    "give each segment virtual addresses of its own in the linker script",
)
BROUGHT = Rule(
    "BB-E083",
    "an image that brings this itself",
    "An application that bootbuild made hands its kernel the command line and the modules that are in it. "
    "Others that a boot is given would not arrive.",
    "leave `--cmdline` and `--module` out, or make the image with others, or with `embed = false`",
)

RULES = (STARTUP_UNKNOWN, STARTUP_OUTSIDE, STARTUP_AMBIGUOUS, BROUGHT)

_CONSOLE = "console:"
_ENTRY = Startup("entry", 0, 0, width=0)  #: wherever its loaders enter it


def find_startup(
    elf: ElfImage,
    asked: str | int | None,
    width: int | None,
    guest: Guest | None = None,
    moved: int = 0,
    where: str = "",
) -> Startup:
    """The startup path that was named: a symbol, or a virtual or physical address. Raises InputError.

    `guest` says at which of its addresses it is entered. An address is of the kernel before it was `moved`
    by so many bytes, as nm and readelf show it; symbols are the image's. `where` it is named: problems begin
    with that, else with the image's name.
    """
    width = width or elf.bits
    where = where or elf.name
    if asked is None:
        text = "nothing says where the startup path is"
        if guest is not None and isinstance(guest, SelfDescribed):
            text += f": the file has no entry of guest {guest.name} either"
        raise InputError(Problem(STARTUP_UNKNOWN, where, text))
    if isinstance(asked, str):
        name = asked
        address = elf.symbols.get(asked)
        if address is None:
            remedy = nearest_symbol(asked, elf.symbols)
            raise InputError(Problem(STARTUP_UNKNOWN, where, f"there is no symbol {asked!r}", remedy))
    else:
        name, address = f"{asked:#x}", asked + moved
    segment = elf.segment_at(address)
    if segment is None:  # not linked there: a physical address, then
        segment = next((s for s in elf.loads if address in s.physical), None)
        if segment is not None:
            address = segment.vaddr + (address - segment.paddr)
    place = name if name == f"{address:#x}" else f"{name} ({address:#x})"
    if segment is None or not segment.flags & 1:
        raise InputError(Problem(STARTUP_OUTSIDE, where, f"{place} is in no executable PT_LOAD segment"))
    homes = [s for s in elf.loads if address in s.virtual]
    if len(homes) > 1:
        text = f"{place} is in two PT_LOAD segments, loaded at {homes[0].physical} and {homes[1].physical}"
        raise InputError(Problem(STARTUP_AMBIGUOUS, where, text))
    return Startup(
        name=name,
        vaddr=address,
        paddr=segment.paddr + (address - segment.vaddr),
        width=width,
        entered_at="linked" if guest is None else guest.entered_at,
        load_offset=moved % (1 << 64),
    )


def own_startup(guest: Guest, elf: ElfImage) -> int | None:
    """Physical address at which the file itself says that such a kernel is entered; None if it does not.

    Raises RefusedError for a file that contradicts itself.
    """
    return guest.startup_of(elf) if isinstance(guest, SelfDescribed) else None


def linux_startup(
    image: ElfImage, joins: str | None, width: int | None = None, guest: Guest | None = None, moved: int = 0
) -> Startup | None:
    """Where a Linux is entered: its e_entry, or the symbol at which a target's own entry `joins` the others.

    None if that symbol is not known. The rest is as in `find_startup`.
    """
    if joins is None:
        found = find_startup(image, image.entry - moved, width, guest, moved)
        return replace(found, name=f"startup_{found.width}")
    return find_startup(image, joins, width, guest, moved) if joins in image.symbols else None


def is_linux(image: ElfImage) -> bool:
    """Whether the kernel says that it is Linux: BUILD_SALT and its like (include/linux/elfnote.h)."""
    return any(note.owner == "Linux" for note in image.notes)


def request_subject(request: BootRequest, host: Host, budget: int, timeout: float) -> Subject:
    """What `bootbuild boot` has to prove of a file.

    Without `until`: the image's own record says it, then the file as `guest` reads it, then `e_entry` of a
    Linux ELF; else InputError. With `console:TEXT` any image can be asked: where its startup path is unknown
    and no `guest` is to judge there, its entry stands for it, and without one its loaders say why; so too
    where what is packed in a file cannot be had, if the targets' loaders read the file as it is.
    """
    from bootbuild.formats.notes import claims
    from bootbuild.formats.payload import open_content, open_snapshot, read_payload, sealed
    from bootbuild.formats.symbols import read_system_map

    content, name = open_snapshot(request.image), str(request.image)
    targets = {name.split("@")[0] for name in request.profiles}
    try:
        image, _ = read_payload(content, name)
    except InputError:
        text = _expected(request)
        if not text or request.guest or not all(getattr(host.target(t), "packed", False) for t in targets):
            raise
        return _unread(sealed(content, name), request, text, budget, timeout)
    claimed = claims(image)
    symbols: Mapping[str, int] = image.symbols
    if request.symbols is not None:
        moved = next((c.startup.moved for c in claimed), 0)
        symbols = read_system_map(open_content(request.symbols), str(request.symbols), moved)
        image = replace(image, symbols=symbols)
    expect = _expected(request)
    until = None if expect else request.until
    claim = next((c for c in claimed if c.target in targets), None)
    guest, stub = request.guest, None
    if claim is not None:
        guest, stub = guest or claim.guest, claim.stub if claim.stub.size else None
    if until is not None:
        startup = find_startup(image, _address(until), None)
        if claim is not None:
            startup = replace(startup, load_offset=claim.startup.load_offset)
        if claim is not None and startup.paddr == claim.startup.paddr:
            startup = replace(startup, width=claim.startup.width)
        elif request.guest is None and guest == "native":
            guest = None  # its handover is at the startup path that the image names, and nowhere behind it
    elif claim is not None:
        startup = claim.startup
    else:
        startup, guest = _unrecorded(image, guest, targets, host, expect)
    return Subject(
        image=image,
        startup=replace(startup, width=request.width or startup.width),
        guest=host.guest(guest) if guest else None,
        unpacking=host.guest("linux") if is_linux(image) else None,
        offer=_offer(request, image),
        stub=stub,
        symbols=symbols,
        expect=expect,
        budget=request.budget or budget,
        timeout=request.timeout or timeout,
        exact="--exact" if request.exact else "",
        level=request.level,
        code=code_at(image, startup),
        untouched=claim is not None and startup.paddr == claim.startup.paddr,
        from_entry=startup == _ENTRY,
    )


def _expected(request: BootRequest) -> bytes:
    """The text that is waited for on a console; b"" for a place."""
    until = request.until or ""
    return until[len(_CONSOLE) :].encode() if until.startswith(_CONSOLE) else b""


def _unread(image: ElfImage, request: BootRequest, expect: bytes, budget: int, timeout: float) -> Subject:
    """What is to be proved of a file of which nothing is known but how its loaders enter it."""
    return Subject(
        image=image,
        startup=_ENTRY,
        guest=None,
        offer=_offer(request, image),
        stub=None,
        symbols={},
        expect=expect,
        budget=request.budget or budget,
        timeout=request.timeout or timeout,
        exact="--exact" if request.exact else "",
        code=b"",
        untouched=False,
        from_entry=True,
    )


def _unrecorded(
    image: ElfImage, guest: str | None, targets: Collection[str], host: Host, expect: bytes
) -> tuple[Startup, str | None]:
    """The startup path of an image that has no record of it, and the guest. Raises InputError (BB-E080)."""
    if guest is not None and (own := own_startup(host.guest(guest), image)) is not None:
        widths = host.guest(guest).widths
        return find_startup(image, own, widths[0] if len(widths) == 1 else None, host.guest(guest)), guest
    if is_linux(image):
        names = {linux_joins(host.target(name)) for name in targets}
        joined = linux_startup(image, names.pop() if len(names) == 1 else None)
        if joined is not None:
            return joined, guest or "linux"
    entries = {name: host.target(name).entry_of(image) for name in sorted(targets)}
    first, *others = {*entries.values()}
    if expect and guest is None and not others:
        if first is None:  # its loaders will say why
            return _ENTRY, None
        return replace(find_startup(image, first, None), name="entry", width=0), None
    text, remedy = "the image does not say where its startup path is", ""
    if guest is not None:
        text += f", where guest {guest} is judged"
    elif kinds := [name for name in entries if _is_kernel_of(name, image, host)]:
        remedy = f"a kernel of guest {kinds[0]} is entered where the file says: `--guest {kinds[0]}`; or "
        remedy += "name a place by `--until`"
    elif barred := [name for name, entry in entries.items() if entry is None]:
        text += f", and has no entry for {' or '.join(barred)}"
        remedy = f"have an entry made, by a recipe with [targets.{barred[0]}]"
    raise InputError(Problem(STARTUP_UNKNOWN, image.name, text, remedy))


def _is_kernel_of(protocol: str, image: ElfImage, host: Host) -> bool:
    """Whether the file says itself where it is entered by a protocol that is a target's and a guest's."""
    return protocol in host.names("guest") and own_startup(host.guest(protocol), image) is not None


def _offer(request: BootRequest, image: ElfImage) -> Offer:
    """What the kernel is to get: what its application brings with it, else what is asked for. InputError."""
    from bootbuild.formats.application import carried
    from bootbuild.formats.payload import open_snapshot

    cmdline, modules = carried(image.file)
    both = [
        what
        for what, own, asked in (
            ("a command line", cmdline, request.cmdline),
            ("modules", modules, request.modules),
        )
        if own and asked
    ]
    if both:
        raise InputError(Problem(BROUGHT, image.name, f"it brings {what} of its own") for what in both)
    return Offer(
        cmdline=cmdline or request.cmdline,
        modules=modules
        or tuple((path.name, open_snapshot(path), cmdline) for path, cmdline in request.modules),
        memory=request.memory or 0,
    )


def _address(text: str) -> str | int:
    """A number if it is one, else a symbol."""
    try:
        return int(text, 0)
    except ValueError:
        return text
