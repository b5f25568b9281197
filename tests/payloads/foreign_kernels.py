"""Kernels that understand Multiboot2 or PVH and nothing else, compiled from payloads/foreign."""

from __future__ import annotations

import subprocess
import zlib
from pathlib import Path

from workshop import FLAGS

SOURCES = Path(__file__).parent / "foreign"
PROTOCOLS = ("multiboot2", "pvh")
CMDLINE = "greeting=hello and=more"
MODULE = bytes(range(256)) * 33 + b"odd"  #: what is handed to them
WORDS = "its own words"  #: that module's command line


def compile_kernel(protocol: str, into: Path, more: str = "") -> Path:
    """A 32-bit kernel; `more`: tags of its Multiboot2 header, in assembly."""
    out = into / f"{protocol}.elf"
    define = [f"-D{protocol.upper()}", *([f"-DMORE={more}"] if more else [])]
    sources = [SOURCES / "start.S", SOURCES / f"{protocol}.c"]
    link = ["-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none,--no-warn-rwx-segments"]
    options = ["-m32", "-march=i686", "-fno-pic", "-Wall", "-Wextra", "-Werror", *FLAGS, *link]
    command: list[str | Path] = ["gcc", *options, *define, "-T", SOURCES / "kernel.ld", *sources, "-o", out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def said(protocol: str, cmdline: str = CMDLINE, words: str | None = WORDS) -> list[str]:
    """What such a kernel prints, wherever it runs, of what it was handed; `words` is None: no module."""
    size, total = hex(len(MODULE)), hex(zlib.adler32(MODULE))
    modules = [] if words is None else [f"module size {size} sum {total} {words}"]
    return [f"{protocol} kernel: started", f"cmdline {cmdline}", *modules, f"{protocol} kernel: done"]
