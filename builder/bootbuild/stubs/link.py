"""A small static linker: places the stubs of a chain and fills in what they left open."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bootbuild.errors import PluginError, Problem
from bootbuild.model.blob import Blob, Fixup
from bootbuild.model.payload import Words
from bootbuild.model.span import Span, align_up
from bootbuild.model.waist import Piece
from bootbuild.stubs import rules

GRANULE = 2 << 20  #: bytes of one page of the linked mapping
MAX_MAPPING = 1 << 30  #: bytes; switch_32_64 has page tables for so much
LOW = 1 << 32  #: what every stub can reach
_PARAMS = struct.Struct("<9QII")  #: struct bb_params of waist.h, without the ranges
_RANGE = struct.Struct("<QQ")
_PARAMS_ALIGN = 8
_ADDRESSES = (0x00, 0x08, 0x18, 0x20)  #: of bb_params: startup, stub_base, load_offset, bss_base
_FIXUPS = struct.Struct("<II")  #: bb_fixups: how many words of 4 bytes, and of 8
_WIDE = {"abs32": 4, "abs32s": 4, "abs64": 8, "pc32": 4}


class Params(NamedTuple):
    """What the stubs of one chain are told. Addresses are physical unless they say virtual; sizes bytes."""

    startup: int  #: where the back jumps: virtual at width 64, physical at 32
    stub: Span  #: range that the guest keeps until it is done with record and post stub
    load_offset: int = 0  #: physical address of the payload less the one it was linked at
    mapping: tuple[int, int, int] | None = None  #: (virtual, physical, size) of the payload if they differ
    zero: tuple[Span, ...] = ()  #: the payload's own .bss, which the front clears
    addresses: Words | None = None  #: of the payload; None: the image stays where it is linked

    def pack(self, bss: Span) -> bytes:
        """`struct bb_params` of waist.h; `bss` is the NOBITS of the chain."""
        head = _PARAMS.pack(
            self.startup,
            self.stub.start,
            self.stub.size,
            self.load_offset & (1 << 64) - 1,
            bss.start,
            bss.size,
            *(self.mapping or (0, 0, 0)),
            len(self.zero),
            0,
        )
        return head + b"".join(_RANGE.pack(span.start, span.size) for span in self.zero)


class Extent(NamedTuple):
    """What a chain takes up before it is placed, in bytes; `align` is that of text and of NOBITS."""

    text_size: int
    bss_size: int
    align: int


@dataclass(frozen=True)
class Linked:
    """A placed chain: `text` to be loaded at its base, `bss_size` bytes at the other, exports by name."""

    text: bytes = field(repr=False)
    bss_size: int
    exports: Mapping[str, int]


def extent(
    chain: Sequence[Piece], companions: Sequence[Blob], zero_count: int = 0, addresses: Words | None = None
) -> Extent:
    """Room that `link` will use for params with `zero_count` ranges in `zero` and these `addresses`."""
    blobs = _blobs(chain, companions)
    _, params, bss_size = _lay_out(blobs)
    size = params + _PARAMS.size + _RANGE.size * zero_count
    if addresses is not None:
        absolute = sum(fixup.kind != "pc32" for blob in blobs for fixup in blob.fixups)
        size += _FIXUPS.size + 4 * (absolute + len(_ADDRESSES) + zero_count + len(addresses.places))
    return Extent(
        text_size=size,
        bss_size=bss_size,
        align=max((max(blob.align, blob.bss_align) for blob in blobs), default=1),
    )


def link(
    chain: Sequence[Piece], companions: Sequence[Blob], params: Params, text_base: int, bss_base: int
) -> Linked:
    """Place the stubs and resolve every symbol.

    Bases are physical and multiples of the extent's `align`. `bb_next` is, in each piece, the entry of
    the piece after it; `bb_params` the block of parameters; `bb_fixups`, in an image that may be moved, the
    table of all that holds an address. Raises PluginError with all problems
    (BB-P022 … BB-P026).
    """
    blobs = _blobs(chain, companions)
    places, params_at, bss_size = _lay_out(blobs)
    bss = Span(bss_base, bss_size)
    text = bytearray(params_at)
    bases = [{".text": text_base + text_at, ".bss": bss_base + bss_at} for text_at, bss_at in places]
    problems = [*_range_problems(chain, params, bss), *_mapping_problems(params)]
    exports, doubled = _exports(blobs, bases)
    problems += doubled
    exports["bb_params"] = text_base + params_at
    if params.addresses is not None:
        exports["bb_fixups"] = exports["bb_params"] + _PARAMS.size + _RANGE.size * len(params.zero)
    entries: list[int] = []
    for piece in chain:
        place = piece.blob.exports.get(piece.entry)
        if place is None or place[0] != ".text":
            problems.append(Problem(rules.NO_ENTRY, piece.blob.name, f"{piece.entry} is not exported code"))
        entries.append(exports.get(piece.entry, 0))

    for index, (blob, (text_at, _)) in enumerate(zip(blobs, places, strict=True)):
        symbols = exports | bases[index]
        if index + 1 < len(chain):
            symbols["bb_next"] = entries[index + 1]
        text[text_at : text_at + len(blob.text)] = blob.text
        for fixup in blob.fixups:
            if fixup.symbol not in symbols:
                problems.append(Problem(rules.UNDEFINED, blob.name, _undefined(fixup.symbol)))
                continue
            at = text_at + fixup.offset
            value = symbols[fixup.symbol] + fixup.addend
            field_bytes = _encode(fixup, value, text_base + at)
            if field_bytes is None:
                message = f"{fixup.symbol} at {value:#x} does not fit the {fixup.kind} at +{fixup.offset:#x}"
                problems.append(Problem(rules.RANGE, blob.name, message))
                continue
            text[at : at + len(field_bytes)] = field_bytes
    if problems:
        raise PluginError(dict.fromkeys(problems))
    text += params.pack(bss)
    if params.addresses is not None:
        text += _fixups(blobs, [base[".text"] for base in bases], params, exports["bb_params"])
    return Linked(bytes(text), bss_size, exports)


def _exports(
    blobs: Sequence[Blob], bases: Sequence[Mapping[str, int]]
) -> tuple[dict[str, int], list[Problem]]:
    """The address of each symbol, and which there are twice."""
    owner = dict.fromkeys(("bb_params", "bb_next", "bb_fixups"), "bootbuild")
    exports: dict[str, int] = {}
    problems = []
    for blob, base in zip(blobs, bases, strict=True):
        for name, (section, offset) in sorted(blob.exports.items()):
            if name in owner:
                text = f"exports {name}, and so does {owner[name]}"
                problems.append(Problem(rules.DOUBLED, blob.name, text))
            owner[name] = blob.name
            exports[name] = base[section] + offset
    return exports, problems


def _fixups(blobs: Sequence[Blob], text_bases: Sequence[int], params: Params, params_base: int) -> bytes:
    """The linked addresses of all words that hold one: of the stubs, their parameters and the payload."""
    words: dict[int, list[int]] = {4: [], 8: [params_base + at for at in _ADDRESSES]}
    words[8] += [params_base + _PARAMS.size + _RANGE.size * index for index in range(len(params.zero))]
    for blob, base in zip(blobs, text_bases, strict=True):
        for fixup in blob.fixups:
            if fixup.kind != "pc32":
                words[_WIDE[fixup.kind]].append(base + fixup.offset)
    assert params.addresses is not None
    words[params.addresses.size] += params.addresses.places
    places = [*words[4], *words[8]]
    return _FIXUPS.pack(len(words[4]), len(words[8])) + struct.pack(f"<{len(places)}I", *places)


def _blobs(chain: Sequence[Piece], companions: Sequence[Blob]) -> list[Blob]:
    return [*(piece.blob for piece in chain), *companions]


def _lay_out(blobs: Sequence[Blob]) -> tuple[list[tuple[int, int]], int, int]:
    """Offsets of each blob's text and NOBITS, offset of the parameters, size of all NOBITS."""
    places = []
    text_at = bss_at = 0
    for blob in blobs:
        text_at = align_up(text_at, blob.align)
        bss_at = align_up(bss_at, blob.bss_align)
        places.append((text_at, bss_at))
        text_at += len(blob.text)
        bss_at += blob.bss_size
    return places, align_up(text_at, _PARAMS_ALIGN), align_up(bss_at, 4)


