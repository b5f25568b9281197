"""The recipe's own scalars: Address and Size, written as people write them."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"(0x[0-9a-f_]+|0o[0-7_]+|0b[01_]+|[0-9][0-9_]*)\s*([a-z]*)", re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "kib": 10, "m": 20, "mib": 20, "g": 30, "gib": 30, "t": 40, "tib": 40}
_DECIMAL = {"kb", "mb", "gb", "tb"}
LONGEST = 64  #: characters; nothing that fits 64 bits needs more
LIMIT = 1 << 64


def address(value: object) -> int:
    """An address: an integer, or text such as "0x100000", "1M", "16MiB". Raises ValueError."""
    return _scalar(value, "an address")


def size(value: object) -> int:
    """A size in bytes, above 0; units are powers of 1024: "512M", "64MiB", 0x200000. Raises ValueError."""
    number = _scalar(value, "a size")
    if number == 0:
        raise ValueError("a size must be above 0")
    return number


def symbol_or_address(value: object) -> str | int:
    """The name of a symbol, or, if it begins with a digit, an address. Raises ValueError."""
    if isinstance(value, str) and not value[:1].isdigit():
        if not value or len(value) > 512 or not value.isprintable() or " " in value:
            raise ValueError("not the name of a symbol")
        return value
    return address(value)


def _scalar(value: object, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{what} is an integer or text such as '0x100000' or '1M'")
    number = value if isinstance(value, int) else _parse(value, what)
    if not 0 <= number < LIMIT:
        raise ValueError(f"{what} must be at least 0 and fit 64 bits")
    return number


def _parse(text: str, what: str) -> int:
    match = _NUMBER.fullmatch(text.strip()) if len(text) <= LONGEST else None
    unit = match[2].lower() if match else ""
    if match and unit in _DECIMAL:
        raise ValueError(f"the unit {match[2]!r} may mean 1000 or 1024; write {match[2][0].upper()}iB")
    try:
        if match and unit in _UNITS:
            return int(match[1], 0) << _UNITS[unit]
    except ValueError:  # "0x_", "1__0", "007"
        pass
    raise ValueError(f"not {what}: write an integer, or text such as '0x100000' or '1M'")
