"""The kernels that `make kernels` unpacked, as values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


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
    """Everything in one folder."""

    root: Path
    cloud: LinuxKernel  #: CONFIG_PVH, CONFIG_XEN_PV; small
    generic: LinuxKernel  #: what a Debian machine runs; can be dom0
    newer: LinuxKernel  #: of 6.6 or later: a decompress_kernel of its own, which the EFI stub calls too; zstd
    xen: Path
    xen_version: str
    initrd: Path


def read(root: Path) -> Kernels:
    """Read a folder's kernels.json. FileNotFoundError where there is none, or it lacks a kernel."""
    found = json.loads((root / "kernels.json").read_text())

    def linux(name: str) -> LinuxKernel:
        entry = found["linux"].get(name)
        if entry is None:
            raise FileNotFoundError(f"no kernel {name!r} in {root}")
        return LinuxKernel(entry["release"], **{key: root / path for key, path in entry["files"].items()})

    return Kernels(
        root=root,
        cloud=linux("cloud"),
        generic=linux("generic"),
        newer=linux("newer"),
        xen=root / found["xen"]["files"]["xen"],
        xen_version=found["xen"]["version"],
        initrd=root / "initrd.cpio",
    )