def _encode(fixup: Fixup, value: int, place: int) -> bytes | None:
    """The field's bytes, or None when the value does not fit."""
    if fixup.kind == "pc32":
        value -= place
    signed = fixup.kind in ("pc32", "abs32s")
    size = _WIDE[fixup.kind]
    try:
        return value.to_bytes(size, "little", signed=signed)
    except OverflowError:
        return None


def _undefined(symbol: str) -> str:
    if symbol == "bb_next":
        return "jumps to bb_next, but no piece follows it"
    return f"refers to {symbol}, which no stub exports"


def _range_problems(chain: Sequence[Piece], params: Params, bss: Span) -> Iterator[Problem]:
    """Stubs run with 32-bit pointers, or under the identity map of the first 4 GiB."""
    for name, span in (("stub", params.stub), ("NOBITS", bss), *(("zero", span) for span in params.zero)):
        if not 0 <= span.start <= span.end <= LOW:
            yield Problem(rules.RANGE, "params", f"{name} range {span} is not below 4 GiB")
    if not 0 <= params.startup < (LOW if chain and chain[-1].blob.width == 32 else 1 << 64):
        message = f"startup path at {params.startup:#x} is out of the reach of its width"
        yield Problem(rules.RANGE, "params", message)


def _mapping_problems(params: Params) -> Iterator[Problem]:
    if params.mapping is None:
        return
    vaddr, paddr, size = params.mapping
    where = f"mapping {vaddr:#x} to {paddr:#x}, {size:#x} bytes"
    low = vaddr - vaddr % GRANULE
    high = align_up(vaddr + size, GRANULE)
    if params.addresses is not None:
        yield Problem(rules.MAPPING, where, "is of an image that may be moved")
    if size <= 0:
        yield Problem(rules.MAPPING, where, "is empty")
    elif high - low > MAX_MAPPING:
        yield Problem(rules.MAPPING, where, "is larger than 1 GiB")
    if (vaddr - paddr) % GRANULE:
        yield Problem(rules.MAPPING, where, "does not agree modulo 2 MiB")
    if low < LOW:
        yield Problem(rules.MAPPING, where, "overlaps the identity map of the first 4 GiB")
    elif high > 1 << 64 or (low < (1 << 64) - (1 << 47) and high > 1 << 47):
        yield Problem(rules.MAPPING, where, "is not canonical")
