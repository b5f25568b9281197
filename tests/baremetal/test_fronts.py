"""The Multiboot fronts on information that is damaged, or less than usual: they say why, and stop."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bootbuild.abi import multiboot, multiboot2
from bootbuild.abi.multiboot import MultibootInfo
from bootbuild.api import Scene
from bootbuild.boot.prove import prove
from bootbuild.boot.subject import request_subject
from bootbuild.host import Host
from bootbuild.model.content import MemoryContent
from bootbuild.model.machine import Filling, Load, MapEntry, Offer
from bootbuild.model.payload import ElfImage
from bootbuild.model.request import BootRequest
from bootbuild.model.span import Span
from bootbuild.model.verdict import Outcome, ProfileVerdict
from bootbuild.pipeline import BUDGET, TIMEOUT
from bootbuild_baremetal.environments import grub_bios, grub_efi
from recipe_text import build_text

CMDLINE = b"one two"


@dataclass(frozen=True)
class Changed:
    """What a loader that is not GRUB hands over: other bytes at the information, other registers."""

    information: Callable[[bytearray], object] = bytes  # which changes nothing
    registers: dict[str, int] | None = None
    own_map: tuple[MapEntry, ...] | None = None  #: what the environment is said to have given


def changed(scene: Scene, change: Changed, size: int) -> Scene:
    given = scene.given
    own = next(load for load in given.structures if load.address == given.data)
    raw = bytearray(own.content.read(own.offset, own.size)[:size])
    change.information(raw)
    put = Load(given.data, MemoryContent(bytes(raw)), 0, len(raw), len(raw))
    structures = (put, *(load for load in given.structures if load.address != given.data))
    given = replace(given, structures=structures)
    if change.own_map is not None:
        given = replace(given, memory_map=change.own_map, native_map=Span(0, 0))
    registers = {**scene.state.registers, **(change.registers or {})}
    state = replace(scene.state, registers=registers)
    return replace(scene, loads=(*scene.loads, put), given=given, state=state)


class OtherMultiboot1(grub_bios.Multiboot1):
    """multiboot1@grub, changed."""

    def __init__(self, change: Changed) -> None:
        self._change = change

    def scene(
        self, image: ElfImage, offer: Offer, filling: Filling, only: frozenset[str] | None = None
    ) -> Scene:
        return changed(super().scene(image, offer, filling, only), self._change, multiboot.SIZE)


class OtherMultiboot2(grub_bios.Multiboot2):
    """multiboot2@grub-bios, changed."""

    def __init__(self, change: Changed) -> None:
        self._change = change

    def scene(
        self, image: ElfImage, offer: Offer, filling: Filling, only: frozenset[str] | None = None
    ) -> Scene:
        return changed(super().scene(image, offer, filling, only), self._change, 1 << 16)


class OtherEfi(grub_efi.Multiboot2):
    """multiboot2@grub-efi64 with living boot services, changed."""

    def __init__(self, change: Changed) -> None:
        self._change = change

    def scene(
        self, image: ElfImage, offer: Offer, filling: Filling, only: frozenset[str] | None = None
    ) -> Scene:
        return changed(super().scene(image, offer, filling, only), self._change, 1 << 16)


OTHERS: dict[str, type[OtherMultiboot1 | OtherMultiboot2 | OtherEfi]] = {
    "multiboot1": OtherMultiboot1,
    "multiboot2": OtherMultiboot2,
    "efi": OtherEfi,
}


@pytest.fixture(scope="module")
def images(hello64: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("hello")
    record = build_text(
        f"""
        api = 1
        [payload]
        path = "{hello64}"
        startup = "startup_64"
        [targets.multiboot1]
        profiles = ["grub"]
        [targets.multiboot2]
        boot_services = true
    """,
        folder,
    )
    images = {image.targets[0]: Path(image.path) for image in record.images}
    return images | {"efi": images["multiboot2"]}


def boot(images: dict[str, Path], target: str, change: Changed) -> ProfileVerdict:
    request = BootRequest(images[target], (OTHERS[target].target,), cmdline=CMDLINE)
    subject = request_subject(request, Host.discover(), BUDGET, TIMEOUT)
    return prove(subject, OTHERS[target](change))


@pytest.mark.parametrize("target", OTHERS)
def test_unchanged_it_boots(images: dict[str, Path], target: str) -> None:
    verdict = boot(images, target, Changed())
    assert verdict.outcome is Outcome.BOOTED, verdict.findings


def word(at: int, value: int) -> Callable[[bytearray], None]:
    return lambda raw: struct.pack_into("<I", raw, at, value)


def info(**fields: int) -> Callable[[bytearray], None]:
    """Fields of the Multiboot 1 information; `flags` are changed, the others set."""

    def change(raw: bytearray) -> None:
        own = MultibootInfo.unpack(bytes(raw))
        flags = own.flags ^ fields.get("flags", 0)
        raw[:] = replace(own, **{**fields, "flags": flags}).pack()  # type: ignore[arg-type]

    return change


def tag(kind: int, at: int, value: int) -> Callable[[bytearray], None]:
    """A word of the first tag of a type in the Multiboot2 information; `at`: from its start."""

    def change(raw: bytearray) -> None:
        own = multiboot2.Multiboot2Info.unpack(bytes(raw))
        struct.pack_into("<I", raw, own.offset(kind) - multiboot2.TAG_SIZE + at, value)

    return change


MAP = multiboot2.TagType.MEMORY_MAP
LINE = multiboot2.TagType.CMDLINE
ALIVE = multiboot2.TagType.EFI_BOOT_SERVICES
DIES: list[tuple[str, Changed, str]] = [
    ("multiboot1", Changed(registers={"rax": 0}), "EAX and EBX are not those of Multiboot"),
    ("multiboot1", Changed(registers={"rax": multiboot2.MAGIC}), "EAX and EBX are not those of Multiboot"),
    ("multiboot1", Changed(registers={"rbx": 0}), "EAX and EBX are not those of Multiboot"),
    ("multiboot1", Changed(info(flags=1 << 20)), "EBX does not point to a Multiboot information"),
    (
        "multiboot1",
        Changed(info(flags=0x10)),
        "EBX does not point to a Multiboot information",
    ),
    ("multiboot1", Changed(info(mmap_length=20)), "an entry of the memory map has an impossible size"),
    (
        "multiboot1",
        Changed(info(mmap_length=9, mmap_addr=0xFFFFFFF8)),
        "the memory map wraps at 4 GiB",
    ),
    ("multiboot1", Changed(info(flags=0x41)), "the information has no memory map"),
    ("multiboot1", Changed(info(flags=8, mods_count=33)), "there are more than 32 modules"),
    ("multiboot2", Changed(registers={"rax": multiboot.MAGIC}), "EAX and EBX are not those of Multiboot2"),
    ("multiboot2", Changed(registers={"rbx": 0x10004}), "EAX and EBX are not those of Multiboot2"),
    ("multiboot2", Changed(word(0, 0x10008)), "the information has an impossible size, or more than 64 KiB"),
    ("multiboot2", Changed(word(0, 8)), "the information has an impossible size, or more than 64 KiB"),
    ("multiboot2", Changed(word(12, 4)), "a tag of the information runs over its end"),
    ("multiboot2", Changed(word(12, 0x8000)), "a tag of the information runs over its end"),
    ("multiboot2", Changed(word(0, 24)), "the information's tags have no end"),
    ("multiboot2", Changed(tag(MAP, 0, 0)), "the information's tags end before it does"),
    ("multiboot2", Changed(tag(MAP, 0, 99)), "the information has no memory map"),
    ("multiboot2", Changed(tag(MAP, 8, 16)), "the memory map's entries have an impossible size"),
    ("multiboot2", Changed(tag(MAP, 8, 0xFFFFFFF8)), "the information has no memory map"),
    ("multiboot2", Changed(tag(LINE, 12, 0x41414141)), "a string of the information has no end"),
    ("multiboot2", Changed(tag(LINE, 0, 3)), "a module ends before it begins"),
    ("efi", Changed(registers={"rax": multiboot.MAGIC}), "EAX and EBX are not those of Multiboot2"),
    ("efi", Changed(registers={"rbx": 1 << 32}), "the information wraps at 4 GiB"),
    ("efi", Changed(tag(ALIVE, 0, 99)), "the information does not say that boot services are alive"),
]


@pytest.mark.parametrize(("target", "change", "reason"), DIES)
def test_a_front_that_cannot_go_on_says_why_and_stops(
    images: dict[str, Path], target: str, change: Changed, reason: str
) -> None:
    verdict = boot(images, target, change)
    assert verdict.outcome is Outcome.FAILED
    console = verdict.runs[0].console.decode().replace("\r", "")
    assert console == f"bootbuild: cannot start from Multiboot: {reason}\n"


PIXELS = {
    "framebuffer_addr": 0xFD000000,
    "framebuffer_pitch": 4096,
    "framebuffer_width": 1024,
    "framebuffer_height": 768,
    "framebuffer_bpp": 32,
    "framebuffer_type": 1,
}


def test_a_framebuffer_of_pixels_is_passed_on(images: dict[str, Path]) -> None:
    """The judge is told that none was given: so it names what the record has."""
    verdict = boot(images, "multiboot1", Changed(info(flags=multiboot.FRAMEBUFFER, **PIXELS)))
    (finding,) = verdict.findings
    assert re.fullmatch(r".*framebuffer is 0x2[0-9a-f]{5}, the environment gave none.*", finding.message)


@pytest.mark.parametrize("change", [{"framebuffer_type": 2}, {"framebuffer_addr": 0xFFFF000000}])
def test_another_framebuffer_is_not(images: dict[str, Path], change: dict[str, int]) -> None:
    """Text; or out of reach."""
    fields = {**PIXELS, **change}
    verdict = boot(images, "multiboot1", Changed(info(flags=multiboot.FRAMEBUFFER, **fields)))
    assert verdict.outcome is Outcome.BOOTED, verdict.findings


def test_memory_without_a_map_is_made_of_the_two_sizes(images: dict[str, Path]) -> None:
    """Multiboot 0.6.96: a loader may know no more than mem_lower and mem_upper."""
    change = info(flags=multiboot.MEMORY_MAP, mem_lower=636, mem_upper=127 * 1024)
    own = (MapEntry(0, 636 << 10, 1), MapEntry(1 << 20, 127 << 20, 1))
    verdict = boot(images, "multiboot1", Changed(change, own_map=own))
    assert verdict.outcome is Outcome.BOOTED, verdict.findings
