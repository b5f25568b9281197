"""The real things that tests use: QEMU, gcc, Debian's kernels, the hello payloads. None is mocked.

What is not on this machine is skipped, saying what to install; with BOOTBUILD_REQUIRE_ORACLES=1 (as CI
sets) a skip or an expected failure is a failure, so that a green run means that everything was run.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import oracle
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class LinuxKernel:
    """One Debian kernel: the file that is installed, the ELF inside it, and its symbols."""

    release: str
    vmlinuz: Path
    vmlinux: Path
    system_map: Path

    def symbol(self, name: str) -> int:
        """The virtual address of a symbol. LookupError if there is none."""
        for line in self.system_map.read_text().splitlines():
            address, _, symbol = line.split(" ", 2)
            if symbol == name:
                return int(address, 16)
        raise LookupError(name)


@dataclass(frozen=True)
class Kernels:
    """What `make kernels` unpacked."""

    root: Path
    cloud: LinuxKernel  #: CONFIG_PVH, CONFIG_XEN_PV; small
    generic: LinuxKernel  #: what a Debian machine runs; can be dom0
    xen: Path
    xen_version: str
    initrd: Path


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip or an expected failure into a failure where everything is required."""
    report = yield
    if os.environ.get("BOOTBUILD_REQUIRE_ORACLES") and report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else getattr(report, "wasxfail", "")
        report.outcome = "failed"
        report.longrepr = f"BOOTBUILD_REQUIRE_ORACLES is set, and this was not run: {reason}"
        if hasattr(report, "wasxfail"):
            del report.wasxfail
    return report


def _tool(name: str, package: str) -> Path:
    found = shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not on PATH: apt-get install {package}")
    return Path(found)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that holds these tests: recipes, docs and pyproject.toml."""
    return REPOSITORY


@pytest.fixture(scope="session")
def qemu() -> Path:
    """qemu-system-x86_64, always used with TCG: /dev/kvm may exist and not work."""
    return _tool("qemu-system-x86_64", "qemu-system-x86")


@pytest.fixture(scope="session")
def gcc() -> Path:
    """A gcc that makes 32-bit and 64-bit freestanding code."""
    _tool("ld", "binutils")
    return _tool("gcc", "gcc")


@pytest.fixture(scope="session")
def kernels() -> Kernels:
    """Debian's kernels and Xen, as `make kernels` unpacked them."""
    root = Path(os.environ.get("BOOTBUILD_KERNELS") or REPOSITORY / "build/kernels")
    listing = root / "kernels.json"
    if not listing.exists():
        pytest.skip(f"no kernels in {root}: make kernels")
    found = json.loads(listing.read_text())

    def linux(name: str) -> LinuxKernel:
        entry = found["linux"][name]
        return LinuxKernel(entry["release"], **{key: root / path for key, path in entry["files"].items()})

    return Kernels(
        root=root,
        cloud=linux("cloud"),
        generic=linux("generic"),
        xen=root / found["xen"]["files"]["xen"],
        xen_version=found["xen"]["version"],
        initrd=root / "initrd.cpio",
    )


@pytest.fixture(scope="session")
def initrd(kernels: Kernels) -> Path:
    """A cpio whose /init prints `bootbuild-initrd up sysname=… release=…` and powers off."""
    return kernels.initrd


@pytest.fixture(scope="session")
def run_until() -> object:
    """`oracle.run_until`, for tests that do not import it."""
    return oracle.run_until


def _shipped(name: str) -> Path:
    path = resources.files("bootbuild") / "examples" / name
    if not isinstance(path, Path) or not path.exists():
        pytest.skip(f"bootbuild ships no {name}")
    return path


@pytest.fixture(scope="session")
def hello64() -> Path:
    """The 64-bit hello payload, from the installed package."""
    return _shipped("hello64.elf")


@pytest.fixture(scope="session")
def hello32() -> Path:
    """The 32-bit hello payload, from the installed package."""
    return _shipped("hello32.elf")
