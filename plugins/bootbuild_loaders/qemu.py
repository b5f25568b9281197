"""QEMU's -kernel on a PC: Multiboot, then ELF with a PVH note; what is neither is Linux (qemu_linux).

Follows hw/i386/{x86.c,multiboot.c} of QEMU 7.2.22, as qemu-system-x86_64 runs them with machines pc, q35 and
microvm.
"""

from __future__ import annotations

from collections.abc import Sequence

from bootbuild.api import Content, Evidence, LoaderVerdict
from bootbuild_loaders import linux_header, rules
from bootbuild_loaders.catalogue import only
from bootbuild_loaders.qemu_elf import EM_X86_64, check_memory, fetch, load_elf
from bootbuild_loaders.qemu_notes import meant
from bootbuild_loaders.stopped import Stopped
from bootbuild_loaders.window import Window

HEADER = 8192  #: bytes that x86_load_linux reads first
MB_MAGIC = 0x1BADB002
NO_NOTE = "Error loading uncompressed kernel without PVH ELF Note"


class Qemu:
    """`qemu-system-x86_64 -kernel FILE`."""

    name = "qemu"
    version = "7.2.22"
    evidence = Evidence.ORACLE
    source = "hw/i386/x86.c, include/hw/elf_ops.h; held to Debian's QEMU (tests/oracles)"
    rules = only(
        rules.NOT_A_KERNEL,
        rules.HEADERS_OUTSIDE,
        rules.MACHINE,
        rules.NO_NOTES,
        rules.MISREAD_ENTRY,
        rules.ALIGN_ZERO,
        rules.RUNS_OUT,
        rules.SEGMENT_OUTSIDE,
        rules.DOES_NOT_FIT,
        rules.OVERLAP,
        rules.MULTIBOOT_FIRST,
        rules.MULTIBOOT_64,
        rules.MULTIBOOT_ADDRESSES,
        rules.OTHER_PROTOCOL,
        rules.E_FLAGS,
        rules.SYMBOLS,
        rules.NOT_JUDGED,
        rules.FILE_OVER_MEMORY,
    )

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        """By PVH; and by Multiboot's protocol where that comes first."""
        window = Window(content)
        if not content.size:
            return [LoaderVerdict("pvh", "refuse", None, rules.NOT_A_KERNEL, "qemu: could not load kernel")]
        if window.get(0x202, 4) == b"HdrS":
            return _linux(window)
        at = find_multiboot(window)
        try:
            if at is not None:
                return _multiboot(window, at)
            if window.get(0, 4) == b"\x7fELF":
                return [_pvh(window)]
        except Stopped as stop:
            boot = "pvh" if at is None else "multiboot1"
            found = [LoaderVerdict(boot, stop.verdict, None, stop.rule, stop.message)]
            if at is not None:
                found.insert(0, LoaderVerdict("pvh", stop.verdict, None, rules.MULTIBOOT_FIRST, stop.message))
            return found
        return _linux(window)


def _linux(window: Window) -> Sequence[LoaderVerdict]:
    """The Linux protocol, at the last also for a file that is nothing else: `qemu-linux` says how."""
    header = linux_header.read(window)
    if header.setup_size > window.size:
        text = "qemu: invalid kernel header"
        return [LoaderVerdict("pvh", "refuse", None, rules.NOT_A_KERNEL, text)]
    rule = rules.OTHER_PROTOCOL if header.named else rules.NOT_A_KERNEL
    return [LoaderVerdict("pvh", "ignore", None, rule)]


def find_multiboot(window: Window) -> int | None:
    """Offset of a Multiboot header in the first 8 KiB, as load_multiboot looks for it."""
    head = window.get(0, HEADER).ljust(HEADER, b"\0")
    magic = MB_MAGIC.to_bytes(4, "little")
    at = head.find(magic)
    while 0 <= at < HEADER - 48:
        words = [int.from_bytes(head[at + i : at + i + 4], "little") for i in (0, 4, 8)]
        if at % 4 == 0 and not sum(words) & 0xFFFFFFFF:
            return at
        at = head.find(magic, at + 1)
    return None


def _multiboot(window: Window, at: int) -> Sequence[LoaderVerdict]:
    """load_multiboot."""
    if window.u32(at + 4) & 0x10000:
        entry = _multiboot_addresses(window, at)
    else:
        if window.u16(18) == EM_X86_64:
            text = "Cannot load x86-64 image, give a 32bit one."
            raise Stopped(rules.MULTIBOOT_64, text)
        elf = load_elf(window, notes=False)
        fetch(elf)
        check_memory(window, elf)
        entry = elf.entry & 0xFFFFFFFF
    return [
        LoaderVerdict("pvh", "ignore", None, rules.MULTIBOOT_FIRST),
        LoaderVerdict("multiboot1", "accept", entry),
    ]


def _multiboot_addresses(window: Window, at: int) -> int:
    """The header's own addresses, flag 16; mh_entry_addr."""
    header, load, load_end, bss_end, entry = (window.u32(at + i) for i in range(12, 32, 4))
    offset = at - (header - load)
    if header < load:
        text = "invalid load_addr address"
    elif header - load > at:
        text = "invalid header_addr address"
    elif load_end and load_end < load:
        text = "invalid load_end_addr address"
    elif not load_end and window.size < offset:
        text = "invalid kernel_file_size"
    else:
        size = load_end - load if load_end else window.size - offset
        if size > 0xFFFFFFFF - load:
            text = "kernel does not fit in address space"
        elif bss_end and bss_end < load + size:
            text = "invalid bss_end_addr address"
        elif offset + size > window.size:
            text = "fread() failed"
        else:
            return entry
    raise Stopped(rules.MULTIBOOT_ADDRESSES, text)


def _pvh(window: Window) -> LoaderVerdict:
    """load_elfboot."""
    flags = window.u32(48 if window.get(4, 1) == b"\2" else 36)
    if flags & 0x10004:
        raise Stopped(rules.E_FLAGS, f"elfboot unsupported flags = {flags:x}")
    elf = load_elf(window, notes=True)
    if not elf.pvh:
        raise Stopped(rules.NO_NOTES, NO_NOTE)
    check_memory(window, elf)
    entry = elf.pvh & 0xFFFFFFFF  # fw_cfg_add_i32
    if not elf.noted:
        return LoaderVerdict("pvh", "wild", entry, rules.RUNS_OUT)
    if entry not in meant(window, elf.phdrs):
        return LoaderVerdict("pvh", "wild", entry, rules.MISREAD_ENTRY)
    return LoaderVerdict("pvh", "accept", entry)
