"""What firmware and loader leave of a Multiboot image in low memory: all that the profiles accept."""

from __future__ import annotations

from pathlib import Path

import pytest

import grub
import monitors
from bootbuild.api import (
    ElfImage,
    Filling,
    InputError,
    MemoryContent,
    Offer,
    Profile,
    RegionKind,
    Scene,
    Span,
)
from bootbuild.formats.elf_read import read_elf
from bootbuild_baremetal.environments import grub_bios
from bootbuild_baremetal.environments import qemu as qemu_profile
from grub import Grub, Menu
from oracle import run_until
from test_broken_multiboot_guests import BOTH
from tiny_guest import u32

CODE = 0x90000
FILLS = b"\x5a\xa5"  #: what one of them leaves alone by chance, the other shows
PROFILES: dict[str, Profile] = {
    "multiboot1@qemu": qemu_profile.Multiboot1(),
    "multiboot1@grub": grub_bios.Multiboot1(),
    "multiboot2@grub-bios": grub_bios.Multiboot2(),
}


def scanner(fill: int, span: Span) -> bytes:
    """A kernel with `fill` all over `span`, which writes what it finds there to port 0xE9, and resets."""
    code = b"\xfc\xbe" + u32(span.start) + b"\xb9" + u32(span.size)  # cld; mov $start, %esi; mov $size, %ecx
    code += b"\xba\xe9\0\0\0\xf3\x6e"  # mov $0xe9, %edx; rep outsb
    code += b"\x0f\x01\x1d" + u32(CODE + 0x40) + b"\xcc"  # lidt of no entries; int3
    segments = [(0x800, CODE, code.ljust(0x80, b"\0")), (0x1000, span.start, bytes([fill]) * span.size)]
    head = b"\x7fELF\1\1\1".ljust(16, b"\0") + b"\2\0\3\0" + u32(1) + u32(CODE) + u32(52) + bytes(8)
    head += bytes((52, 0, 32, 0, len(segments), 0, 40, 0, 0, 0, 0, 0))
    for offset, address, data in segments:
        head += b"".join(map(u32, (1, offset, address, address, len(data), len(data), 7, 1)))
    image = bytearray(head.ljust(0x300, b"\0") + BOTH)
    for offset, _, data in segments:
        image = image.ljust(offset, b"\0") + data
    return bytes(image)


def image_of(data: bytes) -> ElfImage:
    return read_elf(MemoryContent(data), "kernel")


def left(scene: Scene, image: ElfImage, span: Span) -> bytearray:
    """1 for each byte of `span` that a scene leaves to the image."""
    free = bytearray(b"\1" * span.size)
    spans = [Span(load.address, load.memsz) for load in scene.loads if load.content is not image.content]
    spans += [region.span for region in scene.regions if region.kind is not RegionKind.RAM]
    for one in spans:
        start, end = max(one.start, span.start), min(one.end, span.end)
        if start < end:
            free[start - span.start : end - span.start] = bytes(end - start)
    return free


BELOW, ABOVE = [Span(0x500, 0x500), Span(0x2000, 0x4000)], [Span(0xA000, 0x6000), Span(0x11000, 0x6F000)]
ACCEPTED = [(name, span) for name in PROFILES for span in (*BELOW, *ABOVE)]
ACCEPTED = [(name, span) for name, span in ACCEPTED if name != "multiboot1@qemu" or span in ABOVE]


@pytest.mark.parametrize("span", BELOW, ids=str)
def test_one_block_over_qemus_information_is_refused(span: Span) -> None:
    with pytest.raises(InputError, match="as one block, over the information at 0x9000-0x9558"):
        PROFILES["multiboot1@qemu"].scene(image_of(scanner(0, span)), Offer(), Filling.EXACT)


@pytest.mark.parametrize(("name", "span"), ACCEPTED, ids=str)
def test_an_image_in_low_memory_is_there_whole(
    qemu: Path, grub_pc: Grub, name: str, span: Span, tmp_path: Path
) -> None:
    image = image_of(scanner(FILLS[0], span))
    scene = PROFILES[name].scene(image, Offer(), Filling.EXACT)
    assert left(scene, image, span) == b"\1" * span.size
    for fill in FILLS:
        kernel, out = tmp_path / "kernel", tmp_path / "out"
        kernel.write_bytes(scanner(fill, span))
        if name == "multiboot1@qemu":
            command = monitors.qemu_kernel(qemu, kernel, debug_port=True)
            command = [part.replace("stdio,id=debug", f"file,id=debug,path={out}") for part in command]
        else:
            menu = Menu("multiboot" if name == "multiboot1@grub" else "multiboot2", kernel)
            command = grub_pc.bios(qemu, menu, tmp_path)
            command[command.index("isa-debugcon,iobase=0xe9,chardev=console")] = (
                "isa-debugcon,iobase=0xe9,chardev=debug"
            )
            command += ["-chardev", f"file,id=debug,path={out}"]
        transcript = run_until(command, fail=grub.FAILS, timeout=60)
        assert transcript.returncode == 0, str(transcript)
        assert out.read_bytes() == bytes([fill]) * span.size
