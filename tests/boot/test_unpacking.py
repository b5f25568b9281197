"""A packed Linux comes to the same end with the host's help and alone, or the help is not given."""

from __future__ import annotations

import lzma
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import zstandard

from bootbuild import pipeline
from bootbuild.api.environment import Scene
from bootbuild.boot.follow import alone_because, follow
from bootbuild.formats import bzimage
from bootbuild.formats.payload import open_snapshot, read_payload
from bootbuild.formats.stand_in import packed_kernel
from bootbuild.host import Host
from bootbuild.machine import Machine
from bootbuild.model.content import MemoryContent
from bootbuild.model.machine import Filling, Load, Offer
from bootbuild.model.payload import ElfImage
from bootbuild.model.request import BootRequest
from bootbuild.model.trace import StopKind
from bootbuild.model.verdict import Outcome
from bootbuild.report import text
from bootbuild_baremetal.environments.linux_kexec import Kexec
from bootbuild_linux.guests import Linux
from bootbuild_linux.unpacking import Unpacking
from debian_kernels import Kernels, LinuxKernel

BUDGET = 200_000_000
PAGE = 4096
ACCESSED_DIRTY = 0x60
PROTOCOL = (
    "rip",
    "rsi",
    "rsp",
    "cs",
    "ds",
    "es",
    "ss",
    "rflags",
    "cr0",
    "cr3",
    "cr4",
    "efer",
    "gdtr",
    "idtr",
)
KERNEL = 0x1000000  #: where Linux is linked


@pytest.fixture(scope="module")
def lz4(kernels: Kernels) -> ElfImage:
    """Debian's cloud kernel."""
    return read_payload(open_snapshot(kernels.cloud.vmlinuz), "cloud")[0]


def short(kernel: LinuxKernel, pack: Callable[[bytes], bytes]) -> ElfImage:
    """A bzImage of Debian's with 1 MiB of its kernel in it, the first, and 6 MiB that go nowhere.

    The whole of the generic one takes its decompressor 4,489 million instructions, of the newer one 811.
    """
    file = bytearray(kernel.vmlinuz.read_bytes())
    start, size = bzimage.payload_span(MemoryContent(file), kernel.release)
    whole = read_payload(open_snapshot(kernel.vmlinuz), kernel.release)[0]
    text = whole.loads[0]
    header = bytearray(whole.content.read(0, PAGE))
    program = header[header.index(struct.pack("<II", 1, text.flags)) :][:56]
    struct.pack_into("<QQ", program, 8, PAGE, text.vaddr)
    struct.pack_into("<QQ", program, 32, 1 << 20, 1 << 20)
    struct.pack_into("<Q", header, 0x28, 0)  # no sections
    struct.pack_into("<H", header, 0x38, 1)
    struct.pack_into("<HHH", header, 0x3A, 0, 0, 0)
    header[64 : 64 + 56] = program
    made = bytes(header) + whole.content.read(text.offset, 1 << 20) + bytes(6 << 20)
    # its decompressor knows the length of what was there, and stops at the end of the stream
    file[start : start + size] = pack(made).ljust(size - 4, b"\0") + struct.pack("<I", len(made))
    return replace(
        whole,
        content=MemoryContent(bytearray(made)),
        segments=(replace(text, offset=PAGE, filesz=1 << 20, memsz=1 << 20),),
        packing=MemoryContent(file),
    )


@pytest.fixture(scope="module")
def xz(kernels: Kernels) -> ElfImage:
    """Debian's generic kernel."""
    filters = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 6}]

    def pack(data: bytes) -> bytes:
        return lzma.compress(data, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=filters)

    return short(kernels.generic, pack)


@pytest.fixture(scope="module")
def zstd(kernels: Kernels) -> ElfImage:
    """Debian's newer kernel, whose decompressor is a function of its own."""
    return short(kernels.newer, zstandard.ZstdCompressor(level=19).compress)


def scene_of(image: ElfImage, cmdline: bytes, filling: Filling = Filling.EXACT) -> Scene:
    return Kexec().scene(image, Offer(cmdline=cmdline), filling)


def translations(machine: Machine) -> list[tuple[int, int]]:
    """(linear address, entry without accessed and dirty bits) of every page and table."""
    found = []

    def walk(table: int, shift: int, base: int) -> None:
        for index, entry in enumerate(struct.unpack("<512Q", machine.read_physical(table, PAGE))):
            address = base | index << shift
            if not entry & 1:
                continue
            found.append((address, entry & ~ACCESSED_DIRTY))
            if shift > 12 and not entry & 0x80:
                walk(entry & 0xF_FFFF_FFFF_F000, shift - 9, address)

    walk(machine.get("cr3") & ~0xFFF, 39, 0)
    return found


