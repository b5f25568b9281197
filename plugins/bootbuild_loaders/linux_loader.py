"""rust-vmm's linux-loader, on which Firecracker and Cloud Hypervisor build: its ELF and its bzImage loader.

Follows src/loader/{elf,bzimage}/mod.rs of linux-loader 0.14.0 (0.13 reads files alike). Guest memory is
taken to be the 3 GiB below a monitor's hole: a file that fits there fits somewhere.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from bootbuild.api import Content, Evidence, LoaderVerdict, Said
from bootbuild_loaders import linux_header, linux_rules, rules
from bootbuild_loaders.catalogue import only
from bootbuild_loaders.window import Window

HIGH_MEMORY = 1 << 20  #: himem_start that both monitors pass
MEMORY = 3 << 30  #: bytes
EHDR, PHDR, NOTE = 64, 56, 12  #: sizeof Elf64_Ehdr, Elf64_Phdr, Elf64_Nhdr
PT_LOAD, PT_NOTE, PHYS32_ENTRY = 1, 4, 18
SEEK_MAX = (1 << 63) - 1  #: lseek's offset is signed


class LoadError(Exception):
    """The loader's `Err`, with the rule that explains it; `magic` tells the one that monitors look at."""

    def __init__(self, rule: str, text: str, kind: str = "ELF", magic: bool = False) -> None:
        inner = f"failed to load {kind} kernel image: Kernel Loader: {text}" if kind else text
        super().__init__(f"Kernel Loader: {inner}")
        self.rule = rule
        self.magic = magic


@dataclass(frozen=True)
class Loaded:
    """KernelLoaderResult: `entry` is kernel_load, `pvh` the PVH entry or None, `setup` for a bzImage."""

    entry: int
    pvh: int | None = None
    setup: bool = False


def load_elf(content: Content) -> Loaded:
    """Elf::load without kernel_offset. Raises LoadError."""
    window = Window(content)
    ehdr = window.get(0, EHDR)
    if len(ehdr) < EHDR:
        raise LoadError(rules.NOT_A_KERNEL, "Unable to read elf header")
    if ehdr[:4] != b"\x7fELF":
        raise LoadError(rules.NOT_A_KERNEL, "Invalid Elf magic number", magic=True)
    if ehdr[5] != 1:
        raise LoadError(rules.MACHINE, "Trying to load big-endian binary on little-endian machine")
    entry, phoff = struct.unpack_from("<QQ", ehdr, 24)
    phentsize, phnum = struct.unpack_from("<HH", ehdr, 54)
    if phentsize != PHDR:
        raise LoadError(rules.PHDR_SIZE, "Invalid program header size")
    if phoff < EHDR:
        raise LoadError(rules.PHDR_SIZE, "Invalid program header offset")
    if entry < HIGH_MEMORY:
        raise LoadError(rules.LOW_ENTRY, "Invalid entry address")
    if phoff > SEEK_MAX:
        raise LoadError(rules.HEADERS_OUTSIDE, "Unable to seek to program header")
    table = window.get(phoff, PHDR * phnum)
    if len(table) < PHDR * phnum:
        raise LoadError(rules.HEADERS_OUTSIDE, "Unable to read program header")
    pvh = None
    for kind, _, offset, _, paddr, filesz, memsz, _ in struct.iter_unpack("<IIQQQQQQ", table):
        if kind == PT_NOTE:
            pvh = parse_notes(window, offset, filesz)  # the last PT_NOTE decides
        elif kind == PT_LOAD and filesz:
            _load_segment(content, offset, paddr, filesz, memsz)
    return Loaded(entry, pvh)


def _load_segment(content: Content, offset: int, paddr: int, filesz: int, memsz: int) -> None:
    if offset > SEEK_MAX:
        raise LoadError(rules.SEGMENT_OUTSIDE, "Unable to seek to kernel start")
    if paddr + filesz > MEMORY:
        raise LoadError(rules.DOES_NOT_FIT, "Unable to read kernel image")
    if offset + filesz > content.size:
        raise LoadError(rules.SEGMENT_OUTSIDE, "Unable to read kernel image")
    if paddr + memsz >= 1 << 64:
        raise LoadError(rules.DOES_NOT_FIT, "memory to load kernel image is not enough", kind="")


