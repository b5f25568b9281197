"""What a recipe may say under `[targets.efi]`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Options:
    """How the application gets what it hands on, and what it leaves of the firmware."""

    boot_services: bool = field(default=False, metadata={"meaning": "leave them alive; the kernel ends them"})
    embed: bool = field(
        default=True,
        metadata={
            "meaning": "command line and modules are in the image; if false, the boot option brings them"
        },
    )
    load_options: bool = field(
        default=True,
        metadata={
            "meaning": "the boot option's command line counts; under Secure Boot never over an own one"
        },
    )
    initrd: bool = field(
        default=True, metadata={"meaning": "without modules of its own it asks its loader for an initrd"}
    )
    relocatable: Literal["any", "low", "high"] | None = field(
        default=None,
        metadata={
            "meaning": "where its place is taken a static PIE or a Linux goes elsewhere: `any`, `low`, `high`"
        },
    )
    sbat: Path | None = field(default=None, metadata={"meaning": "a table for .sbat, instead of bootbuild's"})
