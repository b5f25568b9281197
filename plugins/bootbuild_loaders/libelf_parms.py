"""`struct elf_dom_parms` of Xen's libelf, and what the text in notes and in `__xen_guest` puts into it.

Follows xen/common/libelf/libelf-dominfo.c of Xen 4.17.7.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from bootbuild_loaders import rules
from bootbuild_loaders.libelf import M64, UNSET, UNSET32, Binary, Refused

# xen/include/public/features.h; elf_xen_feature_names knows these alone
FEATURES = {
    b"writable_page_tables": 0,
    b"writable_descriptor_tables": 1,
    b"auto_translated_physmap": 2,
    b"supervisor_mode_kernel": 3,
    b"pae_pgdir_above_4gb": 4,
    b"hvm_callback_vector": 8,
    b"dom0": 11,
}
XENFEAT_SUPERVISOR_MODE_KERNEL, XENFEAT_DOM0 = 3, 11

# xen/include/public/elfnote.h
ENTRY, HYPERCALL_PAGE, VIRT_BASE, PADDR_OFFSET, XEN_VERSION, GUEST_OS, GUEST_VERSION = range(1, 8)
LOADER, PAE_MODE, NOTE_FEATURES, BSD_SYMTAB, HV_START_LOW = range(8, 13)
SUSPEND_CANCEL, INIT_P2M, MOD_START_PFN, SUPPORTED_FEATURES, PHYS32_ENTRY = range(14, 19)
STRINGS = frozenset({XEN_VERSION, GUEST_OS, GUEST_VERSION, LOADER, PAE_MODE, NOTE_FEATURES, BSD_SYMTAB})
NUMBERS = {
    ENTRY: "virt_entry",
    HYPERCALL_PAGE: "virt_hypercall",
    VIRT_BASE: "virt_base",
    PADDR_OFFSET: "paddr_offset",
    HV_START_LOW: "virt_hv_start_low",
    INIT_P2M: "p2m_base",
    MOD_START_PFN: "mod_start_pfn",
    SUSPEND_CANCEL: "suspend_cancel",
}


@dataclass
class Parms:
    """`struct elf_dom_parms`: what the notes say, and what was computed from them."""

    strings: dict[int, bytes] = field(default_factory=dict)  #: by note type, as the 16-byte buffers keep them
    pae: str = ""  #: "extended-cr3", "yes", "bimodal"
    bsd_symtab: bool = False
    mod_start_pfn: int = 0
    suspend_cancel: int = 0
    virt_base: int = UNSET
    virt_entry: int = UNSET
    virt_hypercall: int = UNSET
    virt_hv_start_low: int = UNSET
    p2m_base: int = UNSET
    paddr_offset: int = UNSET
    phys_entry: int = UNSET32
    supported: int = 0
    required: int = 0
    noted_features: bool = False  #: note SUPPORTED_FEATURES was there
    noted: bool = False  #: elf_note_start is set: a note segment was looked at, whosever its notes are
    guest_info: bool = False
    virt_kstart: int = 0
    virt_kend: int = 0


def take_string(parms: Parms, kind: int, text: bytes) -> None:
    """A note whose contents are text. Raises Refused."""
    if kind == PAE_MODE:
        if text == b"yes":
            parms.pae = "extended-cr3"
        if b"bimodal" in text:
            parms.pae = "bimodal"
    elif kind == BSD_SYMTAB:
        parms.bsd_symtab = parms.bsd_symtab or text == b"yes"
    elif kind == NOTE_FEATURES:
        _take_features(parms, text)
    else:
        parms.strings[kind] = text[:15]  # safe_strcpy into char[16]


def _take_features(parms: Parms, text: bytes) -> None:
    """elf_xen_parse_features: words of up to 63 bytes; an unknown one with `!` ends the parse, silently."""
    at = 0
    while at < len(text):
        end = text.find(b"|", at, at + 63)
        word = text[at:end] if end >= 0 else text[at : at + 63]
        at = end + 1 if end >= 0 else at + len(word)
        bit = FEATURES.get(word.removeprefix(b"!"))
        if bit is not None:
            parms.supported |= 1 << bit
            parms.required |= 1 << bit if word.startswith(b"!") else 0
        elif word.startswith(b"!"):
            raise Refused(rules.UNKNOWN_FEATURE)


def parse_guest_info(elf: Binary, parms: Parms, at: int) -> None:
    """The section of the days before notes: NAME=VALUE, separated by commas (elf_xen_parse_guest_info)."""
    text = elf.window.get((at - elf.base) & M64, 1 << 16)
    end = text.find(0)
    if end < 0:
        elf.mark("out of range access")
    for name, value in _pairs(text[: end if end >= 0 else None]):
        if name in (b"LOADER", b"GUEST_OS", b"XEN_VER"):
            kind = {b"LOADER": LOADER, b"GUEST_OS": GUEST_OS, b"XEN_VER": XEN_VERSION}[name]
            parms.strings[kind] = value[:15]
        elif name == b"PAE" and value == b"yes[extended-cr3]":
            parms.pae = "extended-cr3"
        elif name == b"PAE" and value.startswith(b"yes"):
            parms.pae = "yes"
        elif name == b"BSD_SYMTAB":
            parms.bsd_symtab = True
        elif name in (b"VIRT_BASE", b"VIRT_ENTRY", b"ELF_PADDR_OFFSET"):
            attribute = {b"VIRT_BASE": "virt_base", b"VIRT_ENTRY": "virt_entry"}.get(name, "paddr_offset")
            setattr(parms, attribute, strtoull(value))
        elif name == b"HYPERCALL_PAGE":
            parms.virt_hypercall = strtoull(value) << 12 & M64
        elif name == b"FEATURES":
            try:
                _take_features(parms, value)
            except Refused:
                break  # this caller ignores what its parser returns
    if UNSET not in (parms.virt_base, parms.virt_hypercall):
        parms.virt_hypercall = parms.virt_hypercall + parms.virt_base & M64


def _pairs(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and value, cut where the buffers of 32 and 128 bytes are full; the rest begins a new pair."""
    at = 0
    while at < len(text):
        name = re.match(rb"[^,=]{0,31}", text[at:])
        assert name is not None  # it matches nothing, too
        at += name.end()
        value = b""
        if name.end() < 31 and text[at : at + 1] == b"=":
            found = re.match(rb"[^,]{0,127}", text[at + 1 :])
            assert found is not None
            value = found[0]
            at += 1 + len(value)
            full = len(value) == 127
        else:
            full = name.end() == 31
        if not full and text[at : at + 1] == b",":
            at += 1
        yield name[0], value


def strtoull(text: bytes) -> int:
    """C's strtoull with base 0: the digits at the beginning, 0 if there are none, saturated."""
    text = text.strip(b" \t\n\v\f\r")
    minus, text = text[:1] == b"-", text.lstrip(b"+-") if text[:1] in (b"+", b"-") else text
    base, digits = (16, text[2:]) if text[:2].lower() == b"0x" else (8 if text[:1] == b"0" else 10, text)
    allowed = b"0123456789abcdefABCDEF" if base == 16 else b"0123456789"[:base]
    length = next((i for i, byte in enumerate(digits) if byte not in allowed), len(digits))
    value = min(int(digits[:length] or b"0", base), M64)
    return -value & M64 if minus and value != M64 else value
