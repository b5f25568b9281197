"""What a Multiboot2 kernel's header demands, and whether our back can give it: decided at build time."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from bootbuild.abi.multiboot2 import TagType
from bootbuild.api import Blob, ElfImage, Payload, Problem, RefusedError
from bootbuild_baremetal.guest_rules import DEMAND
from bootbuild_baremetal.headers import OPTIONAL, HeaderTag
from bootbuild_baremetal.own import V2, OwnHeader, failure

_SETTINGS = struct.Struct("<II")  #: struct multiboot2_settings of stubs/multiboot2_tags.h
_CONSOLE_REQUIRED = 1  #: MULTIBOOT_CONSOLE_FLAGS_CONSOLE_REQUIRED

#: Information that the back gives, where the environment gave it. The rest of Multiboot2 2.0 is of a PC's
#: BIOS or of the loader, and no record holds it.
GIVEN = frozenset(
    {
        TagType.END,
        TagType.CMDLINE,
        TagType.LOADER_NAME,
        TagType.MODULE,
        TagType.MEMORY,
        TagType.MEMORY_MAP,
        TagType.FRAMEBUFFER,
        TagType.EFI64,
        TagType.ACPI_OLD,
        TagType.ACPI_NEW,
        TagType.EFI_MEMORY_MAP,
        TagType.LOAD_BASE,
    }
)


def header_of(elf: ElfImage) -> OwnHeader | None:
    """The header that a loader finds; None without one.

    Whether a loader could load the file by it is not asked. Raises InputError (BB-L305, BB-L307, BB-L338) or
    RefusedError (BB-L308).
    """
    offset = V2.first(elf.content)
    if offset is None:
        return None
    found, problems = V2.read(elf, offset)
    if problems:
        raise failure(problems)
    return found


def settings(payload: Payload) -> Blob:
    """The companion that tells the back what this kernel asks for.

    Raises RefusedError (BB-H048, and those of `header_of`).
    """
    header = header_of(payload.elf)
    tags = () if header is None else header.tags
    required = [(kind, body) for _, kind, flags, body in tags if not flags & OPTIONAL]
    refused = [text for kind, body in required for text in _refusals(kind, body, payload.elf)]
    if refused:
        raise RefusedError([Problem(DEMAND, payload.source, text) for text in refused])
    asked = {kind for _, kind, _, _ in tags}
    base = _base(payload.elf) if HeaderTag.RELOCATABLE in asked else 0
    return Blob(
        name="multiboot2_settings",
        width=32,
        text=_SETTINGS.pack(base, HeaderTag.MODULE_ALIGN in asked),
        align=4,
        bss_size=0,
        bss_align=1,
        fixups=(),
        exports={"bb_multiboot2_settings": (".text", 0)},
        toolchain="",
    )


def _base(elf: ElfImage) -> int:
    return min(segment.paddr for segment in elf.loads)


def _refusals(kind: int, body: bytes, elf: ElfImage) -> Iterator[str]:
    """Why a tag that must be granted cannot be. The others of Multiboot2 2.0 ask for what is so anyway."""
    header = "its Multiboot2 header"
    words = [word for (word,) in struct.iter_unpack("<I", body[: len(body) // 4 * 4])]
    if kind == HeaderTag.INFORMATION_REQUEST:
        for asked in words:
            if asked not in GIVEN:
                yield f"{header} asks for information of type {asked} ({_name(asked)}), which is not given"
    elif kind == HeaderTag.CONSOLE_FLAGS and words and words[0] & _CONSOLE_REQUIRED:
        yield f"{header} demands a console (tag 4), and whether there is one is not known"
    elif kind == HeaderTag.FRAMEBUFFER:
        yield f"{header} demands a video mode (tag 5), and no stub sets one"
    elif kind == HeaderTag.RELOCATABLE:
        low, high, align = words[:3]
        if not (low <= _base(elf) and elf.physical_end - 1 <= high):
            where = f"from {_base(elf):#x} to {elf.physical_end:#x}"
            yield f"it is loaded {where}, outside {low:#x} to {high:#x} of {header} (tag 10)"
        if align and _base(elf) % align:
            yield f"it is loaded at {_base(elf):#x}, at no multiple of {align:#x}, as {header} asks (tag 10)"


def _name(kind: int) -> str:
    try:
        return TagType(kind).name.lower().replace("_", " ")
    except ValueError:
        return "unknown"
