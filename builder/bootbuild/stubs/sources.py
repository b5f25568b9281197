"""What a blob is made of: its sources with all that they include, and how they are compiled and linked."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from importlib.resources import as_file, files
from pathlib import Path

from bootbuild.errors import PluginError, Problem
from bootbuild.stubs import rules
from bootbuild.stubs.load import read_blob
from bootbuild.stubs.manifest import FILE, StubSource, read_manifest

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
# Also in a branch that the preprocessor leaves out: a file too many is only built once too often.
_INCLUDE = re.compile(rb"^[ \t]*#[ \t]*include[ \t]*([\"<])([^\">\n]+)[\">]", re.MULTILINE)


def include_directory() -> Path:
    """The folder to be given to a compiler with -I for `#include <bootbuild/handover.h>`."""
    with as_file(files("bootbuild") / "stubs" / "include") as path:
        return path


def compiler_flags(stub: StubSource) -> list[str]:
    """gcc's, for each of the stub's sources; without folders."""
    return [*COMPILE, *MACHINE[stub.width], *(["-fpie"] if stub.position_independent else [])]


def linker_flags(stub: StubSource) -> list[str]:
    """ld's, beside SCRIPT."""
    return ["-r", "-m", EMULATION[stub.width]]


def files_of(stub: StubSource) -> Mapping[Path, bytes]:
    """The stub's sources and, of its folder and of bootbuild's headers, whatever they include.

    What is elsewhere (`<stdint.h>`) is the toolchain's. Raises PluginError (BB-P027) if one cannot be read.
    """
    found: dict[Path, bytes] = {}
    waiting = list(stub.sources)
    while waiting:
        path = Path(os.path.normpath(waiting.pop()))
        if path in found:
            continue
        try:
            found[path] = path.read_bytes()
        except OSError as error:
            raise PluginError(
                Problem(rules.MANIFEST, str(path), f"cannot be read: {error.strerror}")
            ) from None
        waiting += _included(path, found[path])
    return found


def _included(path: Path, text: bytes) -> Iterator[Path]:
    for quote, raw in _INCLUDE.findall(text):
        name = os.fsdecode(raw)
        folders = [include_directory()] if quote == b"<" else [path.parent, include_directory()]
        yield from [folder / name for folder in folders if (folder / name).is_file()][:1]


def digest(stub: StubSource) -> str:
    """SHA-256 (hexadecimal) of all that decides a stub's bytes but the toolchain, whatever the folder."""
    headers = include_directory()
    contents = {}
    for path, data in files_of(stub).items():
        ours = path.is_relative_to(headers)
        name = f"<{path.relative_to(headers)}>" if ours else os.path.relpath(path, stub.sources[0].parent)
        contents[name] = hashlib.sha256(data).hexdigest()
    order = [source.name for source in stub.sources]
    made = [order, contents, compiler_flags(stub), linker_flags(stub), SCRIPT]
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()


def check_folder(folder: Path) -> tuple[str, ...]:
    """The stubs of `folder`, each with a blob that was built of what is there now; needs no compiler.

    Raises PluginError: a blob is missing (BB-P020), damaged (BB-P021), older than its sources, or of no stub
    (BB-P033); stubs.toml is wrong (BB-P027).
    """
    stubs = {stub.name: stub for stub in read_manifest(folder)}
    problems: list[Problem] = []
    for stub in stubs.values():
        try:
            if read_blob(folder, stub.name, str(folder)).sources != digest(stub):
                message = "was not built of the sources, headers and flags that are there now"
                problems.append(Problem(rules.STALE, str(folder / stub.name), message))
        except PluginError as error:
            problems += error.problems
    for path in sorted(folder.glob("*.json")):
        if path.stem not in stubs:
            problems.append(Problem(rules.STALE, str(path), f"is of no stub that {FILE} names", "remove it"))
    if problems:
        raise PluginError(problems)
    return tuple(stubs)