def parse_notes(window: Window, offset: int, filesz: int) -> int | None:
    """parse_elf_note: PHYS32_ENTRY of the first note of owner `Xen`; None without. Raises LoadError."""
    at = 0
    while window.another():
        if at >= filesz:
            return None
        if offset + at > SEEK_MAX:
            raise LoadError(rules.SEGMENT_OUTSIDE, "Unable to seek to note header")
        head = window.get(offset + at, NOTE)
        if len(head) < NOTE:
            raise LoadError(rules.SEGMENT_OUTSIDE, "Unable to read note header")
        namesz, descsz, kind = struct.unpack("<III", head)
        if kind == PHYS32_ENTRY and namesz == 4:
            name = window.get(offset + at + NOTE, 4)
            if len(name) < 4:
                raise LoadError(rules.SEGMENT_OUTSIDE, "Unable to read note header")
            if name == b"Xen\0":
                return _entry(window, offset + at + NOTE + 4, descsz)
        name_size, desc_size = (namesz + 3) & ~3, (descsz + 3) & ~3
        if max(name_size, desc_size) >= 1 << 32:
            raise LoadError(rules.SEGMENT_OUTSIDE, "Overflow occurred during an arithmetic operation")
        at += NOTE + name_size + desc_size
    raise LoadError(rules.NOT_JUDGED, "Unable to read note header")


def _entry(window: Window, at: int, descsz: int) -> int:
    if descsz < 4:
        raise LoadError(rules.SHORT_ENTRY, "Invalid PVH note header")
    value = window.number(at, 4)
    if value is None:
        raise LoadError(rules.SEGMENT_OUTSIDE, "Unable to read note header")
    return value


def load_bzimage(content: Content) -> Loaded:
    """BzImage::load. Raises LoadError."""
    window = Window(content)
    header = linux_header.read(window)
    if not header.high:
        rule = linux_rules.LOADED_LOW
        if not header.named or header.version < 0x200:
            rule = linux_rules.OLD_PROTOCOL if header.named else linux_rules.NO_HEADER
        raise LoadError(rule, "Invalid bzImage", "bzImage")
    size = content.size - header.setup_size
    if size < 0:
        text = "Underflow occurred during an arithmetic operation"
        raise LoadError(linux_rules.SETUP_OUTSIDE, text, "bzImage")
    start = header.code32_start
    if start < HIGH_MEMORY:
        raise LoadError(rules.LOW_ENTRY, "invalid kernel start address", kind="")
    if start + size > MEMORY:
        raise LoadError(rules.DOES_NOT_FIT, "Unable to read bzImage compressed kernel", "bzImage")
    return Loaded(start, setup=True)


#: The rules that `load_bzimage` names.
BZIMAGE_RULES = only(
    linux_rules.NO_HEADER,
    linux_rules.OLD_PROTOCOL,
    linux_rules.LOADED_LOW,
    linux_rules.SETUP_OUTSIDE,
    rules.LOW_ENTRY,
    rules.DOES_NOT_FIT,
)


class LinuxLoader:
    """The crate itself: what its ELF loader reports to a monitor."""

    name = "linux-loader"
    version = "0.14.0"
    evidence = Evidence.SOURCE
    source = "rust-vmm/linux-loader, src/loader/elf/mod.rs"
    rules = only(
        rules.NOT_A_KERNEL,
        rules.MACHINE,
        rules.PHDR_SIZE,
        rules.LOW_ENTRY,
        rules.HEADERS_OUTSIDE,
        rules.SEGMENT_OUTSIDE,
        rules.DOES_NOT_FIT,
        rules.SHORT_ENTRY,
        rules.NO_NOTES,
        rules.NOT_JUDGED,
    )

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        """Of an ELF loaded without kernel_offset, by PvhBootCapability."""
        try:
            loaded = load_elf(content)
        except LoadError as error:
            return [refusal("pvh", error)]
        if loaded.pvh is None:
            return [LoaderVerdict("pvh", "ignore", None, rules.NO_NOTES, "PVH entry point not present")]
        return [LoaderVerdict("pvh", "accept", loaded.pvh)]


class LinuxLoaderBzimage:
    """The crate's bzImage loader, which a monitor asks for what is no ELF."""

    name = "linux-loader-bzimage"
    version = "0.14.0"
    evidence = Evidence.SOURCE
    source = "rust-vmm/linux-loader, src/loader/bzimage/mod.rs"
    rules = BZIMAGE_RULES

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        """Of a file loaded without kernel_offset; `entry` is kernel_load, the 32-bit entry."""
        if linux_header.is_elf(Window(content)):
            return []
        try:
            return [LoaderVerdict("linux", "accept", load_bzimage(content).entry)]
        except LoadError as error:
            return [refusal("linux", error)]


def refusal(boot: str, error: LoadError, before: str = "") -> LoaderVerdict:
    """The verdict on a file that the loader gave back; `before` is what the monitor says in front."""
    kind: Said = "ignore" if error.rule == rules.NOT_JUDGED else "refuse"
    return LoaderVerdict(boot, kind, None, error.rule, f"{before}{error}")
