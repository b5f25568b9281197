"""Loading the blobs that a package ships in its `stubs` folder."""

from __future__ import annotations

from importlib.resources import files

from bootbuild.errors import PluginError, Problem
from bootbuild.model.blob import Blob
from bootbuild.stubs import rules
from bootbuild.stubs.blobfile import MAX_BYTES, assemble


def load(package: str, name: str) -> Blob:
    """The blob `name` of `package` (`stubs/NAME.bin` and `stubs/NAME.json` in it).

    Raises PluginError when the package or a file is missing (BB-P020) or they do not agree (BB-P021).
    """
    where = f"{package}/stubs/{name}"
    parts = []
    for suffix in ("bin", "json"):
        try:
            with files(package).joinpath("stubs", f"{name}.{suffix}").open("rb") as file:
                parts.append(file.read(MAX_BYTES + 1))
        except (ModuleNotFoundError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            problem = Problem(rules.MISSING, f"{where}.{suffix}", f"cannot be read: {reason}")
            raise PluginError(problem) from None
    try:
        return assemble(name, parts[0], parts[1])
    except ValueError as error:
        message = str(error).replace("NAME", name)
        raise PluginError(Problem(rules.DAMAGED, where, message)) from None
