"""What the Linux front takes of EFI: efi_info, and by the configuration table ACPI's root pointer."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from bootbuild.abi import acpi
from bootbuild.api import Span
from bootbuild.platform.uefi.guids import ACPI_10, ACPI_20
from linux_anywhere import RSDP, GiB, Places
from linux_starts import KINDS, Images, boot, check


def efi(signature: bytes, **words: int) -> dict[int, bytes]:
    names = ("systab", "memdesc_size", "memdesc_version", "memmap", "memmap_size", "systab_hi", "memmap_hi")
    return {0x1C0: signature + struct.pack("<7I", *(words.get(name, 0) for name in names))}


def test_what_efi_has_left_is_passed_on(images: Images) -> None:
    words = {"systab": 0x7F00000, "memdesc_size": 48, "memdesc_version": 1, "memmap": 0x7F10000}
    fields = efi(b"EL64", **words, memmap_size=480) | {0x070: struct.pack("<Q", RSDP)}
    given: dict[str, object] = {
        "efi_system_table": 0x7F00000,
        "efi_memmap": Span(0x7F10000, 480),
        "efi_memmap_descriptor_size": 48,
        "efi_memmap_descriptor_version": 1,
    }
    check(boot(images, Places(fields=fields), KINDS[0], **given))


def test_a_map_by_which_firmware_was_made_virtual_is_not_passed_on(images: Images) -> None:
    """kexec: SETUP_EFI. A kernel that got the map would make the firmware virtual once more."""
    words = {"systab": 0x7F00000, "memdesc_size": 48, "memdesc_version": 1, "memmap": 0x7F10000}
    fields = efi(b"EL64", **words, memmap_size=480) | {0x070: struct.pack("<Q", RSDP)}
    places = Places(fields=fields, nodes=((0x30000, 0, 4, bytes(40)),))
    check(boot(images, places, efi_system_table=0x7F00000))


@pytest.mark.parametrize(("said", "on"), [(0, False), (2, False), (3, True)])
def test_whether_secure_boot_is_on_is_passed_on(images: Images, said: int, on: bool) -> None:
    check(boot(images, Places(fields={0x1EC: bytes([said])}), KINDS[0], secure_boot=on))


def test_32_bit_efi_has_no_upper_halves(images: Images) -> None:
    fields = efi(b"EL32", systab=0x7F00000, systab_hi=0x4444, memmap_hi=0x5555)
    check(boot(images, Places(fields=fields | {0x070: struct.pack("<Q", RSDP)}), efi_system_table=0x7F00000))


def test_a_system_table_that_cannot_be_reached_is_absent(images: Images) -> None:
    fields = efi(b"EL64", systab_hi=1, memmap=0x1000, memmap_hi=1, memmap_size=48)
    check(boot(images, Places(fields=fields | {0x070: struct.pack("<Q", RSDP)})))


def test_with_efi_nobody_searches_the_bios_for_acpi(images: Images) -> None:
    check(boot(images, Places(fields=efi(b"EL64")), rsdp=0))


SYSTAB, TABLES, OLD, NEW = 0x7F00000, 0x7F01000, 0x7F02000, 0x7F02100
OTHER = bytes(range(16))
BOTH = ((OTHER, 0xFFFFFFFF), (ACPI_10, OLD), (ACPI_20, NEW))


def system_table(count: int, tables: int = TABLES, signature: bytes = b"IBI SYST") -> bytes:
    """EFI_SYSTEM_TABLE of 64-bit firmware, its header's sum and all services left out."""
    return signature.ljust(104, b"\0") + struct.pack("<QQ", count, tables)


def firmware(
    found: Sequence[tuple[bytes, int]], *, tables: int = TABLES, count: int | None = None
) -> list[tuple[int, bytes]]:
    """The tables in memory, and a sound root pointer of either revision."""
    return [
        (SYSTAB, system_table(len(found) if count is None else count, tables)),
        (TABLES, b"".join(guid + struct.pack("<Q", at) for guid, at in found)),
        (OLD, acpi.old_rsdp(0x7F03000, b"TEST  ")),
        (NEW, acpi.rsdp(0x7F03000)),
    ]


