"""A written image is the payload with what was asked for: to other readers, to QEMU, and to the byte."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootbuild.containers import container
from bootbuild.containers.front import entry_point
from bootbuild.errors import OutputError
from bootbuild.formats.elf_read import read_elf
from bootbuild.formats.notes import claims, parse
from bootbuild.formats.payload import open_payload
from bootbuild.model.content import FileContent
from bootbuild.model.contribution import Contribution, Layout
from bootbuild.model.payload import PT_LOAD, PT_NOTE, PT_PHDR, ElfImage, Payload, Startup
from bootbuild.model.span import Span

Make = Callable[..., Any]
E_ENTRY, E_PHOFF, E_PHNUM = {32: (24, 4), 64: (24, 8)}, {32: (28, 4), 64: (32, 8)}, {32: (44, 2), 64: (56, 2)}


def build(payload: Payload, out: Path, *contributions: Contribution) -> Layout:
    elf = container("elf")
    layout = elf.lay_out(payload, contributions)
    elf.write(payload, layout, out)
    return layout


def test_every_byte_of_the_payload_stays_but_three_header_fields(
    payload: Payload, contribution: Make, tmp_path: Path
) -> None:
    out = tmp_path / "out.elf"
    build(payload, out, contribution(payload))
    old, new = bytearray(Path(payload.source).read_bytes()), bytearray(out.read_bytes())
    for where in (E_ENTRY, E_PHOFF, E_PHNUM):
        at, size = where[payload.elf.bits]
        old[at : at + size] = new[at : at + size] = bytes(size)
    assert new[: len(old)] == old


def test_program_headers_are_the_payloads_then_the_new_ones(
    payload: Payload, contribution: Make, tmp_path: Path
) -> None:
    out = tmp_path / "out.elf"
    layout = build(payload, out, contribution(payload), contribution(payload, "linux"))
    image = read_elf(FileContent(out), "out.elf")
    kept = [s for s in payload.elf.segments if s.type not in (PT_NOTE, PT_PHDR)]
    assert list(image.segments[: len(kept)]) == kept
    added = image.segments[len(kept) :]
    assert [s.type for s in added] == [PT_LOAD] * 4 + [PT_NOTE]
    for segment, wanted in zip(added, layout.segments):
        assert (segment.flags, segment.vaddr, segment.paddr, segment.filesz, segment.memsz) == (
            wanted.flags,
            wanted.vaddr,
            wanted.paddr,
            len(wanted.data),
            wanted.memsz,
        )
        assert image.content.read(segment.offset, segment.filesz) == wanted.data
        assert (segment.align, segment.offset % 0x1000) == (0x1000, segment.vaddr % 0x1000)
    assert image.entry == payload.elf.entry


def loaded(image: ElfImage, physical: Iterable[Span]) -> dict[int, bytes]:
    """What a loader leaves at these physical addresses."""
    memory = bytearray(image.physical_end)
    for s in image.loads:
        memory[s.paddr : s.physical.end] = image.content.read(s.offset, s.filesz).ljust(s.memsz, b"\0")
    return {span.start: bytes(memory[span.start : span.end]) for span in physical}


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ({}, 2),
        ({"before": 0x1000}, 3),
        ({"before": 0x1000 - 0x10}, 3),  # from the middle of the header on, and of a page
        ({"before": 0x1000, "alone": 0x800}, 4),
        ({"alone": 0x34}, 3),
        ({"alone": 0x1000}, 3),
        ({"alone": 0x1001}, 4),
    ],
    ids=str,
)
@pytest.mark.parametrize("bits", [32, 64])
def test_the_guest_finds_in_memory_what_its_own_file_would_bring_there(
    make_payload: Make, contribution: Make, tmp_path: Path, bits: int, kind: dict[str, int], count: int
) -> None:
    payload = make_payload(bits, **kind)
    build(payload, tmp_path / "out.elf", contribution(payload))
    image = read_elf(FileContent(tmp_path / "out.elf"), "out.elf")
    where = [s.physical for s in payload.elf.loads]
    assert loaded(image, where) == loaded(payload.elf, where)
    *own, text, bss = (s.paddr for s in image.loads)
    assert (len(own), text, bss) == (count, 0x200000, 0x201000)


def test_the_notes_are_the_layouts(payload: Payload, contribution: Make, tmp_path: Path) -> None:
    out = tmp_path / "out.elf"
    layout = build(payload, out, contribution(payload))
    image = read_elf(FileContent(out), "out.elf")
    assert [(n.owner, n.type, n.desc) for n in image.notes] == [
        (n.owner, n.type, n.desc) for n in parse(layout.notes)
    ]
    (claim,) = claims(image)
    assert (claim.target, claim.startup, claim.stub) == ("pvh", payload.startup, layout.stub)


def test_a_payload_in_memory_gives_the_same_image(
    payload: Payload, contribution: Make, in_memory: Make, tmp_path: Path
) -> None:
    build(payload, tmp_path / "a", contribution(payload))
    build(in_memory(payload), tmp_path / "b", contribution(payload))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_native_image_is_the_payload(payload: Payload, contribution: Make, tmp_path: Path) -> None:
    out = tmp_path / "out.elf"
    build(replace(payload, repair=False), out, contribution(payload, chain=()))
    assert out.read_bytes() == Path(payload.source).read_bytes()


def test_e_entry_below_1_mib_becomes_the_stub(make_payload: Make, contribution: Make, tmp_path: Path) -> None:
    payload = make_payload(64, entry=0x1000)
    layout = build(payload, tmp_path / "out.elf", contribution(payload))
    image = read_elf(FileContent(tmp_path / "out.elf"), "out.elf")
    assert image.entry == layout.entries[0][1] == entry_point(payload.elf, layout)


@pytest.mark.parametrize("count", [1, 4, 5, 12])
def test_any_number_of_targets_fits(payload: Payload, contribution: Make, tmp_path: Path, count: int) -> None:
    # LIEF adds nine program headers at most at a time.
    made = [contribution(payload, f"target{n}") for n in range(count)]
    build(payload, tmp_path / "out.elf", *made)
    image = read_elf(FileContent(tmp_path / "out.elf"), "out.elf")
    assert len(image.loads) == len(payload.elf.loads) + 2 * count
    assert len(claims(image)) == count


def test_an_image_can_be_a_payload_again(payload: Payload, contribution: Make, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    build(payload, first, contribution(payload))
    image = read_elf(FileContent(first), "first")
    again = Payload(image, str(first), "elf", "", "native", payload.startup)
    layout = build(again, second, contribution(again, "linux"))
    assert layout.stub.start == 0x400000
    (claim,) = claims(read_elf(FileContent(second), "second"))
    assert claim.target == "linux"


def test_readelf_finds_nothing_wrong(payload: Payload, contribution: Make, tmp_path: Path, gcc: Path) -> None:
    out = tmp_path / "out.elf"
    build(payload, out, contribution(payload))
    done = subprocess.run(["readelf", "-hlnW", out], capture_output=True, text=True, check=True)
    assert "Warning" not in done.stderr + done.stdout
    assert done.stderr.replace("readelf: Error: no .dynamic section", "").strip() == ""
    assert done.stdout.count("NOTE  ") == 1


def test_lief_says_nothing(payload: Payload, contribution: Make, tmp_path: Path, capfd: Any) -> None:
    build(payload, tmp_path / "out.elf", contribution(payload))
    assert capfd.readouterr() == ("", "")


PROGRAM = """
import os, sys
from pathlib import Path
os.umask(int(sys.argv[3], 8))
from bootbuild.containers import container
from bootbuild.formats.payload import open_payload
from bootbuild.model.blob import Blob
from bootbuild.model.contribution import AddressOf, Contribution, NoteSpec
from bootbuild.model.payload import Payload, Startup
from bootbuild.model.waist import Piece, Waist
opened = open_payload(Path(sys.argv[1]))
elf = opened.elf
first = elf.loads[0]
startup = Startup("startup_64", first.vaddr, first.paddr, 64)
payload = Payload(elf, "vmlinux", opened.format, opened.digest, "linux", startup)
blob = Blob("front", 64, bytes(99), 16, 64, 16, (), {"entry": (".text", 0)}, "hand")
chain = (Piece(blob, "entry", None, Waist(32)),)
notes = (NoteSpec("Xen", 18, AddressOf("entry")),)
made = [Contribution("pvh", "linux", "elf", startup, chain, (), notes)]
image = container("elf")
image.write(payload, image.lay_out(payload, made), Path(sys.argv[2]))
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


