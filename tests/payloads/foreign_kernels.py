"""Kernels that understand Multiboot2, PVH or Linux's protocol and nothing else, from payloads/foreign."""

from __future__ import annotations

import subprocess
from pathlib import Path

from workshop import FLAGS

SOURCES = Path(__file__).parent / "foreign"
PROTOCOLS = ("multiboot2", "pvh")  #: of which a file itself says how it is started
CMDLINE = "greeting=hello and=more"
MODULE = bytes(range(256)) * 33 + b"odd"  #: what is handed to them
WORDS = "its own words"  #: that module's command line, where a protocol passes one on


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
