"""Files that a Multiboot loader would not start as the profile does: each is refused by its rule."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from bootbuild.api import Filling, InputError, MemoryContent, Offer, Problem, Profile
from bootbuild_baremetal.environments import grub_bios, grub_efi, qemu
from test_broken_multiboot_guests import BOTH, HEADER_2, header_2
from tiny_file import HEADERS
from tiny_guest import BASE, ENTRY, guest, image_of

MiB = 1 << 20
PROFILES: dict[str, Callable[[], Profile]] = {
    "multiboot1@grub": grub_bios.Multiboot1,
    "multiboot1@qemu": qemu.Multiboot1,
    "multiboot2@grub-bios": grub_bios.Multiboot2,
    "multiboot2@grub-efi64": grub_efi.Multiboot2,
}
GRUB = [name for name in PROFILES if name != "multiboot1@qemu"]


def problem(profile: str, data: bytes, offer: Offer | None = None) -> Problem:
    """The one reason for which a profile sets no scene up."""
    with pytest.raises(InputError) as caught:
        PROFILES[profile]().scene(image_of(data), offer or Offer(), Filling.EXACT)
    (found,) = caught.value.problems
    return found


def tag(kind: int, *words: int) -> bytes:
    """A tag of a Multiboot2 header."""
    return struct.pack(f"<HHI{len(words)}I", kind, 0, 8 + 4 * len(words), *words)


def linked_at(address: int, headers: bytes = BOTH) -> bytes:
    """The guest with its one segment elsewhere; its code is not made for that."""
    data = bytearray(guest(bits=32, headers=headers))
    struct.pack_into("<II", data, 52 + 8, address, address)  # p_vaddr, p_paddr
    struct.pack_into("<I", data, 24, address)  # e_entry
    return bytes(data)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_file_without_a_header(profile: str) -> None:
    found = problem(profile, guest(bits=32))
    assert found.rule.id == "BB-L330"
    assert f"no header of Multiboot {profile[9]} in the first" in found.message


@pytest.mark.parametrize("profile", PROFILES)
def test_a_header_behind_what_is_searched(profile: str) -> None:
    limit = 8192 if profile.startswith("multiboot1") else 32768
    assert problem(profile, guest(bits=32).ljust(limit, b"\0") + BOTH).rule.id == "BB-L330"


@pytest.mark.parametrize("profile", PROFILES)
def test_a_header_whose_words_do_not_add_up_to_0(profile: str) -> None:
    data = bytearray(guest(bits=32, headers=BOTH))
    data[HEADERS + 12] ^= 1
    data[HEADERS + len(HEADER_2) + 8] ^= 1
    assert problem(profile, bytes(data)).rule.id == "BB-L330"


@pytest.mark.parametrize("profile", [name for name in PROFILES if "grub" in name])
def test_an_entry_outside_every_segment(profile: str) -> None:
    """QEMU enters it there all the same: `ok@0xfffff` in tests/loaders/multiboot_cases.py."""
    data = bytearray(guest(bits=32, headers=BOTH))
    struct.pack_into("<I", data, 24, BASE)
    found = problem(profile, bytes(data))
    assert (found.rule.id, "e_entry 0x100000 is in no segment" in found.message) == ("BB-L331", True)


WRONG = {
    "load_addr above header_addr": (ENTRY, ENTRY + MiB, 0, 0, ENTRY),
    "load_end_addr below load_addr": (ENTRY, ENTRY - HEADERS, ENTRY - 0x1000, 0, ENTRY),
    "load_end_addr behind the file": (ENTRY, ENTRY - HEADERS, ENTRY + MiB, 0, ENTRY),
    "bss_end_addr below load_end_addr": (ENTRY, ENTRY - HEADERS, ENTRY + 0x100, ENTRY, ENTRY),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("profile", PROFILES)
def test_addresses_that_are_not_of_the_file(profile: str, name: str) -> None:
    addresses = WRONG[name]
    if profile.startswith("multiboot1"):
        words = (0x1BADB002, 1 << 16, -(0x1BADB002 + (1 << 16)) & 0xFFFFFFFF)
        headers = struct.pack("<8I", *words, *addresses)
    else:
        headers = header_2(tag(2, *addresses[:4]), tag(3, addresses[4]))
    assert problem(profile, guest(bits=32, headers=headers)).rule.id == "BB-L332"


SHELLS = [
    *(b"a=$b", b"a;b", b"a & b", b"#a", b"a {", b"a{b", b"a}b", b"'a", b'a "b', b"a\\"),
    *(b"a\nb", b"a\rb", b"'a\nb'"),  # no line break is ever passed on
]


@pytest.mark.parametrize("text", SHELLS)
@pytest.mark.parametrize("profile", GRUB)
def test_a_command_line_that_grubs_shell_takes_for_itself(profile: str, text: bytes) -> None:
    found = problem(profile, guest(bits=32, headers=BOTH), Offer(cmdline=text))
    assert found.rule.id == "BB-L333"
    module = ("module", MemoryContent(b"x"), text)
    assert problem(profile, guest(bits=32, headers=BOTH), Offer(modules=(module,))).rule.id == "BB-L333"


def test_boot_services_without_an_entry_for_them() -> None:
    found = problem("multiboot2@grub-efi64", guest(bits=32, headers=header_2(tag(7))))
    assert found.rule.id == "BB-L334"


def test_a_kernel_over_living_boot_services() -> None:
    """GRUB would move it there by its last code, and the firmware be gone: without tag 7 that is no harm."""
    profile, address = "multiboot2@grub-efi64", 0x900000
    data = linked_at(address, header_2(tag(7), tag(9, address)))
    assert problem(profile, data).rule.id == "BB-L003"
    scene = PROFILES[profile]().scene(image_of(linked_at(address)), Offer(), Filling.EXACT)
    assert scene.state.ip == address


@pytest.mark.parametrize("preference", [0, 1, 2])
@pytest.mark.parametrize(
    "bounds",
    [
        (0x70000000, 0x7FFFFFFF, 0x1000),
        (ENTRY, ENTRY + 0x1000, 0x1000),
        (MiB, 0xFFFFFFFF, 0x80000000),
    ],
    ids=["above RAM", "too narrow", "no such multiple"],
)
@pytest.mark.parametrize("profile", ["multiboot2@grub-bios", "multiboot2@grub-efi64"])
def test_a_relocatable_kernel_that_grub_finds_no_place_for(
    profile: str, bounds: tuple[int, ...], preference: int
) -> None:
    found = problem(profile, guest(bits=32, headers=header_2(tag(10, *bounds, preference))))
    assert found.rule.id == "BB-L335"
    assert f"in {bounds[0]:#x}-{bounds[1]:#x}, at multiples of {bounds[2]:#x}" in found.message


@pytest.mark.parametrize("profile", ["multiboot2@grub-bios", "multiboot2@grub-efi64"])
def test_a_relocatable_kernel_whose_alignment_grub_does_not_keep(profile: str) -> None:
    found = problem(profile, guest(bits=32, headers=header_2(tag(10, MiB, 0xFFFFFFFF, 0x3000, 1))))
    assert found.rule.id == "BB-L335"
    assert found.message == "its alignment 0x3000 is no power of two, and GRUB keeps to no other"


@pytest.mark.parametrize("size", [1, 8, 24])
def test_a_relocatable_tag_is_read_whatever_its_size(size: int) -> None:
    """Where it is too small, GRUB takes the same words again for the next tag, and here for the last."""
    data = struct.pack("<HHI4I", 10, 0, size, 2 * MiB, 64 * MiB, 4096, 1)
    scene = PROFILES["multiboot2@grub-bios"]().scene(
        image_of(guest(bits=32, headers=header_2(data))), Offer(), Filling.EXACT
    )
    assert scene.state.ip == 2 * MiB


@pytest.mark.parametrize("profile", ["multiboot2@grub-bios", "multiboot2@grub-efi64"])
def test_a_relocatable_kernel_that_stays_where_it_is_linked(profile: str) -> None:
    data = guest(bits=32, headers=header_2(tag(10, ENTRY, 64 * MiB, 0x1000, 1)))
    scene = PROFILES[profile]().scene(image_of(data), Offer(), Filling.EXACT)
    assert scene.state.ip == ENTRY


OUTSIDE = {
    "in the BIOS's shadow": (0xE0000, PROFILES),
    "above RAM": (0x40000000, PROFILES),
    "over what UEFI keeps": (0x810000, ["multiboot2@grub-efi64"]),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_kernel_linked_to_where_no_memory_is_its(name: str) -> None:
    address, profiles = OUTSIDE[name]
    assert {problem(profile, linked_at(address)).rule.id for profile in profiles} == {"BB-L003"}


@pytest.mark.parametrize("profile", PROFILES)
def test_modules_that_do_not_fit(profile: str) -> None:
    large = ("large", _Large(600 * MiB), b"")
    assert problem(profile, guest(bits=32, headers=BOTH), Offer(modules=(large,))).rule.id == "BB-L003"


@pytest.mark.parametrize("profile", PROFILES)
def test_modules_that_do_not_fit_together(profile: str) -> None:
    """Each finds a place in the machine's memory, all of them do not."""
    many = tuple((f"module{i}", _Large(20 * MiB), b"") for i in range(32))
    assert problem(profile, guest(bits=32, headers=BOTH), Offer(modules=many)).rule.id == "BB-L003"


