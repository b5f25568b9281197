"""Xen's dom0 builder: libelf, then what the hypervisor itself asks of a dom0 kernel.

Follows xen/arch/x86/{bzimage.c,pv/dom0_build.c,hvm/dom0_build.c} of Xen 4.17.7 as Debian builds it. What
depends on the machine is judged for a dom0 of 512 MiB without modules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bootbuild.api import Content, Evidence, LoaderVerdict, MemoryContent, Said, decompress
from bootbuild_loaders import libelf, libelf_dominfo, libelf_parms, rules
from bootbuild_loaders.catalogue import only
from bootbuild_loaders.libelf import UNSET, Binary, Refused
from bootbuild_loaders.libelf_parms import Parms
from bootbuild_loaders.window import Window, packed

BASE = 0xFFFF830000000000  #: DIRECTMAP_VIRT_START, near where Xen maps the file
MEMORY = 512 << 20  #: of the dom0 that is judged for, bytes
PAGE, SUPERPAGE = 1 << 12, 1 << 21
LOW_RAM = 0x9F000  #: what a PC's firmware leaves below the video memory
XEN_START, XEN_END = 0xFFFF800000000000, 0xFFFF880000000000  #: HYPERVISOR_VIRT_*: asm/config.h
FAULT, EARLY_FAULT = "FATAL PAGE FAULT", "FATAL TRAP: vec 14"  #: while dom0 is built, and before
COMPRESSIONS = (  #: gunzip.c gzip_check, decompress.c
    ("gzip", b"\x1f\x8b"),
    ("gzip", b"\x1f\x9e"),
    ("bzip2", b"BZh"),
    ("xz", b"\xfd7zXZ\0"),
    ("lzma", b"\x5d\0"),
    ("lzo", b"\x89LZO\0"),
    ("lz4", b"\x02\x21"),
    ("zstd", b"\x28\xb5\x2f\xfd"),
)


class XenLibelf:
    """A kernel given to Xen as its dom0, PV or PVH."""

    name = "xen-libelf"
    version = "4.17.7"
    evidence = Evidence.ORACLE
    source = "xen/common/libelf, xen/arch/x86/{pv,hvm}/dom0_build.c; held to Debian's Xen (tests/oracles)"
    rules = only(
        rules.NOT_A_KERNEL,
        rules.HEADERS_OUTSIDE,
        rules.MACHINE,
        rules.NO_NOTES,
        rules.LOADER_NOTE,
        rules.XEN_VERSION,
        rules.VIRT_BASE_UNSET,
        rules.OUT_OF_BOUNDS,
        rules.P2M_BOUNDS,
        rules.UNKNOWN_FEATURE,
        rules.NO_PHYS32_ENTRY,
        rules.DOMAIN_KIND,
        rules.PV32,
        rules.HYPERCALL_PAGE,
        rules.DOES_NOT_FIT,
        rules.SEGMENT_OUTSIDE,
        rules.BZIMAGE,
        rules.PAYLOAD,
        rules.NOT_JUDGED,
        rules.FILE_OVER_MEMORY,
    )

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        """As `dom0=pvh`, and as the PV dom0 that Xen builds without that option."""
        try:
            elf = Binary(unpacked(content), BASE)
        except Refused as refused:
            return [_said(boot, refused) for boot in ("pvh", "xen-pv")]
        return [_judge(elf, "pvh"), _judge(elf, "xen-pv")]


def _said(boot: str, refused: Refused) -> LoaderVerdict:
    """Where the parser has no words, the one of its callers has."""
    if refused.rule == rules.NOT_JUDGED:
        return LoaderVerdict(boot, "ignore", rule=refused.rule)
    silent = "Unable to parse kernel for ELFNOTES" if boot == "pvh" else "Could not construct domain 0"
    verdict: Said = "crash" if refused.message in (FAULT, EARLY_FAULT) else "refuse"
    return LoaderVerdict(boot, verdict, rule=refused.rule, message=refused.message or silent)


def unpacked(content: Content) -> Content:
    """What bzimage_parse hands on: the file, or what is packed in it. Raises Refused."""
    window = Window(content)
    start, size = 0, content.size
    if size >= 0x250 and window.get(0x202, 4) == b"HdrS":  # struct setup_header
        version = window.u16(0x206)
        if version < 0x208:
            text = f"Cannot load bzImage v{version >> 8}.{version & 255:02} at least v2.08 is required"
            raise Refused(rules.BZIMAGE, text)
        start = (window.get(0x1F1, 1)[0] + 1) * 512 + window.u32(0x248) & 0xFFFFFFFF  # a u32 there, too
        size = window.u32(0x24C)
        if start + size > _reach(content.size):  # only then does it matter that the file has no such bytes
            raise Refused(rules.PAYLOAD, EARLY_FAULT)
    if window.get(start, 4) == b"\x7fELF" and size >= 52:
        return content if not start else MemoryContent(content.read(start, size).ljust(size, b"\0"))
    name = next((name for name, magic in COMPRESSIONS if window.get(start, len(magic)) == magic), "")
    output_length = window.u32(max(start, start + size - 4))  # so it is taken, whatever the file is
    if output_length > MEMORY:
        text = "Not enough memory to relocate the dom0 kernel image"
        raise Refused(rules.PAYLOAD if name else rules.NOT_A_KERNEL, text)
    if not name:
        raise Refused(rules.NOT_A_KERNEL, "ELF: not an ELF binary")
    try:
        return decompress(name, packed(content, start, size).ljust(size, b"\0"))
    except ModuleNotFoundError:  # bootbuild's extra `lzo` is not installed
        raise Refused(rules.NOT_JUDGED, "") from None
    except ValueError:
        raise Refused(rules.PAYLOAD, _damaged(name, window.get(start + 2, 1))) from None


def _damaged(name: str, method: bytes) -> str:
    """Inflate panics in words of its own, of which only the first are foreseen."""
    if name != "gzip":
        return "Could not construct domain 0"
    return "Panic on CPU 0" if method == b"\x08" else "internal error, invalid method"


def _judge(elf: Binary, boot: str) -> LoaderVerdict:
    try:
        parms = libelf_dominfo.parse(elf, hvm=boot == "pvh")
        entry = _pvh(elf, parms) if boot == "pvh" else _pv(elf, parms)
    except Refused as refused:
        return _said(boot, refused)
    return LoaderVerdict(boot, "accept", entry)


def _pvh(elf: Binary, parms: Parms) -> int:
    """pvh_load_kernel: the entry, a physical address."""
    if parms.phys_entry == libelf.UNSET32:
        text = "Unable to find XEN_ELFNOTE_PHYS32_ENTRY address"
        raise Refused(rules.NO_PHYS32_ENTRY, text)
    for ph in _loaded(elf, parms):
        copied = ph["p_filesz"] & libelf.UNSET32  # hvm_copy_to_guest_phys takes an unsigned int
        cleared = ph["p_memsz"] - ph["p_filesz"] & libelf.UNSET32
        if copied and _in_ram(ph["p_paddr"], 1) and not _mapped(elf, ph):  # page by page: the file ends first
            raise Refused(rules.SEGMENT_OUTSIDE, FAULT)
        if not _in_ram(ph["p_paddr"], copied):
            raise Refused(rules.DOES_NOT_FIT, "Failed to load kernel: -1")
        if not _in_ram(ph["p_paddr"] + ph["p_filesz"] & libelf.M64, cleared):
            less = ph["p_filesz"] > ph["p_memsz"]
            rule = rules.FILE_OVER_MEMORY if less else rules.DOES_NOT_FIT
            raise Refused(rule, "Failed to load kernel: -1")
    return parms.phys_entry


def _loaded(elf: Binary, parms: Parms) -> Iterator[dict[str, int]]:
    """The segments that elf_load_binary loads: up to one with which they are twice the image's size.

    That marks the file as broken and is told, but is no error.
    """
    left = 2 * (parms.virt_kend - parms.virt_kstart)
    for ph in elf.loads:
        left -= ph["p_memsz"]
        if left < 0:
            break
        yield ph


def _in_ram(start: int, size: int) -> bool:
    end = start + size
    return not size or end <= LOW_RAM or (start >= 1 << 20 and end <= MEMORY)


def _mapped(elf: Binary, ph: dict[str, int]) -> bool:
    """Xen trusts its dom0: what lies around the file is read too, as far as the mapping by 2 MiB goes."""
    start = ph["p_offset"] - (ph["p_offset"] >> 63 << 64)
    return start >= -PAGE and start + ph["p_filesz"] <= _reach(elf.size)


def _reach(size: int) -> int:
    return (size + SUPERPAGE - 1) // SUPERPAGE * SUPERPAGE


def _pv(elf: Binary, parms: Parms) -> int:
    """dom0_construct_pv: the entry, a virtual address."""
    if elf.is_32:
        raise Refused(rules.PV32, "Found 32-bit PV kernel, but CONFIG_PV32 missing")
    if not elf.is_64 or elf.ehdr["e_machine"] != libelf.EM_X86_64 or elf.data == libelf.ELFDATA2MSB:
        raise Refused(rules.MACHINE, "Mismatch between Xen and DOM0 kernel")
    if parms.noted_features and not parms.supported & 1 << libelf_parms.XENFEAT_DOM0:
        raise Refused(rules.DOMAIN_KIND, "Kernel does not support Dom0 operation")
    end = _mapping_end(parms)
    if parms.virt_base < XEN_END and end > XEN_START:
        raise Refused(rules.DOES_NOT_FIT, "DOM0 image overlaps with Xen private area.")
    for ph in _loaded(elf, parms):
        if ph["p_filesz"] > ph["p_memsz"]:
            raise Refused(rules.FILE_OVER_MEMORY, "Failed to load the kernel binary")
        if ph["p_filesz"] and not _mapped(elf, ph):
            raise Refused(rules.SEGMENT_OUTSIDE, "Failed to load the kernel binary")
    if parms.virt_hypercall != UNSET and not parms.virt_base <= parms.virt_hypercall < end:
        raise Refused(rules.HYPERCALL_PAGE, "Invalid HYPERCALL_PAGE field in ELF notes.")
    if parms.required & 1 << libelf_parms.XENFEAT_SUPERVISOR_MODE_KERNEL:
        raise Refused(rules.DOMAIN_KIND, "Dom0 requires supervisor-mode execution")
    return parms.virt_entry


def _mapping_end(parms: Parms) -> int:
    """Where the first mapping ends: kernel, p2m, start_info, page tables, stack, padding."""
    pages = MEMORY // PAGE
    at = _up(parms.virt_kend, PAGE) + (0 if parms.p2m_base != UNSET else 8 * pages)
    tables_start = _up(_up(at, PAGE) + 0x480, PAGE)  # struct start_info
    tables = 2
    while True:
        stack_end = tables_start + (tables + 1) * PAGE
        end = _up(stack_end, 4 << 20)
        if end - stack_end < 512 << 10:
            end += 4 << 20
        needed = 1 + sum(_up(end, 1 << s) - (parms.virt_base >> s << s) >> s for s in (39, 30, 21))
        if needed <= tables:
            break
        tables = needed if end - parms.virt_base > MEMORY else tables + 1
        if end - parms.virt_base > MEMORY:
            break
    count = end - parms.virt_base
    if 1 << max(0, count - 1 >> 12).bit_length() > pages:
        raise Refused(rules.DOES_NOT_FIT, "Domain 0 allocation is too small for kernel image")
    return end


def _up(value: int, unit: int) -> int:
    return (value + unit - 1) // unit * unit
