"""A minimal Xen PV guest in machine code, with one place to break it and every note to change."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from bootbuild.api.guest import Guest
from bootbuild.boot.prove import prove
from bootbuild.boot.run import Subject, code_at
from bootbuild.formats.elf_read import read_elf
from bootbuild.model.content import Content, MemoryContent
from bootbuild.model.machine import Offer
from bootbuild.model.payload import Startup
from bootbuild.model.span import Span
from bootbuild.model.verdict import Outcome, ProfileVerdict
from bootbuild_xenpv.environments.xen import XenDom0, XenDomU
from tiny_file import Load, elf_file

VIRT_BASE = 0xFFFFFFFF80000000
PHYSICAL = 0x100000
BASE = VIRT_BASE + PHYSICAL  #: where the image is mapped
ENTRY, STARTUP, DATA, HYPERCALLS, MEMORY = BASE, BASE + 0x1000, BASE + 0x1800, BASE + 0x2000, 0x4000

# start_info by RSI: xen/include/public/xen.h
PT_BASE, MFN_LIST = 0x58, 0x68

# xen/include/public/xen.h
SET_TRAP_TABLE, UPDATE_VA_MAPPING, IRET, MMUEXT_OP, PHYSDEV_OP = 0, 14, 23, 26, 33

NOTES: dict[int, bytes] = {
    1: struct.pack("<Q", ENTRY),
    3: struct.pack("<Q", VIRT_BASE),
    5: b"xen-3.0\0",
    8: b"generic\0",
}


# mov MFN_LIST(%rsi), %rax; mov frame of DATA, %rax
DATAS_FRAME = (
    b"\x48\x8b\x46" + bytes([MFN_LIST]) + b"\x48\x8b\x80" + struct.pack("<I", (DATA - VIRT_BASE) // 4096 * 8)
)


def u64(value: int) -> bytes:
    """An immediate or note of 64 bits."""
    return struct.pack("<Q", value & (1 << 64) - 1)


def call(number: int, *arguments: int) -> bytes:
    """mov $…, %rdi, %rsi, %rdx, %r10; mov $number, %eax; syscall. RSI is lost with the second."""
    moves = (b"\x48\xbf", b"\x48\xbe", b"\x48\xba", b"\x49\xba")
    loads = b"".join(move + u64(value) for move, value in zip(moves, arguments, strict=False))
    return loads + b"\xb8" + struct.pack("<I", number) + b"\x0f\x05"


def traps(handlers: Mapping[int, int]) -> bytes:
    """A trap table: vector → address of its handler."""
    table = (struct.pack("<BBHIQ", vector, 0, 0xE033, 0, at) for vector, at in handlers.items())
    return b"".join(table) + bytes(16)


def guest(
    *,
    first: bytes = b"",
    startup: bytes = b"\xeb\xfe",
    data: bytes = b"",
    notes: Mapping[int, bytes | None] | None = None,
    bits: int = 64,
    physical: int = PHYSICAL,
) -> bytes:
    """An ELF file: `first` runs with the registers that Xen sets, then `startup`; `data` lies at DATA.

    `notes` replaces some of NOTES, or with None leaves them out. `physical` is its p_paddr.
    """
    code = first + b"\xe9" + struct.pack("<i", STARTUP - (ENTRY + len(first) + 5))
    image = bytearray(0x2000)
    for at, part in ((ENTRY, code), (STARTUP, startup), (DATA, data)):
        image[at - BASE : at - BASE + len(part)] = part
    found = {k: v for k, v in {**NOTES, **(notes or {})}.items() if v is not None}
    note = b"".join(
        struct.pack("<III4s", 4, len(desc), kind, b"Xen\0") + desc.ljust(-(-len(desc) // 4) * 4, b"\0")
        for kind, desc in found.items()
    )
    load = Load(BASE, physical, bytes(image), MEMORY, 4)
    return elf_file(bits, ENTRY if bits == 64 else PHYSICAL, load, note)


def subject(
    data: bytes,
    *,
    expect: bytes = b"",
    guest_protocol: Guest | None = None,
    modules: tuple[tuple[str, Content, bytes], ...] = (),
    stub: Span | None = None,
    memory: int = 0,
    physical: int = PHYSICAL,
) -> Subject:
    """What is to be proved of a guest: reach STARTUP; by default no handover protocol is known."""
    image = read_elf(MemoryContent(data), "guest")
    startup = Startup("startup_64", STARTUP, STARTUP - BASE + physical, 64)
    return Subject(
        image=image,
        startup=startup,
        guest=guest_protocol,
        offer=Offer(modules=modules, memory=memory),
        stub=stub,
        symbols={},
        expect=expect,
        budget=5_000_000,
        timeout=30.0,
        code=code_at(image, startup),
    )


def run(
    code: bytes, data: bytes = b"", *, dom0: bool = False, startup: bytes = b"\xeb\xfe"
) -> ProfileVerdict:
    """What a profile says of a guest that runs `code` first."""
    built = guest(first=code, data=data, startup=startup)
    return prove(subject(built), XenDom0() if dom0 else XenDomU())


def answer(code: bytes, data: bytes = b"", *, dom0: bool = False) -> int:
    """RAX as a signed number at the startup path."""
    verdict = run(code, data, dom0=dom0)
    assert verdict.outcome is Outcome.BOOTED, [f.message for f in verdict.findings]
    value = verdict.runs[0].stop.registers["rax"]
    return value - (1 << 64) if value >> 63 else value


def iret(cs: int, ss: int = 0xE02B, flags: int = 0, rip: int = STARTUP) -> bytes:
    """The iret hypercall with a frame on the stack that goes on at `rip`."""
    pushes = b"\x54\x58\x68" + struct.pack("<I", ss) + b"\x50\x68\x02\x02\0\0\x68" + struct.pack("<I", cs)
    pushes += b"\x48\xb9" + u64(rip) + b"\x51\x68" + struct.pack("<I", flags) + b"\x6a\0" * 3
    return pushes + b"\xb8" + struct.pack("<I", IRET) + b"\x0f\x05"
