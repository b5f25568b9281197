"""Firecracker and Cloud Hypervisor cannot be run without KVM: every field is stated from their source.

The numbers below were read in firecracker v1.16.1 and cloud-hypervisor v53.0, in the files that each line
names; where both say the same, the first is named. linux-loader is v0.13.2 in both (their Cargo.lock).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import pytest

import modelled
from bootbuild.api import Filling, MemoryContent, Offer, Profile, RegionKind, Scene
from bootbuild.boot.prove import prove
from bootbuild_pvh.environments import CloudHypervisor, Firecracker
from entry_dump import EntryDump, Segment
from tiny_guest import BSS, ENTRY, guest, image_of, subject

MEMORY = 128 << 20
CMDLINE = b"console=ttyS0"
MODULE = b"a module of an odd length" * 181

# regs.rs, configure_segments_and_sregs; a descriptor's attributes as gdt_entry is given them, and the limit
# as get_limit of gdt.rs scales it. LDTR is left as KVM resets it: its hidden part no PVH guest can read.
_DATA = Segment(0x10, 0, 0xFFFFFFFF, 0xC093)
_SEGMENTS = {
    "cs": Segment(0x08, 0, 0xFFFFFFFF, 0xC09B),
    "ds": _DATA,
    "es": _DATA,
    "ss": _DATA,
    "fs": _DATA,
    "gs": _DATA,
    "tr": Segment(0x18, 0, 0x67, 0x008B),
    "ldtr": Segment(0, 0, 0, 0),
}
FIRECRACKER = EntryDump(
    cpu={
        "eax": 0,  # regs.rs, setup_regs: RFLAGS, RBX and RIP; the rest is Default
        "ebx": 0x6000,  # layout.rs, PVH_INFO_START
        "ecx": 0,
        "edx": 0,
        "esi": 0,
        "edi": 0,
        "ebp": 0,
        "esp": 0,
        "eflags": 0x2,
        "cr0": 0x11,  # regs.rs, X86_CR0_PE | X86_CR0_ET
        "cr3": 0,
        "cr4": 0,
        "efer": 0,
        **{name: segment.selector for name, segment in _SEGMENTS.items()},
        "gdtr_limit": 31,  # regs.rs, BOOT_GDT_MAX descriptors of 8 bytes, less one
        "gdtr_base": 0x500,  # regs.rs, BOOT_GDT_OFFSET
        "idtr_limit": 7,  # regs.rs, the size of a u64, less one
        "idtr_base": 0x520,  # regs.rs, BOOT_IDT_OFFSET
    },
    hidden=_SEGMENTS,
    start_info={  # mod.rs, configure_pvh
        "address": 0x6000,
        "magic": 0x336EC578,
        "version": 1,
        "flags": 0,
        "nr_modules": 1,
        "modlist_paddr": 0x6040,  # layout.rs, MODLIST_START
        "cmdline_paddr": 0x20000,  # layout.rs, CMDLINE_START
        "rsdp_paddr": 0,  # not set
        "memmap_paddr": 0x7000,  # layout.rs, MEMMAP_START
        "memmap_entries": 4,
        "reserved": 0,
    },
    cmdline=CMDLINE,
    modules=(
        {
            "paddr": (MEMORY - len(MODULE)) // 4096 * 4096,  # mod.rs, initrd_load_addr
            "size": len(MODULE),
            "cmdline_paddr": 0,
            "reserved": 0,
            "crc32": zlib.crc32(MODULE),
        },
    ),
    module_cmdlines=(None,),
    memmap=(
        (0, 0x9FC00, 1),  # layout.rs, SYSTEM_MEM_START
        (0x9FC00, 0x40400, 2),  # SYSTEM_MEM_SIZE = RSDP_ADDR - SYSTEM_MEM_START
        (0xEEC00000, 256 << 20, 2),  # PCI_MMCONFIG_START = IOAPIC_ADDR - PCI_MMCONFIG_SIZE
        (0x100000, MEMORY - 0x100000, 1),  # HIMEM_START
    ),
    hypervisors={},
)
CLOUD_HYPERVISOR = replace(
    FIRECRACKER,
    cpu={**FIRECRACKER.cpu, "cr0": 0x1},  # arch/src/x86_64/regs.rs: CR0_PE and nothing else
    start_info={
        **FIRECRACKER.start_info,
        "rsdp_paddr": 0xA0000,  # arch/src/x86_64/layout.rs, RSDP_POINTER = EBDA_START
        "memmap_entries": 3,
    },
    memmap=(  # arch/src/x86_64/mod.rs, configure_pvh
        (0, 0xA0000, 1),  # EBDA_START
        (0x100000, MEMORY - 0x100000, 1),  # HIGH_RAM_START
        (0xE8000000, 256 << 20, 2),  # PCI_MMCONFIG_START: 3 GiB + MEM_32BIT_DEVICES_SIZE
    ),
)
CASES = [(Firecracker(), FIRECRACKER), (CloudHypervisor(), CLOUD_HYPERVISOR)]
PROFILES = [profile for profile, _ in CASES]


def name_of(value: object) -> str | None:
    return getattr(value, "name", None) or ("" if isinstance(value, EntryDump) else None)


def scene_of(profile: Profile, filling: Filling = Filling.EXACT, only: frozenset[str] | None = None) -> Scene:
    offer = Offer(CMDLINE, (("module", MemoryContent(MODULE), b""),), MEMORY)
    return profile.scene(image_of(guest()), offer, filling, only)


@pytest.mark.parametrize(("profile", "expected"), CASES, ids=name_of)
def test_the_scene_is_what_the_source_says(profile: Profile, expected: EntryDump) -> None:
    assert modelled.dump(scene_of(profile)) == expected


@pytest.mark.parametrize("profile", PROFILES, ids=name_of)
def test_without_a_module_there_is_no_list(profile: Profile) -> None:
    dump = modelled.dump(profile.scene(image_of(guest()), Offer(memory=MEMORY), Filling.EXACT))
    assert (dump.start_info["nr_modules"], dump.start_info["modlist_paddr"]) == (0, 0)
    assert dump.cmdline == b"", "the command line is there, and empty"


@pytest.mark.parametrize("profile", PROFILES, ids=name_of)
def test_the_profile_names_the_version_and_files_that_were_read(profile: Profile) -> None:
    assert profile.evidence.value == "source"
    assert f" v{profile.version}: " in profile.source
    for file in ("layout", "mod", "regs", "gdt", "linux-loader v0.13.2: src/loader/elf/mod.rs"):
        assert file in profile.source


@pytest.mark.parametrize("profile", PROFILES, ids=name_of)
def test_gdtr_and_idtr_point_to_what_the_program_writes_there(profile: Profile) -> None:
    """gdt_entry's four descriptors; one null gate (write_idt_value)."""
    memory = modelled.Memory(scene_of(profile))
    gdt = struct.unpack("<4Q", memory.read(0x500, 32))
    assert gdt == (0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x00008B0000000067)
    assert memory.read(0x520, 8) == bytes(8)


