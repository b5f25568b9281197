"""systemd's stub in a unified kernel image: what it does with the kernel in section `.linux`.

Follows src/boot/efi/linux.c, linux_x86.c and pe.c of systemd 252: it looks at a few fields, then lets the
firmware load the kernel. From 258 on the stub loads it by itself (`systemd_stub_258`).
"""

from __future__ import annotations

from collections.abc import Sequence

from bootbuild.api import Content, Evidence, LoaderVerdict
from bootbuild_loaders import pe_rules, rules
from bootbuild_loaders.catalogue import only
from bootbuild_loaders.edk2 import X64, Edk2, judged, load, start
from bootbuild_loaders.pe_headers import FIXED_SIZE, Headers, Section
from bootbuild_loaders.pe_status import LOAD_ERROR
from bootbuild_loaders.stopped import Stopped
from bootbuild_loaders.window import Window

#: offsets in Linux's setup header, and bit 3 of xloadflags: Documentation/arch/x86/boot.rst
SETUP_SECTS, BOOT_FLAG, SETUP_SIZE, HEADER, VERSION = 0x1F1, 0x1FE, 0x201, 0x202, 0x206
RELOCATABLE, XLOADFLAGS, HANDOVER_64, HANDOVER_OFFSET = 0x234, 0x236, 8, 0x264
LEAST = 4096  #: bytes: sizeof(BootParams), which is read from the file
SECTOR = 512
COMPAT = b".compat"
NO_MACHINE = 0
BAD, LOADING = "Bad kernel image", "Error loading kernel image"


class SystemdStub:
    """The file as a unified kernel image's `.linux`, in firmware as model edk2 knows it."""

    name = "systemd-stub"
    version = "252.39"
    evidence = Evidence.ORACLE
    source = "src/boot/efi/linux.c, pe.c; held to Debian's linuxx64.efi.stub in OVMF (tests/oracles)"
    rules = (*Edk2.rules, *only(pe_rules.HANDOVER, pe_rules.NO_SECTIONS))

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        """For protocol "efi"."""
        return judged(content, lambda: _exec(Window(content)))


def _exec(window: Window) -> str:
    """linux_exec."""
    if not window.size:
        raise Stopped(pe_rules.NOT_PE, "Unable to locate embedded .linux section: Not Found")
    headers = _kernel_info(window)
    if headers.image_version < 1 or (headers.machine != X64 and not _other_entry(headers)):
        return handover(window)
    try:
        headers = load(window, boot_option=False)
    except Stopped as stop:
        if stop.verdict != "refuse":
            raise
        raise Stopped(stop.rule, f"{LOADING}: {stop.message}") from None
    return start(headers)


def _kernel_info(window: Window) -> Headers:
    """pe_kernel_info. It trusts e_lfanew, and may read what is in memory behind the section.

    Which other machine it takes nobody has said on x86-64, so that it is machine 0.
    """
    at = window.u32(0x3C)
    if window.get(0, 2) != b"MZ" or window.get(at, 4) != b"PE\0\0":
        raise Stopped(pe_rules.NOT_PE, f"{BAD}: {LOAD_ERROR}")
    headers = Headers(window, at)
    if headers.machine not in (X64, NO_MACHINE):
        raise Stopped(pe_rules.MACHINE, f"{BAD}: {LOAD_ERROR}")
    if not headers.section_count:
        raise Stopped(pe_rules.NO_SECTIONS, f"{BAD}: {LOAD_ERROR}")
    if headers.magic not in FIXED_SIZE:
        raise Stopped(pe_rules.OPTIONAL_HEADER, f"{BAD}: {LOAD_ERROR}")
    return headers


def _other_entry(headers: Headers) -> int:
    """get_compatibility_entry_address: the last section whose name begins so counts."""
    found = [section for section in headers.sections if section.name.startswith(COMPAT)]
    return entry_of(headers.window, found[-1]) if found else 0


def entry_of(window: Window, compat: Section) -> int:
    """Where .compat has an entry for this machine, or 0. Its RVA counts in the file: it is not mapped yet."""
    at, size = compat.address, compat.size
    while size >= 8:
        if not window.another():
            raise Stopped(rules.NOT_JUDGED, "", "ignore")
        kind, length = window.u16(at) & 0xFF, window.u16(at) >> 8
        if not kind or not 0 < length <= size:
            break
        if kind == 1 and length >= 8 and window.u16(at + 2) == X64:
            return window.u32(at + 4)
        at, size = at + length, size - length
    return 0


def handover(window: Window) -> str:
    """linux_exec_efi_handover."""
    if window.size < LEAST:
        raise Stopped(pe_rules.HANDOVER, "")
    wrong = (
        (
            window.get(HEADER, 4) != b"HdrS" or window.u16(BOOT_FLAG) != 0xAA55,
            "Unsupported kernel image.",
        ),
        (window.u16(VERSION) < 0x20B, "Kernel too old."),
        (not window.get(RELOCATABLE, 1)[0], "Kernel is not relocatable."),
        (
            window.u16(VERSION) >= 0x20C and not window.u16(XLOADFLAGS) & HANDOVER_64,
            "Kernel does not support EFI handover protocol.",
        ),
    )
    for is_wrong, message in wrong:
        if is_wrong:
            raise Stopped(pe_rules.HANDOVER, message)
    sectors = window.get(SETUP_SECTS, 1)[0] or 4
    copied = HEADER + window.get(SETUP_SIZE, 1)[0]  # of the header, for the rest there are zeros
    offset = int.from_bytes(window.get(HANDOVER_OFFSET, min(4, copied - HANDOVER_OFFSET)), "little")
    if (sectors + 2) * SECTOR + offset >= window.size:
        raise Stopped(pe_rules.HANDOVER, "", "wild")
    return pe_rules.HANDOVER
