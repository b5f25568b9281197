"""A System.map is read strictly: every line is a symbol, or the map is refused with its bad lines."""

from __future__ import annotations

from typing import Any

import pytest

from bootbuild.errors import InputError
from bootbuild.formats.symbols import MAX_SYSTEM_MAP, read_system_map
from bootbuild.model.content import FileContent, MemoryContent


def read(text: bytes) -> dict[str, int]:
    return dict(read_system_map(MemoryContent(text), "System.map"))


def test_lines_of_nm_are_symbols() -> None:
    found = read(b"0000000001000000 T startup_64\nffffffff81000040 t secondary\nc0000000 D data32\n")
    assert found == {"startup_64": 0x1000000, "secondary": 0xFFFFFFFF81000040, "data32": 0xC0000000}


def test_the_last_line_needs_no_end() -> None:
    assert read(b"0000000001000000 T startup_64") == {"startup_64": 0x1000000}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_a_global_wins_over_a_local_of_the_same_name(order: tuple[int, ...]) -> None:
    lines = (b"00000001 t twice\n", b"00000002 T twice\n", b"00000003 b twice\n")
    assert read(b"".join(lines[i] for i in order)) == {"twice": 2}


BAD = {
    "Debian's notice in the package without debug symbols": (
        b"ffffffffffffffff B The real System.map is in the linux-image-6.1.0-dbg package\n"
    ),
    "short address": b"1000 T startup_64\n",
    "no type": b"0000000001000000 startup_64\n",
    "two spaces": b"0000000001000000  T startup_64\n",
    "no name": b"0000000001000000 T \n",
    "carriage return": b"0000000001000000 T a\r\nb\n",
    "blank line": b"\n",
    "binary": b"\x7fELF\x02\x01\x01",
    "one name too long": b"0000000001000000 T " + b"x" * 4097,
    "empty": b"",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_anything_else_is_refused(text: bytes) -> None:
    with pytest.raises(InputError) as caught:
        read(text)
    assert {problem.rule.id for problem in caught.value.problems} == {"BB-E017"}


def test_bad_lines_are_named_up_to_ten() -> None:
    with pytest.raises(InputError) as caught:
        read(b"00000001 t good\n" + b"bad\n" * 1000)
    assert [p.where for p in caught.value.problems] == [f"System.map:{n}" for n in range(2, 12)]


def test_a_map_of_more_than_64_mib_is_refused_unread() -> None:
    class Huge(MemoryContent):
        size = MAX_SYSTEM_MAP + 1

        def read(self, offset: int, size: int) -> bytes:
            raise AssertionError

    with pytest.raises(InputError):
        read_system_map(Huge(b""), "System.map")


def test_a_real_map_gives_the_startup_path(kernels: Any) -> None:
    found = read_system_map(FileContent(kernels.cloud.system_map), "System.map")
    assert found["startup_64"] == kernels.cloud.symbol("startup_64")
    assert len(found) > 50_000