def end(image: ElfImage, scene: Scene, exact: str) -> tuple[Unpacking, dict[str, Any]]:
    """Who followed a run to the kernel's entry, and all that the kernel finds there."""
    follower = Linux().follow(image, scene, exact)
    assert follower is not None
    with Machine(scene) as machine:
        stop = follow(follower, machine, BUDGET + follower.patience, lambda: 300.0)
        assert (stop.kind, alone_because(follower)) == (StopKind.CHECKPOINT, "")
        assert follower.placed is not None
        kernel = machine.read_physical(KERNEL + follower.placed.physical, image.content.size)
        return follower, {
            "placed": follower.placed,
            "kernel": kernel,
            "boot_params": machine.read_physical(scene.given.data, PAGE),
            "registers": {name: machine.get(name) for name in PROTOCOL},
            "translations": translations(machine),
            "console": bytes(scene.platform.console),
        }


@pytest.mark.parametrize(
    ("packed", "cmdline"),
    [
        ("lz4", b"earlyprintk=ttyS0"),
        ("lz4", b"nokaslr"),
        ("xz", b"nokaslr earlyprintk=ttyS0"),
        ("zstd", b"nokaslr earlyprintk=ttyS0"),
    ],
    ids=["LZ4, anywhere", "LZ4", "XZ", "zstd"],
)
def test_both_come_to_the_same_end(packed: str, cmdline: bytes, request: pytest.FixtureRequest) -> None:
    image = request.getfixturevalue(packed)
    helped, found = end(image, scene_of(image, cmdline), "")
    alone, expected = end(image, scene_of(image, cmdline), "--exact")
    assert (helped.how, alone.how) == (f"the host ({packed})", "the guest: --exact")
    assert found == expected
    assert bool(found["placed"].virtual) is (b"nokaslr" not in cmdline)


def follower_in(image: ElfImage, scene: Scene) -> Unpacking:
    """Who followed a run that the guest does not end in time."""
    follower = Linux().follow(image, scene, "")
    assert follower is not None
    with Machine(scene) as machine:
        follow(follower, machine, 9_000_000, lambda: 60.0)
    return follower


def test_what_lies_in_the_kernel_s_place_is_the_guests(lz4: ElfImage) -> None:
    scene = scene_of(lz4, b"nokaslr")
    _, found = end(lz4, scene, "")
    at = KERNEL + found["placed"].physical + (8 << 20)
    in_the_way = Load(at, MemoryContent(bytearray(16)), 0, 16, 16)
    scene = scene_of(lz4, b"nokaslr")
    given = replace(scene.given, structures=(*scene.given.structures, in_the_way))
    follower = follower_in(lz4, replace(scene, given=given))
    assert alone_because(follower).startswith(f"what was handed over at {at:#x} lies in its place")


def test_a_size_that_is_not_the_kernel_s_is_the_guests(lz4: ElfImage) -> None:
    more = MemoryContent(bytearray(lz4.content.read(0, lz4.content.size)) + b"\0")
    follower = follower_in(replace(lz4, content=more), scene_of(lz4, b"nokaslr"))
    assert alone_because(follower) == "the size that it states is another than it has"


@pytest.mark.parametrize("name", ["gzip", "bzip2", "lzma", "xz", "lz4", "zstd"])
def test_a_stand_in_unpacks_to_the_head(name: str, lz4: ElfImage) -> None:
    head = lz4.content.read(0, PAGE)
    packed = packed_kernel(lz4)
    assert packed is not None
    (offset, data), *rest = replace(packed, compression=name).stand_in(head)
    assert (offset, len(rest)) == (0, name == "lz4")
    size = struct.pack("<I", len(head))
    if name == "lz4":
        assert rest == [(packed.size - 4, size)]  # by which the guest's decoder is told how much there is
        data = data[:-4]
    made = bzimage.decompress(name, data if name == "gzip" else data + size)
    assert made.read(0, PAGE + 1) == head


@pytest.mark.parametrize("name", ["lzo", ""])
def test_without_a_stand_in_the_guest_is_alone(name: str, lz4: ElfImage) -> None:
    packed = packed_kernel(lz4)
    assert packed is not None
    packed = replace(packed, compression=name)
    assert packed.stand_in(lz4.content.read(0, PAGE)) == ()
    follower = Unpacking(lz4, packed, scene_of(lz4, b""), "")
    assert follower.why == f"there is no stand-in for {name or 'its compression'}"
    assert follower.patience > 0


def test_what_a_kernel_is_handed_is_compared_wherever_it_has_put_itself(kernels: Kernels) -> None:
    """What GRUB leaves of boot_params goes into KASLR's seed; at start_kernel they lie in the kernel."""
    request = BootRequest(kernels.cloud.vmlinuz, ("linux@grub-32bit",), until="start_kernel", guest="linux")
    (verdict,) = pipeline.boot(request, Host.discover())
    assert (verdict.outcome, verdict.findings) == (Outcome.BOOTED, ())
    assert len({run.placed for run in verdict.runs}) > 1
    by = verdict.runs[0].placed
    assert by is not None
    moved = f"moved by {by.physical:+#x}, virtually by {by.virtual:+#x}: linux@grub-32bit\n"
    assert moved in text.boot("vmlinuz", [verdict])
