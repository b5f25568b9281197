"""Kernels of Multiboot2, PVH and Linux's 32-bit protocol, started by programs that do not speak theirs."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import foreign_kernels
import grub
import monitors
import ovmf as firmware
import toolstack
from bootbuild.host import Host
from bootbuild.model.record import BuildRecord
from bootbuild.model.verdict import Outcome
from bootbuild.pipeline import build
from bootbuild.recipe.overrides import Overrides
from bootbuild.recipe.read import read
from debian_kernels import Kernels
from foreign_kernels import CMDLINE, MODULE, PROTOCOLS, WORDS
from grub import Grub, Menu
from oracle import Transcript, run_until
from ovmf import Ovmf

TARGETS = ("pvh", "multiboot1", "multiboot2")


@dataclass(frozen=True)
class Made:
    """A kernel with an image for each target, and what was handed to it."""

    protocol: str
    records: dict[str, BuildRecord]
    module: Path

    def image(self, target: str) -> Path:
        return Path(self.records[target].images[0].path)

    def emulated(self, profile: str) -> list[str]:
        """What it printed in a profile."""
        target = profile.partition("@")[0]
        verdicts = {v.name: v for v in self.records[target].images[0].verdicts}
        return verdicts[profile].runs[0].console.decode().replace("\r", "").splitlines()

    def said(self, transcript: Transcript) -> list[str]:
        """What it printed in a real run: from its first line to its last."""
        assert transcript.reached, str(transcript)
        found = re.search(rf"{self.protocol} kernel: started\n.*kernel: done", transcript.text, re.DOTALL)
        assert found, str(transcript)
        return found[0].splitlines()

    @property
    def done(self) -> list[str]:
        return [f"{self.protocol} kernel: done"]


def make(
    protocol: str, folder: Path, targets: Sequence[str] = TARGETS, *, payload: str = "", options: str = ""
) -> Made:
    """`payload`, `options`: what a recipe says more of the kernel, and of each target."""
    kernel = foreign_kernels.compile_kernel(protocol, folder)
    module = folder / "module"
    module.write_bytes(MODULE)
    records = {}
    for target in targets:
        path = folder / f"{target}.toml"
        path.write_text(f"""
            api = 1
            [payload]
            path = {json.dumps(str(kernel))}
            guest = "{protocol}"
            elf_class = {64 if target == "pvh" else 32}
            cmdline = "{CMDLINE}"
            {payload}
            [[payload.modules]]
            path = {json.dumps(str(module))}
            cmdline = "{"" if target == "pvh" else WORDS}"
            [targets.{target}]
            {options}
            [expect]
            reached = "finished"
        """)
        host = Host.discover()
        records[target] = build(read(path, host, Overrides()), host)
    return Made(protocol, records, module)


@pytest.fixture(scope="module")
def all_made(gcc: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    return {protocol: make(protocol, tmp_path_factory.mktemp(protocol)) for protocol in PROTOCOLS}


@pytest.fixture(params=PROTOCOLS)
def made(request: pytest.FixtureRequest, all_made: dict[str, Made]) -> Made:
    return all_made[request.param]


def test_it_boots_in_every_profile_of_the_emulator(made: Made) -> None:
    host = Host.discover()
    for target, record in made.records.items():
        (image,) = record.images
        assert {verdict.name for verdict in image.verdicts} == set(host.profiles_of(target))
        for verdict in image.verdicts:
            assert (verdict.outcome, verdict.findings) == (Outcome.BOOTED, ()), verdict.name
            assert verdict.reached.endswith("finished")


@pytest.mark.parametrize(("protocol", "other"), [("multiboot2", "pvh"), ("pvh", "multiboot2")])
def test_one_image_keeps_its_own_entry_and_has_the_other(
    protocol: str, other: str, gcc: Path, tmp_path: Path
) -> None:
    kernel = foreign_kernels.compile_kernel(protocol, tmp_path)
    path = tmp_path / "both.toml"
    path.write_text(f"""
        api = 1
        [payload]
        path = {json.dumps(str(kernel))}
        guest = "{protocol}"
        elf_class = 64
        cmdline = "{CMDLINE}"
        [targets.{protocol}]
        entry = "native"
        [targets.{other}]
        [output]
        combine = ["{protocol}", "{other}"]
        [expect]
        reached = "finished"
    """)
    host = Host.discover()
    (image,) = build(read(path, host, Overrides()), host).images
    profiles = {*host.profiles_of(protocol), *host.profiles_of(other)}
    assert {v.name: v.outcome for v in image.verdicts} == dict.fromkeys(profiles, Outcome.BOOTED)
    for verdict in image.verdicts:
        assert verdict.handover is not None
        assert ("record" in verdict.handover) == (verdict.target == other)


def test_the_recipe_for_firecracker_is_a_good_one(repository: Path, gcc: Path, tmp_path: Path) -> None:
    kernel = foreign_kernels.compile_kernel("multiboot2", tmp_path)
    (tmp_path / "files.tar").write_bytes(MODULE)
    recipe = (repository / "recipes" / "multiboot2-on-firecracker.toml").read_text(encoding="utf-8")
    path = kernel.with_name("recipe.toml")
    path.write_text(recipe.replace('"kernel.elf"', f'"{kernel.name}"'))
    host = Host.discover()
    (image,) = build(read(path, host, Overrides()), host).images
    assert {v.profile: v.outcome for v in image.verdicts} == dict.fromkeys(
        ("firecracker", "cloud-hypervisor", "qemu"), Outcome.BOOTED
    )


MODULE_LINE = f"module size {len(MODULE):#x} sum {zlib.adler32(MODULE):#x} "


@pytest.mark.parametrize(("machine", "profile"), [("pc", "qemu"), ("microvm", "qemu-microvm")])
def test_qemu_starts_it_by_pvh(qemu: Path, made: Made, machine: str, profile: str) -> None:
    command = monitors.qemu_kernel(
        qemu, made.image("pvh"), machine=machine, cmdline=CMDLINE, initrd=made.module
    )
    said = made.said(run_until(command, made.done))
    assert said == made.emulated(f"pvh@{profile}")  # word for word, RSDP and memory map included
    assert said[1] == f"cmdline {CMDLINE}"
    assert said[2] == MODULE_LINE
    assert "pair boot 0x1 hypervisor 0x3" in said


def test_xen_starts_it_as_pvh_dom0(qemu: Path, kernels: Kernels, made: Made) -> None:
    command = monitors.xen_dom0(
        qemu,
        kernels.xen,
        made.image("pvh"),
        pvh=True,
        cmdline=CMDLINE,
        modules=[made.module],
        dom0_memory=128,
    )
    transcript = run_until(command, made.done, fail=monitors.XEN_FAILS)
    assert transcript.reached, str(transcript)
    said = re.findall(r"^\(d0\) (.*)$", transcript.text, re.MULTILINE)
    assert f"cmdline {CMDLINE}" in said
    assert MODULE_LINE + str(made.module) in said  # QEMU makes the file's name the module's command line
    assert "pair boot 0x1 hypervisor 0x1" in said


def test_xl_starts_them_as_pvh_domains(
    qemu: Path, toolstack_kernels: Kernels, all_made: dict[str, Made], tmp_path: Path
) -> None:
    domains = {
        name: toolstack.Domain(made.image("pvh"), "pvh", CMDLINE, made.module)
        for name, made in all_made.items()
    }
    transcript, runs = toolstack.create(qemu, toolstack_kernels, domains, tmp_path)
    assert transcript.reached, str(transcript)
    for name in all_made:
        said = runs[name].xen.splitlines()
        assert said[:3] == [f"{name} kernel: started", f"cmdline {CMDLINE}", MODULE_LINE], runs[name]
        assert said[-2:] == ["pair boot 0x1 hypervisor 0x1", f"{name} kernel: done"]


@pytest.mark.parametrize("target", ["multiboot1", "multiboot2"])
def test_grub_starts_it(qemu: Path, grub_pc: Grub, made: Made, target: str, tmp_path: Path) -> None:
    menu = Menu(_command(target), made.image(target), CMDLINE, [(made.module, WORDS)])
    said = made.said(run_until(grub_pc.bios(qemu, menu, tmp_path), made.done, fail=grub.FAILS))
    name = "multiboot1@grub" if target == "multiboot1" else "multiboot2@grub-bios"
    assert said == made.emulated(name)
    assert said[1:3] == [f"cmdline {CMDLINE}", MODULE_LINE + WORDS]


def test_qemu_starts_it_by_multiboot(qemu: Path, made: Made) -> None:
    """The command line begins with the file's name, and so does the module's (hw/i386/multiboot.c)."""
    image = made.image("multiboot1")
    command = monitors.qemu_kernel(qemu, image, cmdline=CMDLINE, initrd=made.module)
    said = made.said(run_until(command, made.done))
    emulated = made.emulated("multiboot1@qemu")
    assert said[1:3] == [f"cmdline {image} {CMDLINE}", MODULE_LINE + str(made.module)]
    assert said[3:] == emulated[3:]


def test_grub_on_uefi_starts_it(qemu: Path, grub_efi: Grub, made: Made, tmp_path: Path) -> None:
    menu = Menu("multiboot2", made.image("multiboot2"), CMDLINE, [(made.module, WORDS)])
    said = made.said(run_until(grub_efi.efi(qemu, menu, tmp_path), made.done, fail=grub.FAILS))
    assert said[1:3] == [f"cmdline {CMDLINE}", MODULE_LINE + WORDS]
    assert "pair boot 0x5 hypervisor 0x3" in said
    assert any(line.startswith("acpi RSD PTR ") for line in said)


def _command(target: str) -> grub.Command:
    return "multiboot" if target == "multiboot1" else "multiboot2"


#: what a recipe says of each kernel that OVMF starts
KERNELS = {"multiboot2": "", "pvh": "", "linux": 'startup = "start"\nwidth = 32'}


@pytest.mark.parametrize("protocol", KERNELS)
def test_ovmf_starts_it(qemu: Path, gcc: Path, ovmf: Ovmf, protocol: str, tmp_path: Path) -> None:
    made = make(protocol, tmp_path, ["efi"], payload=KERNELS[protocol], options='profiles = ["ovmf"]')
    command = ovmf.by_kernel(qemu, made.image("efi"), tmp_path)
    said = made.said(run_until(command, made.done, fail=firmware.FAILS, timeout=60))
    words = "" if protocol == "linux" else WORDS
    assert said[1:3] == [f"cmdline {CMDLINE}", MODULE_LINE + words]
    assert "pair boot 0x3 hypervisor 0x3" in said
    assert said == made.emulated("efi@ovmf")  # word for word, RSDP and memory map included
