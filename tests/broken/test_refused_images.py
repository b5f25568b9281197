"""What each PVH monitor refuses before the guest runs: files, modules and sizes of memory, rule by rule."""

from __future__ import annotations

import pytest

from bootbuild.api import Content, Filling, InputError, MemoryContent, Offer, Profile
from bootbuild.boot.prove import prove
from bootbuild.host import Host
from bootbuild.model.verdict import Outcome
from bootbuild_pvh.environments import CloudHypervisor, Firecracker, Qemu, QemuMicrovm, XenDom0, XenDomU
from modelled import Memory
from tiny_guest import BASE, guest, image_of, subject

MiB = 1 << 20
PROFILES: list[Profile] = [
    CloudHypervisor(),
    Firecracker(),
    Qemu(),
    QemuMicrovm(),
    XenDom0(),
    XenDomU(),
]
NOTE = b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0"  #: namesz, descsz, XEN_ELFNOTE_PHYS32_ENTRY, name
each_profile = pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)


class Zeros:
    """Content of any size that takes no memory: nothing here reads it."""

    def __init__(self, size: int) -> None:
        self.size = size

    def read(self, offset: int, size: int) -> bytes:
        return bytes(max(0, min(size, self.size - offset)))

    def read_into(self, offset: int, buffer: memoryview) -> int:
        part = self.read(offset, len(buffer))
        buffer[: len(part)] = part
        return len(part)


def refused(
    profile: Profile,
    data: bytes,
    *,
    memory: int = 0,
    modules: tuple[tuple[str, Content, bytes], ...] = (),
) -> set[str]:
    """Ids of the rules by which the profile refuses to set the scene; none when it does not."""
    try:
        profile.scene(image_of(data), Offer(b"", modules, memory), Filling.EXACT)
    except InputError as error:
        return {problem.rule.id for problem in error.problems}
    return set()


def linked_at(address: int) -> bytes:
    """The guest with its segment at another address."""
    return guest().replace((BASE + 0x1000).to_bytes(8, "little"), address.to_bytes(8, "little"))


def module(size: int, cmdline: bytes = b"") -> tuple[str, Content, bytes]:
    return ("module", Zeros(size), cmdline)


@each_profile
def test_the_guest_itself_is_not_refused(profile: Profile) -> None:
    assert refused(profile, guest()) == set()
    assert refused(profile, guest(), memory=2 * MiB) == set()
    assert refused(profile, guest(), memory=64 * MiB, modules=(module(MiB),)) == set()


@each_profile
def test_a_file_without_the_note(profile: Profile) -> None:
    data = guest()
    assert data.count(NOTE) == 1
    assert refused(profile, data.replace(NOTE, NOTE.replace(b"Xen", b"XEN"))) == {"BB-L001"}


#: the rule against a note of another owner than Xen: QEMU does not look at owners, but the profile does
NO_NOTE = {
    "xen-domu": "BB-L105",
    "xen-dom0": "BB-L105",
    "qemu": "BB-L001",
    "qemu-microvm": "BB-L001",
    "firecracker": "BB-L128",
    "cloud-hypervisor": "BB-L104",
}


@each_profile
def test_its_loader_is_asked_first(profile: Profile) -> None:
    loader = Host.discover().loader(profile.loader)
    verdict = prove(subject(guest().replace(NOTE, NOTE.replace(b"Xen", b"XEN"))), profile, loader)
    assert (verdict.outcome, verdict.runs) == (Outcome.FAILED, ())
    assert [finding.rule for finding in verdict.findings] == [NO_NOTE[profile.name]]


@each_profile
def test_its_loader_is_of_the_program_and_version_that_it_plays(profile: Profile) -> None:
    loader = Host.discover().loader(profile.loader)
    assert f"{loader.version}.".startswith(f"{profile.version}.")
    assert loader.evidence is profile.evidence


@each_profile
def test_a_segment_beyond_memory(profile: Profile) -> None:
    assert refused(profile, linked_at(200 * MiB), memory=128 * MiB) == {"BB-L003"}


@each_profile
def test_a_segment_below_1_mib_where_there_is_no_memory(profile: Profile) -> None:
    """A domU and a microvm have one block of RAM from 0, the others have it whatever their map says."""
    all_ram = profile.name in {"xen-domu", "firecracker", "cloud-hypervisor", "qemu-microvm"}
    assert refused(profile, linked_at(0xB0000)) == (set() if all_ram else {"BB-L003"})


