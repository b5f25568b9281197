"""What a guest finds of command line, memory map and modules, compared with what the environment gave."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from bootbuild.api.guest import GuestView
from bootbuild.model.machine import Given, GivenModule, MapEntry
from bootbuild.model.span import Span

_CHUNK = 1 << 20


def cmdline_fault(found: bytes | None, given: Given) -> str:
    """What is wrong with the command line, in words; "" if nothing is. None is no command line."""
    if (found or b"") == given.cmdline:
        return ""
    return f"command line is {found!r}, the environment gave {given.cmdline!r}"


def map_fault(found: Sequence[MapEntry], given: Given) -> str:
    """What of a memory map is not as docs/handover.md has its normal form, in words; "" if nothing is."""
    # an entry of no size says nothing (qboot counts one too many): the record leaves it out
    offered = sorted((e.address, e.size, e.type) for e in given.memory_map if e.size)
    got = [(e.address, e.size, e.type) for e in found]
    if len(got) != len(offered):
        return f"memory map has {len(got)} entries, the environment gave {len(offered)}"
    for index, (a, b) in enumerate(zip(got, offered, strict=True)):
        if a != b:
            return f"memory map entry {index} is {_entry(a)}, the environment gave {_entry(b)}"
    return ""


def _entry(entry: tuple[int, int, int]) -> str:
    return f"{entry[0]:#x}+{entry[1]:#x} type {entry[2]}"


def module_faults(
    found: Sequence[tuple[Span, bytes | None]], given: Given, view: GuestView
) -> tuple[str, ...]:
    """What is wrong with the modules, given as (addresses, own command line), in words."""
    if len(found) != len(given.modules):
        return (f"{len(found)} modules, the environment gave {len(given.modules)}",)
    pairs = zip(found, given.modules, strict=True)
    wrong = (_module_fault(index, *module, offered, view) for index, (module, offered) in enumerate(pairs))
    return tuple(text for text in wrong if text)


def _module_fault(
    index: int, span: Span, cmdline: bytes | None, offered: GivenModule, view: GuestView
) -> str:
    if span.size != offered.span.size:
        return f"module {index} has {span.size} bytes, the environment gave {offered.span.size}"
    if _digest(view, span) != offered.digest:
        return f"module {index} at {span.start:#x} does not hold the bytes that the environment gave"
    if (cmdline or b"") != offered.cmdline:
        return f"module {index} has command line {cmdline!r}, the environment gave {offered.cmdline!r}"
    return ""


def _digest(view: GuestView, span: Span) -> str:
    state = hashlib.sha256()
    try:
        for at in range(span.start, span.end, _CHUNK):
            state.update(view.read(at, min(_CHUNK, span.end - at)))
    except LookupError:
        return ""
    return state.hexdigest()
