"""The two files of a blob: NAME.bin, its text, and NAME.json, all the rest."""

from __future__ import annotations

import hashlib
import json
from typing import Any, cast, get_args

from bootbuild.model.blob import Blob, Fixup, FixupKind, Section

FORMAT = 1
MAX_BYTES = 1 << 20  #: of either file; a stub is some kilobytes
MAX_BSS = 16 << 20  #: bytes
_SIZES = {"abs32": 4, "abs32s": 4, "abs64": 8, "pc32": 4}
_KEYS = {
    "align": int,
    "bss_align": int,
    "bss_size": int,
    "exports": dict,
    "fixups": list,
    "format": int,
    "name": str,
    "sha256": str,
    "size": int,
    "sources": str,
    "toolchain": str,
    "width": int,
}


def describe(blob: Blob) -> bytes:
    """NAME.json: sorted keys, one fixup a line, no time, no path."""
    data = {
        "align": blob.align,
        "bss_align": blob.bss_align,
        "bss_size": blob.bss_size,
        "exports": {name: list(place) for name, place in sorted(blob.exports.items())},
        "fixups": [[f.offset, f.kind, f.symbol, f.addend] for f in blob.fixups],
        "format": FORMAT,
        "name": blob.name,
        "sha256": hashlib.sha256(blob.text).hexdigest(),
        "size": len(blob.text),
        "sources": blob.sources,
        "toolchain": blob.toolchain,
        "width": blob.width,
    }
    lines = []
    for key, value in sorted(data.items()):
        if key == "fixups" and value:
            rows = ",\n".join(f"  {json.dumps(row)}" for row in cast("list[Any]", value))
            lines.append(f' "fixups": [\n{rows}\n ]')
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def assemble(name: str, text: bytes, description: bytes) -> Blob:
    """The blob that the two files hold. Raises ValueError with what is wrong, in one sentence."""
    data = _parse(description)
    _agree(data, name, text)
    return Blob(
        name=name,
        width=data["width"],
        text=text,
        align=data["align"],
        bss_size=data["bss_size"],
        bss_align=data["bss_align"],
        fixups=tuple(_fixup(row, len(text)) for row in data["fixups"]),
        exports={
            symbol: _export(symbol, place, len(text), data["bss_size"])
            for symbol, place in data["exports"].items()
        },
        toolchain=data["toolchain"],
        sources=data["sources"],
    )


def _parse(description: bytes) -> dict[str, Any]:
    if len(description) > MAX_BYTES:
        raise ValueError(f"NAME.json is larger than {MAX_BYTES} bytes")
    try:
        data = json.loads(description)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"NAME.json is not JSON: {error}") from None
    if not isinstance(data, dict) or set(data) != set(_KEYS):
        raise ValueError(f"NAME.json must have exactly the keys {', '.join(sorted(_KEYS))}")
    for key, kind in _KEYS.items():
        if type(data[key]) is not kind:
            raise ValueError(f"{key} is not of type {kind.__name__}")
    return data


def _agree(data: dict[str, Any], name: str, text: bytes) -> None:
    digest = hashlib.sha256(text).hexdigest()
    claims = (
        (len(text) <= MAX_BYTES, f"NAME.bin is larger than {MAX_BYTES} bytes"),
        (data["format"] == FORMAT, f"format is {data['format']}; this bootbuild reads {FORMAT}"),
        (data["name"] == name, f"name is {data['name']!r}"),
        (data["size"] == len(text), f"NAME.bin has {len(text)} bytes, NAME.json says {data['size']}"),
        (data["sha256"] == digest, "NAME.bin does not have the SHA-256 of NAME.json"),
        (data["width"] in (32, 64), f"width is {data['width']}, not 32 or 64"),
        (_is_alignment(data["align"]), f"align is {data['align']}, not a power of two to 2 MiB"),
        (_is_alignment(data["bss_align"]), f"bss_align is {data['bss_align']}, not a power of two to 2 MiB"),
        (0 <= data["bss_size"] <= MAX_BSS, f"bss_size is {data['bss_size']}, not between 0 and 16 MiB"),
    )
    for holds, otherwise in claims:
        if not holds:
            raise ValueError(otherwise)


def _is_alignment(value: int) -> bool:
    return 0 < value <= 2 << 20 and not value & (value - 1)


def _fixup(row: object, size: int) -> Fixup:
    match row:
        case [int(offset), str(kind), str(symbol), int(addend)] if kind in get_args(FixupKind):
            if not 0 <= offset <= size - _SIZES[kind]:
                raise ValueError(f"fixup at {offset:#x} is outside the text")
            if abs(addend) > 1 << 63:
                raise ValueError(f"addend of the fixup at {offset:#x} has more than 64 bits")
            return Fixup(offset, cast("FixupKind", kind), symbol, addend)
    raise ValueError(f"fixup {json.dumps(row)[:80]} is not [offset, kind, symbol, addend]")


def _export(symbol: str, place: object, text_size: int, bss_size: int) -> tuple[Section, int]:
    match place:
        case [".text" | ".bss" as section, int(offset)]:
            if not 0 <= offset <= (text_size if section == ".text" else bss_size):
                raise ValueError(f"export {symbol} is outside {section}")
            return section, offset
    raise ValueError(f"export {symbol} is not [section, offset]")
