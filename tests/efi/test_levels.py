"""How far a boot under UEFI came: what a kernel's own EFI stub hands over, and each part of that broken."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from bootbuild.abi.handover import BootType
from bootbuild.api import (
    Cpu,
    ElfImage,
    Filling,
    Finding,
    Given,
    GivenModule,
    MemoryContent,
    Offer,
    Packed,
    ProfileVerdict,
    Scene,
    Span,
    content_digest,
    packed_kernel,
    read_elf,
)
from bootbuild.boot.follow import follow
from bootbuild.boot.prove import prove
from bootbuild.boot.run import Subject
from bootbuild.boot.subject import request_subject
from bootbuild.host import Host
from bootbuild.machine import Machine
from bootbuild.model.record import BuildRecord
from bootbuild.model.request import BootRequest
from bootbuild.model.verdict import Level, Outcome
from bootbuild.platform.uefi.firmware import Firmware
from bootbuild.report import json_form, text
from bootbuild_baremetal.environments.linux_kexec import Kexec
from bootbuild_efi.environments import Ovmf
from bootbuild_linux.guests import Linux
from bootbuild_linux.own_stub import OwnStub
from bootbuild_linux.unpacking import Unpacking, only_entry
from debian_kernels import Kernels
from machine_guests import long_guest, scene
from recipe_text import build_text

Damage = Callable[[Cpu], None]


def field(offset: int, value: bytes) -> Damage:
    """Other bytes in boot_params."""
    return lambda cpu: cpu.write_physical(cpu.get("rsi") + offset, value)


def behind(pointer: int, value: bytes) -> Damage:
    """Other bytes where a 32-bit field of boot_params points."""

    def damage(cpu: Cpu) -> None:
        (at,) = struct.unpack("<I", cpu.read_physical(cpu.get("rsi") + pointer, 4))
        cpu.write_physical(at, value)

    return damage


class _Broken(Linux):
    """Linux whose EFI stub does one thing wrong, the last thing that it does."""

    def __init__(self, damage: Damage) -> None:
        self._damage = damage

    def follow(
        self, image: ElfImage, scene: Scene, exact: str, level: Level | None = None
    ) -> Unpacking | None:
        damage = self._damage

        class Damaged(Unpacking):
            def stopped(self, cpu: Cpu) -> None:
                if self.at_entry:
                    damage(cpu)
                super().stopped(cpu)

        packed = packed_kernel(image)
        assert packed is not None
        return Damaged(image, packed, scene, exact, level)


def subject(kernels: Kernels, level: Level | None = None, path: Path | None = None) -> Subject:
    request = BootRequest(
        image=path or kernels.cloud.vmlinuz,
        profiles=("efi@ovmf",),
        cmdline=b"console=ttyS0",
        modules=((kernels.initrd, b""),),
        level=level,
    )
    return request_subject(request, Host.discover(), 200_000_000, 60.0)


def broken(kernels: Kernels, damage: Damage, level: Level | None = None) -> ProfileVerdict:
    guest = _Broken(damage)
    return prove(replace(subject(kernels, level), guest=guest, unpacking=guest), Ovmf())


HANDOFF: dict[str, tuple[str, Damage]] = {
    "a changed command line": ("BB-H021", behind(0x228, b"C")),
    "no command line": ("BB-H021", field(0x228, bytes(4))),
    "a changed ramdisk": ("BB-H022", behind(0x218, b"\xff")),
    "a shorter ramdisk": ("BB-H022", field(0x21C, b"\x01\0\0\0")),
    "another first e820 entry": ("BB-H023", field(0x2D0 + 8, b"\0\x10\0\0\0\0\0\0")),
    "no e820 table": ("BB-H023", field(0x1E8, b"\0")),
    "another RSDP": ("BB-H024", field(0x070, b"\x01")),
    "no type of loader": ("BB-H027", field(0x210, b"\0")),
    "no signature of EFI": ("BB-H029", field(0x1C0, bytes(4))),
    "another system table": ("BB-H029", field(0x1C4, b"\x01")),
    "another size of descriptors": ("BB-H029", field(0x1C8, b"\x28")),
    "another memory map": ("BB-H029", field(0x1D0, b"\x01")),
    "a memory map that is cut": ("BB-H029", field(0x1D4, b"\x01")),
    "Secure Boot out of nothing": ("BB-H031", field(0x1EC, b"\x03")),
}


@pytest.mark.parametrize("name", HANDOFF)
def test_what_a_kernels_own_stub_hands_over_wrong_has_its_finding(kernels: Kernels, name: str) -> None:
    rule, damage = HANDOFF[name]
    verdict = broken(kernels, damage)
    assert (verdict.outcome, [finding.rule for finding in verdict.findings]) == (Outcome.FAILED, [rule])


def test_what_it_hands_over_right_has_none(kernels: Kernels) -> None:
    verdict = broken(kernels, field(0, b""))
    assert [finding.message for finding in verdict.findings] == []
    assert (verdict.outcome, verdict.level) == (Outcome.BOOTED, Level.HANDOFF)
    assert "level handoff: efi@ovmf\n" in text.boot("image", [verdict])


class _Earlier(Linux):
    """Linux whose stub is said to hand over as soon as it has ended the boot services, with `findings`."""

    def __init__(self, *findings: Finding) -> None:
        self._findings = findings

    def follow(
        self, image: ElfImage, scene: Scene, exact: str, level: Level | None = None
    ) -> Unpacking | None:
        findings = self._findings
        assert isinstance(scene.platform, Firmware)
        firmware: Firmware = scene.platform

        class Earlier(Unpacking):
            def block(self, cpu: Cpu, address: int, code: bytes) -> bool:
                return super().block(cpu, address, code) or (firmware.exited and self.handed is None)

            def stopped(self, cpu: Cpu) -> None:
                super().stopped(cpu)
                if firmware.exited and self.handed is None:
                    self.handed = findings

        packed = packed_kernel(image)
        assert packed is not None
        return Earlier(image, packed, scene, exact, level)


def earlier(kernels: Kernels, level: Level | None, *findings: Finding) -> ProfileVerdict:
    guest = _Earlier(*findings)
    return prove(replace(subject(kernels, level), guest=guest, unpacking=guest), Ovmf())


def test_a_boot_ends_where_the_stub_hands_over(kernels: Kernels) -> None:
    verdict = earlier(kernels, Level.STUB)
    assert (verdict.outcome, verdict.level, verdict.reached) == (Outcome.BOOTED, Level.STUB, "stub")
    assert len({run.digest for run in verdict.runs}) == 1
    report = text.boot("image", [verdict])
    assert "level stub: efi@ovmf\n" in report
    assert "unpacked" not in report
    whole = earlier(kernels, Level.HANDOFF)
    assert (whole.level, whole.reached) == (Level.HANDOFF, "startup_64")
    assert whole.runs[0].instructions > verdict.runs[0].instructions


@pytest.mark.parametrize("level", [None, *Level])
def test_what_the_stub_hands_over_wrong_fails_at_every_level(kernels: Kernels, level: Level | None) -> None:
    verdict = earlier(kernels, level, Finding("BB-B091", "a byte"))
    assert (verdict.outcome, verdict.level) == (Outcome.FAILED, Level.STUB)
    assert [finding.rule for finding in verdict.findings] == ["BB-B091"]


# -- up to Linux 6.5: the stub enters the decompressor in its file ---------------------------------------

FILE, PARAMS, LINE, DISK = 0x400000, 0x500000, 0x510000, 0x520000  #: in memory
ENTRY, PACKED, SIZE = 0x1000, 0x3000, 0x1000  #: offsets in the file, and bytes of what is packed
CMDLINE, RAMDISK = b"console=ttyS0", b"an initrd" * 500
CODE = b"\xfc\xfa\x31\xc0" + bytes(range(1, 61))
BZIMAGE = (bytes(range(256)) * 16 + CODE).ljust(PACKED, b"\x90") + bytes(range(255, -1, -1)) * 16
STAND_IN = ((0, b"a stand-in"), (SIZE - 4, b"size"))


def handed(
    changes: Mapping[int, bytes] = MappingProxyType({}), *, rsi: int = PARAMS, helped: bool = False
) -> list[str]:
    """The rules that are broken where a stub has left memory so, but for these changes, as it should."""
    module = GivenModule(Span(0, len(RAMDISK)), content_digest(MemoryContent(RAMDISK)), b"")
    given = Given(BootType.EFI, 0, 0, CMDLINE, (module,), ())
    stub = OwnStub(MemoryContent(BZIMAGE), Packed(PACKED, SIZE, SIZE, "lz4", ENTRY), given)
    params = bytearray(4096)
    struct.pack_into("<II", params, 0x218, DISK, len(RAMDISK))
    struct.pack_into("<I", params, 0x228, LINE)
    right = {FILE: BZIMAGE, PARAMS: bytes(params), LINE: CMDLINE + b"\0", DISK: RAMDISK}
    with Machine(scene(long_guest(b"\xf4", registers={"rsi": rsi}))) as machine:
        for at, data in {**right, **changes}.items():
            machine.write_physical(at, data)
        for at, data in STAND_IN if helped else ():
            machine.write_physical(FILE + PACKED + at, data)
        assert stub.left_at(machine, FILE, machine.read_physical(FILE, 20)) is None
        place = stub.left_at(machine, FILE + ENTRY, machine.read_physical(FILE + ENTRY, 6))
        assert place == FILE + PACKED
        return [finding.rule for finding in stub.findings(machine, place, STAND_IN if helped else ())]


@pytest.mark.parametrize("helped", [False, True], ids=["alone", "with a stand-in"])
def test_what_an_older_stub_hands_over_is_compared_byte_for_byte(helped: bool) -> None:
    assert handed(helped=helped) == []
    for at in (0, SIZE // 2, SIZE - 5):
        changed = {FILE + PACKED + at: b"\x5a"} if not helped else {FILE + PACKED + SIZE // 2: b"\x5a"}
        assert handed(changed, helped=helped) == ["BB-B091"]
    assert handed({LINE + len(CMDLINE) - 1: b"\0"}, helped=helped) == ["BB-H021"]
    assert handed({LINE + len(CMDLINE): b" "}, helped=helped) == ["BB-H021"]
    assert handed({DISK + len(RAMDISK) - 1: b"?"}, helped=helped) == ["BB-H022"]
    assert handed({PARAMS + 0x21C: b"\0\0"}, helped=helped) == ["BB-H022"]
    assert handed(rsi=1 << 40, helped=helped) == ["BB-H020"]


@pytest.mark.parametrize("level", Level)
def test_debians_decompressor_is_known_where_it_is_entered(kernels: Kernels, level: Level) -> None:
    """By kexec, which enters it as an older stub does: its first block ends where DS is loaded."""
    image = subject(kernels).image
    made = Kexec().scene(image, Offer(), Filling.EXACT)
    entered = replace(made, given=replace(made.given, boot_type=BootType.EFI))
    follower = Linux().follow(image, entered, "", level)
    assert follower is not None
    with Machine(entered) as machine:
        stop = follow(follower, machine, 20_000_000, lambda: 60.0, level)
        before = machine.instructions
    assert follower.handed == []
    assert (stop.ip == made.state.entry, before < 100) == ((level is Level.STUB,) * 2)
    assert (follower.placed is None) == (level is Level.STUB)


def test_a_stand_in_that_nobody_put_there_is_a_change() -> None:
    assert handed({FILE + PACKED: b"a stand-in"}) == ["BB-B091"]


# -- where a boot ends, and what is said of it ------------------------------------------------------------


def hello(level: str, hello64: Path, folder: Path, target: str = "efi") -> BuildRecord:
    return build_text(
        f"""
        api = 1
        [payload]
        path = {json.dumps(str(hello64))}
        startup = "startup_64"
        cmdline = "greeting=hello"
        [targets.{target}]
        profiles = ["{"ovmf" if target == "efi" else "qemu"}"]
        [expect]
        console = "hello: done"
        [boot]
        {level}
        """,
        folder,
    )


@pytest.mark.parametrize(
    ("level", "reached"),
    [
        ("", "startup_64, console 'hello: done'"),
        ('level = "handoff"', "startup_64"),
        ('level = "stub"', "startup_64"),
    ],
)
def test_an_application_of_ours_hands_over_at_the_startup_path(
    hello64: Path, tmp_path: Path, level: str, reached: str
) -> None:
    ((verdict,),) = (image.verdicts for image in hello(level, hello64, tmp_path).images)
    assert (verdict.outcome, verdict.reached, verdict.level) == (Outcome.BOOTED, reached, Level.HANDOFF)


def test_only_boots_through_stubs_of_the_firmwares_kind_have_levels(hello64: Path, tmp_path: Path) -> None:
    record = hello("", hello64, tmp_path, "pvh")
    assert record.images[0].verdicts[0].level is None
    assert "level" not in text.build([record])
    assert json.loads(json_form.build([record]))["recipes"][0]["images"][0]["runs"][0]["level"] is None


# -- Linux 6.1 as it is now, and from 6.6 on: the stub unpacks the kernel, and enters that ----------------


@pytest.mark.parametrize("level", [None, Level.HANDOFF])
def test_debians_stub_unpacks_the_kernel_itself(kernels: Kernels, level: Level | None) -> None:
    verdict = prove(subject(kernels, level), Ovmf())
    assert (verdict.outcome, verdict.level, verdict.reached) == (
        Outcome.BOOTED,
        Level.HANDOFF,
        "startup_64",
    )


@pytest.mark.parametrize("flavour", ["cloud", "generic", "newer"])
def test_to_the_end_of_the_stub_a_page_of_the_kernel_is_enough(kernels: Kernels, flavour: str) -> None:
    """LZ4, XZ and zstd. No relocations are applied: they are most instructions of a boot to the kernel."""
    path = getattr(kernels, flavour).vmlinuz
    verdict = prove(subject(kernels, Level.STUB, path), Ovmf())
    assert [finding.message for finding in verdict.findings] == []
    assert (verdict.outcome, verdict.level, verdict.reached) == (Outcome.BOOTED, Level.STUB, "stub")
    assert len({run.digest for run in verdict.runs}) == 1
    whole = prove(subject(kernels, Level.HANDOFF, path), Ovmf())
    assert (whole.outcome, whole.level) == (Outcome.BOOTED, Level.HANDOFF)
    assert whole.runs[0].instructions - verdict.runs[0].instructions > 1_000_000


STUB = {name: HANDOFF[name] for name in HANDOFF if HANDOFF[name][0] in ("BB-H021", "BB-H022")}


@pytest.mark.parametrize("name", STUB)
def test_what_such_a_stub_hands_over_wrong_has_its_finding_at_that_level(kernels: Kernels, name: str) -> None:
    rule, damage = STUB[name]
    verdict = broken(kernels, damage, Level.STUB)
    assert (verdict.outcome, verdict.level) == (Outcome.FAILED, Level.STUB)
    assert [finding.rule for finding in verdict.findings] == [rule]


def test_a_kernel_that_such_a_stub_has_changed_before_it_unpacks_it_is_found(kernels: Kernels) -> None:
    """One byte of what is packed, behind all that the stand-in takes."""

    class Changed(Unpacking):
        def stopped(self, cpu: Cpu) -> None:
            if self.at_entry:
                at = self.packed_at + (1 << 20)
                cpu.write_physical(at, bytes([cpu.read_physical(at, 1)[0] ^ 1]))
            super().stopped(cpu)

    class Guest(Linux):
        def follow(
            self, image: ElfImage, scene: Scene, exact: str, level: Level | None = None
        ) -> Unpacking | None:
            packed = packed_kernel(image)
            assert packed is not None
            return Changed(image, packed, scene, exact, level)

    verdict = prove(replace(subject(kernels, Level.STUB), unpacking=Guest()), Ovmf())
    assert [finding.rule for finding in verdict.findings] == ["BB-B091"]


def test_a_guest_that_unpacks_itself_goes_on_to_the_kernel(kernels: Kernels) -> None:
    """There is no stand-in for LZO."""
    image = subject(kernels).image
    packed = packed_kernel(image)
    assert packed is not None
    scene = Ovmf().scene(image, Offer(), Filling.EXACT)
    follower = Unpacking(image, replace(packed, compression="lzo"), scene, "", Level.STUB)
    with Machine(scene) as machine:
        follow(follower, machine, 300_000_000, lambda: 120.0, Level.STUB)
    assert follower.how == "the guest: there is no stand-in for lzo"
    assert (follower.handed, follower.placed is not None) == (None, True)


def test_the_page_is_the_kernels_only_segment_and_has_its_entry(kernels: Kernels) -> None:
    image = subject(kernels).image
    pieces = only_entry(image)
    made = bytearray(image.content.size)
    for at, data in pieces:
        made[at : at + len(data)] = data
    (segment,) = (short := read_elf(MemoryContent(made), "short")).loads
    assert (short.entry, segment.filesz, segment.memsz) == (image.entry, 4096, 4096)
    inside, whole = image.entry - segment.paddr, image.loads[0]
    assert short.content.read(segment.offset + inside, 64) == image.content.read(
        whole.offset + image.entry - whole.paddr, 64
    )
    assert made[-16:] == bytes(16) != image.content.read(image.content.size - 16, 16)
    assert only_entry(replace(image, entry=image.physical_end)) == ()