def roots(scene: Scene, start: int, end: int) -> list[int]:
    """Where a scan as of ACPI 6.4 §5.2.5.1 finds a root pointer: on 16-byte boundaries, checksum 0."""
    data = modelled.Memory(scene).read(start, end - start)
    return [
        start + at
        for at in range(0, len(data), 16)
        if data[at : at + 8] == b"RSD PTR " and not sum(data[at : at + 20]) % 256
    ]


def test_firecrackers_root_pointer_is_found_by_scanning() -> None:
    scene = scene_of(Firecracker())
    assert roots(scene, 0xE0000, 0x100000) == [0xE0000]  # layout.rs, RSDP_ADDR
    assert scene.given.rsdp == 0


def test_cloud_hypervisors_root_pointer_is_where_the_ebda_is_said_to_be() -> None:
    """mod.rs, configure_system: the segment of the EBDA at 0x40E, so that a scan finds it too."""
    scene = scene_of(CloudHypervisor())
    assert modelled.Memory(scene).read(0x40E, 2) == b"\x00\xa0"
    assert roots(scene, 0xA0000, 0xA0400) == [0xA0000] == [scene.given.rsdp]


@pytest.mark.parametrize("profile", PROFILES, ids=name_of)
def test_below_1_mib_only_640_kib_are_the_guests(profile: Profile) -> None:
    regions = {region.span.start: region for region in scene_of(profile).regions}
    assert (regions[0].span.end, regions[0].kind) == (0xA0000, RegionKind.RAM)
    assert (regions[0xA0000].span.end, regions[0xA0000].kind) == (0x100000, RegionKind.RESERVED)
    assert regions[0x100000].span.end == MEMORY


