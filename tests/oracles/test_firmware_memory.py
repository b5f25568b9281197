"""What firmware writes over an image that QEMU loaded is what the profiles say: every byte, hardly more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

import monitors
import tiny_elf
from bootbuild.api import MemoryContent, Offer, RegionKind, Span
from bootbuild.formats.elf_read import read_elf
from bootbuild_pvh.environments import Qemu, QemuMicrovm
from bootbuild_pvh.environments.profile import Setting
from oracle import run_until
from tiny_guest import u32

MiB = 1 << 20
CODE = 0x100000
FILLS = b"\x5a\xa5"  #: what one of them leaves alone by chance, the other shows
SLACK = 1 << 10  #: bytes by which a range may be larger than what is seen at either end
PROFILES = {"pc": Qemu(), "microvm": QemuMicrovm()}
CMDLINE, MODULE = b"root=/dev/none quiet", b"a module" * 700
LOW = Span(0, 0xA0000)


def scanner(fill: int, span: Span) -> bytes:
    """A kernel with `fill` all over `span`, which writes what it finds there to port 0xE9, and resets."""
    code = b"\xfc\xbe" + u32(span.start) + b"\xb9" + u32(span.size)  # cld; mov $start, %esi; mov $size, %ecx
    code += b"\xba\xe9\0\0\0\xf3\x6e"  # mov $0xe9, %edx; rep outsb
    code += b"\x0f\x01\x1d" + u32(CODE + 0x40) + b"\xcc"  # lidt of no entries; int3
    elf = tiny_elf.make(64)
    elf.shdrs = []
    elf.ehdr |= {"e_shoff": 0, "e_shnum": 0, "e_shstrndx": 0}
    place = {"p_vaddr": span.start, "p_paddr": span.start, "p_filesz": span.size, "p_memsz": span.size}
    elf.phdrs[1] |= place | {"p_offset": 0x1000}
    elf.parts = {0x200: code.ljust(0x80, b"\0"), 0x400: elf.parts[0x400], 0x1000: bytes([fill]) * span.size}
    return bytes(elf)


def found(qemu: Path, machine: str, fill: int, span: Span, memory: int, offer: Offer, folder: Path) -> bytes:
    """What of `span` a kernel finds, that had `fill` there, on a machine of `memory` MiB."""
    kernel, module, out = folder / "kernel", folder / "module", folder / "out"
    kernel.write_bytes(scanner(fill, span))
    module.write_bytes(MODULE)
    command = monitors.qemu_kernel(
        qemu,
        kernel,
        machine=machine,
        memory=memory,
        cmdline=offer.cmdline.decode(),
        initrd=module if offer.modules else None,
        debug_port=True,
    )
    command = [part.replace("stdio,id=debug", f"file,id=debug,path={out}") for part in command]
    transcript = run_until(command, timeout=60)
    assert transcript.returncode == 0, str(transcript)
    data = out.read_bytes()
    assert len(data) == span.size
    return data


def written(setting: Setting, cmdline: bytes) -> list[Span]:
    """Everything that a profile has written after it loaded the image, and what is not RAM."""
    loads = [*setting.placing.loads(cmdline), *setting.extras]
    return [
        *(over.span for over in setting.overwritten),
        *(Span(load.address, load.memsz) for load in loads),
        *(region.span for region in setting.regions if region.kind is not RegionKind.RAM),
    ]


def left(span: Span, spans: Sequence[Span]) -> bytearray:
    """1 for each byte of `span` that is in none of `spans`."""
    free = bytearray(b"\1" * span.size)
    for one in spans:
        start, end = max(one.start, span.start), min(one.end, span.end)
        if start < end:
            free[start - span.start : end - span.start] = bytes(end - start)
    return free


SCANS = [
    ("pc", LOW, 128, Offer()),
    ("pc", LOW, 128, Offer(CMDLINE, (("module", MemoryContent(MODULE), b""),))),
    ("pc", Span(15 * MiB, MiB), 16, Offer()),
    ("pc", Span(31 * MiB, MiB), 32, Offer()),
    ("pc", Span(16 * MiB, 2 * MiB), 33, Offer()),  # from 33 MiB on the high zone is a larger one
    ("pc", Span(111 * MiB, 2 * MiB), 128, Offer()),
    ("microvm", LOW, 128, Offer()),
    ("pc", Span(0xC0000, 0x40000), 128, Offer()),
    ("microvm", Span(0xA0000, 0x60000), 128, Offer()),
    ("microvm", LOW, 128, Offer(CMDLINE, (("module", MemoryContent(MODULE), b""),))),
    ("microvm", Span(15 * MiB, MiB), 16, Offer()),
]


@pytest.mark.parametrize(("machine", "span", "memory", "offer"), SCANS)
def test_the_memory_that_firmware_writes(
    qemu: Path, tmp_path: Path, machine: str, span: Span, memory: int, offer: Offer
) -> None:
    first, second = (found(qemu, machine, fill, span, memory, offer, tmp_path) for fill in FILLS)
    changed = bytes(
        not (one == FILLS[0] and other == FILLS[1]) for one, other in zip(first, second, strict=True)
    )
    image = read_elf(MemoryContent(scanner(0, Span(0, 1))), "kernel")  # one that fits: it moves nothing
    asked = Offer(offer.cmdline, offer.modules, memory * MiB)
    setting = PROFILES[machine].setting(image, CODE, asked)
    free = left(span, written(setting, offer.cmdline))
    assert [hex(span.start + at) for at in range(span.size) if changed[at] and free[at]][:10] == []
    for over in setting.overwritten:
        if span.covers(over.span):
            at = over.span.start - span.start
            seen = changed[at : at + over.span.size]
            assert seen.index(1) <= SLACK, over
            assert over.span.size - seen.rindex(1) - 1 <= SLACK, over
            assert over.zeroed == (not any(first[at : at + over.span.size])), over


def test_a_byte_that_no_range_has_is_seen() -> None:
    assert left(Span(0x10, 4), [Span(0, 0x11), Span(0x12, 1)]) == b"\0\1\0\1"
