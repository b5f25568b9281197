"""hello whose stubs use a hypercall page, map their module, begin elsewhere: emulated and on real Xen."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest

import monitors
import toolstack
from bootbuild.formats.elf_read import read_elf
from bootbuild.host import Host
from bootbuild.model.content import FileContent
from bootbuild.model.record import BuildRecord
from bootbuild.model.request import BootRequest
from bootbuild.model.span import align_up
from bootbuild.model.verdict import Outcome, ProfileVerdict
from bootbuild.pipeline import boot
from debian_kernels import Kernels
from oracle import run_until
from recipe_text import build_text

CMDLINE = "a command line"
KEYS = {
    "hypercall page": 'hypercall_page = "stub"',
    "module by frame": "mod_start_pfn = true",
    "all, from 1 MiB on": 'hypercall_page = "stub"\nmod_start_pfn = true\npaddr_offset = 0x100000',
    "frame table elsewhere": "mod_start_pfn = true\ninit_p2m = 0x8000000000",
}
SMALL = bytes(range(251)) * 20 + b"odd"
LARGE = bytes(range(251)) * 9000 + b"odd"  #: more than a page table maps: behind the bootstrap region two
MODULES = dict.fromkeys(KEYS, SMALL) | {"module by frame": LARGE}


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("modules")
    paths = {name: folder / f"{number}.bin" for number, name in enumerate(KEYS)}
    for name, path in paths.items():
        path.write_bytes(MODULES[name])
    return paths


def built(payload: Path, module: Path, keys: str, folder: Path) -> BuildRecord:
    text = f"""
api = 1
[payload]
path = {json.dumps(str(payload))}
startup = "startup_64"
width = 64
guest = "native"
cmdline = "{CMDLINE}"
[[payload.modules]]
path = {json.dumps(str(module))}
[targets.xen-pv]
{keys}
[expect]
console = "hello: done"
"""
    return build_text(text, folder)


@pytest.fixture(scope="module")
def records(
    hello64: Path, modules: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, BuildRecord]:
    return {
        name: built(hello64, modules[name], keys, tmp_path_factory.mktemp("hello"))
        for name, keys in KEYS.items()
    }


def verdict(record: BuildRecord, name: str) -> ProfileVerdict:
    return next(one for one in record.images[0].verdicts if one.name == name)


def said(one: ProfileVerdict) -> list[str]:
    return one.runs[0].console.decode().replace("\r", "").splitlines()


@pytest.mark.parametrize("profile", ["xen-pv@domu", "xen-pv@dom0"])
@pytest.mark.parametrize("name", KEYS)
def test_it_boots_with_its_module(records: Mapping[str, BuildRecord], name: str, profile: str) -> None:
    one = verdict(records[name], profile)
    assert one.outcome is Outcome.BOOTED, [finding.message for finding in one.findings]
    (line,) = [line for line in said(one) if line.startswith("module ")]
    told = MODULES[name]
    if profile == "xen-pv@domu" and "mod_start_pfn" in KEYS[name]:
        told = told.ljust(align_up(len(told), 4096), b"\0")  # then xl tells whole pages
    assert line.endswith(f"size {len(told)} crc32 {zlib.crc32(told):#x}")
    assert [event for event in one.runs[0].events if event.kind in ("privileged", "refused")] == []


def test_its_hypercalls_are_made_on_the_page(records: Mapping[str, BuildRecord]) -> None:
    """Without the note the page is INT3: nothing but Xen can have filled it."""
    path = Path(records["hypercall page"].images[0].path)
    elf = read_elf(FileContent(path), "image")
    (page,) = [int.from_bytes(note.desc, "little") for note in elf.xen_notes if note.type == 2]
    segment = elf.segment_at(page)
    assert segment is not None
    at = segment.offset + page - segment.vaddr
    data = bytearray(path.read_bytes())
    assert data[at : at + 4096] == b"\xcc" * 4096
    note = next(note for note in elf.xen_notes if note.type == 2)
    data[note.offset + 8] = 0  # INFO, which Xen does not read
    path = path.with_name("unfilled.elf")
    path.write_bytes(data)
    (one,) = boot(BootRequest(path, ("xen-pv@domu",)), Host.discover())
    assert {finding.rule for finding in one.findings} == {"BB-B040"}, one.findings


def test_a_module_beyond_the_stubs_page_tables_is_refused_in_words(
    records: Mapping[str, BuildRecord], tmp_path: Path
) -> None:
    """The image has tables for the module that its recipe names, and some more."""
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(9 << 20))
    request = BootRequest(
        Path(records["module by frame"].images[0].path), ("xen-pv@domu",), modules=((large, b""),)
    )
    (one,) = boot(request, Host.discover())
    assert one.outcome is Outcome.FAILED
    text = one.runs[0].console.decode()
    assert "bootbuild: cannot start from Xen PV: the module is larger than that for which" in text


@pytest.mark.parametrize("name", KEYS)
def test_real_xen_starts_it_as_dom0(
    qemu: Path,
    kernels: Kernels,
    records: Mapping[str, BuildRecord],
    modules: Mapping[str, Path],
    name: str,
) -> None:
    command = monitors.xen_dom0(
        qemu,
        kernels.xen,
        Path(records[name].images[0].path),
        pvh=False,
        cmdline=CMDLINE,
        modules=[modules[name]],
        dom0_memory=64,
    )
    fails = [*monitors.XEN_FAILS, "FAILED", "bootbuild: cannot"]
    done = run_until(command, ["^hello: done$", "Hardware Dom0 halted"], fail=fails, timeout=60)
    assert done.reached, str(done)
    assert "\n".join(said(verdict(records[name], "xen-pv@dom0"))) in done.text  # addresses included


@pytest.mark.slow
def test_xl_starts_it(
    qemu: Path,
    toolstack_kernels: Kernels,
    records: Mapping[str, BuildRecord],
    modules: Mapping[str, Path],
    tmp_path: Path,
) -> None:
    asked = {
        f"hello{number}": toolstack.Domain(Path(record.images[0].path), "pv", CMDLINE, modules[name], 64)
        for number, (name, record) in enumerate(records.items())
    }
    transcript, runs = toolstack.create(qemu, toolstack_kernels, asked, tmp_path)
    assert transcript.reached, str(transcript)
    for run, record in zip(runs.values(), records.values(), strict=True):
        assert run.state == "poweroff", run
        assert list(run.console) == said(verdict(record, "xen-pv@domu"))  # word for word