@pytest.mark.parametrize("profile", PROFILES, ids=name_of)
def test_bss_is_fresh_memory_until_it_is_poisoned(profile: Profile) -> None:
    """linux-loader's elf/mod.rs reads p_filesz bytes of a segment and writes nothing else."""
    size = 0x1000

    def bss(filling: Filling, only: str) -> bytes:
        return modelled.Memory(scene_of(profile, filling, frozenset({only}))).read(BSS, size)

    assert bss(Filling.EXACT, ".bss") == bytes(size)
    assert bss(Filling.POISON_A, "free memory") == bytes(size)
    garbage = {bss(Filling.POISON_A, ".bss"), bss(Filling.POISON_B, ".bss")}
    assert len(garbage) == 2 and bytes(size) not in garbage


@pytest.mark.parametrize("profile", PROFILES, ids=name_of)
def test_poisoned_bss_leaves_the_files_bytes_alone(profile: Profile) -> None:
    exact, poisoned = scene_of(profile), scene_of(profile, Filling.POISON_A)
    size = BSS - ENTRY
    assert modelled.Memory(exact).read(ENTRY, size) == modelled.Memory(poisoned).read(ENTRY, size)


def input_is(port: int, value: int) -> bytes:
    """mov $port, %dx; in %dx, %al; cmp $value, %al; je over; ud2."""
    return b"\x66\xba" + port.to_bytes(2, "little") + b"\xec\x3c" + bytes([value]) + b"\x74\x02\x0f\x0b"


PORTS = [
    (Firecracker(), 0x64, 0x10),  # i8042.rs, SB_KBD_ENABLED
    (Firecracker(), 0x92, 0x00),  # vcpu.rs, run_arch_emulation: zeros where no device is
    (CloudHypervisor(), 0x64, 0x00),  # i8042.rs, read at offset 3
    (CloudHypervisor(), 0x600, 0x00),  # acpi.rs, AcpiShutdownDevice
    (CloudHypervisor(), 0x92, 0xFF),  # vm.rs, pio_read: ones where no device is
    *((profile, 0x3FD, 0x60) for profile in PROFILES),  # a 16550 whose transmitter is empty
]


@pytest.mark.parametrize(("profile", "port", "value"), PORTS, ids=name_of)
def test_a_port_reads_as_the_device_says(profile: Profile, port: int, value: int) -> None:
    assert prove(subject(guest(later=input_is(port, value))), profile).findings == ()
    wrong = prove(subject(guest(later=input_is(port, value ^ 1))), profile)
    assert [finding.rule for finding in wrong.findings] == ["BB-B001"]


@pytest.mark.parametrize("profile", PROFILES, ids=name_of)
def test_the_hypervisor_is_kvm(profile: Profile) -> None:
    """Both pass on KVM's CPUID leaf 0x40000000: Linux, Documentation/virt/kvm/x86/cpuid.rst."""
    code = b"\xb8" + struct.pack("<I", 0x40000000) + b"\x0f\xa2"  # mov $leaf, %eax; cpuid
    for compare, text in ((b"\xfb", b"KVMK"), (b"\xf9", b"VMKV"), (b"\xfa", b"M\0\0\0")):
        code += b"\x81" + compare + text + b"\x74\x02\x0f\x0b"  # cmp $text, %ebx …; je over; ud2
    assert prove(subject(guest(later=code)), profile).findings == ()
