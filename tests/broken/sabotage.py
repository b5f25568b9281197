"""A tiny kernel that our stubs enter, with a saboteur between them and its startup path.

The back jumps to the saboteur in the kernel's own file, which changes one thing and goes on to the startup
path: what is judged went through the shipped stubs.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

from bootbuild.abi.handover import LAYOUT, SIZE
from bootbuild.api import Guest, SelfDescribed, Target
from bootbuild.boot.run import Subject, code_at
from bootbuild.containers import container
from bootbuild.formats.elf_read import read_elf
from bootbuild.model.blob import Blob, Fixup
from bootbuild.model.content import FileContent, MemoryContent
from bootbuild.model.machine import Offer
from bootbuild.model.payload import Payload, Startup
from bootbuild.model.span import Span
from bootbuild.model.verdict import ProfileVerdict
from bootbuild.model.waist import Piece, Waist
from bootbuild_pvh.targets import Pvh
from tiny_guest import ENTRY, STARTUP, guest, image_of, u32, with_bss

CMDLINE = b"console=ttyS0 quiet"
INITRD = ("initrd", MemoryContent(b"not really a cpio archive"), b"")
CLEAN = b"\x31\xc0\x31\xd2\x31\xc9\x6a\x02\x9d"  # xor %eax,%eax; %edx; %ecx; push $2; popf


def kernel(
    protocol: Guest, sabotage: bytes, width: int, page: bytes = b"", bss: Span | None = None
) -> Payload:
    """The tiny kernel; `sabotage` runs first at its ENTRY, and `page` is at PAGE."""
    jump = b"\xe9" + u32(STARTUP - (ENTRY + len(sabotage) + 5))
    data = guest(first=sabotage + jump, page=page)
    if bss is not None:
        data = with_bss(data, bss)
    startup = Startup(f"startup_{width}", STARTUP, STARTUP, width, protocol.entered_at)
    return Payload(image_of(data), "kernel", "elf", "", protocol.name, startup)


def sabotaged(
    folder: Path,
    payload: Payload,
    protocol: Guest,
    *,
    cmdline: bytes = CMDLINE,
    modules: int = 1,
    between: bytes = b"",
    target: Target | None = None,
) -> Subject:
    """The kernel with an entry of a target, PVH's unless it is named, as the boot side takes it.

    `between` follows the front, in 32-bit code with ESI = record.
    """
    contribution = (target or Pvh()).contribute(payload, protocol, None)
    if isinstance(protocol, SelfDescribed):
        told = (*contribution.companions, *protocol.settings(payload))
        contribution = replace(contribution, companions=told)
    entered = replace(contribution.startup, vaddr=ENTRY, paddr=ENTRY)
    if between:
        onward = Fixup(len(between) + 1, "pc32", "bb_next", -4)
        text = between + b"\xe9" + u32(0)  # jmp bb_next
        blob = Blob("saboteur", 32, text, 16, 0, 1, (onward,), {"saboteur": (".text", 0)}, "by hand")
        front, *rest = contribution.chain
        piece = Piece(blob, "saboteur", Waist(32), Waist(32))
        contribution = replace(contribution, chain=(front, piece, *rest))
    holder, path = container("elf"), folder / "kernel.elf"
    layout = holder.lay_out(payload, [replace(contribution, startup=entered)])
    holder.write(payload, layout, path)
    return Subject(
        image=read_elf(FileContent(path), "kernel.elf"),
        startup=payload.startup,
        guest=protocol,
        offer=Offer(cmdline=cmdline, modules=(INITRD,) * modules),
        stub=layout.stub,
        symbols={},
        expect=b"",
        budget=20_000_000,
        timeout=30.0,
        code=code_at(payload.elf, payload.startup),
    )


def store(offset: int, value: int, size: int = 4) -> bytes:
    """mov{b,w,l} $value, offset(%ebx)."""
    head = {1: b"\xc6", 2: b"\x66\xc7", 4: b"\xc7"}[size]
    return head + b"\x83" + u32(offset) + value.to_bytes(size, "little")


def field_of_record(at: int, name: str, value: int) -> bytes:
    """Write a field of the record at `at`(%ebx), and mend the checksum, so that only the field is wrong.

    Leaves EDX = ECX = 0, the flags at 2.
    """
    offset = 0
    for known, code in LAYOUT:
        if known == name:
            break
        offset += {"I": 4, "Q": 8}[code]
    return (
        store(at + offset, value) + store(at + 0xC, 0)
        + b"\x31\xd2\xb9" + u32(SIZE // 4)  # xor %edx,%edx; mov $words,%ecx
        + b"\x03\x94\x8b" + u32(at - 4) + b"\x49\x75\xf6"  # 1: add at-4(%ebx,%ecx,4),%edx; dec %ecx; jnz 1b
        + b"\xf7\xda\x89\x93" + u32(at + 0xC)  # neg %edx; mov %edx, checksum(%ebx)
        + b"\x31\xd2\x6a\x02\x9d"  # xor %edx,%edx; push $2; popf
    )  # fmt: skip


def rules(verdict: ProfileVerdict) -> list[str]:
    return [finding.rule for finding in verdict.findings]


def in_record(offset: int, value: int) -> bytes:
    """movl $value, offset(%esi): before the back, ESI is the record."""
    return b"\xc7\x86" + u32(offset) + u32(value)


def put(at: int, data: bytes) -> bytes:
    """movl for each word of `data`, to a free place."""
    words = struct.iter_unpack("<I", data)
    return b"".join(b"\xc7\x05" + u32(at + 4 * i) + u32(word) for i, (word,) in enumerate(words))
