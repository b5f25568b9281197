"""Page tables of five levels: those of OVMF, in which a program that was started before has made them so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import efi_dump
import ovmf as firmware
from debian_kernels import Kernels
from oracle import run_until
from ovmf import Ovmf
from recipe_text import build_text

FIVE_LEVELS = Path(__file__).parents[1] / "efi/five_levels.c"


@pytest.mark.parametrize(("width", "target"), [(64, ""), (32, ""), (64, "boot_services = true")])
def test_hello_is_started(
    request: pytest.FixtureRequest,
    gcc: Path,
    ovmf: Ovmf,
    qemu: Path,
    tmp_path: Path,
    width: int,
    target: str,
) -> None:
    kernel = request.getfixturevalue(f"hello{width}")
    text = f"""
        api = 1
        [payload]
        path = {json.dumps(str(kernel))}
        startup = "startup_{width}"
        width = {width}
        [targets.efi]
        {target}
        profiles = ["ovmf"]
        """
    assert starts(text, "hello: done", gcc, ovmf, qemu, tmp_path)


def test_debians_kernel_gets_to_user_space(
    kernels: Kernels, gcc: Path, ovmf: Ovmf, qemu: Path, tmp_path: Path
) -> None:
    text = f"""
        api = 1
        [payload]
        path = {json.dumps(str(kernels.cloud.vmlinux))}
        symbols = {json.dumps(str(kernels.cloud.system_map))}
        guest = "linux"
        startup = "startup_64"
        cmdline = "console=ttyS0"
        [[payload.modules]]
        path = {json.dumps(str(kernels.initrd))}
        [targets.efi]
        profiles = ["ovmf"]
        """
    assert starts(text, "bootbuild-initrd up", gcc, ovmf, qemu, tmp_path)


def starts(text: str, sign: str, gcc: Path, ovmf: Ovmf, qemu: Path, folder: Path) -> bool:
    """Whether the application of a recipe does where the page tables have five levels."""
    application = Path(build_text(text, folder).images[0].path)
    before = folder / "before.efi"
    before.write_bytes(efi_dump.compile_pe(gcc, [FIVE_LEVELS], folder))
    command = ovmf.from_disk(qemu, before, folder, memory=1024, options=ovmf.next_disk(application, folder))
    transcript = run_until(command, ["five levels", sign], fail=firmware.FAILS[1:], timeout=120)
    assert transcript.reached, transcript
    return True