def run(*arguments: str | Path, **environment: str) -> int:
    """Build in a process of its own; its peak memory in KiB."""
    path = ":".join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": path, "PATH": os.environ["PATH"]} | environment,
    )
    assert done.stderr == ""
    return int(done.stdout)


def test_folder_umask_zone_locale_and_hash_seed_change_no_byte(make_payload: Make, tmp_path: Path) -> None:
    payload = make_payload(64)
    digests = set()
    for number, (umask, more) in enumerate(
        [
            ("022", {"PYTHONHASHSEED": "1"}),
            ("077", {"PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo", "LC_ALL": "C"}),
            ("000", {"PYTHONHASHSEED": "3", "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": "1"}),
        ]
    ):
        out = tmp_path / f"folder {number}" / "image.elf"
        out.parent.mkdir()
        run(payload.source, out, umask, **more)
        digests.add(hashlib.sha256(out.read_bytes()).hexdigest())
        assert out.stat().st_mode & 0o7777 == 0o644
        assert [entry.name for entry in out.parent.iterdir()] == ["image.elf"]
    assert len(digests) == 1


def test_a_debian_kernel_needs_little_memory(kernels: Any, tmp_path: Path) -> None:
    size = kernels.cloud.vmlinux.stat().st_size >> 10
    out = tmp_path / "image.elf"
    assert run(kernels.cloud.vmlinux, out, "022") < 2 * size
    from_file = hashlib.sha256(out.read_bytes()).hexdigest()
    assert run(kernels.cloud.vmlinuz, out, "022") < 3 * size
    assert hashlib.sha256(out.read_bytes()).hexdigest() == from_file
    image = open_payload(out).elf
    assert image.loads[:4] == open_payload(kernels.cloud.vmlinux).elf.loads


