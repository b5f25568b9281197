"""Loading the blobs that a package ships in its `stubs` folder."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable

from bootbuild.errors import PluginError, Problem
from bootbuild.model.blob import Blob
from bootbuild.stubs import rules
from bootbuild.stubs.blobfile import MAX_BYTES, assemble


def load(package: str, name: str) -> Blob:
    """The blob `name` of `package` (`stubs/NAME.bin` and `stubs/NAME.json` in it).

    Raises PluginError when the package or a file is missing (BB-P020) or they do not agree (BB-P021).
    """
    try:
        folder = files(package).joinpath("stubs")
    except ModuleNotFoundError as error:
        raise PluginError(
            Problem(rules.MISSING, f"{package}/stubs/{name}.bin", f"cannot be read: {error}")
        ) from None
    return read_blob(folder, name, f"{package}/stubs")


def read_blob(folder: Traversable, name: str, where: str) -> Blob:
    """The blob `name` of a folder of stubs that messages call `where`. Raises as `load` does."""
    parts = []
    for suffix in ("bin", "json"):
        try:
            with folder.joinpath(f"{name}.{suffix}").open("rb") as file:
                parts.append(file.read(MAX_BYTES + 1))
        except OSError as error:
            reason = error.strerror or str(error)
            problem = Problem(rules.MISSING, f"{where}/{name}.{suffix}", f"cannot be read: {reason}")
            raise PluginError(problem) from None
    try:
        return assemble(name, parts[0], parts[1])
    except ValueError as error:
        message = str(error).replace("NAME", name)
        raise PluginError(Problem(rules.DAMAGED, f"{where}/{name}", message)) from None
