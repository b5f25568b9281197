"""systemd's stub from 258 on, which loads the kernel in section `.linux` by itself.

Follows src/boot/linux.c, linux_x86.c and pe.c of systemd 258 and later. Headers of the kernel are not loaded,
nothing is relocated, and a section without data is not cleared.
"""

from __future__ import annotations

from collections.abc import Sequence

from bootbuild.api import Content, Evidence, LoaderVerdict
from bootbuild_loaders import pe_rules, rules
from bootbuild_loaders.catalogue import only
from bootbuild_loaders.edk2 import PAGE, ROOM, X64, judged, misaligned
from bootbuild_loaders.pe_headers import (
    BASE_RELOCATIONS,
    DOS_SIZE,
    FIXED_SIZE,
    NT_SIZE,
    SECTION_SIZE,
    WORD,
    Headers,
    Section,
    holds,
    overlap,
)
from bootbuild_loaders.stopped import Stopped
from bootbuild_loaders.systemd_stub import BAD, COMPAT, NO_MACHINE, entry_of, handover
from bootbuild_loaders.window import Window

ERROR = "Load error"  #: EFI_LOAD_ERROR in its own words
UNREAD = f"Cannot read sections: {ERROR}"
NO_MEMORY = "Assertion 'BS->AllocatePages("


class SystemdStub258:
    """Without Secure Boot, in firmware that does not protect memory."""

    name = "systemd-stub-258"
    version = "262.1"
    evidence = Evidence.SOURCE
    source = "src/boot/linux.c, linux_x86.c, pe.c"
    rules = only(
        pe_rules.NOT_PE,
        pe_rules.MACHINE,
        pe_rules.OPTIONAL_HEADER,
        pe_rules.TRUNCATED,
        pe_rules.OUTSIDE,
        pe_rules.ALIGNMENT,
        pe_rules.ENTRY,
        pe_rules.OVERLAP,
        pe_rules.MEMORY,
        pe_rules.HANDOVER,
        pe_rules.NO_SECTIONS,
        pe_rules.MOVED_KERNEL,
        pe_rules.MORE_DATA,
        pe_rules.OBJECT,
        pe_rules.NOT_CLEARED,
        rules.NOT_JUDGED,
    )

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        """For protocol "efi"."""
        return judged(content, lambda: _exec(Window(content)))


def _exec(window: Window) -> str:
    """linux_exec."""
    if not window.size:
        raise Stopped(pe_rules.NOT_PE, "Image lacks .linux section.")
    headers = _kernel_info(window)
    native = headers.machine == X64
    entry = headers.entry if native else _other_entry(headers)
    if headers.image_version < 1 or not (native or entry):
        if headers.image_size > ROOM:
            raise Stopped(pe_rules.MEMORY, NO_MEMORY, "crash")
        return handover(window)
    if entry >= headers.image_size:
        raise Stopped(pe_rules.ENTRY, f"{BAD}: {ERROR}")
    if headers.words_of_directory(BASE_RELOCATIONS)[1]:
        raise Stopped(pe_rules.MOVED_KERNEL, "Inner kernel image contains base relocations")
    if not native:
        raise Stopped(pe_rules.MACHINE, UNREAD)
    if not _has_table(headers):
        raise Stopped(pe_rules.TRUNCATED, UNREAD)
    return _start(headers, _load(headers))


def _kernel_info(window: Window) -> Headers:
    """pe_kernel_info, up to the version."""
    at = window.u32(0x3C)
    wrong = f"{BAD}: {ERROR}"
    if window.get(0, 2) != b"MZ" or at < DOS_SIZE or window.get(at, 4) != b"PE\0\0":
        raise Stopped(pe_rules.NOT_PE, wrong)
    if window.size - at < NT_SIZE:
        raise Stopped(pe_rules.TRUNCATED, wrong)
    headers = Headers(window, at)
    if headers.machine not in (X64, NO_MACHINE):
        raise Stopped(pe_rules.MACHINE, wrong)
    if not headers.section_count:
        raise Stopped(pe_rules.NO_SECTIONS, wrong)
    if headers.magic not in FIXED_SIZE or headers.directory_count <= BASE_RELOCATIONS:
        raise Stopped(pe_rules.OPTIONAL_HEADER, wrong)
    if headers.optional_size < FIXED_SIZE[headers.magic] + 8 * (BASE_RELOCATIONS + 1):
        raise Stopped(pe_rules.OPTIONAL_HEADER, wrong)
    return headers


def _has_table(headers: Headers) -> bool:
    return headers.table + SECTION_SIZE * headers.section_count <= headers.window.size


def _other_entry(headers: Headers) -> int:
    """The first section of that name counts, if it lies in the file."""
    sections = headers.sections if _has_table(headers) else ()
    found = next((section for section in sections if section.name == COMPAT + b"\0"), None)
    if found is None or found.address + found.size > headers.window.size:
        return 0
    return entry_of(headers.window, found)


def _load(headers: Headers) -> Sequence[Section]:
    """The sections that are copied: those with data."""
    size, alignment = headers.image_size, headers.section_alignment
    power = alignment & alignment - 1 == 0
    if size + (alignment if power and alignment > PAGE else 0) > ROOM:
        raise Stopped(pe_rules.MEMORY, NO_MEMORY, "crash")
    copied = []
    for s in headers.sections:
        if s.relocations:
            raise Stopped(pe_rules.OBJECT, "Inner kernel image contains sections with relocations")
        if not s.raw_size:
            continue
        wrong = (
            (s.address + s.raw_size > WORD, pe_rules.OUTSIDE, "SizeOfRawData + VirtualAddress, overflows"),
            (s.address + s.raw_size > size, pe_rules.OUTSIDE, "Section would write outside of memory"),
            (s.raw_size > s.size, pe_rules.MORE_DATA, "raw data size is greater than virtual size"),
            (s.address + s.size > WORD, pe_rules.OUTSIDE, "VirtualSize + VirtualAddress overflows"),
            (
                s.address + s.size > size,
                pe_rules.OUTSIDE,
                "Section virtual size would write outside of memory",
            ),
            (s.raw + s.raw_size > WORD, pe_rules.TRUNCATED, "PointerToRawData + SizeOfRawData overflows"),
            (
                s.raw + s.raw_size > headers.window.size,
                pe_rules.TRUNCATED,
                "raw data extends outside of file",
            ),
        )
        for is_wrong, rule, message in wrong:
            if is_wrong:
                raise Stopped(rule, message)
        copied.append(s)
    return copied


def _start(headers: Headers, copied: Sequence[Section]) -> str:
    if not headers.entry:  # it goes nowhere, and returns to the firmware as if all were well
        raise Stopped(pe_rules.ENTRY, "Error starting kernel image: Success")
    if overlap(copied):
        raise Stopped(pe_rules.OVERLAP, "", "wild")
    if not any(holds(section, headers.entry) for section in copied):
        raise Stopped(pe_rules.ENTRY, "", "wild")
    left = [section for section in headers.sections if section.size and not section.raw_size]
    if any(section.address + section.size > headers.image_size for section in left):
        return pe_rules.OUTSIDE
    return pe_rules.NOT_CLEARED if left else misaligned(headers, copied)