def test_objcopy_still_reads_the_sections_of_a_debian_kernel(
    kernels: Any, contribution: Make, tmp_path: Path, gcc: Path
) -> None:
    opened = open_payload(kernels.cloud.vmlinux)
    elf = opened.elf
    first = elf.loads[0]
    startup = Startup("startup_64", first.vaddr, first.paddr, 64)
    payload = Payload(elf, str(kernels.cloud.vmlinux), opened.format, opened.digest, "linux", startup)
    build(payload, tmp_path / "image.elf", contribution(payload))
    texts = []
    for source in (kernels.cloud.vmlinux, tmp_path / "image.elf"):
        text = tmp_path / "text"
        subprocess.run(["objcopy", "-O", "binary", "-j", ".notes", source, text], check=True)
        texts.append(text.read_bytes())
    assert texts[0] == texts[1] != b""


@pytest.mark.parametrize("bits", [32, 64])
def test_qemu_starts_the_stub_and_the_stub_the_payload(
    make_payload: Make, contribution: Make, tmp_path: Path, qemu: Path, bits: int
) -> None:
    payload = make_payload(bits, shift=0)
    out = tmp_path / "out.elf"
    build(payload, out, contribution(payload), contribution(payload, "linux"))
    done = subprocess.run(
        [
            *(qemu, "-accel", "tcg", "-M", "q35", "-m", "64", "-nodefaults", "-display", "none"),
            *("-serial", "stdio", "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=1"),
            *("-kernel", out),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ("K" in done.stdout, done.returncode) == (True, 1), done.stderr


def test_a_full_disk_leaves_nothing(make_payload: Make, contribution: Make, tmp_path: Path) -> None:
    payload = make_payload(64)
    out = tmp_path / "folder" / "out.elf"
    out.parent.mkdir()
    soft = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0x1800, soft[1]))
    try:
        with pytest.raises(OutputError, match="BB-W092"):
            build(payload, out, contribution(payload))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, soft)
        signal.signal(signal.SIGXFSZ, before)
    assert list(out.parent.iterdir()) == []
