"""Multiboot kernels at the edges of what GRUB takes: the tiny ELF with a header, and one thing changed.

Segments are of whole pages, one where a case needs no more, and there are no section headers unless a case
is about them: GRUB cannot always free other pieces of memory (free_subchunk of relocator.c), and hangs when
it is to read the next file.
"""

from __future__ import annotations

import struct
from typing import Any

from corner_kernels import START, kernel, multiboot, u32

HEADER, SECOND = 0x480, 0x500  #: offsets in the file
#: Says on port 0xEA in which mode (0 in long mode, 0xff else) and where it runs, then ends QEMU by port 0xF4.
TELL = bytes.fromhex(
    "31c0 4890 66baea00 ee"  # xor eax,eax; dec eax, or nothing in long mode; mov dx,0xea; out dx,al
    "e800000000 58 83e80e"  # call the next; pop eax; sub eax,14: where this began
    "ee c1e808 ee c1e808 ee c1e808 ee"  # its four bytes
    "66baf400 ee f4"  # mov dx,0xf4; out dx,al; hlt
)
STEP = 0x40  #: bytes from one place to enter it to the next
CODE = TELL.ljust(STEP, b"\x90") * 2
MB1, MB2 = 0x1BADB002, 0xE85250D6
INFORMATION, ADDRESS, ENTRY, CONSOLE, FRAMEBUFFER, MODULE_ALIGN, BOOT_SERVICES = range(1, 8)
ENTRY_EFI32, ENTRY_EFI64, RELOCATABLE = 8, 9, 10
OPTIONAL = 1


def tag(kind: int, *words: int, flags: int = 0, size: int | None = None) -> bytes:
    """A tag of Multiboot 2's header, padded to 8 bytes."""
    data = b"".join(map(u32, words))
    raw = struct.pack("<HHI", kind, flags, 8 + len(data) if size is None else size) + data
    return raw + bytes(-len(raw) % 8)


END = tag(0)


def multiboot2(*tags: bytes, architecture: int = 0, length: int | None = None, wrong: int = 0) -> bytes:
    """A Multiboot 2 header with these tags; `wrong` is added to its sum."""
    body = b"".join(tags)
    length = 16 + len(body) if length is None else length
    return b"".join(map(u32, (MB2, architecture, length, wrong - MB2 - architecture - length))) + body


def ended(*tags: bytes, **fields: int) -> bytes:
    """A Multiboot 2 header whose tags are ended."""
    return multiboot2(*tags, END, **fields)


def linked(header: bytes = b"", *, at: int = HEADER, **changes: Any) -> bytes:
    """A kernel that is linked where it is loaded, with `header` at this offset; changes as of `kernel`."""
    changes["code"] = {"p_vaddr": START, "p_memsz": 0x1000} | changes.get("code", {})
    second = {"p_vaddr": START + 0x1000, "p_paddr": START + 0x1000}
    changes["data"] = second | changes["data"] if "data" in changes else {"p_type": 0}
    changes["noted"] = {"p_type": 0} | changes.get("noted", {})
    changes["head"] = {"e_shnum": 0} | changes.get("head", {})
    changes["parts"] = {0x200: CODE, at: header} | changes.get("parts", {})
    return kernel(b"", bits=changes.pop("bits", 32), **changes)


def old(flags: int = 0, *addresses: int, **changes: Any) -> bytes:
    """A Multiboot 1 kernel."""
    return linked(multiboot(flags, *addresses), **changes)


def new(*tags: bytes, **changes: Any) -> bytes:
    """A Multiboot 2 kernel."""
    return linked(ended(*tags), **changes)
