"""What OVMF shows a program and answers it is what profile efi@ovmf does: told by one program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

import efi_dump
from bootbuild.api import FileContent, Filling, MemoryContent, Offer, Profile, StopKind
from bootbuild.formats.payload import read_payload
from bootbuild.machine import Machine
from bootbuild.platform.uefi import guids
from bootbuild.platform.uefi.ovmf import FREE
from bootbuild.platform.uefi.start import Traits
from bootbuild_efi.environments import LowMemory, NoMemattr, Ovmf, SecureBoot, Taken, Vga, WxStrict
from debian_kernels import Kernels
from efi_dump import Record, memory, one
from oracle import run_until
from ovmf import Ovmf as Firmware

CMDLINE, MiB = "console=ttyS0 a=b", 1 << 20
INITRD = bytes(range(256)) * 33 + b"the end"
MEMORY = 512
SAME_CPU = (
    "rsp rflags cr0 cr3 cr4 cs ds es ss fs gs tr ldtr efer fcw mxcsr gdtr_limit gdtr_base gdt"
    " idtr_limit idtr_base"
).split()
SAME_TABLES = {
    "map": ["status", "stride", "version"],
    "system": ["at", "signature", "revision", "size", "reserved", "vendor", "firmware"],
    "boot": ["signature", "revision", "size", "reserved"],
    "runtime": ["at", "signature", "revision", "size", "reserved"],
    "image": (
        "status revision system file_path reserved options_size options size code data unload"
        " device_path_status device_path"
    ).split(),
}
#: bytes below the end of RAM: between these boot services lie otherwise with each size of program
VARYING = (0x448B000, 0x1560000)
CALLS = "pages"  #: the first record of answers


@pytest.fixture(scope="module")
def program(gcc: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return efi_dump.compile_guest(gcc, tmp_path_factory.mktemp("efi"))


@pytest.fixture(scope="module", params=["no initrd", "initrd"])
def initrd(request: pytest.FixtureRequest) -> bytes:
    return INITRD if request.param == "initrd" else b""


@pytest.fixture(scope="module")
def real(
    qemu: Path, ovmf: Firmware, program: Path, initrd: bytes, tmp_path_factory: pytest.TempPathFactory
) -> list[Record]:
    """What the program says in OVMF."""
    folder = tmp_path_factory.mktemp("ovmf")
    (folder / "initrd").write_bytes(initrd)
    file = folder / "initrd" if initrd else None
    command = ovmf.by_kernel(qemu, program, folder, cmdline=CMDLINE, initrd=file, memory=MEMORY)
    transcript = run_until(command, [efi_dump.DONE], timeout=60)
    assert transcript.reached, str(transcript)
    return efi_dump.parse(transcript.text)


@pytest.fixture(scope="module")
def emulated(program: Path, initrd: bytes) -> list[Record]:
    """What it says in the profile."""
    return efi_dump.emulated(program, CMDLINE, initrd, MEMORY)


def test_the_state_at_entry(real: list[Record], emulated: list[Record]) -> None:
    there, here = one(real, "cpu"), one(emulated, "cpu")
    assert {name: here[name] for name in SAME_CPU} == {name: there[name] for name in SAME_CPU}


@pytest.mark.parametrize("name", SAME_TABLES)
def test_the_tables(real: list[Record], emulated: list[Record], name: str) -> None:
    there, here = one(real, name), one(emulated, name)
    assert {field: here[field] for field in SAME_TABLES[name]} == {
        field: there[field] for field in SAME_TABLES[name]
    }


def fixed(pieces: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Those that are the same whatever the size of the program."""
    low, high = (MEMORY * MiB - below for below in VARYING)
    return [p for p in pieces if p[0] <= low or p[0] >= high]


def test_the_memory_map(real: list[Record], emulated: list[Record]) -> None:
    there, here = memory(real), memory(emulated)
    assert fixed(here) == fixed(there)
    assert len(fixed(here)) > 50
    assert {kind for _, _, kind, _ in there} == {kind for _, _, kind, _ in here}
    low, high = (MEMORY * MiB - below for below in VARYING)
    between = {kind for at, _, kind, _ in there if low < at < high}
    assert between <= FREE  # nothing of that is kept for good


