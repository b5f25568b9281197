"""What target efi makes starts for real, by OVMF: hello of both widths, beside boot services and without."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest

import ovmf as firmware
from bootbuild.host import Host
from bootbuild.model.record import BuildRecord
from bootbuild.pipeline import build
from bootbuild.recipe.overrides import Overrides
from bootbuild.recipe.read import read
from debian_kernels import Kernels
from oracle import Transcript, run_until
from ovmf import Ovmf

CMDLINE = "greeting=hello and=more"
MODULE = bytes(range(256)) * 33 + b"odd"
ARGUMENTS = "of=its own"


def built(text: str, folder: Path) -> BuildRecord:
    folder.mkdir(exist_ok=True)
    path = folder / "recipe.toml"
    path.write_text(text)
    host = Host.discover()
    return build(read(path, host, Overrides()), host)


@dataclass(frozen=True)
class Makes:
    """Hello as an application, with what is to be said of the target."""

    payloads: dict[int, Path]
    module: Path
    folder: Path

    def __call__(self, name: str, width: int = 64, target: str = "") -> Path:
        text = f"""
            api = 1
            [payload]
            path = {json.dumps(str(self.payloads[width]))}
            startup = "startup_{width}"
            width = {width}
            cmdline = "{CMDLINE}"
            [[payload.modules]]
            path = {json.dumps(str(self.module))}
            cmdline = "{ARGUMENTS}"
            [targets.efi]
            {target}
            [expect]
            console = "hello: done"
        """
        record = built(text, self.folder / name)
        assert all(v.outcome.name in {"BOOTED", "REFUSED"} for image in record.images for v in image.verdicts)
        return Path(record.images[0].path)


@pytest.fixture(scope="module")
def makes(hello64: Path, hello32: Path, tmp_path_factory: pytest.TempPathFactory) -> Makes:
    folder = tmp_path_factory.mktemp("efi")
    module = folder / "module.bin"
    module.write_bytes(MODULE)
    return Makes({64: hello64, 32: hello32}, module, folder)


def ran(command: list[str]) -> Transcript:
    transcript = run_until(command, ["hello: done"], fail=firmware.FAILS, timeout=60)
    assert transcript.reached, transcript
    return transcript


@pytest.mark.parametrize("width", [64, 32])
def test_hello_is_started_by_ovmf(makes: Makes, ovmf: Ovmf, qemu: Path, tmp_path: Path, width: int) -> None:
    image = makes(f"plain-{width}", width)
    text = ran(ovmf.by_kernel(qemu, image, tmp_path)).text
    assert "hello from efi on tcg" in text
    assert f"cmdline {CMDLINE}\n" in text
    assert f" size {len(MODULE)} crc32 {zlib.crc32(MODULE):#x} cmdline {ARGUMENTS}\n" in text
    assert "rsdp 0x0\n" not in text


def test_hello_is_started_from_a_disk(makes: Makes, ovmf: Ovmf, qemu: Path, tmp_path: Path) -> None:
    assert "hello from efi on tcg" in ran(ovmf.from_disk(qemu, makes("disk"), tmp_path)).text


def test_boot_services_live_on_in_ovmf(makes: Makes, ovmf: Ovmf, qemu: Path, tmp_path: Path) -> None:
    image = makes("alive", target='boot_services = true\nprofiles = ["ovmf"]')
    assert "\nflags 0x1\n" in ran(ovmf.by_kernel(qemu, image, tmp_path)).text


def test_a_command_line_comes_with_the_boot_option(
    makes: Makes, ovmf: Ovmf, qemu: Path, tmp_path: Path
) -> None:
    """Without Secure Boot it takes the place of the image's own. An initrd QEMU gives to bzImages only."""
    text = ran(ovmf.by_kernel(qemu, makes("outside"), tmp_path, cmdline="from=outside")).text
    assert "cmdline from=outside\n" in text
    assert f" size {len(MODULE)} " in text


def test_the_post_stub_sets_ovmfs_virtual_map(
    mapping_kernel: Path, ovmf: Ovmf, qemu: Path, tmp_path: Path
) -> None:
    record = built(
        f"""
        api = 1
        [payload]
        path = {json.dumps(str(mapping_kernel))}
        startup = "startup_64"
        [targets.efi]
        profiles = ["ovmf"]
        """,
        tmp_path / "out",
    )
    command = ovmf.by_kernel(qemu, Path(record.images[0].path), tmp_path)
    transcript = run_until(
        command, ["virtual map: done"], fail=[*firmware.FAILS, "virtual map: wrong.*"], timeout=60
    )
    assert transcript.reached, transcript


@pytest.mark.parametrize("entry", ["insert", "native"])
def test_debians_kernel_gets_to_user_space(
    kernels: Kernels, ovmf: Ovmf, qemu: Path, tmp_path: Path, entry: str
) -> None:
    """The vmlinux by our application, whose initrd is in it; the bzImage by its own stub, as it is."""
    flavour = kernels.cloud
    payload = flavour.vmlinux if entry == "insert" else flavour.vmlinuz
    modules = f"[[payload.modules]]\npath = {json.dumps(str(kernels.initrd))}"
    record = built(
        f"""
        api = 1
        [payload]
        path = {json.dumps(str(payload))}
        symbols = {json.dumps(str(flavour.system_map))}
        guest = "linux"
        startup = "startup_64"
        cmdline = "console=ttyS0"
        {modules if entry == "insert" else ""}
        [targets.efi]
        entry = "{entry}"
        profiles = ["ovmf"]
        """,
        tmp_path / "out",
    )
    assert [v.outcome.name for image in record.images for v in image.verdicts] == ["BOOTED"]
    image = Path(record.images[0].path)
    cmdline, initrd = ("console=ttyS0", kernels.initrd) if entry == "native" else ("", None)
    command = ovmf.by_kernel(qemu, image, tmp_path, cmdline=cmdline, initrd=initrd, memory=1024)
    transcript = run_until(command, ["bootbuild-initrd up"], fail=firmware.FAILS, timeout=120)
    assert transcript.reached, transcript
    assert image.read_bytes() == payload.read_bytes() or entry == "insert"
