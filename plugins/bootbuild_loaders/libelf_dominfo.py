"""What Xen makes of a kernel's notes, for its dom0 as for xl's domains: found, taken in, and checked.

Follows xen/common/libelf/libelf-dominfo.c of Xen 4.17.7.
"""

from __future__ import annotations

from bootbuild_loaders import rules
from bootbuild_loaders.libelf import (
    EM_386,
    EM_ARM,
    EM_X86_64,
    M64,
    NOTES_MAX,
    PT_NOTE,
    SHDR32,
    SHT_NOTE,
    SHT_STRTAB,
    UNSET,
    UNSET32,
    Binary,
    Refused,
    XenNote,
)
from bootbuild_loaders.libelf_parms import (
    GUEST_OS,
    LOADER,
    NUMBERS,
    PHYS32_ENTRY,
    STRINGS,
    SUPPORTED_FEATURES,
    XEN_VERSION,
    Parms,
    parse_guest_info,
    take_string,
)


def parse(elf: Binary, hvm: bool) -> Parms:
    """elf_xen_parse: find the notes, check them, compute the addresses. Raises Refused."""
    parms = Parms()
    _find_notes(elf, parms, hvm)
    _check_notes(elf, parms, hvm)
    _check_addresses(elf, parms, hvm)
    return parms


def _find_notes(elf: Binary, parms: Parms, hvm: bool) -> None:
    total = found = 0
    for ph in elf.phdrs:
        if ph["p_type"] == PT_NOTE and ph["p_offset"]:
            start = elf.base + ph["p_offset"] & M64
            total, more = _parse_notes(elf, parms, start, start + ph["p_filesz"] & M64, total)
            found += more
    if not found:
        for at in elf.sections:
            if elf.section(at, "sh_type") == SHT_NOTE:
                start = elf.section_start(at)
                end = start + elf.section(at, "sh_size") & M64
                total, more = _parse_notes(elf, parms, start, end, total)
                found += more
    if not found and not hvm:
        for at in elf.sections:
            name = elf.string(elf.sec_strtab + elf.section(at, "sh_name") & M64) if elf.sec_strtab else None
            if name == b"__xen_guest":
                parms.guest_info, parms.noted = True, False
                parse_guest_info(elf, parms, elf.section_start(at))
                break


def _parse_notes(elf: Binary, parms: Parms, start: int, end: int, total: int) -> tuple[int, int]:
    """Take the notes between two pointers in; (notes seen in the whole file, Xen's own here)."""
    parms.noted = bool(start)
    room = NOTES_MAX - total
    if not room:
        elf.mark("too many ELF notes")
        return total, 0
    run = elf.notes(start, end)
    if run.over or run.count > room:
        elf.mark("too many ELF notes")
    xen = [note for place, note in run.xen if place <= room]
    for note in xen:
        _parse_note(elf, parms, note)
    return min(NOTES_MAX, total + run.count), len(xen)


def _parse_note(elf: Binary, parms: Parms, note: XenNote) -> None:
    if note.type in STRINGS:
        text = elf.string(note.desc)
        if text is not None:
            take_string(parms, note.type, text)
    elif note.type in NUMBERS:
        setattr(parms, NUMBERS[note.type], elf.number(note))
    elif note.type == PHYS32_ENTRY:
        parms.phys_entry = elf.number(note) & UNSET32
    elif note.type == SUPPORTED_FEATURES:
        parms.noted_features = True
        if note.descsz and not note.descsz % 4:  # one submap is all that there is: XENFEAT_NR_SUBMAPS
            parms.supported |= elf.read(note.desc, 4)


def _check_notes(elf: Binary, parms: Parms, hvm: bool) -> None:
    """elf_xen_note_check."""
    machine = elf.ehdr["e_machine"]
    if not parms.noted and not parms.guest_info:
        if machine in (EM_386, EM_X86_64):
            text = "ERROR: Not a Xen-ELF image: No ELF notes or '__xen_guest' section found"
            raise Refused(rules.NO_NOTES, text)
        return
    if machine == EM_ARM or (parms.phys_entry != UNSET32 and hvm):
        return
    loader, system = parms.strings.get(LOADER, b""), parms.strings.get(GUEST_OS, b"")
    if not loader.startswith(b"generic") and not system.startswith(b"linux"):
        text = (
            "ERROR: Will only load images built for the generic loader or Linux images "
            f"(Not '{shown(loader)}' and '{shown(system)}') or with PHYS32_ENTRY set"
        )
        raise Refused(rules.LOADER_NOTE, text)
    version = parms.strings.get(XEN_VERSION, b"")
    if not version.startswith(b"xen-3.0"):
        text = f"ERROR: Xen will only load images built for Xen v3.0 (Not '{shown(version)}')"
        raise Refused(rules.XEN_VERSION, text)


def _check_addresses(elf: Binary, parms: Parms, hvm: bool) -> None:
    """elf_xen_addr_calc_check."""
    if parms.paddr_offset != UNSET and parms.virt_base == UNSET:
        raise Refused(rules.VIRT_BASE_UNSET, "ERROR: ELF_PADDR_OFFSET set, VIRT_BASE unset")
    if hvm or parms.virt_base == UNSET:
        parms.virt_base = 0
    if hvm or parms.paddr_offset == UNSET:
        parms.paddr_offset = 0 if parms.noted or hvm else parms.virt_base
    offset = parms.virt_base - parms.paddr_offset
    parms.virt_kstart, parms.virt_kend = elf.pstart + offset & M64, elf.pend + offset & M64
    if hvm and parms.phys_entry != UNSET32:
        parms.virt_entry = parms.phys_entry
    elif hvm or parms.virt_entry == UNSET:
        parms.virt_entry = elf.ehdr["e_entry"]
    if parms.bsd_symtab:
        end = _symbols_end(elf)
        parms.virt_kend = end + offset & M64 if end else parms.virt_kend
    start, end, entry = parms.virt_kstart, parms.virt_kend, parms.virt_entry
    if start > end or not start <= entry <= end or parms.virt_base > start:
        raise Refused(rules.OUT_OF_BOUNDS, "ERROR: ELF start or entries are out of bounds")
    if parms.p2m_base != UNSET and start <= parms.p2m_base < end:
        raise Refused(rules.P2M_BOUNDS, "ERROR: P->M table base is out of bounds")


def _symbols_end(elf: Binary) -> int:
    """elf_parse_bsdsyms: where symbol and string table would end behind the kernel; 0 without them."""
    if not elf.sym_tab:
        elf.mark("invalid ELF handle for symtab section")
        return 0
    unit = 8 if elf.is_64 else 4

    def up(value: int) -> int:
        return (value + unit - 1) & ~(unit - 1) & M64

    size = up(4 + 68 + 3 * (64 if elf.is_64 else SHDR32))  # struct elf_sym_header up to its sections
    size = up(size + elf.section(elf.sym_tab, "sh_size"))
    link = elf.section(elf.sym_tab, "sh_link")
    strings = elf.base + elf.ehdr["e_shoff"] + elf.ehdr["e_shentsize"] * link & M64
    if not elf.access_ok(strings, 1) or elf.section(strings, "sh_type") != SHT_STRTAB:
        return 0
    return up(elf.pend) + up(size + elf.section(strings, "sh_size")) & M64


def shown(text: bytes) -> str:
    """A note's string in a message."""
    return text.decode("latin-1")
