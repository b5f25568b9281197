"""struct boot_params, what a Linux kernel is given (Documentation/arch/x86/boot.rst, asm/bootparam.h)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from bootbuild.model.machine import Framebuffer, MapEntry

SIZE = 4096
E820_MAX = 128  #: E820_MAX_ENTRIES_ZEROPAGE
E820_ENTRY_SIZE = 20
BOOT_FLAG, HEADER_MAGIC = 0xAA55, 0x53726448  #: what setup_header has at 0x1fe and 0x202 ("HdrS")

SETUP_E820_EXT = 1  #: asm/setup_data.h: entries for which the zero page has no room
SETUP_RNG_SEED = 9  #: asm/setup_data.h
SETUP_BOOTBUILD = 0x4F484242  #: BB_SETUP_DATA_TYPE of handover.h: the record (docs/handover.md)
MAX_SETUP_DATA = 64  #: nodes; a longer list is taken for a loop
_NODE = struct.Struct("<QII")  #: next, type, len

# offsets in the zero page
SECURE_BOOT, SENTINEL, BOOT_FLAG_AT = 0x1EC, 0x1EF, 0x1FE
SECURE_BOOT_OFF, SECURE_BOOT_ON = 2, 3  #: linux/efi.h, enum efi_secureboot_mode
EXT_RAMDISK_IMAGE, EXT_RAMDISK_SIZE, EXT_CMD_LINE_PTR = 0x0C0, 0x0C4, 0x0C8
ACPI_RSDP_ADDR = 0x070
E820_ENTRIES, E820_TABLE = 0x1E8, 0x2D0
HDR_MAGIC, VERSION, TYPE_OF_LOADER = 0x202, 0x206, 0x210
RAMDISK_IMAGE, RAMDISK_SIZE, CMD_LINE_PTR = 0x218, 0x21C, 0x228
HARDWARE_SUBARCH, SETUP_DATA = 0x23C, 0x250
EFI_INFO = 0x1C0
VIDEO_TYPE_VLFB, VIDEO_TYPE_EFI = 0x23, 0x70  #: linux/screen_info.h: orig_video_isVGA of pixels in memory
_VLFB_UNIT = 0x10000  #: bytes in which VESA's lfb_size is counted
_SCREEN = struct.Struct("<15xB2x3H2I4xH8B8x2I")  #: screen_info from its beginning to ext_lfb_base
_64BIT_BASE = 2  #: VIDEO_CAPABILITY_64BIT_BASE

#: Offset and struct code of what loaders write, by the names of asm/bootparam.h and asm/screen_info.h.
FIELDS: Mapping[str, tuple[int, str]] = {
    "orig_x": (0x00, "B"),
    "orig_y": (0x01, "B"),
    "ext_mem_k": (0x02, "H"),
    "orig_video_page": (0x04, "H"),
    "orig_video_mode": (0x06, "B"),
    "orig_video_cols": (0x07, "B"),
    "orig_video_ega_bx": (0x0A, "H"),
    "orig_video_lines": (0x0E, "B"),
    "orig_video_isVGA": (0x0F, "B"),
    "orig_video_points": (0x10, "H"),
    "cl_magic": (0x20, "H"),
    "cl_offset": (0x22, "H"),
    "acpi_rsdp_addr": (ACPI_RSDP_ADDR, "Q"),
    "ext_ramdisk_image": (EXT_RAMDISK_IMAGE, "I"),
    "ext_ramdisk_size": (EXT_RAMDISK_SIZE, "I"),
    "ext_cmd_line_ptr": (EXT_CMD_LINE_PTR, "I"),
    "efi_loader_signature": (EFI_INFO, "4s"),
    "efi_systab": (0x1C4, "I"),
    "efi_memdesc_size": (0x1C8, "I"),
    "efi_memdesc_version": (0x1CC, "I"),
    "efi_memmap": (0x1D0, "I"),
    "efi_memmap_size": (0x1D4, "I"),
    "efi_systab_hi": (0x1D8, "I"),
    "efi_memmap_hi": (0x1DC, "I"),
    "alt_mem_k": (0x1E0, "I"),
    "secure_boot": (SECURE_BOOT, "B"),
    "sentinel": (SENTINEL, "B"),
    "vid_mode": (0x1FA, "H"),
    "root_dev": (0x1FC, "H"),
    "boot_flag": (BOOT_FLAG_AT, "H"),
    "header": (HDR_MAGIC, "I"),
    "type_of_loader": (TYPE_OF_LOADER, "B"),
    "loadflags": (0x211, "B"),
    "code32_start": (0x214, "I"),
    "ramdisk_image": (RAMDISK_IMAGE, "I"),
    "ramdisk_size": (RAMDISK_SIZE, "I"),
    "heap_end_ptr": (0x224, "H"),
    "ext_loader_ver": (0x226, "B"),
    "ext_loader_type": (0x227, "B"),
    "cmd_line_ptr": (CMD_LINE_PTR, "I"),
    "kernel_alignment": (0x230, "I"),
    "cmdline_size": (0x238, "I"),
    "setup_data": (SETUP_DATA, "Q"),
}


@dataclass(frozen=True)
class Screen:
    """struct screen_info, of a linear framebuffer."""

    type: int  #: orig_video_isVGA
    framebuffer: Framebuffer
    size: int  #: bytes; of VESA's in whole units of 64 KiB
    reserved: tuple[int, int]  #: lowest bit and number of the bits of a pixel that are no colour


def _screen(page: bytes) -> Screen | None:
    """The linear framebuffer; None for text, or no screen."""
    kind, width, height, depth, base, size, pitch, *bits, capabilities, high = _SCREEN.unpack_from(page)
    if kind not in (VIDEO_TYPE_VLFB, VIDEO_TYPE_EFI):
        return None
    red_size, red, green_size, green, blue_size, blue, rest_size, rest = bits
    return Screen(
        type=kind,
        framebuffer=Framebuffer(
            address=base | (high << 32 if capabilities & _64BIT_BASE else 0),
            width=width,
            height=height,
            pitch=pitch,
            bits_per_pixel=depth,
            colours=(red, red_size, green, green_size, blue, blue_size),
        ),
        size=size * (_VLFB_UNIT if kind == VIDEO_TYPE_VLFB else 1),
        reserved=(rest, rest_size),
    )


@dataclass(frozen=True)
class BootParams:
    """The fields of a zero page that a loader or entry stub fills. Addresses physical."""

    sentinel: int
    boot_flag: int
    header: int
    type_of_loader: int
    version: int
    cmd_line_ptr: int
    ramdisk_image: int
    ramdisk_size: int
    acpi_rsdp_addr: int
    hardware_subarch: int
    setup_data: int
    efi_loader_signature: bytes  #: "EL64", "EL32", or four zeros without EFI
    efi_systab: int
    efi_memmap: int
    efi_memmap_size: int
    efi_memdesc_size: int
    efi_memdesc_version: int
    secure_boot: int  #: 0 where nobody knows, SECURE_BOOT_OFF or SECURE_BOOT_ON
    screen: Screen | None  #: None for text, or no screen
    e820: tuple[MapEntry, ...]


def parse(page: bytes) -> BootParams:
    """Read a zero page. ValueError when it is short or counts more than 128 e820 entries."""
    if len(page) < SIZE:
        raise ValueError(f"boot_params has {len(page)} bytes, not {SIZE}")

    def u32(offset: int) -> int:
        return int.from_bytes(page[offset : offset + 4], "little")

    count = page[E820_ENTRIES]
    if count > E820_MAX:
        raise ValueError(f"boot_params.e820_entries is {count}, more than {E820_MAX}")
    return BootParams(
        sentinel=page[SENTINEL],
        boot_flag=int.from_bytes(page[BOOT_FLAG_AT : BOOT_FLAG_AT + 2], "little"),
        header=u32(HDR_MAGIC),
        type_of_loader=page[TYPE_OF_LOADER],
        version=int.from_bytes(page[VERSION : VERSION + 2], "little"),
        cmd_line_ptr=u32(CMD_LINE_PTR) | u32(EXT_CMD_LINE_PTR) << 32,
        ramdisk_image=u32(RAMDISK_IMAGE) | u32(EXT_RAMDISK_IMAGE) << 32,
        ramdisk_size=u32(RAMDISK_SIZE) | u32(EXT_RAMDISK_SIZE) << 32,
        acpi_rsdp_addr=u32(ACPI_RSDP_ADDR) | u32(ACPI_RSDP_ADDR + 4) << 32,
        hardware_subarch=u32(HARDWARE_SUBARCH),
        setup_data=u32(SETUP_DATA) | u32(SETUP_DATA + 4) << 32,
        efi_loader_signature=page[EFI_INFO : EFI_INFO + 4],
        efi_systab=u32(EFI_INFO + 4) | u32(EFI_INFO + 0x18) << 32,
        efi_memmap=u32(EFI_INFO + 0x10) | u32(EFI_INFO + 0x1C) << 32,
        efi_memmap_size=u32(EFI_INFO + 0x14),
        efi_memdesc_size=u32(EFI_INFO + 8),
        efi_memdesc_version=u32(EFI_INFO + 12),
        secure_boot=page[SECURE_BOOT],
        screen=_screen(page),
        e820=unpack_e820(page[E820_TABLE : E820_TABLE + E820_ENTRY_SIZE * count]),
    )


def pack(base: bytes, values: Mapping[str, int | bytes], e820: Iterable[MapEntry] = ()) -> bytes:
    """A zero page: `base` from its first byte on, over it `values` by their names in FIELDS, and the table.

    ValueError for more than 128 entries of e820.
    """
    page = bytearray(base[:SIZE].ljust(SIZE, b"\0"))
    for name, value in values.items():
        offset, code = FIELDS[name]
        struct.pack_into(f"<{code}", page, offset, value)
    entries = list(e820)
    if len(entries) > E820_MAX:
        raise ValueError(f"{len(entries)} entries of e820, more than {E820_MAX}")
    if entries:
        page[E820_ENTRIES] = len(entries)
        table = pack_e820(entries)
        page[E820_TABLE : E820_TABLE + len(table)] = table
    return bytes(page)


def pack_e820(entries: Iterable[MapEntry]) -> bytes:
    """Entries of struct boot_e820_entry."""
    return b"".join(struct.pack("<QQI", e.address, e.size, e.type) for e in entries)


def pack_setup_data(following: int, kind: int, contents: bytes) -> bytes:
    """A node of the list that `setup_data` begins; `following`: physical address of the next, or 0."""
    return _NODE.pack(following, kind, len(contents)) + contents


@dataclass(frozen=True)
class SetupData:
    """One node of the list that `setup_data` begins. `address`: physical, of the node's contents."""

    type: int
    address: int
    size: int  #: bytes of the contents


def read_setup_data(read: Callable[[int, int], bytes], first: int) -> tuple[SetupData, ...]:
    """The list that begins at physical `first` (0: empty), read by `read(physical address, size)`.

    Raises ValueError for a node that is not memory, and for a list that does not end.
    """
    nodes: list[SetupData] = []
    at = first
    while at:
        if len(nodes) == MAX_SETUP_DATA:
            raise ValueError(f"has more than {MAX_SETUP_DATA} nodes")
        try:
            following, kind, size = _NODE.unpack(read(at, _NODE.size))
            read(at + _NODE.size + size - 1, 1)  # its end; the contents may be large
        except LookupError:
            raise ValueError(f"has a node at {at:#x} that is not memory") from None
        nodes.append(SetupData(kind, at + _NODE.size, size))
        at = following
    return tuple(nodes)


def unpack_e820(data: bytes) -> tuple[MapEntry, ...]:
    """Entries of struct boot_e820_entry; what is left over is too little for one."""
    count = len(data) // E820_ENTRY_SIZE
    return tuple(MapEntry(*struct.unpack_from("<QQI", data, E820_ENTRY_SIZE * i)) for i in range(count))
