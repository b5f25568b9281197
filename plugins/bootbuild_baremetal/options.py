"""What a recipe may say under `[targets.multiboot1]` and `[targets.multiboot2]`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from bootbuild_baremetal.headers import VideoMode

_MODE = re.compile(r"(\d{1,5})x(\d{1,5})(?:x(\d{1,2}))?", re.ASCII)


def video_mode(text: str | None) -> VideoMode | None:
    """`any`, or WIDTHxHEIGHT with or without xDEPTH. Raises ValueError."""
    if text is None:
        return None
    if text == "any":
        return VideoMode()
    found = _MODE.fullmatch(text)
    if found is None:
        raise ValueError(f"framebuffer is {text!r}, neither `any` nor like `1024x768x32`")
    return VideoMode(*(int(number or 0) for number in found.groups()))


@dataclass(frozen=True)
class Asked:
    """What an inserted header asks for, of either version."""

    module_align: bool = field(default=True, metadata={"meaning": "modules begin at multiples of 4096"})
    framebuffer: str | None = field(
        default=None,
        metadata={"meaning": "a graphical mode that is wished for: `any`, `1024x768`, `1024x768x32`"},
    )

    def __post_init__(self) -> None:
        video_mode(self.framebuffer)


@dataclass(frozen=True)
class Options2(Asked):
    """The same, and what only version 2 knows."""

    boot_services: bool = field(
        default=False,
        metadata={"meaning": "on 64-bit UEFI, enter in 64-bit mode and leave the boot services alive"},
    )
    relocatable: Literal["any", "low", "high"] | None = field(
        default=None,
        metadata={"meaning": "a static PIE, or a Linux, that the loader may move: anywhere, low or high"},
    )


@dataclass(frozen=True)
class Options1(Asked):
    """The same, the file's class, and how it is read."""

    elf_class: int = field(
        default=32, metadata={"meaning": "32, which QEMU asks for, or 64, which GRUB takes as well"}
    )
    addresses: bool = field(
        default=False,
        metadata={"meaning": "in the header: the file is loaded as one piece, whatever its class"},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.elf_class not in (32, 64):
            raise ValueError(f"elf_class is {self.elf_class}, neither 32 nor 64")