def test_the_configuration_tables_that_it_has_are_where_ovmf_has_them(
    real: list[Record], emulated: list[Record]
) -> None:
    def tables(records: Sequence[Record]) -> dict[bytes, tuple[object, ...]]:
        return {
            bytes(fields["guid"][0]): (fields["at"], fields.get("structures"))
            for kind, fields in records
            if kind == "table"
        }

    there, here = tables(real), tables(emulated)
    assert here == {guid: there[guid] for guid in here}
    assert guids.SMBIOS in here


def test_the_answers_of_services(real: list[Record], emulated: list[Record]) -> None:
    there, here = (
        records[next(i for i, r in enumerate(records) if r[0] == CALLS) :] for records in (real, emulated)
    )
    assert [kind for kind, _ in here] == [kind for kind, _ in there]
    for (kind, mine), (_, theirs) in zip(here, there, strict=True):
        assert (kind, mine) == (kind, theirs)
    answers = sum(len(values) for _, fields in there for values in fields.values())
    assert answers > 1000


class _Random(Ovmf):
    """What efi@secure-boot has of them, where unsigned programs may load others."""

    traits = Traits(random=SecureBoot.traits.random)


def test_random_numbers_are_as_those_of_a_virtio_device(
    qemu: Path, ovmf: Firmware, program: Path, tmp_path: Path
) -> None:
    command = ovmf.by_kernel(qemu, program, tmp_path, memory=MEMORY, options=["-device", "virtio-rng-pci"])
    transcript = run_until(command, [efi_dump.DONE], timeout=60)
    assert transcript.reached, str(transcript)
    real = efi_dump.parse(transcript.text)
    emulated = efi_dump.emulated(program, "", b"", MEMORY, _Random())
    for name in ("random", "numbers"):
        assert one(emulated, name) == one(real, name)
    assert one(real, "numbers")["filled"] == [True]


def test_the_screen_of_qemus_vga(qemu: Path, ovmf: Firmware, program: Path, tmp_path: Path) -> None:
    """Modes, masks and place of the pixels; and what is kept for good is what it is without a screen."""
    command = ovmf.by_kernel(qemu, program, tmp_path, memory=MEMORY, options=["-device", "VGA"])
    transcript = run_until(command, [efi_dump.DONE], timeout=120)
    assert transcript.reached, str(transcript)
    there = efi_dump.parse(transcript.text)
    here = efi_dump.emulated(program, "", b"", MEMORY, Vga())
    for name in ("graphics", "screen"):
        assert one(here, name) == one(there, name)
    assert len(one(there, "screen")["set"]) == 30
    kept = [[piece for piece in memory(records) if piece[2] not in FREE] for records in (here, there)]
    assert kept[0] == kept[1]


def test_debians_kernel_does_not_notice_that_there_is_no_memory_for_it(
    qemu: Path, ovmf: Firmware, kernels: Kernels, tmp_path: Path
) -> None:
    kernel = kernels.cloud.vmlinuz
    cmdline = "console=ttyS0 earlyprintk=serial"
    command = ovmf.by_kernel(qemu, kernel, tmp_path, cmdline=cmdline, memory=128)
    transcript = run_until(command, ["Linux version"], fail=["X64 Exception Type"], timeout=30)
    assert transcript.missing  # it ends in an exception, a reset or a loop, by what lies on its stack
    image, _ = read_payload(FileContent(kernel), "vmlinuz")
    scene = Ovmf().scene(image, Offer(memory=128 * MiB), Filling.EXACT)
    with Machine(scene) as machine:
        stop = machine.run(checkpoints={}, budget=50_000_000, seconds=60)
    assert (stop.kind, stop.rule) == (StopKind.RESERVED_WRITE, "BB-B003")


@pytest.mark.parametrize(
    "profile",
    [Ovmf(), LowMemory(), WxStrict(), NoMemattr(), SecureBoot(), Taken(), Vga()],
    ids=lambda profile: profile.name,
)
def test_debians_kernel_goes_through_its_own_stub(kernels: Kernels, profile: Profile) -> None:
    image, _ = read_payload(FileContent(kernels.cloud.vmlinuz), "vmlinuz")
    cmdline = b"console=ttyS0 earlyprintk=serial"
    offer = Offer(cmdline, (("initrd", MemoryContent(INITRD), b""),))
    scene = profile.scene(image, offer, Filling.POISON_A)
    with Machine(scene) as machine:
        stop = machine.run(checkpoints={}, budget=400_000_000, seconds=120, console=b"Linux version 6.1")
        unknown = [event for event in machine.events if event.kind == "boot service"]
    assert stop.kind is StopKind.CONSOLE, stop
    assert unknown == []