@pytest.mark.parametrize("profile", PROFILES)
def test_a_kernel_and_modules_that_would_end_above_4_gib(profile: str) -> None:
    one = ("module", MemoryContent(bytes(0x3000)), b"")
    assert problem(profile, linked_at(0xFFFFB000), Offer(modules=(one,))).rule.id == "BB-L003"


class _Large:
    """Content of zeros, of any size."""

    def __init__(self, size: int) -> None:
        self.size = size

    def read(self, offset: int, size: int) -> bytes:
        return bytes(min(size, self.size - offset))

    def read_into(self, offset: int, buffer: memoryview) -> int:
        return min(len(buffer), self.size - offset)


SIZES = [("multiboot1@grub", "2 MiB to 3 GiB"), ("multiboot2@grub-efi64", "256 MiB to 2 GiB")]


@pytest.mark.parametrize(("profile", "least"), SIZES)
def test_a_machine_of_a_size_that_does_not_exist(profile: str, least: str) -> None:
    found = problem(profile, guest(bits=32, headers=BOTH), Offer(memory=MiB))
    assert (found.rule.id, least in found.message) == ("BB-L003", True)


def test_bss_over_qemus_stack_is_garbage_in_a_poisoned_run() -> None:
    """The option ROM has its stack there after the kernel was loaded: nobody clears it again."""
    address, size = 0x6E00, 0x200
    image = image_of(linked_at(0x4000))  # its .bss is 0x6000-0x7000
    scene = PROFILES["multiboot1@qemu"]().scene(image, Offer(), Filling.POISON_A)
    left = [load for load in scene.loads if (load.address, load.memsz) == (address, size)]
    assert len(left) == 1 and any(left[0].content.read(0, size))
