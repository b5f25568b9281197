"""What a recipe may say under `[targets.efi]`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """How the application gets what it hands on, and what it leaves of the firmware."""

    boot_services: bool = False  #: leave them alive; the kernel ends them
    embed: bool = True  #: command line and modules are in the image; false: they come with the boot option
    load_options: bool = (
        True  #: the boot option's command line counts; under Secure Boot never over an own one
    )
    initrd: bool = True  #: without modules of its own, the image asks its loader for an initrd (LoadFile2)
    sbat: Path | None = None  #: the whole table, instead of bootbuild's own
