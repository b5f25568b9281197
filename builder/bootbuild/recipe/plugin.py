"""A plugin's distribution to start from: the shortest example under another name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from bootbuild.host import Host
from bootbuild.recipe.start import fill
from bootbuild.stubs.load import read_blob
from bootbuild.stubs.manifest import FILE as MANIFEST
from bootbuild.stubs.manifest import read_manifest
from bootbuild.stubs.sources import digest

EXAMPLE = "unikernel"  #: plugins/examples/bootbuild-unikernel, in the package as guests/plugin
PREFIX = "bootbuild-"  #: of distributions
LONGEST = 32  #: characters of a name
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_BINARY = (".bin",)


class BadName(ValueError):
    """Why a plugin cannot have this name, in a sentence."""


def plugin_name(directory: Path, host: Host) -> str:
    """The name of the plugin that is made in `directory`: the folder's own, less "bootbuild-".

    Raises BadName where it is no word, or what it would offer is there already.
    """
    name = directory.resolve().name.removeprefix(PREFIX)
    if len(name) > LONGEST or not _NAME.fullmatch(name):
        raise BadName(
            f"the folder's name is the plugin's, and {name!r} is none: at most {LONGEST} small letters and "
            "digits, the first a letter, in words joined by '-'"
        )
    if name.split("-")[0] == "bb":
        raise BadName(f"rules of a plugin {name!r} would begin with BB-, as bootbuild's own do")
    if name in host.names("guest"):
        raise BadName(f"a guest {name!r} is installed already")
    package = f"bootbuild_{_words(name, '_')}"
    if find_spec(package):
        raise BadName(f"a package {package} is installed already")
    return name


def copy_plugin(name: str, directory: Path) -> tuple[Path, ...]:
    """Write the distribution bootbuild-NAME into `directory`. Returns, and raises, as `fill` does."""
    example = resources.files("bootbuild") / "guests/plugin"
    made = {_renamed(path, name): _contents(file, name) for path, file in _files(example, "")}
    return fill(directory, made | _digests(made))


def _digests(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The JSON of each stub, with the digest of its sources under their new names; the code is the same."""
    renewed = {}
    with TemporaryDirectory() as folder:
        for path in fill(Path(folder) / "new", files):
            for stub in read_manifest(path.parent) if path.name == MANIFEST else ():
                described = path.with_name(f"{stub.name}.json")
                before = read_blob(path.parent, stub.name, stub.name).sources
                name = str(described.relative_to(Path(folder) / "new"))
                renewed[name] = described.read_bytes().replace(before.encode(), digest(stub).encode())
    return renewed


def _files(folder: Traversable, path: str) -> list[tuple[str, Traversable]]:
    found = []
    for file in folder.iterdir():
        below = f"{path}{file.name}"
        if not file.is_dir():
            found.append((below, file))
        elif file.name != "__pycache__":
            found += _files(file, f"{below}/")
    return found


def _contents(file: Traversable, name: str) -> bytes:
    data = file.read_bytes()
    return data if file.name.endswith(_BINARY) else _renamed(data.decode(), name).encode()


def _renamed(text: str, name: str) -> str:
    """The example's name, in the four ways that it is written, replaced."""
    identifier = _words(name, "_")
    text = re.sub(rf"(?<=_){EXAMPLE}|{EXAMPLE}(?=_)", identifier, text)
    text = text.replace(EXAMPLE, name).replace(EXAMPLE.upper(), name.upper())
    return text.replace(EXAMPLE.capitalize(), "".join(word.capitalize() for word in name.split("-")))


def _words(name: str, joint: str) -> str:
    return name.replace("-", joint)
