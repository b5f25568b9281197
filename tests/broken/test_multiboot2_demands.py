"""What a Multiboot2 kernel's own header asks for: granted, or refused before anything is built."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from bootbuild.api import InputError, RefusedError
from bootbuild.model.payload import Payload, Startup
from bootbuild_baremetal.guests import Multiboot2
from tiny_guest import BASE, ENTRY, STARTUP, guest, image_of

I386, OPTIONAL = 0, 1
Tag = tuple[int, int, bytes]  #: type, flags, body


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def header(*tags: Tag, architecture: int = I386, checksum: int = 0, end: bool = True) -> bytes:
    """A Multiboot2 header; `checksum` is added to the right one."""
    body = b""
    for kind, flags, data in (*tags, *([(0, 0, b"")] if end else [])):
        body += struct.pack("<HHI", kind, flags, 8 + len(data)) + data
        body += bytes(-len(body) % 8)
    size = 16 + len(body)
    total = 0xE85250D6 + architecture + size
    return words(0xE85250D6, architecture, size, (-total + checksum) & 0xFFFFFFFF) + body


def payload(page: bytes) -> Payload:
    elf = image_of(guest(page=page))
    return Payload(elf, "kernel.elf", "elf", "", "multiboot2", Startup("startup_32", STARTUP, STARTUP, 32))


def settings(page: bytes) -> tuple[int, int]:
    """(load base, whether modules are to begin at a page), as the back is told."""
    (blob,) = Multiboot2().settings(payload(page))
    base, align = struct.unpack("<II", blob.text)
    return base, align


REQUEST, ADDRESS, ENTRY_TAG, CONSOLE, FRAMEBUFFER, ALIGN, SERVICES, EFI32, EFI64, RELOCATABLE = range(1, 11)
RANGE = words(BASE, 0xFFFFFFFF, 0x1000, 0)

GRANTED: dict[str, tuple[Tag, ...]] = {
    "nothing": (),
    "what the back gives": ((REQUEST, 0, words(0, 1, 2, 3, 4, 6, 8, 12, 14, 15, 17, 21)),),
    "how it would be loaded": ((ADDRESS, 0, words(BASE, BASE, 0, 0)), (ENTRY_TAG, 0, words(ENTRY))),
    "an entry": ((ENTRY_TAG, 0, words(ENTRY)),),
    "text, if there is a console": ((CONSOLE, 0, words(2)),),
    "boot services, and entries for EFI": (
        (SERVICES, 0, b""),
        (EFI32, 0, words(ENTRY)),
        (EFI64, 0, words(ENTRY)),
    ),
    "what it can do without": (
        (REQUEST, OPTIONAL, words(5, 9)),
        (CONSOLE, OPTIONAL, words(1)),
        (FRAMEBUFFER, OPTIONAL, words(1024, 768, 32)),
        (0x7777, OPTIONAL, b""),
    ),
}
DEMANDS: dict[str, tuple[Tag, str]] = {
    "boot device": (
        (REQUEST, 0, words(1, 5)),
        "its Multiboot2 header asks for information of type 5 (boot device), which is not given",
    ),
    "ELF sections": (
        (REQUEST, 0, words(9)),
        "its Multiboot2 header asks for information of type 9 (elf sections), which is not given",
    ),
    "what nobody knows": (
        (REQUEST, 0, words(0x1234)),
        "its Multiboot2 header asks for information of type 4660 (unknown), which is not given",
    ),
    "a console": (
        (CONSOLE, 0, words(3)),
        "its Multiboot2 header demands a console (tag 4), and whether there is one is not known",
    ),
    "a video mode": (
        (FRAMEBUFFER, 0, words(1024, 768, 32)),
        "its Multiboot2 header demands a video mode (tag 5), and no stub sets one",
    ),
    "a place that is higher": (
        (RELOCATABLE, 0, words(0x1000000, 0xFFFFFFFF, 0x1000, 0)),
        (
            f"it is loaded from {ENTRY:#x} to 0x104000, outside 0x1000000 to 0xffffffff "
            "of its Multiboot2 header (tag 10)"
        ),
    ),
    "a place at a multiple": (
        (RELOCATABLE, 0, words(BASE, 0xFFFFFFFF, 1 << 22, 0)),
        (f"it is loaded at {ENTRY:#x}, at no multiple of 0x400000, as its Multiboot2 header asks (tag 10)"),
    ),
    "a place that is smaller": (
        (RELOCATABLE, 0, words(BASE, 0x103FFE, 0x1000, 0)),
        (
            f"it is loaded from {ENTRY:#x} to 0x104000, outside {BASE:#x} to 0x103ffe "
            "of its Multiboot2 header (tag 10)"
        ),
    ),
}
BROKEN: dict[str, tuple[str, bytes]] = {
    "an unknown tag": ("BB-L308", header((0x7777, 0, b""))),
    "another architecture": ("BB-L308", header(architecture=4)),
    "a tag without room": ("BB-L307", header()[:16] + struct.pack("<HHI", 1, 0, 4)),
    "no end": ("BB-L307", header((SERVICES, 0, b""), end=False)),
}


@pytest.mark.parametrize("name", GRANTED)
def test_what_can_be_given_is_granted(name: str) -> None:
    assert settings(header(*GRANTED[name])) == (0, 0)


def test_module_alignment_and_the_load_base_are_passed_on() -> None:
    assert settings(header((ALIGN, 0, b""))) == (0, 1)
    assert settings(header((RELOCATABLE, 0, RANGE))) == (ENTRY, 0)
    assert settings(header((RELOCATABLE, OPTIONAL, RANGE), (ALIGN, OPTIONAL, b""))) == (ENTRY, 1)


def test_the_last_byte_may_be_the_last_of_its_range() -> None:
    assert settings(header((RELOCATABLE, 0, words(ENTRY, 0x103FFF, 0x1000, 0)))) == (ENTRY, 0)


@pytest.mark.parametrize("name", DEMANDS)
def test_what_cannot_be_given_is_refused_with_the_reason(name: str) -> None:
    tag, reason = DEMANDS[name]
    with pytest.raises(RefusedError) as caught:
        settings(header((ALIGN, 0, b""), tag))
    assert [(p.rule.id, p.where, p.message) for p in caught.value.problems] == [
        ("BB-H048", "kernel.elf", reason)
    ]


def test_every_demand_is_told_at_once() -> None:
    with pytest.raises(RefusedError) as caught:
        settings(header(*(tag for tag, _ in DEMANDS.values())))
    assert len(caught.value.problems) == len(DEMANDS)


@pytest.mark.parametrize("name", BROKEN)
def test_a_header_that_cannot_be_followed_is_refused(name: str) -> None:
    rule, page = BROKEN[name]
    calls: tuple[Callable[[bytes], object], ...] = (settings, startup)
    for call in calls:
        with pytest.raises(RefusedError if rule == "BB-L308" else InputError) as caught:
            call(page)
        assert [problem.rule.id for problem in caught.value.problems] == [rule]


def startup(page: bytes) -> int | None:
    return Multiboot2().startup_of(payload(page).elf)


def test_its_header_says_where_a_kernel_is_entered() -> None:
    assert startup(header((ENTRY_TAG, 0, words(STARTUP)))) == STARTUP
    assert startup(header()) == ENTRY  # e_entry
    assert startup(b"") is None


def test_a_header_that_no_loader_finds_is_refused_by_what_is_wrong_with_it() -> None:
    with pytest.raises(InputError, match="BB-L304"):
        startup(header(checksum=1))
    assert startup(header(checksum=1) + header((ENTRY_TAG, 0, words(STARTUP)))) == STARTUP
    with pytest.raises(InputError, match="BB-L306"):
        startup(bytes(4) + header())  # not at a multiple of 8
