"""Any words in Multiboot2's relocatable tag: model, profile and real GRUB say the same of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bootbuild.api import Filling, InputError, MemoryContent, Offer, Profile
from bootbuild.formats.elf_read import read_elf
from bootbuild.host import Host
from bootbuild_baremetal.environments.grub_bios import Multiboot2 as OnBios
from bootbuild_baremetal.environments.grub_efi import Multiboot2 as OnUefi
from grub import Grub
from grub_verdicts import Oracle
from multiboot_kernels import RELOCATABLE, new, tag

MiB = 1 << 20
COUNT = 96  #: one boot of GRUB is asked about all of them
PLACES = [
    *(
        0,
        0xFFF,
        0x1000,
        0x7FFFF,
        0x9FFFF,
        MiB,
        3 * MiB + 123,
        64 * MiB - 1,
        0x70000000,
        0x7FFFFFFF,
        0xFFFFFFFF,
    )
]
ALIGNMENTS = [0, *(1 << bit for bit in (0, 3, 12, 16, 21, 24, 30, 31))]
PREFERENCES = [0, 1, 2, 2, 3, 0xFFFFFFFF]


def bounds(seed: int) -> list[tuple[int, int, int, int]]:
    """Half of them around one place, where it matters how many bytes there are."""
    choice = random.Random(seed)
    found = []
    for index in range(COUNT):
        least, most = choice.choice(PLACES), choice.choice(PLACES)
        if index % 2:
            most = least + choice.choice([-1, 0, 0x1FFF, 0x2000, 0x2001, 0x3FFF, 0x4000, MiB]) & 0xFFFFFFFF
        found.append((least, most, choice.choice(ALIGNMENTS), choice.choice(PREFERENCES)))
    return found


def why_not(profile: Profile, data: bytes, memory: int) -> list[str]:
    """The rules by which a profile refuses a file."""
    try:
        profile.scene(read_elf(MemoryContent(data), "kernel"), Offer(memory=memory), Filling.EXACT)
    except InputError as error:
        return [problem.rule.id for problem in error.problems]
    return []


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_grub_finds_a_place_where_we_do(
    firmware: str, qemu: Path, grub_pc: Grub, grub_efi: Grub, tmp_path: Path
) -> None:
    efi = firmware == "uefi"
    profile: Profile = OnUefi() if efi else OnBios()
    model = Host.discover().loader("grub-multiboot2-efi64" if efi else "grub-multiboot2")
    tags = bounds(2 if efi else 1)
    files = [new(tag(RELOCATABLE, *one), head={"e_shstrndx": 0}) for one in tags]
    answers = Oracle(grub_efi if efi else grub_pc, qemu, efi).ask("multiboot2", files, tmp_path, patience=40)
    differ = []
    for one, data, real in zip(tags, files, answers, strict=True):
        (said,) = model.judge(MemoryContent(data))
        ours = why_not(profile, data, (512 if efi else 128) * MiB)
        expected = [] if real.verdict == "accept" else ["BB-L335"]
        if said.verdict != real.verdict or ours != expected or said.message not in real.text:
            differ.append(f"{[*map(hex, one)]}: {said.verdict} {said.message}, {ours}, but GRUB: {real.text}")
    assert not differ
    assert {answer.verdict for answer in answers} == {"accept", "refuse"}
