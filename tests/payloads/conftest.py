"""A workshop in which tests build kernels."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from workshop import Workshop


@pytest.fixture(scope="session")
def workshop(gcc: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A place to build kernels in."""
    assert gcc
    if shutil.which("objcopy") is None:
        pytest.skip("objcopy is not on PATH: apt-get install binutils")
    return Workshop(tmp_path_factory.mktemp("kernels"))
