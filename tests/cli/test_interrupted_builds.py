"""Ctrl-C at any moment of a build; for kill -9, full disks and twins see tests/robust."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

MIB = 1 << 20
MOMENTS = 16
IMAGE = "large-pvh.elf"


@pytest.fixture
def large(hello: Path) -> Path:
    """A folder with a kernel of 64 MiB, most of it behind what is loaded, and its recipe."""
    kernel = (hello / "hello64.elf").read_bytes()
    with (hello / "large.elf").open("wb") as file:
        file.write(kernel)
        for index in range(64):
            file.write(hashlib.sha256(b"%d" % index).digest() * (MIB // 32))
    text = (hello / "hello.toml").read_text().replace("hello64.elf", "large.elf")
    (hello / "large.toml").write_text(text.replace("[targets.pvh]", '[targets.pvh]\nprofiles = ["qemu"]'))
    shutil.rmtree(hello / "out")
    return hello


def left(folder: Path) -> list[str]:
    """All files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def start(program: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [program, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_ctrl_c_at_any_moment_is_130_without_a_word_of_python_or_c(program: Path, large: Path) -> None:
    """LIEF's import is the longest stretch of C++ on the way.

    On a busy machine a build may be over before one of the signals is sent, but not before each.
    """
    interrupted = 0
    for moment in range(MOMENTS):
        shutil.rmtree(large / "out", ignore_errors=True)
        process = start(program, large, "large.toml", "-f")
        assert process.stderr is not None
        assert process.stderr.readline() == "bootbuild: reading large.elf\n"
        time.sleep(moment / 25)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=50)
        if process.returncode == 0:
            continue
        interrupted += 1
        assert (process.returncode, out) == (130, ""), err
        assert [line for line in err.splitlines() if line and not line.startswith("bootbuild: ")] == []
        assert set(left(large / "out")) <= {IMAGE}
    assert interrupted > 2
