"""What `bootbuild boot` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bootbuild.model.verdict import Level


@dataclass(frozen=True)
class BootRequest:
    """One image and the profiles to boot it in; None leaves the choice to the image or the profile."""

    image: Path
    profiles: tuple[
        str, ...
    ]  #: full names ("pvh@qemu"), or targets ("pvh": all profiles whose loader takes it)
    until: str | None = None  #: symbol, address, or console:TEXT
    width: int | None = None  #: 32 or 64: of the code there
    symbols: Path | None = None  #: a System.map
    guest: str | None = None
    cmdline: bytes = b""
    modules: tuple[tuple[Path, bytes], ...] = ()  #: file, its own command line
    memory: int | None = None  #: bytes
    budget: int | None = None  #: instructions
    timeout: float | None = None  #: seconds
    level: Level | None = None  #: where each boot ends; None: behind what `until` asks for
    exact: bool = False  #: a packed kernel unpacks itself, without the host's help
