"""Kernels with a PVH entry of their own: a stub before it, and notes that not every loader reads."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import monitors
from bootbuild.boot.prove import prove
from bootbuild.formats.elf_fresh import Part, fresh
from bootbuild.formats.elf_read import read_elf
from bootbuild.host import Host
from bootbuild.model.blob import Blob, Fixup
from bootbuild.model.content import FileContent, MemoryContent
from bootbuild.model.payload import PT_LOAD, PT_NOTE, ElfImage, Segment
from bootbuild.model.record import BuildRecord
from bootbuild.model.span import Span, holes
from bootbuild.model.verdict import Outcome
from bootbuild.model.waist import Piece
from bootbuild.pipeline import build, contribute, make_image, read_payloads, recipe_subject
from bootbuild.recipe.read import read
from oracle import run_until
from tiny_guest import ENTRY, STARTUP, guest, u32, with_bss

PROFILES = ("pvh@qemu", "pvh@xen-domu")


def recipe(path: Path, entry: str, folder: Path, keys: str = "") -> Path:
    text = f"""
        api = 1
        [payload]
        path = {json.dumps(str(path))}
        startup = "0xffffffff80100000"
        cmdline = "greeting=own"
        {keys}
        [targets.pvh]
        entry = "{entry}"
        profiles = {json.dumps(PROFILES)}
        [expect]
        console = "hello: done"
    """
    out = folder / f"{entry}.toml"
    out.write_text(text)
    return out


def made(path: Path) -> BuildRecord:
    host = Host.discover()
    return build(read(path, host), host)


@pytest.fixture(scope="module")
def own(hello64: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kernel that brings its own PVH entry: an image that bootbuild made of hello."""
    folder = tmp_path_factory.mktemp("own")
    record = made(recipe(hello64, "insert", folder))
    return Path(record.images[0].path)


def note(owner: bytes, type_: int, desc: bytes, align: int = 4) -> bytes:
    out = struct.pack("<III", len(owner), len(desc), type_) + owner
    out += bytes(-len(out) % align) + desc
    return out + bytes(-len(out) % align)


@dataclass(frozen=True)
class Notes:
    """PT_NOTEs as (p_align, bytes); `section` in an SHT_NOTE section alone."""

    segments: tuple[tuple[int, bytes], ...] = ()
    section: bytes = b""


def variant(image: ElfImage, notes: Notes, path: Path) -> Path:
    """The kernel of `image` with other notes."""
    parts = [Part(s, image.content, s.offset) for s in image.segments if s.type == PT_LOAD]
    for align, data in notes.segments:
        segment = Segment(PT_NOTE, 4, 0, 0, 0, len(data), len(data), align)
        parts.append(Part(segment, MemoryContent(data), 0))
    new = fresh(64, image.entry, parts, path.name)
    file = bytearray(new.content.read(0, new.content.size))
    if notes.section:
        at = len(file)
        file += notes.section
        headers = bytes(64) + struct.pack("<IIQQQQIIQQ", 0, 7, 0, 0, at, len(notes.section), 0, 0, 4, 0)
        headers += struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, at, 0, 0, 0, 1, 0)
        struct.pack_into("<Q", file, 40, len(file))
        struct.pack_into("<HHH", file, 58, 64, 3, 2)
        file += headers
    path.write_bytes(file)
    return path


def cases(entry: int) -> dict[str, tuple[Notes, str, bool | None]]:
    """Notes, what is said of them, and whether QEMU starts such a file as it is."""
    xen = note(b"Xen\0", 18, struct.pack("<I", entry))
    long = note(b"Xen\0", 18, struct.pack("<III", entry, 0, 0))
    build_id = note(b"GNU\0", 3, bytes(20))
    property_note = note(b"GNU\0", 5, bytes(16), 8)
    return {
        "in a section only": (
            Notes(section=xen),
            "the Xen notes stand in a section only, in no PT_NOTE",
            False,
        ),
        "several PT_NOTEs": (Notes(((4, xen), (4, build_id))), "there are 2 PT_NOTEs", None),
        "p_align 8": (Notes(((8, build_id + xen),)), "a PT_NOTE has p_align 8", False),
        "padded to 8": (
            Notes(((8, note(b"GNU\0", 3, bytes(20), 8) + note(b"Xen\0", 18, struct.pack("<I", entry), 8)),)),
            "a PT_NOTE has p_align 8; notes are padded to 8 bytes",
            False,
        ),
        "beside .note.gnu.property": (
            Notes(((4, property_note + xen),)),
            "a .note.gnu.property stands beside the Xen notes",
            True,
        ),
        "a string without NUL": (
            Notes(((4, note(b"Xen\0", 10, b"writable") + xen),)),
            "FEATURES is not ended by NUL",
            True,
        ),
        "two entries": (
            Notes(((4, note(b"Xen\0", 18, struct.pack("<I", 0x300)) + xen),)),
            "there are 2 PHYS32_ENTRY notes",
            False,
        ),
        "another's note of type 18 before it": (
            Notes(((4, note(b"FOO\0", 18, struct.pack("<I", 0x300)) + xen),)),
            "note 18 of owner 'FOO' stands before PHYS32_ENTRY",
            False,
        ),
        "two entries, the one that counts of 12 bytes": (
            Notes(
                ((4, note(b"Xen\0", 18, bytes(4)) + note(b"Xen\0", 18, struct.pack("<III", entry, 0, 0))),)
            ),
            "there are 2 PHYS32_ENTRY notes; PHYS32_ENTRY has 12 bytes",
            False,
        ),
        "an entry of 12 bytes": (
            Notes(((4, long),)),
            "PHYS32_ENTRY has 12 bytes",
            True,
        ),
    }


