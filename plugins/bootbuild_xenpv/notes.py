"""What a PV domain's builder takes from the notes of owner Xen: xen/include/public/elfnote.h, libelf."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bootbuild.api import ElfImage, InputError, Problem, Span
from bootbuild_xenpv import rules

ENTRY, HYPERCALL_PAGE, VIRT_BASE, PADDR_OFFSET, XEN_VERSION, GUEST_OS, GUEST_VERSION = range(1, 8)
LOADER, PAE_MODE, FEATURES, BSD_SYMTAB, HV_START_LOW, L1_MFN_VALID = range(8, 14)
SUSPEND_CANCEL, INIT_P2M, MOD_START_PFN, SUPPORTED_FEATURES = range(14, 18)
EM_X86_64 = 62
PAGE = 4096
M64 = (1 << 64) - 1
# xen/include/public/features.h of Xen 4.17: what note 17 may say; of these, elf_xen_feature_names knows some
FEATURE_BITS = {
    "writable_page_tables": 0,
    "writable_descriptor_tables": 1,
    "auto_translated_physmap": 2,
    "supervisor_mode_kernel": 3,
    "pae_pgdir_above_4gb": 4,
    "mmu_pt_update_preserve_ad": 5,
    "highmem_assist": 6,
    "gnttab_map_avail_bits": 7,
    "hvm_callback_vector": 8,
    "hvm_safe_pvclock": 9,
    "hvm_pirqs": 10,
    "dom0": 11,
    "memory_op_vnode_supported": 13,
    "ARM_SMCCC_supported": 14,
    "linux_rsdp_unrestricted": 15,
    "not_direct_mapped": 16,
    "direct_mapped": 17,
}
NAMED_FEATURES = tuple(name for name, bit in FEATURE_BITS.items() if bit in (0, 1, 2, 3, 4, 8, 11))


@dataclass(frozen=True)
class PvNotes:
    """The parameters of one domain, addresses virtual (`struct elf_dom_parms`)."""

    entry: int
    virt_base: int
    paddr_offset: int
    kernel: Span  #: from the first to the last byte of all PT_LOADs, by p_paddr
    hypercall_page: int | None  #: a page that is to be filled with hypercalls
    init_p2m: int | None  #: where the frame table is to be mapped
    mod_start_pfn: bool  #: the module need not be mapped
    pae: bool  #: PAE_MODE is there, for a 32-bit guest; a 64-bit one may say so too
    translated: bool  #: FEATURES wants a domain whose frame numbers Xen translates

    def pseudo_physical(self, paddr: int) -> int:
        """Where in the domain's memory lies what the file puts at p_paddr."""
        return paddr - self.paddr_offset & M64


def contents(image: ElfImage) -> dict[int, bytes]:
    """Contents of each note of owner Xen by its type; the last of a type counts."""
    return {note.type: note.desc for note in image.xen_notes}


def number_of(found: Mapping[int, bytes], kind: int) -> int | None:
    """A numeric note: 1, 2, 4 or 8 bytes, 0 for other sizes (elf_note_numeric)."""
    desc = found.get(kind)
    if desc is None:
        return None
    return int.from_bytes(desc, "little") if len(desc) in (1, 2, 4, 8) else 0


def text_of(desc: bytes) -> bytes:
    """A note's string, up to its NUL."""
    return desc.split(b"\0", 1)[0]


def read_notes(image: ElfImage, found: Mapping[int, bytes] | None = None) -> PvNotes:
    """The notes as Xen reads them: `found`, by type, or those of the file.

    Raises InputError for a file without PV notes (BB-L201) or of 32 bits (BB-L204), and for what Xen would
    take, and do something else (BB-L206, BB-L207), or what is not emulated (BB-L209).
    """
    found = contents(image) if found is None else found
    if XEN_VERSION not in found and LOADER not in found and GUEST_OS not in found:
        raise InputError(Problem(rules.NO_ENTRY, image.name, "the file has no notes for Xen PV"))
    if image.bits != 64 or image.machine != EM_X86_64:
        raise InputError(Problem(rules.NOT_64, image.name, "the file is not of class ELF64 for x86-64"))

    pae = text_of(found.get(PAE_MODE, b""))
    base, offset = number_of(found, VIRT_BASE) or 0, number_of(found, PADDR_OFFSET) or 0
    start = min(segment.paddr for segment in image.loads) + base - offset & M64
    entry = number_of(found, ENTRY)
    read = PvNotes(
        entry=image.entry if entry is None else entry,
        virt_base=base,
        paddr_offset=offset,
        kernel=Span(start, image.physical_end + base - offset - start & M64),
        hypercall_page=number_of(found, HYPERCALL_PAGE),
        init_p2m=number_of(found, INIT_P2M),
        mod_start_pfn=bool(number_of(found, MOD_START_PFN)),
        pae=pae == b"yes" or b"bimodal" in pae,
        translated=b"!auto_translated_physmap" in text_of(found.get(FEATURES, b"")).split(b"|"),
    )
    problems = list(_taken_otherwise(image, read))
    if text_of(found.get(BSD_SYMTAB, b"")) == b"yes":
        text = "BSD_SYMTAB asks for the symbol table behind the kernel, where it is not put here"
        problems.append(Problem(rules.SYMBOL_TABLE, image.name, text))
    if problems:
        raise InputError(problems)
    return read


def _taken_otherwise(image: ElfImage, notes: PvNotes) -> Iterator[Problem]:
    page, p2m = notes.hypercall_page, notes.init_p2m
    if page is not None and page % PAGE:
        text = f"HYPERCALL_PAGE {page:#x} is no multiple of 4096: Xen fills {page & -PAGE:#x}"
        yield Problem(rules.HYPERCALL_PAGE, image.name, text)
    elif page is not None and not notes.kernel.covers(Span(page, PAGE)):
        text = f"HYPERCALL_PAGE {page:#x} is no page of the kernel {notes.kernel}"
        if page < notes.virt_base:  # libxenguest does not look
            text += ": of dom0 Xen says `Invalid HYPERCALL_PAGE field in ELF notes.`"
        yield Problem(rules.HYPERCALL_PAGE, image.name, text)
    if p2m is not None and (p2m % PAGE or p2m >= notes.virt_base):
        text = f"INIT_P2M {p2m:#x} is no multiple of 4096 below VIRT_BASE {notes.virt_base:#x}"
        yield Problem(rules.INIT_P2M, image.name, text)


def physical_entry(image: ElfImage) -> int | None:
    """Where the PV entry lies in the file's own physical addresses; None without PV notes."""
    try:
        notes = read_notes(image)
    except InputError:
        return None
    return notes.entry - notes.virt_base + notes.paddr_offset & M64
