"""Stubs of a plugin: loading the blobs that ship beside its code."""

from __future__ import annotations

from collections.abc import Sequence

from bootbuild.model.blob import Blob
from bootbuild.model.waist import Piece


def load_blob(package: str, name: str) -> Blob:
    """The blob `name` of the package's `stubs` folder (`name.bin` and `name.json`).

    Raises PluginError when it is missing or damaged.
    """
    from bootbuild.stubs.load import load

    return load(package, name)


def switches() -> Sequence[Piece]:
    """The core's pieces that change the width between a front and a back."""
    from bootbuild.stubs.pieces import switches as pieces

    return pieces()
