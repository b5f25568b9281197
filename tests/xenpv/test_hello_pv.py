"""hello as a Xen PV domain: one ELF with a PV and a PVH entry, in the emulator and on real Xen."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest

import monitors
import tiny_pv_guest
import toolstack
from bootbuild.boot.prove import prove
from bootbuild.boot.subject import request_subject
from bootbuild.errors import RefusedError
from bootbuild.formats.elf_read import read_elf
from bootbuild.host import Host
from bootbuild.model.content import FileContent
from bootbuild.model.record import BuildRecord
from bootbuild.model.request import BootRequest
from bootbuild.model.verdict import Outcome, ProfileVerdict
from bootbuild.pipeline import BUDGET, TIMEOUT
from bootbuild_xenpv.environments.xen import XenDom0, XenDomU
from debian_kernels import Kernels
from oracle import run_until
from recipe_text import build_text

CMDLINE = "greeting=hello and=more"
MODULE = bytes(range(256)) * 33 + b"odd"


def recipe(payload: Path, module: Path, width: int = 64, guest: str = "native") -> str:
    return f"""
        api = 1
        [payload]
        path = {json.dumps(str(payload))}
        startup = "startup_{width}"
        width = {width}
        guest = "{guest}"
        cmdline = "{CMDLINE}"
        [[payload.modules]]
        path = {json.dumps(str(module))}
        [targets.xen-pv]
        guest_version = "1.0"
        suspend_cancel = true
        [targets.pvh]
        profiles = ["xen-domu", "xen-dom0"]
        [output]
        combine = ["pvh", "xen-pv"]
        [expect]
        console = "hello: done"
    """


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("module") / "module.bin"
    path.write_bytes(MODULE)
    return path


@pytest.fixture(scope="module")
def record(hello64: Path, module: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildRecord:
    return build_text(recipe(hello64, module), tmp_path_factory.mktemp("hello"))


def verdicts(record: BuildRecord) -> Mapping[str, ProfileVerdict]:
    return {verdict.name: verdict for verdict in record.images[0].verdicts}


def said(verdict: ProfileVerdict) -> list[str]:
    return verdict.runs[0].console.decode().replace("\r", "").splitlines()


def test_one_file_has_both_entries(record: BuildRecord) -> None:
    (image,) = record.images
    assert set(image.targets) == {"pvh", "xen-pv"}
    assert image.entries["pvh"] != image.entries["xen-pv"]
    assert set(verdicts(record)) == {"xen-pv@dom0", "xen-pv@domu", "pvh@xen-dom0", "pvh@xen-domu"}
    assert {v.outcome for v in verdicts(record).values()} == {Outcome.BOOTED}


@pytest.mark.parametrize(("name", "flags"), [("domu", "0x0"), ("dom0", "0x2")])
def test_the_record_has_what_start_info_gave(record: BuildRecord, name: str, flags: str) -> None:
    lines = said(verdicts(record)[f"xen-pv@{name}"])
    assert lines[:3] == ["hello from xen-pv on xen", f"cmdline {CMDLINE}", "memory 0x0 0x4000000 ram"]
    assert f"flags {flags}" in lines
    assert any(line.endswith(f"size {len(MODULE)} crc32 {zlib.crc32(MODULE):#x}") for line in lines)
    assert lines[-3:] == ["traps: taken", "unknown operation: -38", "hello: done"]


def test_a_stub_in_ring_3_uses_no_privileged_instruction(record: BuildRecord) -> None:
    for name in ("xen-pv@domu", "xen-pv@dom0"):
        for run in verdicts(record)[name].runs:
            assert [event for event in run.events if event.kind == "privileged"] == []


@pytest.mark.parametrize("pvh", [False, True], ids=["pv", "pvh"])
def test_real_xen_starts_it_both_ways_as_dom0(
    qemu: Path, kernels: Kernels, record: BuildRecord, module: Path, pvh: bool
) -> None:
    image = Path(record.images[0].path)
    command = monitors.xen_dom0(
        qemu, kernels.xen, image, pvh=pvh, cmdline=CMDLINE, modules=[module], dom0_memory=64
    )
    fails = [*monitors.XEN_FAILS, "FAILED", "bootbuild: cannot"]
    done = run_until(command, ["^hello: done$", "Hardware Dom0 halted"], fail=fails, timeout=60)
    assert done.reached, str(done)
    assert f"hello from {'pvh' if pvh else 'xen-pv'} on xen" in done.text
    if not pvh:  # word for word, addresses included
        assert "\n".join(said(verdicts(record)["xen-pv@dom0"])) in done.text


@pytest.fixture(scope="module")
def domains(
    qemu: Path,
    toolstack_kernels: Kernels,
    record: BuildRecord,
    module: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapping[str, toolstack.DomainRun]:
    folder = tmp_path_factory.mktemp("domains")
    image = Path(record.images[0].path)
    wrong = folder / "wrong"
    wrong.write_bytes(image.read_bytes().replace(b"xen-3.0\0", b"xen-2.0\0"))
    asked = {
        "pv": toolstack.Domain(image, "pv", CMDLINE, module, 64),
        "pvh": toolstack.Domain(image, "pvh", CMDLINE, module, 64),
        "wrong": toolstack.Domain(wrong, "pv", CMDLINE, module, 64),
    }
    transcript, runs = toolstack.create(qemu, toolstack_kernels, asked, folder)
    assert transcript.reached, str(transcript)
    return runs


@pytest.mark.slow
def test_xl_starts_it_both_ways_and_refuses_another_xens(
    domains: Mapping[str, toolstack.DomainRun], record: BuildRecord
) -> None:
    assert (domains["pv"].state, domains["pvh"].state) == ("poweroff", "poweroff")
    assert list(domains["pv"].console) == said(verdicts(record)["xen-pv@domu"])  # word for word
    assert domains["pvh"].console[0] == "hello from pvh on xen"
    assert domains["wrong"].state == "refused"
    assert any("no loader found" in line for line in domains["wrong"].log)


@pytest.mark.parametrize(
    ("width", "guest", "reason", "remedy"),
    [
        (
            32,
            "native",
            "its startup path is 32-bit code, and Xen enters 64-bit code",
            "name 64-bit code, or use target pvh",  # its own entry would be refused, too: BB-L204
        ),
        (
            64,
            "linux",
            "guest linux cannot be entered in ring 3 by a stub",
            "leave `[targets.xen-pv]` out: this kernel has no PV entry of its own either",
        ),
        (
            32,
            "multiboot2",
            "guest multiboot2 cannot be entered in ring 3 by a stub",
            "leave `[targets.xen-pv]` out: this kernel has no PV entry of its own either",
        ),
    ],
)
def test_what_cannot_run_in_ring_3_is_refused(
    width: int,
    guest: str,
    reason: str,
    remedy: str,
    hello32: Path,
    hello64: Path,
    module: Path,
    tmp_path: Path,
) -> None:
    payload = hello64 if width == 64 else hello32
    with pytest.raises(RefusedError) as refused:
        build_text(recipe(payload, module, width, guest), tmp_path)
    (problem,) = refused.value.problems
    assert (problem.rule.id, problem.message, problem.remedy) == ("BB-L205", reason, remedy)


def test_a_pv_kernel_is_told_of_its_own_entry(module: Path, tmp_path: Path) -> None:
    payload = tmp_path / "kernel"
    payload.write_bytes(tiny_pv_guest.guest())
    text = recipe(payload, module, guest="linux").replace("startup_64", hex(tiny_pv_guest.STARTUP))
    with pytest.raises(RefusedError) as refused:
        build_text(text, tmp_path)
    (problem,) = refused.value.problems
    assert problem.rule.id == "BB-L205"
    assert problem.remedy == 'use the kernel\'s own PV entry (`entry = "native"`)'


def test_every_note_that_is_asked_for_is_written_and_heard(
    hello64: Path, module: Path, tmp_path: Path
) -> None:
    """With the frame table outside the bootstrap region, and a feature that Xen must have."""
    keys = 'init_p2m = 0x8000000000\n        features = "!writable_page_tables|dom0"'
    text = recipe(hello64, module).replace('guest_version = "1.0"', keys)
    (image,) = build_text(text, tmp_path).images
    assert {v.outcome for v in image.verdicts} == {Outcome.BOOTED}
    elf = read_elf(FileContent(Path(image.path)), "image")
    found = {note.type: note.desc for note in elf.xen_notes}
    assert found[10] == b"!writable_page_tables|dom0\0"
    assert int.from_bytes(found[15], "little") == 0x8000000000
    assert found[6] == b"bootbuild\0"
    assert (found[14], found[17]) == (b"\1\0\0\0", b"\0\x08\0\0")
    assert 7 not in found


# What is changed in the code of front or back, and the rule by which that is found.
BROKEN = {
    "says that it was entered by PVH": (rb"\xbf\x02(\0\0\0\xe9)", b"\xbf\x01\\1", "BB-H004"),
    "halts": (rb"\xfc(\x48\x8d\x25)", b"\xf4\\1", "BB-B041"),
    "leaves no return address": (rb"(\x48\x8d\x25....)\x6a\0(\xff\x35)", b"\\1\x90\x90\\2", "BB-H003"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("profile", [XenDomU, XenDom0])
def test_a_broken_front_is_found_out(
    record: BuildRecord, name: str, profile: type[XenDomU | XenDom0], tmp_path: Path
) -> None:
    pattern, replacement, rule = BROKEN[name]
    data, count = re.subn(pattern, replacement, Path(record.images[0].path).read_bytes(), flags=re.DOTALL)
    assert count == 1
    image = tmp_path / "image.elf"
    image.write_bytes(data)
    host = Host.discover()
    subject = request_subject(BootRequest(image, (f"xen-pv@{profile.name}",)), host, BUDGET, TIMEOUT)
    verdict = prove(subject, profile())
    assert verdict.outcome is Outcome.FAILED
    assert {finding.rule for finding in verdict.findings} == {rule}
