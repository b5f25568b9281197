"""Building a folder of stubs: `.S` and freestanding `.c` to blobs, byte for byte the same each time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bootbuild.errors import PluginError, Problem
from bootbuild.model.blob import Blob
from bootbuild.stubs import rules
from bootbuild.stubs.blobfile import describe
from bootbuild.stubs.manifest import StubSource, read_manifest
from bootbuild.stubs.objectfile import read_object
from bootbuild.stubs.sources import SCRIPT, compiler_flags, digest, include_directory, linker_flags

TIMEOUT = 120  #: seconds for one run of a tool
MAX_PROBLEMS = 20  #: messages of one run that are passed on
_COMPLAINT = re.compile(r"(\S.*?:\d+(?::\d+)?): (?:fatal )?[Ee]rror: (.*)")


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
    made_of = digest(stub)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        objects = []
        for number, source in enumerate(stub.sources):
            output = work / f"{number}.o"
            folder = source.parent.resolve()
            command = ["gcc", *compiler_flags(stub), f"-ffile-prefix-map={folder}=."]
            command += ["-I", str(include_directory()), "-o", str(output), str(folder / source.name)]
            _run(command, str(source), work)
            objects.append(str(output))
        script = work / "blob.ld"
        script.write_text(SCRIPT)
        linked = work / "blob.o"
        command = ["ld", *linker_flags(stub), "-T", str(script), "-o", str(linked), *objects]
        _run(command, stub.name, work)
        blob = read_object(linked, stub.name, stub.width, version)
    return replace(blob, sources=made_of)


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
