"""The code that takes part in a build: the packages that are loaded, and the bytes of their files."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata, util
from importlib.machinery import ModuleSpec

from bootbuild.host.discovery import canonical

LARGE = 1 << 20  #: bytes from which on a file goes by its stamp: shared objects have so many, sources do not
_LIBRARY = os.path.dirname(os.__file__)  # noqa: PTH120 - names of modules' files are text, and there are many
_HOMES = (_LIBRARY, os.path.join(_LIBRARY, "lib-dynload"))  # noqa: PTH118


def loaded() -> frozenset[str]:
    """Top-level names of all modules that are loaded."""
    tops = {name.partition(".")[0] for name in tuple(sys.modules)} - {"__main__"}
    return frozenset(top for top in tops if getattr(sys.modules.get(top), "__spec__", None) is not None)


def foreign(names: Iterable[str]) -> frozenset[str]:
    """Those of the loaded modules `names` that are not Python's own."""
    return frozenset(name for name in names if not _is_pythons_own(name, util.find_spec(name)))


def _is_pythons_own(name: str, spec: ModuleSpec | None) -> bool:
    """Of its library, by the place and not by the name alone; or of no file: built in, made at run time."""
    if spec is None or not (spec.has_location or spec.submodule_search_locations):
        return True
    if spec.origin is None or name not in sys.stdlib_module_names:
        return False
    home = os.path.dirname(spec.origin)  # noqa: PTH120
    return (os.path.dirname(home) if spec.submodule_search_locations else home) in _HOMES  # noqa: PTH120


def digest(names: Iterable[str]) -> tuple[str, int]:
    """SHA-256 (hex) of all files of the packages `names`, and when the last of them changed (ns, st_ctime).

    A package is what Python imports under its name now, with all data in its folder but `__pycache__`. What
    is of Python's own library goes by its name, as long as nothing stands before it, and a file of 1 MiB or
    more by size, inode, st_mtime and st_ctime. Raises OSError when a file cannot be read, ValueError for what
    is no top-level name.
    """
    state, newest = hashlib.sha256(), 0
    for name in sorted(names):
        if not name or "." in name:
            raise ValueError(f"{name!r} is no top-level name")
        spec = util.find_spec(name)
        for shown, path in _files(spec) if spec is not None and not _is_pythons_own(name, spec) else ():
            if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - and never wait on a pipe
                continue
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123
                found = os.fstat(file.fileno())
                newest = max(newest, found.st_ctime_ns)
                large = (found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
                what = large if found.st_size >= LARGE else hashlib.sha256(file.read()).digest()
            state.update(repr((name, shown, what)).encode("utf-8", "surrogateescape"))
    return state.hexdigest(), newest


def _files(spec: ModuleSpec) -> Iterator[tuple[str, str]]:
    """Each file of a package (name in it, path), in an order that does not depend on the disk's."""
    if spec.submodule_search_locations is None:
        if spec.has_location and spec.origin is not None:
            yield "", spec.origin
        return
    for place, top in enumerate(spec.submodule_search_locations):
        for folder, folders, files in os.walk(top, onerror=_fail):
            folders[:] = sorted(name for name in folders if name != "__pycache__")
            if any(os.path.islink(os.path.join(folder, name)) for name in folders):  # noqa: PTH114, PTH118
                raise OSError(f"{folder}: what a linked folder holds is not followed")
            for name in sorted(files):
                path = os.path.join(folder, name)  # noqa: PTH118
                yield f"{place}{path[len(top) :]}", path


def _fail(error: OSError) -> None:
    raise error


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """Version of each distribution and of all that it requires, of those in turn, and so on; "" if absent.

    What is required for an extra alone does not count.
    """
    left, found = {canonical(name) for name in distributions}, dict[str, str]()
    while left:
        name = left.pop()
        try:
            one = metadata.distribution(name).metadata  # read once: `version` and `requires` each read it
        except (metadata.PackageNotFoundError, ValueError):  # what `-p` added is of no distribution
            found[name] = ""
            continue
        found[name] = str(one["Version"])
        required = (text for text in one.get_all("Requires-Dist") or () if "extra ==" not in text)
        names = (re.split(r"[^A-Za-z0-9._-]", text.strip(), maxsplit=1)[0] for text in required)
        left |= {canonical(text) for text in names} - found.keys()
    return dict(sorted(found.items()))