@pytest.mark.parametrize("name", cases(0))
def test_notes_are_repaired_and_then_start_everywhere(
    name: str, own: Path, qemu: Path, tmp_path: Path
) -> None:
    image = read_elf(FileContent(own), "own")
    entry = next(int.from_bytes(n.desc, "little") for n in image.xen_notes if n.type == 18)
    notes, said, starts = cases(entry)[name]
    path = variant(image, notes, tmp_path / "kernel.elf")
    before = run_until(
        monitors.qemu_kernel(qemu, path), ["^hello: done"], fail=["without PVH ELF Note"], timeout=5
    )
    if starts is not None:  # where QEMU reads behind its buffer, what is there decides: it starts, or dies
        assert before.reached is starts, "what QEMU does with the file as it is"
    record = made(recipe(path, "native", tmp_path))
    (made_image,) = record.images
    assert "; ".join(made_image.repairs) == said
    assert [v.outcome for v in made_image.verdicts] == [Outcome.BOOTED] * 2, made_image.verdicts
    after = run_until(monitors.qemu_kernel(qemu, Path(made_image.path)), ["^hello: done"], fail=["FAILED"])
    assert after.reached, str(after)
    host = Host.discover()  # a chained stub goes on where the native image is entered
    asked = read(recipe(path, "chain", tmp_path), host)
    chained = contribute(read_payloads(asked, host)["pvh"], asked.targets["pvh"], host)
    assert chained.own_entry == made_image.entries["pvh"] == entry


def test_repair_can_be_forbidden(own: Path, tmp_path: Path) -> None:
    image = read_elf(FileContent(own), "own")
    entry = next(int.from_bytes(n.desc, "little") for n in image.xen_notes if n.type == 18)
    path = variant(image, cases(entry)["several PT_NOTEs"][0], tmp_path / "kernel.elf")
    record = made(recipe(path, "native", tmp_path, "repair = false"))
    assert record.images[0].repairs == ()
    assert Path(record.images[0].path).read_bytes() == path.read_bytes()


def test_what_all_loaders_read_is_left_alone(own: Path, tmp_path: Path) -> None:
    record = made(recipe(own, "native", tmp_path))
    assert record.images[0].repairs == ()
    assert Path(record.images[0].path).read_bytes() == own.read_bytes()


def test_a_chained_stub_runs_before_the_kernels_own_entry(own: Path, qemu: Path, tmp_path: Path) -> None:
    record = made(recipe(own, "chain", tmp_path))
    (image,) = record.images
    assert [v.outcome for v in image.verdicts] == [Outcome.BOOTED] * 2, image.verdicts
    for verdict in image.verdicts:
        first, second, *_ = verdict.runs[0].stops
        assert (first.checkpoint, second.checkpoint) == ("own entry", "startup")
        assert verdict.runs[0].entered == image.entries["pvh"] != first.ip
    transcript = run_until(
        monitors.qemu_kernel(qemu, Path(image.path), cmdline="greeting=own"),
        ["^cmdline greeting=own", "^hello: done"],
        fail=["FAILED"],
    )
    assert transcript.reached, str(transcript)


