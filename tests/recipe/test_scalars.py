"""Addresses and sizes, as people write them."""

from __future__ import annotations

import pytest

from bootbuild.recipe.scalars import address, size, symbol_or_address

MIB = 1 << 20


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (0, 0),
        (0x100000, MIB),
        ("0", 0),
        ("0x100000", MIB),
        ("0X10_0000", MIB),
        ("0b11", 3),
        ("0o17", 15),
        ("1_000", 1000),
        ("1M", MIB),
        ("1m", MIB),
        ("1 MiB", MIB),
        (" 16MIB ", 16 * MIB),
        ("4K", 4096),
        ("4KiB", 4096),
        ("2G", 2 << 30),
        ("0x10M", 16 * MIB),
        ("0xffffffffffffffff", (1 << 64) - 1),
        ("0xffffffff80000000", 0xFFFFFFFF80000000),
    ],
)
def test_an_address_is_a_number_with_an_optional_unit(written: object, value: int) -> None:
    assert address(written) == value
    assert symbol_or_address(written.strip() if isinstance(written, str) else written) == value
    if value:
        assert size(written) == value


@pytest.mark.parametrize(
    "written",
    [
        -1,
        1 << 64,
        "-1",
        "0x10000000000000000",
        "16777216T",
        "",
        " ",
        "M",
        "1X",
        "1MB",
        "1kb",
        "0x",
        "0x_",
        "1__0",
        "007",
        "1.5M",
        "1M M",
        "1e3",
        "٣",
        "1" * 65,
        True,
        1.0,
        None,
        [],
        b"1",
    ],
)
def test_anything_else_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        address(written)
    with pytest.raises(ValueError, match=r"\w"):
        size(written)


def test_a_size_is_above_zero() -> None:
    with pytest.raises(ValueError, match="above 0"):
        size("0M")


@pytest.mark.parametrize("name", ["startup_64", "_start", ".text", "kernel::entry", "a" * 512])
def test_what_does_not_begin_with_a_digit_is_a_symbol(name: str) -> None:
    assert symbol_or_address(name) == name


@pytest.mark.parametrize("name", ["", "a b", "a\0", "a\n", "a" * 513, "1x"])
def test_not_everything_is_a_symbol(name: str) -> None:
    with pytest.raises(ValueError, match="not"):
        symbol_or_address(name)
