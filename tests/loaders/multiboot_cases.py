"""Multiboot kernels, one a row, and what GRUB on BIOS and on UEFI (and QEMU) say: the table is the fact."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field

from corner_case import Said, read_cell
from corner_kernels import START, cut, multiboot, u32
from multiboot_kernels import (
    ADDRESS,
    BOOT_SERVICES,
    CODE,
    CONSOLE,
    END,
    ENTRY,
    ENTRY_EFI32,
    ENTRY_EFI64,
    FRAMEBUFFER,
    HEADER,
    INFORMATION,
    MODULE_ALIGN,
    OPTIONAL,
    RELOCATABLE,
    STEP,
    ended,
    linked,
    multiboot2,
    new,
    old,
    tag,
)

#: The loader models that each cell of a row is about, by the protocol.
COLUMNS = {
    "multiboot1": ("grub-multiboot1", "grub-multiboot1-efi64", "qemu"),
    "multiboot2": ("grub-multiboot2", "grub-multiboot2-efi64"),
}
OTHER = START + STEP  #: where CODE can also be entered
ONE_STEP = f"@{OTHER:#x}"


@dataclass(frozen=True)
class MultibootCase:
    """One file, and what every loader of its protocol says to it.

    A cell of `row` is as in corner_cases; `@?` is an address that GRUB chooses. No cell: no verdict.
    """

    name: str
    data: bytes = field(repr=False)
    row: str = field(repr=False)
    boot: str

    def __str__(self) -> str:
        return self.name

    def said(self, model: str) -> Said:
        """What that loader says."""
        verdict, rule, at = read_cell(self.row.split()[COLUMNS[self.boot].index(model)])
        if at:
            return verdict, rule, None if at == "?" else int(at, 16)
        return verdict, rule, START if verdict in ("accept", "wild") else None


def _one(name: str, data: bytes, row: str) -> MultibootCase:
    return MultibootCase(name, data, row, "multiboot1")


def _two(name: str, data: bytes, row: str) -> MultibootCase:
    return MultibootCase(name, data, row, "multiboot2")


AT = START + HEADER - 0x200  #: where the header lies when the file from 0x200 on is at START
AS_A_WHOLE = (AT, START, 0, 0, START)  #: addresses for that
MB1 = multiboot()
PAGE = 0x1000
SECTION = {"sh_type": 3, "sh_offset": 0x540, "sh_size": 16, "sh_addralign": 16}
MANY = 0xFFFF  #: section headers

MULTIBOOT1 = [
    _one("Multiboot 1", old(), "ok ok ok"),
    _one("Multiboot 1, entered elsewhere", old(head={"e_entry": OTHER}),
         f"ok{ONE_STEP} ok{ONE_STEP} ok{ONE_STEP}"),
    _one("Multiboot 1 in an ELF64", old(bits=64), "ok ok L126"),
    _one("Multiboot 1, memory and modules wanted", old(3), "ok ok ok"),
    _one("Multiboot 1, required bit 3", old(8), "L136 L136 ok"),
    _one("Multiboot 1, required bit 15", old(0x8003), "L136 L136 ok"),
    _one("Multiboot 1, optional bit 17", old(1 << 17), "ok ok ok"),
    _one("Multiboot 1, a video mode", old(4, *[0] * 9), "ok ok ok"),
    _one("Multiboot 1, a text mode", old(4, 0, 0, 0, 0, 0, 1, 80, 25, 0), "ok ok ok"),
    _one("Multiboot 1, mode_type 2", old(4, 0, 0, 0, 0, 0, 2, 0, 0, 0), "L143 L143 ok"),
    _one("Multiboot 1, mode_type -1", old(4, 0, 0, 0, 0, 0, -1, 0, 0, 0), "L143 L143 ok"),
    _one("Multiboot 1 at 8176", linked(MB1, at=8176), "ok ok L104"),
    _one("Multiboot 1 at 8180, the last that GRUB sees", linked(MB1, at=8180), "ok ok L104"),
    _one("Multiboot 1 at 8184", linked(MB1, at=8184), "L135 L135 L104"),
    _one("Multiboot 1 at 8140, the last that QEMU sees", linked(MB1, at=8140), "ok ok ok"),
    _one("Multiboot 1 not aligned", linked(MB1, at=HEADER + 2), "L135 L135 L104"),
    _one("Multiboot 1, a wrong sum", linked(MB1[:8] + u32(1)), "L135 L135 L104"),
    _one("Multiboot 1, a wrong header before the right one", linked(MB1[:8] + u32(1) + MB1), "ok ok ok"),
    _one("31 bytes", cut(old(), 31), "L135 L135 L102"),
    _one("a header alone", MB1 + bytes(20), "L101 L101 L101"),
    _one("a header in an ELF that ends", cut(linked(MB1, at=0x34), 0x40), "-L135 -L135 L102"),
    _one("Multiboot 1 in gzip", gzip.compress(old(), mtime=0), "ok ok L101"),
    _one("Multiboot 1, ELFCLASS 3", old(ident={4: 3}), "L103 L103 ok"),
    _one("Multiboot 1, big endian", old(ident={5: 2}), "L103 L103 L103"),
    _one("Multiboot 1, x86-64 in ELF32", old(head={"e_machine": 62}), "L103 L103 L126"),
    _one("Multiboot 1, i386 in ELF64", old(bits=64, head={"e_machine": 3}), "L103 L103 ok"),
    _one("Multiboot 1, e_version 0", old(head={"e_version": 0}), "L103 L103 ok"),
    _one("Multiboot 1, EI_VERSION 0", old(ident={6: 0}), "ok ok ok"),
    _one("Multiboot 1, ET_REL", old(head={"e_type": 1}), "L138 L138 ok"),
    _one("Multiboot 1, ET_DYN", old(head={"e_type": 3}), "ok ok ok"),
    _one("Multiboot 1, e_phoff 8 KiB", old(head={"e_phoff": 8192}), "L139 L139 L102"),
    _one("Multiboot 1, e_phoff of which 8 KiB are left", old(head={"e_phoff": 8192 - 3 * 32}),
         "-L133 -L133 L102"),
    _one("Multiboot 1, e_phoff that wraps", old(head={"e_phoff": 0xFFFFFFF0}), "-L133 -L133 L102"),
    _one("Multiboot 1, e_phnum 0", old(head={"e_phnum": 0}), "L140 L140 L102"),
    _one("Multiboot 1, e_phentsize 0", old(head={"e_phentsize": 0}), "L124 L124 ok"),
    _one("Multiboot 1, no PT_LOAD", old(code={"p_type": 0}, data={"p_type": 0}), "ok ok L123"),
    _one("Multiboot 1, e_entry in no segment", old(head={"e_entry": START - 1}), "L140 L140 ok@0xfffff"),
    _one("Multiboot 1, e_entry behind the image", old(head={"e_entry": START + 0x2000}),
         "L140 L140 ok@0x102000"),
    _one("Multiboot 1, e_entry 0", old(head={"e_entry": 0}), "L140 L140 ok@0x0"),
    _one("Multiboot 1, linked high, e_entry virtual",
         old(code={"p_vaddr": 0xC0100000}, head={"e_entry": 0xC0100000}), "ok ok ok"),
    _one("Multiboot 1, linked high, e_entry physical", old(code={"p_vaddr": 0xC0100000}), "L140 L140 ok"),
    _one("Multiboot 1, e_entry in a PT_NOTE first",
         old(noted={"p_type": 4, "p_vaddr": START, "p_paddr": OTHER, "p_memsz": 16}, order=(2, 0, 1)),
         f"ok{ONE_STEP} ok{ONE_STEP} ok"),
    _one("Multiboot 1, p_filesz beyond the file", old(data={"p_filesz": 0x10000, "p_memsz": 0x10000}),
         "L123 L123 L123"),
    _one("Multiboot 1, p_offset beyond the file", old(data={"p_offset": 0x10000}), "L123 L123 L123"),
    _one("Multiboot 1, segments that overlap", old(data={"p_paddr": START + 0x800}), "L124 L124 ok"),
    _one("Multiboot 1, the same segment twice", old(data={"p_paddr": START}), "L124 L124 L123"),
    _one("Multiboot 1, p_filesz larger than p_memsz",
         old(data={"p_offset": 0x800, "p_filesz": 0x1800, "p_memsz": PAGE}, parts={0x800: b"\xcc" * 0x1800}),
         "!L134 ok:L134 !L134"),
    _one("Multiboot 1, p_memsz of 480 MiB", old(data={"p_memsz": 480 << 20}), "L115 L115 ok"),
    _one("Multiboot 1, a segment at the end of 4 GiB", old(data={"p_paddr": 0xFFFFF000, "p_memsz": PAGE}),
         "L115 ok L124"),
    _one("Multiboot 1, a segment over the end of 4 GiB",
         old(data={"p_paddr": 0xFFFFF800, "p_memsz": PAGE}), "L115 ok L124"),
    _one("Multiboot 1, a segment in no RAM", old(data={"p_paddr": 0xF0000000}), "L115 ok ok"),
    _one("Multiboot 1, the only segment in no RAM", old(code={"p_paddr": 0xF0000000}),
         "ok@0xf0000000 ok@0xf0000000 ok@0xf0000000"),
    _one("Multiboot 1 in an ELF64, a segment at 4 GiB", old(bits=64, data={"p_paddr": 1 << 32}),
         "L115 L115 L126"),
    # -- Addresses in the header.
    _one("Multiboot 1, addresses", old(0x10000, *AS_A_WHOLE), "ok ok ok"),
    _one("Multiboot 1, addresses in an ELF64", old(0x10000, *AS_A_WHOLE, bits=64), "ok ok ok"),
    _one("Multiboot 1, addresses, no ELF",
         bytes(0x200) + CODE.ljust(0x280, b"\0") + multiboot(0x10000, *AS_A_WHOLE).ljust(0x80, b"\0"),
         "ok ok ok"),
    _one("Multiboot 1, addresses, entered elsewhere", old(0x10000, *AS_A_WHOLE[:4], OTHER),
         f"ok{ONE_STEP} ok{ONE_STEP} ok{ONE_STEP}"),
    _one("Multiboot 1, entry_addr in no RAM", old(0x10000, *AS_A_WHOLE[:4], 0xF0000000),
         "ok@0xf0000000 ok@0xf0000000 ok@0xf0000000"),
    _one("Multiboot 1, header_addr below load_addr", old(0x10000, START - 4, START, 0, 0, START),
         "ok ok L127"),
    _one("Multiboot 1, header_addr too far behind load_addr",
         old(0x10000, AT + 0x10000, START, 0, 0, START), "L127 L127 L127"),
    _one("Multiboot 1, load_end_addr beyond the file",
         old(0x10000, AT, START, START + 0x100000, 0, START), "ok ok L127"),
    _one("Multiboot 1, bss_end_addr", old(0x10000, AT, START, START + PAGE, START + 2 * PAGE, START),
         "ok ok L127"),
    _one("Multiboot 1, bss_end_addr, the file's end", old(0x10000, AT, START, 0, START + 2 * PAGE, START),
         "ok ok ok"),
    _one("Multiboot 1, bss_end_addr below load_end_addr",
         old(0x10000, AT, START, START + 0x400, START + 0x200, START), "!L127 !L127 L127"),
    _one("Multiboot 1, load_end_addr below load_addr", old(0x10000, AT, START, START - PAGE, 0, START),
         "L115 L115 L127"),
    _one("Multiboot 1, bss of 480 MiB", old(0x10000, AT, START, 0, START + (480 << 20), START),
         "L115 L115 ok"),
    # -- Section headers.
    _one("Multiboot 1, a string table", old(sections={1: SECTION, 2: {}, 3: {}}, head={"e_shnum": 2}),
         "ok ok ok"),
    _one("Multiboot 1, relocations", old(sections={1: SECTION | {"sh_type": 4}}, head={"e_shnum": 2}),
         "ok ok ok"),
    _one("Multiboot 1, sections beyond the file",
         old(sections={1: SECTION | {"sh_offset": 1 << 20}}, head={"e_shnum": 2}),
         "L123 L123 ok"),
    _one("Multiboot 1, e_shoff outside", old(head={"e_shnum": 2, "e_shoff": 1 << 20}), "L102 L102 ok"),
    _one("Multiboot 1, e_shnum too large", old(head={"e_shnum": 200}), "L102 L102 ok"),
    _one("Multiboot 1, e_shentsize 8", old(head={"e_shnum": 2, "e_shentsize": 8}), "-L133 -L133 ok"),
    _one("Multiboot 1, 65535 section headers", old(head={"e_shnum": MANY,
         "e_shoff": 0x1000}, parts={0x1000: bytes(40 * MANY)}),
         "L144 L144 ok"),
]  # fmt: skip

ADDRESSES = tag(ADDRESS, AT, START, 0, 0)
ENTERED = tag(ENTRY, START)

MULTIBOOT2 = [
    _two("Multiboot 2", new(), "ok ok"),
    _two("Multiboot 2 in an ELF64", new(bits=64), "ok ok"),
    _two("Multiboot 2, entered elsewhere", new(head={"e_entry": OTHER}), f"ok{ONE_STEP} ok{ONE_STEP}"),
    _two("Multiboot 2 at 32744", linked(ended(), at=32744), "ok ok"),
    _two("Multiboot 2 at 32752, whose tags lie behind", linked(ended(), at=32752), "-L133 -L133"),
    _two("Multiboot 2 at 32768", linked(ended(), at=32768), "L135 L135"),
    _two("Multiboot 2, aligned to 4", linked(ended(), at=HEADER + 4), "L135 L135"),
    _two("Multiboot 2, a wrong sum", linked(ended(wrong=1)), "L135 L135"),
    _two("Multiboot 2 for MIPS", linked(ended(architecture=4)), "L135 L135"),
    _two("Multiboot 2 for MIPS, then for i386", linked(ended(architecture=4) + ended()), "ok ok"),
    _two("Multiboot 2, header_length 0", linked(ended(length=0)), "ok ok"),
    _two("Multiboot 2, header_length of 1 MiB", linked(ended(length=1 << 20)), "ok ok"),
    _two("31 bytes of Multiboot 2", cut(ended() + bytes(16), 31), "L135 L135"),
    _two("Multiboot 2 in gzip", gzip.compress(new(), mtime=0), "ok ok"),
    _two("Multiboot 2, no ELF", (ended() + bytes(32)), "L101 L101"),
    _two("Multiboot 2, both headers", linked(multiboot() + bytes(4) + ended()), "ok ok"),
    # -- Tags.
    _two("tags without an end, zeros behind", linked(multiboot2(tag(MODULE_ALIGN))), "ok ok"),
    _two("tags without an end, another tag behind",
         linked(multiboot2(tag(MODULE_ALIGN)) + tag(0x7777)), "L136 L136"),
    _two("tags without an end, to the file's end",
         linked(multiboot2(tag(MODULE_ALIGN, size=0x8000))), "-L133 -L133"),
    _two("a tag of size 0", new(tag(MODULE_ALIGN, size=0)), "!L119 !L119"),
    _two("a tag whose size wraps to 0", new(tag(MODULE_ALIGN, size=0xFFFFFFFF)), "!L119 !L119"),
    _two("a tag that is not padded", linked(multiboot2(tag(ENTRY, OTHER)[:12] + END) + bytes(8)),
         "L136 L136"),
    _two("an unknown tag, required", new(tag(0x7777)), "L136 L136"),
    _two("an unknown tag, optional", new(tag(0x7777, flags=OPTIONAL)), "ok ok"),
    _two("modules aligned", new(tag(MODULE_ALIGN)), "ok ok"),
    _two("all information that is known", new(tag(INFORMATION, *range(13), *range(14, 22))), "ok ok"),
    _two("SMBIOS tables wanted", new(tag(INFORMATION, 13)), "L136 L136"),
    _two("SMBIOS tables wanted, optional", new(tag(INFORMATION, 13, flags=OPTIONAL)), "ok ok"),
    _two("unknown information wanted", new(tag(INFORMATION, 22)), "L136 L136"),
    _two("an information request of size 4", new(tag(INFORMATION, 0, 999, size=4)), "L136 L136"),
    _two("an entry", new(tag(ENTRY, OTHER)), f"ok{ONE_STEP} ok{ONE_STEP}"),
    _two("two entries, the last counts", new(tag(ENTRY, START), tag(ENTRY, OTHER)),
         f"ok{ONE_STEP} ok{ONE_STEP}"),
    _two("an entry, and e_entry in no segment", new(ENTERED, head={"e_entry": 0}), "L140 L140"),
    _two("an entry for 32-bit EFI", new(tag(ENTRY_EFI32, OTHER)), "L136 L136"),
    _two("an entry for 64-bit EFI", new(tag(ENTRY_EFI64, OTHER)), "ok ok"),
    _two("boot services and an entry for 64-bit EFI",
         new(tag(BOOT_SERVICES), tag(ENTRY_EFI64, OTHER)), f"ok ok{ONE_STEP}"),
    _two("boot services without an entry for EFI", new(tag(BOOT_SERVICES)), "ok ~L145"),
    _two("boot services and a 32-bit entry", new(tag(BOOT_SERVICES), tag(ENTRY, OTHER)),
         f"ok{ONE_STEP} ~L145{ONE_STEP}"),
    _two("a console required", new(tag(CONSOLE, 3)), "ok L143"),
    _two("a console required, no text", new(tag(CONSOLE, 1)), "L143 L143"),
    _two("a console, not required", new(tag(CONSOLE, 0)), "ok ok"),
    _two("a console required, and a framebuffer", new(tag(CONSOLE, 1), tag(FRAMEBUFFER, 0, 0, 0)), "ok ok"),
    _two("a framebuffer", new(tag(FRAMEBUFFER, 1024, 768, 32)), "ok ok"),
    # -- Addresses.
    _two("addresses and an entry", new(ADDRESSES, ENTERED), "ok ok"),
    _two("addresses and no entry", new(ADDRESSES), "L137 L137"),
    _two("addresses and an entry for 64-bit EFI", new(ADDRESSES, tag(ENTRY_EFI64, OTHER)), "L137 L137"),
    _two("addresses, boot services and an entry for 64-bit EFI",
         new(ADDRESSES, tag(BOOT_SERVICES), tag(ENTRY_EFI64, OTHER)), f"L137 ok{ONE_STEP}"),
    _two("addresses in a flat file",
         bytes(0x200) + CODE.ljust(0x280, b"\0") + ended(ADDRESSES, ENTERED), "ok ok"),
    _two("load_addr -1", new(tag(ADDRESS, START + HEADER, -1, 0, 0), tag(ENTRY, START + 0x200)),
         "ok@0x100200 ok@0x100200"),
    _two("load_addr -1 and bss_end_addr", new(tag(ADDRESS, START + HEADER, -1, 0, START + 2 * PAGE),
         tag(ENTRY, START + 0x200)), "ok@0x100200 ok@0x100200"),
    _two("load_addr -1 and load_end_addr, taken for the size",
         new(tag(ADDRESS, START + HEADER, -1, START + 0x600, START + 2 * PAGE), tag(ENTRY, START + 0x200)),
         "!L127 !L127"),
    _two("load_end_addr beyond the file", new(tag(ADDRESS, AT, START, START + 0x100000, 0), ENTERED),
         "ok ok"),
    _two("bss_end_addr", new(tag(ADDRESS, AT, START, START + PAGE, START + 2 * PAGE), ENTERED), "ok ok"),
    _two("bss_end_addr below load_end_addr",
         new(tag(ADDRESS, AT, START, START + 0x400, START + 0x200), ENTERED), "!L127 !L127"),
    _two("header_addr below load_addr", new(tag(ADDRESS, START - 8, START, 0, 0), ENTERED), "ok ok"),
    # -- A relocatable image.
    _two("relocatable, low", new(tag(RELOCATABLE, 1 << 20, 0x7FFFFFFF, 2 << 20, 1)), "ok@? ok@?"),
    _two("relocatable, high", new(tag(RELOCATABLE, 1 << 20, 0x7FFFFFFF, 2 << 20, 2)), "ok@? ok@?"),
    _two("relocatable, align 0", new(tag(RELOCATABLE, 1 << 20, 0x7FFFFFFF, 0, 0)), "ok@? ok@?"),
    _two("relocatable, align 0, where there is no memory",
         new(tag(RELOCATABLE, 0x70000000, 0x7FFFFFFF, 0, 0)), "L115 L115"),
    _two("relocatable, align no power of two", new(tag(RELOCATABLE, 1 << 20, 0x7FFFFFFF, 3 << 12, 0)),
         "-L133 -L133"),
    _two("relocatable with addresses",
         new(ADDRESSES, ENTERED, tag(RELOCATABLE, 1 << 20, 0x7FFFFFFF, PAGE, 0)), "ok@? ok@?"),
    _two("relocatable, max_addr too low", new(tag(RELOCATABLE, 0, PAGE - 1, 1, 0)), "L142 L142"),
    _two("relocatable, min_addr too high", new(tag(RELOCATABLE, 0x7FFFF000, 0x7FFFFFFF, 1, 0)), "L142 L142"),
    _two("relocatable, where there is no memory",
         new(tag(RELOCATABLE, 0x70000000, 0x7FFFFFFF, 1, 0)), "L115 L115"),
    # -- ELF, where it differs from Multiboot 1.
    _two("relocations", new(sections={1: SECTION | {"sh_type": 4}}, head={"e_shnum": 2}), "L141 L141"),
    _two("relocations without addends", new(sections={1: SECTION | {"sh_type": 9}}, head={"e_shnum": 2}),
         "L141 L141"),
    _two("a string table", new(sections={1: SECTION}, head={"e_shnum": 2}), "ok ok"),
    _two("a section with an address beyond the file",
         new(sections={1: SECTION | {"sh_addr": START, "sh_offset": 1 << 20}}, head={"e_shnum": 2}), "ok ok"),
    _two("a section without an address beyond the file",
         new(sections={1: SECTION | {"sh_offset": 1 << 20}}, head={"e_shnum": 2}), "L123 L123"),
    _two("a section of 1 GiB without an address",
         new(sections={1: SECTION | {"sh_size": 1 << 30}}, head={"e_shnum": 2}), "L115 L115"),
    _two("a section aligned to 0", new(sections={1: SECTION | {"sh_addralign": 0}}, head={"e_shnum": 2}),
         "ok ok"),
    _two("65535 section headers", new(head={"e_shnum": MANY,
         "e_shoff": 0x1000}, parts={0x1000: bytes(40 * MANY)}),
         "ok ok"),
    _two("e_shentsize 8", new(head={"e_shnum": 2, "e_shentsize": 8}), "-L133 -L133"),
    _two("Multiboot 2, e_shoff outside", new(head={"e_shnum": 2, "e_shoff": 1 << 20}), "L102 L102"),
    _two("Multiboot 2, the only segment in no RAM", new(code={"p_paddr": 0xF0000000}), "L115 ok@0xf0000000"),
    _two("Multiboot 2, ET_REL", new(head={"e_type": 1}), "L138 L138"),
    _two("e_machine ARM", new(head={"e_machine": 40}), "L103 L103"),
    _two("ELF32 for x86-64", new(head={"e_machine": 62}), "L103 L103"),
    _two("Multiboot 2, big endian", new(ident={5: 2}), "L103 L103"),
    _two("e_phoff 32 KiB", new(head={"e_phoff": 32768}), "L139 L139"),
    _two("segments that overlap by a page", new(data={"p_paddr": START}), "L124 L124"),
    _two("Multiboot 2, ELF64, entry above 4 GiB",
         new(bits=64, code={"p_vaddr": 0}, noted={"p_type": 6, "p_vaddr": START, "p_paddr": 1 << 32,
         "p_memsz": 16}), "L115 L115"),
    _two("Multiboot 2, p_filesz larger than p_memsz",
         new(data={"p_offset": 0x800, "p_filesz": 0x1800, "p_memsz": PAGE}, parts={0x800: b"\xcc" * 0x1800}),
         "!L134 ok:L134"),
]  # fmt: skip

CASES = [*MULTIBOOT1, *MULTIBOOT2]