def start(images: Images, memory: Sequence[tuple[int, bytes]], rsdp: int, systab: int = SYSTAB) -> None:
    fields = efi(b"EL64", systab=systab & 0xFFFFFFFF, systab_hi=systab >> 32)
    given = {"efi_system_table": systab} if systab < 4 * GiB else {}
    check(boot(images, Places(fields=fields, firmware=memory), KINDS[0], rsdp=rsdp, **given))


@pytest.mark.parametrize(
    ("found", "rsdp"),
    [
        (BOTH, NEW),
        (BOTH[::-1], NEW),
        (BOTH[:2], OLD),
        (BOTH[:1], 0),
        ((), 0),
        (((ACPI_20, NEW + 1), (ACPI_10, OLD)), OLD),
        (((OTHER, 0),) * 1023 + BOTH[2:], NEW),
    ],
    ids=["both", "2.0 first", "1.0", "another", "none", "2.0 is damaged", "1024"],
)
def test_where_the_loader_says_nothing_the_configuration_table_says_where_acpi_is(
    images: Images, found: Sequence[tuple[bytes, int]], rsdp: int
) -> None:
    """GRUB 2.06 on UEFI leaves acpi_rsdp_addr 0."""
    start(images, firmware(found), rsdp)


def test_what_the_loader_says_of_acpi_comes_first(images: Images) -> None:
    fields = efi(b"EL64", systab=SYSTAB) | {0x070: struct.pack("<Q", RSDP)}
    check(boot(images, Places(fields=fields, firmware=firmware(BOTH)), efi_system_table=SYSTAB))


def test_32_bit_firmware_has_other_tables(images: Images) -> None:
    places = Places(fields=efi(b"EL32", systab=SYSTAB), firmware=firmware(BOTH))
    check(boot(images, places, efi_system_table=SYSTAB, rsdp=0))


def test_after_kexec_the_tables_have_virtual_addresses(images: Images) -> None:
    places = Places(
        fields=efi(b"EL64", systab=SYSTAB), firmware=firmware(BOTH), nodes=((0x30000, 0, 4, bytes(40)),)
    )
    check(boot(images, places, efi_system_table=SYSTAB, rsdp=0))


END = 128 << 20  #: of RAM, and of what `Anywhere` maps below 4 GiB
REST = firmware(BOTH)[1:]
HOSTILE: dict[str, tuple[int, list[tuple[int, bytes]]]] = {
    "system table above 4 GiB": (
        4 * GiB + SYSTAB,
        [(4 * GiB + SYSTAB, system_table(3)), *firmware(BOTH)],
    ),
    "system table nowhere": (0xFFF00000, []),
    "system table past the end of RAM": (
        END - 119,
        [(END - 119, system_table(3)[:119]), *REST],
    ),
    "at the end of all": ((1 << 64) - 8, []),
    "another signature": (SYSTAB, [(SYSTAB, system_table(3, signature=b"IBI SYSU")), *REST]),
    "endless": (SYSTAB, firmware(BOTH, count=(1 << 64) - 1)),
    "more than 1024": (SYSTAB, firmware((*((OTHER, 0),) * 1024, (ACPI_20, NEW)))),
    "a product of 0": (SYSTAB, firmware(BOTH, count=1 << 61)),
    "configuration table above 4 GiB": (SYSTAB, firmware(BOTH, tables=4 * GiB + TABLES)),
    "configuration table past the end of RAM": (SYSTAB, firmware(BOTH, tables=END - 24)),
    "configuration table nowhere": (SYSTAB, firmware(BOTH, tables=0xFFFFFFF8)),
    "root pointer above 4 GiB": (SYSTAB, firmware(((ACPI_20, 4 * GiB + NEW),))),
    "root pointer nowhere": (SYSTAB, firmware(((ACPI_20, 0xFFFFFFF0), (ACPI_10, 0xD0000000)))),
    "root pointer past the end of RAM": (
        SYSTAB,
        [*firmware(((ACPI_20, END - 16),)), (END - 16, b"RSD PTR ")],
    ),
    "root pointer of another sum": (SYSTAB, [*firmware(BOTH)[:2], (NEW, b"RSD PTR \1".ljust(36, b"\0"))]),
}


@pytest.mark.parametrize(("systab", "memory"), HOSTILE.values(), ids=HOSTILE)
def test_of_damaged_tables_nothing_comes(
    images: Images, systab: int, memory: Sequence[tuple[int, bytes]]
) -> None:
    start(images, memory, 0, systab)
