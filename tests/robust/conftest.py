"""hello where it can be built, as small as it is or larger."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from building_site import Site

RECIPE = """
api = 1

[payload]
path = "kernel.elf"
guest = "native"
startup = "startup_64"

[targets.pvh]
profiles = ["pvh@qemu"]
"""


@pytest.fixture
def site(tmp_path: Path, hello64: Path) -> Callable[..., Site]:
    """site(megabytes=0): hello, with that much behind it which an image keeps."""

    def make(megabytes: int = 0) -> Site:
        folder = tmp_path / "site"
        folder.mkdir()
        shutil.copy(hello64, folder / "kernel.elf")
        with (folder / "kernel.elf").open("ab") as kernel:
            kernel.write(random.Random(1).randbytes(megabytes << 20))
        (folder / "kernel.toml").write_text(RECIPE)
        return Site(folder, "kernel.toml", "kernel-pvh.elf", ("kernel.elf",))

    return make
