"""Building a folder of stubs: `.S` and freestanding `.c` to blobs, byte for byte the same each time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path

from bootbuild.errors import PluginError, Problem
from bootbuild.model.blob import Blob
from bootbuild.stubs import rules
from bootbuild.stubs.blobfile import describe
from bootbuild.stubs.manifest import StubSource, read_manifest
from bootbuild.stubs.objectfile import read_object

TIMEOUT = 120  #: seconds for one run of a tool
MAX_PROBLEMS = 20  #: messages of one run that are passed on
_COMPLAINT = re.compile(r"(\S.*?:\d+(?::\d+)?): (?:fatal )?[Ee]rror: (.*)")

# No library, no floating point or vector register (nobody has enabled them), no protector, no CET,
# absolute addresses; and nothing of the machine on which it is built.
COMPILE = (
    "-c -Os -std=gnu11 -ffreestanding -fno-pic -fno-pie -mgeneral-regs-only -mno-red-zone "
    "-fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables -fno-strict-aliasing "
    "-fno-common -fno-tree-loop-distribute-patterns -fno-jump-tables -fvisibility=hidden -fno-ident "
    "-Wall -Wextra -Werror=implicit-function-declaration -Wa,--noexecstack,-mx86-used-note=no"
).split()
MACHINE = {32: ["-m32", "-march=i686", "-mtune=generic"], 64: ["-m64", "-march=x86-64", "-mtune=generic"]}
EMULATION = {32: "elf_i386", 64: "elf_x86_64"}
# One section of what is never written, and one of what starts at zero.
SCRIPT = """\
SECTIONS {
  .text : { *(.text .text.*) *(.rodata .rodata.*) }
  .data : { *(.data .data.*) }
  .bss : { *(.bss .bss.* COMMON) }
  /DISCARD/ : { *(.comment .note .note.* .eh_frame) }
}
"""


def include_directory() -> Path:
    """The folder to be given to a compiler with -I for `#include <bootbuild/handover.h>`."""
    with as_file(files("bootbuild") / "stubs" / "include") as path:
        return path


def toolchain() -> str:
    """First lines of what gcc and ld say of themselves. Raises PluginError (BB-P028) without them."""
    versions = [_run([tool, "--version"], tool, Path.cwd()).splitlines()[0] for tool in ("gcc", "ld")]
    return ", ".join(versions)


def build_folder(folder: Path) -> tuple[Blob, ...]:
    """Build every stub of `folder` and write NAME.bin and NAME.json beside its sources.

    Nothing is written unless all can be built. Raises PluginError (BB-P027 … BB-P032).
    """
    stubs = read_manifest(folder)
    version = toolchain()
    blobs = []
    problems: list[Problem] = []
    for stub in stubs:
        try:
            blobs.append(compile_stub(stub, version))
        except PluginError as error:
            problems += error.problems
    if problems:
        raise PluginError(problems)
    for blob in blobs:
        _replace(folder / f"{blob.name}.bin", blob.text)
        _replace(folder / f"{blob.name}.json", describe(blob))
    return tuple(blobs)


def compile_stub(stub: StubSource, version: str) -> Blob:
    """Compile, link and read back one stub. Raises PluginError (BB-P028 … BB-P032)."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        objects = []
        for number, source in enumerate(stub.sources):
            output = work / f"{number}.o"
            folder = source.parent.resolve()
            command = ["gcc", *COMPILE, *MACHINE[stub.width], f"-ffile-prefix-map={folder}=."]
            command += ["-fpie"] if stub.position_independent else []
            command += ["-I", str(include_directory()), "-o", str(output), str(folder / source.name)]
            _run(command, str(source), work)
            objects.append(str(output))
        script = work / "blob.ld"
        script.write_text(SCRIPT)
        linked = work / "blob.o"
        command = ["ld", "-r", "-m", EMULATION[stub.width], "-T", str(script), "-o", str(linked), *objects]
        _run(command, stub.name, work)
        return read_object(linked, stub.name, stub.width, version)


def _run(command: list[str], where: str, folder: Path) -> str:
    """Standard output of a tool. Raises PluginError (BB-P028) with the tool's own words."""
    if shutil.which(command[0]) is None:
        remedy = "install gcc and binutils (Debian: `apt-get install gcc binutils`)"
        raise PluginError(Problem(rules.TOOL, where, f"{command[0]} is not installed", remedy))
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PluginError(Problem(rules.TOOL, where, f"{command[0]} took more than {TIMEOUT} s")) from None
    if done.returncode:
        raise PluginError(list(_complaints(command[0], where, done.stderr))[:MAX_PROBLEMS])
    return done.stdout


def _complaints(tool: str, where: str, output: str) -> Iterator[Problem]:
    """A tool's error messages, each with the place it names (`file:line:column: error: message`)."""
    lines = [line for line in output.splitlines() if "rror" in line] or [f"{tool}: fails without a message"]
    for line in lines:
        match = _COMPLAINT.fullmatch(line)
        place, message = match.groups() if match else (where, line)
        yield Problem(rules.TOOL, place, message)


def _replace(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; unchanged bytes leave it alone."""
    if path.is_file() and path.read_bytes() == data:
        return
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
