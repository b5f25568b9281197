"""The PVH front as Xen's dom0: start_info of version 0, no map in it, the hypervisor's own console."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import monitors


@pytest.mark.parametrize("width", [64, 32])
def test_hello_starts_as_xens_dom0(
    width: int,
    qemu: Path,
    kernels: Any,
    run_until: Callable[..., Any],
    pvh_image: Callable[..., Any],
    tmp_path: Path,
) -> None:
    module = tmp_path / "module"
    module.write_bytes(bytes(range(256)) * 9)
    image = pvh_image(width)
    command = monitors.xen_dom0(qemu, kernels.xen, image.path, pvh=True, cmdline="a b", modules=[module])
    markers = [r"^hello: done$", r"Hardware Dom0 halted"]
    done = run_until(command, markers, fail=[*monitors.XEN_FAILS, "bootbuild: .*", "FAILED"], timeout=120)
    assert done.reached, str(done)
    lines = done.text.splitlines()
    assert "hello from pvh on xen" in lines
    assert "cmdline a b" in lines
    assert "flags 0x2" in lines, "dom0 is the privileged domain"
    assert any(re.fullmatch(r"memory 0x100000 \w+ ram", line) for line in lines), "the map was asked for"
    (found,) = (line for line in lines if line.startswith("module"))
    assert f"crc32 {zlib.crc32(module.read_bytes()):#x}" in found
    assert "unknown operation: -38" in lines
