"""Stubs of a plugin: loading the blobs that ship beside its code."""

from __future__ import annotations

from bootbuild.model.blob import Blob


def load_blob(package: str, name: str) -> Blob:
    """The blob `name` of the package's `stubs` folder (`name.bin` and `name.json`).

    Raises PluginError when it is missing or damaged.
    """
    from bootbuild.stubs.load import load

    return load(package, name)
