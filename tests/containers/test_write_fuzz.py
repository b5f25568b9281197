"""Whatever a payload's headers say, an image of it is either refused or exactly what was asked."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootbuild.containers import container
from bootbuild.errors import InputError, PluginError, RefusedError
from bootbuild.formats.elf_read import read_elf
from bootbuild.model.content import MemoryContent
from bootbuild.model.payload import Payload

Make = Callable[..., Any]
VALUES = st.sampled_from([0, 1, 4, 6, 0x1000, 0x100000, 1 << 31, (1 << 32) - 1, (1 << 64) - 1]) | st.integers(
    0, (1 << 64) - 1
)
OWNERS = st.sampled_from(
    [b"Xen\0", b"GNU\0", b"Linux\0", b"bootbuild\0", b"CORE\0", b"stapsdt\0", b"", b"\xff\0"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.lists(st.tuples(st.integers(0, 39), VALUES), max_size=3),
    notes=st.lists(st.tuples(OWNERS, st.integers(0, 20), st.binary(max_size=24)), max_size=5),
)
def test_no_header_makes_a_wrong_image(
    make_payload: Make,
    contribution: Make,
    tmp_path: Path,
    fields: list[tuple[int, int]],
    notes: list[tuple[bytes, int, bytes]],
) -> None:
    payload: Payload = make_payload(64)
    data = bytearray(payload.elf.content.read(0, payload.elf.content.size))
    packed = b"".join(
        struct.pack("<III", len(owner), len(desc), type_)
        + owner.ljust(-(-len(owner) // 4) * 4, b"\0")
        + desc.ljust(-(-len(desc) // 4) * 4, b"\0")
        for owner, type_, desc in notes
    )
    struct.pack_into("<QQQQQ", data, 64 + 3 * 56 + 8, len(data), 0, 0, len(packed), len(packed))
    data += packed
    for field, value in fields:  # words of the program header table, p_type and p_flags as one
        struct.pack_into("<Q", data, 64 + 8 * (field % 35), value)
    out = tmp_path / "out.elf"
    try:
        elf = read_elf(MemoryContent(data), "vmlinux")
        made = replace(payload, elf=elf)
        layout = container("elf").lay_out(made, [contribution(made)])
        container("elf").write(made, layout, out)
    except (InputError, RefusedError, PluginError):
        return
    image = read_elf(MemoryContent(out.read_bytes()), "out.elf")
    assert image.notes[0].owner == "Xen"
    assert len(image.loads) == len(elf.loads) + 2