def test_the_kernels_own_entry_may_be_its_startup_path(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel.elf"
    kernel.write_bytes(guest(bits=64))
    text = recipe(kernel, "chain", tmp_path, "width = 32\nguest = 'linux'").read_text()
    text = text.replace("0xffffffff80100000", f"{ENTRY:#x}").replace("hello: done", "x")
    (tmp_path / "same.toml").write_text(text)
    (image,) = made(tmp_path / "same.toml").images
    for verdict in image.verdicts:
        assert verdict.reached.startswith(f"{ENTRY:#x}")
        assert "BB-H021" in {finding.rule for finding in verdict.findings}  # it is no Linux, as was said


LOW_BSS = Span(0x5000, 0x30000)  #: in it Firecracker's start_info, memory map, command line, and most else
KEPT = (Span(0x6000, 0x40), Span(0x7000, 24 * 4), Span(0x20000, len(b"greeting=own") + 1))


def test_a_chained_stub_clears_bss_around_what_was_handed_over(tmp_path: Path) -> None:
    """Firecracker puts it at fixed places below 640 KiB, and linux-loader clears nothing."""
    free = holes(LOW_BSS, KEPT)
    edges = [address for span in free for address in (span.start, span.end - 1)]
    check = b"".join(b"\x80\x3d" + u32(address) + b"\0\x74\x02\x0f\x0b" for address in edges)
    kernel = tmp_path / "kernel.elf"  # cmpb $0, address; je next; ud2
    kernel.write_bytes(with_bss(guest(first=check), LOW_BSS))
    text = f"""
        api = 1
        [payload]
        path = {json.dumps(str(kernel))}
        startup = "{STARTUP:#x}"
        width = 32
        cmdline = "greeting=own"
        [targets.pvh]
        entry = "chain"
        profiles = ["pvh@firecracker"]
    """
    (tmp_path / "chain.toml").write_text(text)
    host = Host.discover()
    asked = read(tmp_path / "chain.toml", host)
    payload = read_payloads(asked, host)["pvh"]
    made = contribute(payload, asked.targets["pvh"], host)
    image, _, layout = make_image(asked, payload, [made], host, lambda _: None)
    subject = replace(recipe_subject(asked, payload, made, image, layout, host), guest=None)
    verdict = prove(subject, host.profile("pvh@firecracker"))
    assert [(f.rule, f.message) for f in verdict.findings] == []
    assert verdict.outcome is Outcome.BOOTED


#: code before the chain's real stub: what it changes, and what is said of it
SABOTAGE: dict[str, tuple[bytes, str]] = {
    "EAX": (b"\xb8\x01\x00\x00\x00", "rax is 0x1, the environment left 0x0"),
    "flags": (b"\xf9", "rflags is 0x7, the environment left 0x6"),
    "GDTR": (b"\x0f\x01\x15\x00\x00\x00\x00", "gdtr is"),
    "start_info": (b"\xc7\x43\x04\x09\x00\x00\x00", "the byte at 0x21e4 was changed"),
    "the payload": (b"\xc6\x05" + u32(0x101003) + b"\xff", "the byte at 0x101003 was changed"),
    "a module": (b"\xc6\x05" + u32(0x7FD7000) + b"\xff", "the byte at 0x7fd7000 was changed"),
}


@pytest.mark.parametrize("name", SABOTAGE)
def test_a_chained_stub_that_changes_anything_is_found(name: str, own: Path, tmp_path: Path) -> None:
    code, said = SABOTAGE[name]
    host = Host.discover()
    (tmp_path / "module").write_bytes(b"a module")
    keys = f"[[payload.modules]]\npath = {json.dumps(str(tmp_path / 'module'))}\n"
    asked = read(recipe(own, "chain", tmp_path, keys), host)
    payload = read_payloads(asked, host)["pvh"]
    right = contribute(payload, asked.targets["pvh"], host)
    onward = Fixup(len(code) + 1, "pc32", "bb_next", -4)
    text = code + b"\xe9" + bytes(4)
    blob = Blob("saboteur", 32, text, 16, 0, 1, (onward,), {"bb_saboteur": (".text", 0)}, "hand")
    chain = (Piece(blob, "bb_saboteur", None, None), *right.chain)
    notes = tuple(replace(n, desc=replace(n.desc, symbol="bb_saboteur")) for n in right.notes)  # type: ignore[type-var]
    broken = replace(right, chain=chain, notes=notes)
    image, _, layout = make_image(asked, payload, [broken], host, lambda _: None)
    subject = recipe_subject(asked, payload, broken, image, layout, host)
    verdict = prove(subject, host.profile("pvh@qemu"))
    assert verdict.outcome is Outcome.FAILED
    assert {finding.rule for finding in verdict.findings} == {"BB-B026"}
    assert said in verdict.findings[0].message
    unjudged = prove(subject, host.profile("pvh@qemu"), disabled=frozenset({"BB-B026"}))
    assert "BB-B026" not in {finding.rule for finding in unjudged.findings}
