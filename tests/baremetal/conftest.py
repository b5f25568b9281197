"""hello as a bzImage, of both widths, and an initrd."""

from __future__ import annotations

from pathlib import Path

import pytest

from hello_bzimage import hello_bzimage
from linux_starts import KINDS, Images


@pytest.fixture(scope="session")
def images(hello64: Path, hello32: Path, tmp_path_factory: pytest.TempPathFactory) -> Images:
    folder = tmp_path_factory.mktemp("hello")
    initrd = folder / "initrd"
    initrd.write_bytes(bytes(range(256)) * 20000 + b"odd")  # longer than two windows of 2 MiB
    sources = {64: hello64, 32: hello32}
    return Images({kind: hello_bzimage(sources, kind, folder) for kind in KINDS}, initrd)
