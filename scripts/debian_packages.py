"""Debian packages as plain files: the newest one of a kind, downloaded and unpacked, never installed."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """One downloaded `.deb`."""

    name: str
    version: str
    path: Path


def fail(message: str) -> None:
    """Say what is missing and how to get on, and end the script."""
    sys.exit(f"{Path(sys.argv[0]).name}: {message}")


def output(*command: str, cwd: Path | None = None) -> str:
    """What a command prints; ends the script with its own message when it fails."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        fail(f"{command[0]} is required; this needs a Debian or Ubuntu with apt, dpkg and gcc")
        raise
    if done.returncode:
        fail(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout


def depended_on(metapackage: str, pattern: str) -> str:
    """The package that `metapackage` stands for today: its dependency that matches `pattern` whole."""
    for line in output("apt-cache", "depends", "--important", metapackage).splitlines():
        kind, _, name = line.strip().partition(": ")
        if kind == "Depends" and re.fullmatch(pattern, name):
            return name
    fail(f"{metapackage} depends on nothing like {pattern}; has `apt-get update` been run?")
    raise AssertionError


def newest(pattern: str) -> str:
    """The package whose name matches `pattern` with the highest numbers in it (xen-hypervisor-4.17-amd64)."""
    names = output("apt-cache", "pkgnames", pattern.partition("[")[0].replace("\\", "")).split()
    matching = [name for name in names if re.fullmatch(pattern, name)]
    if not matching:
        fail(f"no package is named like {pattern}; has `apt-get update` been run?")
    return max(matching, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def download(name: str, into: Path) -> Package:
    """Put the `.deb` of `name` into the folder `into`, unless it lies there already."""
    into.mkdir(parents=True, exist_ok=True)
    if not list(into.glob(f"{name}_*.deb")):
        output("apt-get", "download", "-qq", name, cwd=into)
    path = sorted(into.glob(f"{name}_*.deb"))[-1]
    return Package(name, output("dpkg-deb", "--field", str(path), "Version").strip(), path)


def unpack(package: Package, into: Path) -> Path:
    """Unpack a package's files below the folder `into`."""
    into.mkdir(parents=True, exist_ok=True)
    output("dpkg-deb", "--extract", str(package.path), str(into))
    return into
