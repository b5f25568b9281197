"""A recipe that was found to be right: paths resolved, names known, defaults still open (None)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bootbuild.model.verdict import Level

FORMATS = (".elf", ".bin", ".img", ".efi", ".gz", ".raw")  #: endings of kernels' names


@dataclass(frozen=True)
class ModuleRecipe:
    """A file that is loaded beside the kernel, with its own command line."""

    path: Path
    cmdline: str = ""


@dataclass(frozen=True)
class PayloadRecipe:
    """The kernel, and what is handed to it."""

    path: Path
    guest: str | None  #: handover protocol, a plugin's name; None: as the kernel is, linux or else native
    startup: str | int | None  #: symbol or linked virtual address of the shared startup path
    width: int | None  #: 32 or 64: mode of the code at `startup`; None: as the ELF class says
    symbols: Path | None  #: a System.map, for a payload without symbols
    cmdline: str
    modules: tuple[ModuleRecipe, ...]
    load: int | None = None  #: physical: where a raw kernel, or a static PIE, is put
    entry: int | None = None  #: physical: of a raw kernel
    bss: int | None = None  #: bytes: zeros behind a raw kernel
    paddr_offset: int | None = None  #: linked less load address, where the file's p_paddr is wrong
    elf_class: int | None = None  #: 32 or 64: class of the images; None: the payload's
    repair: bool = True  #: rewrite notes on which loaders disagree


@dataclass(frozen=True)
class TargetRecipe:
    """One way of being started."""

    name: str
    entry: Literal["insert", "native", "chain"]
    profiles: tuple[str, ...] | None  #: full names ("pvh@qemu"); None: all that are installed
    startup: str | int | None  #: where this target joins; None: as the payload says
    options: object | None  #: an instance of the target plugin's own `options` dataclass


@dataclass(frozen=True)
class OutputRecipe:
    """Where images go, and which targets share one."""

    directory: Path
    combine: tuple[str, ...]
    name: str | None = None  #: of the images, before target and suffix; None: the payload's


@dataclass(frozen=True)
class ExpectRecipe:
    """What an image must do after its handover to count as booted."""

    console: str | None  #: text that must appear on a console
    reached: str | int | None = None  #: symbol or address behind the startup path


@dataclass(frozen=True)
class BootRecipe:
    """The machine that images are tried on; None: the profile chooses."""

    memory: int | None  #: bytes
    budget: int | None  #: instructions
    timeout: float | None  #: seconds of wall time
    level: Level | None = None  #: where a boot ends; None: at what is expected
    exact: bool = False  #: a packed kernel unpacks itself, without the host's help


@dataclass(frozen=True)
class Recipe:
    """Everything that one recipe file and the command line ask for."""

    path: Path
    payload: PayloadRecipe
    targets: Mapping[str, TargetRecipe]  #: in the order of the file
    output: OutputRecipe
    expect: ExpectRecipe
    boot: BootRecipe
    places: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Where each key stands that may name a place in the kernel: `payload.startup` → `FILE:LINE: …`."""

    def image(self, targets: Iterable[str], suffix: str = "") -> Path:
        """The image of these targets. Of the payload's name only a format is cut off: versions have dots."""
        path = self.payload.path
        name = self.output.name or (path.stem if path.suffix.lower() in FORMATS else path.name)
        return self.output.directory / f"{name}-{'+'.join(targets)}{suffix}"