#: where a profile's program writes after it has loaded the image, and before it starts it
OVERWRITTEN = [
    (Qemu(), 0x0, "SeaBIOS keeps interrupt vectors"),
    (Qemu(), 0x500, "pvh.bin counts the memory map"),
    (Qemu(), 0x1000, "what the kernel is handed"),  # the command line, at 0x11c0
    (Qemu(), 0x5000, "have their stacks there"),
    (Qemu(), 0x8F000, "SeaBIOS clears what it used"),
    (Qemu(), 0x7000000 - 0x2000, "SeaBIOS runs there"),  # 16 MiB below the top of 128
    (Qemu(), 0xC8000, "option ROMs and SeaBIOS are there"),
    (Qemu(), 0xFF000, "option ROMs and SeaBIOS are there"),
    (QemuMicrovm(), 0xF8000, "qboot is there"),
    (QemuMicrovm(), 0xEE000, "qboot puts the ACPI tables there"),
    (QemuMicrovm(), 0x1000, "first 8 KiB"),
    (QemuMicrovm(), 0x6000, "qboot has its stack there"),
    (Firecracker(), 0x5000, "what the kernel is handed"),
]


@pytest.mark.parametrize(("profile", "address", "why"), OVERWRITTEN)
def test_a_segment_that_would_be_overwritten(profile: Profile, address: int, why: str) -> None:
    with pytest.raises(InputError) as caught:
        profile.scene(image_of(linked_at(address)), Offer(memory=128 * MiB), Filling.EXACT)
    (problem,) = caught.value.problems
    assert problem.rule.id == "BB-L003"
    assert "the file's bytes at" in problem.message and why in problem.message


@pytest.mark.parametrize(
    ("profile", "address"),
    [
        (Qemu(), 0x3000),
        (Qemu(), 0x90000),
        (QemuMicrovm(), 0x3000),
        (QemuMicrovm(), 0x8000),
        (QemuMicrovm(), 0xE8000),
    ],
)
def test_a_segment_in_low_memory_that_is_left_alone(profile: Profile, address: int) -> None:
    assert refused(profile, linked_at(address)) == set()


@pytest.mark.parametrize("filling", Filling)
def test_bss_where_firmware_writes_is_not_as_the_loader_left_it(filling: Filling) -> None:
    """It has no bytes of the file to lose: garbage where SeaBIOS has its stack, zeros where it clears."""
    scene = Qemu().scene(image_of(linked_at(0x4700)), Offer(), filling)  # .bss: 0x6700 to 0x7700
    memory = Memory(scene)
    assert memory.read(0x6700, 0x900).count(0) < 0x80
    assert memory.read(0x7000, 0x700) == bytes(0x700)


@pytest.mark.parametrize("filling", Filling)
def test_bss_where_a_monitor_puts_what_it_hands_over_is_no_reason_to_refuse(filling: Filling) -> None:
    """Not even when it is full of garbage, of which nothing is the file's."""
    scene = Firecracker().scene(image_of(linked_at(0x4000)), Offer(), filling)  # .bss: 0x6000 to 0x7000
    assert scene.given.data == 0x6000
    assert Memory(scene).read(0x6000, 4) == (0x336EC578).to_bytes(4, "little")


@each_profile
def test_a_module_that_does_not_fit_beside_the_image(profile: Profile) -> None:
    assert refused(profile, guest(), memory=64 * MiB, modules=(module(64 * MiB),)) == {"BB-L003"}


@each_profile
def test_two_modules(profile: Profile) -> None:
    assert refused(profile, guest(), modules=(module(1), module(1))) == {"BB-L004"}


@each_profile
def test_a_module_with_a_command_line_of_its_own(profile: Profile) -> None:
    """Xen hands its dom0 the string that the boot loader gave with the module; nobody else has one."""
    passed = refused(profile, guest(), modules=(module(1, b"args"),))
    assert passed == (set() if profile.name == "xen-dom0" else {"BB-L004"})


def test_dom0_finds_the_modules_command_line() -> None:
    offer = Offer(b"", (("module", MemoryContent(b"12345"), b"args"),))
    scene = XenDom0().scene(image_of(guest()), offer, Filling.EXACT)
    assert [given.cmdline for given in scene.given.modules] == [b"args"]


@each_profile
@pytest.mark.parametrize("memory", [MiB, 64 * MiB + 1, 3073 * MiB, 1 << 40])
def test_memory_that_the_machine_cannot_have(profile: Profile, memory: int) -> None:
    with pytest.raises(InputError) as caught:
        profile.scene(image_of(guest()), Offer(memory=memory), Filling.EXACT)
    (problem,) = caught.value.problems
    limit = "2432 MiB" if profile.name == "xen-dom0" else "3 GiB"
    assert problem.rule.id == "BB-L003"
    assert problem.message == (f"{memory:#x} bytes of RAM; this machine has 2 MiB to {limit}, in whole pages")


@each_profile
def test_the_most_memory_that_the_profile_plays(profile: Profile) -> None:
    from bootbuild.machine.memory import Memory

    most = {"xen-dom0": 2432}.get(profile.name, 3072) * MiB
    scene = profile.scene(image_of(guest()), Offer(memory=most), Filling.EXACT)
    Memory(scene.regions, scene.loads, 0).close()
    assert refused(profile, guest(), memory=most + 4096) == {"BB-L003"}
