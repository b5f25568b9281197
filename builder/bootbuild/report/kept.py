"""A build's record, kept beside its images, so that what has not changed is neither built nor booted again.

It counts only for the same recipe, overrides, input files, Python, bootbuild, plugins and libraries, all by
their bytes, and while the images that it tells of are there with the bytes that were booted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bootbuild.errors import BootbuildError
from bootbuild.model.content import CutShort, FileContent, digest
from bootbuild.model.record import BuildRecord
from bootbuild.model.verdict import Outcome
from bootbuild.report import code
from bootbuild.store import make_folder, write_file

if TYPE_CHECKING:
    from bootbuild.host.host import Host
    from bootbuild.recipe.model import Recipe

FORMAT = 3  #: of the kept file; another one is not read
_BEGAN = time.time_ns()  #: since the epoch: this is loaded for the first build of a process
_TICK = 20_000_000  #: ns by which the clock of a file system may be behind the process's


class State(NamedTuple):
    """All that a build's result depends on, but for the code: what of it takes part, its end shows."""

    digest: str  #: SHA-256, hex
    stamps: tuple[tuple[int, ...], ...]  #: of the input files, to see whether they changed meanwhile


def state(recipe: Recipe, host: Host) -> State | None:
    """What `recipe` would be built from now; None where an input cannot be read, which the build will say.

    None, too, with a plugin of the program's own (`-p __main__:…`), which no import finds again.
    """
    offers = host.offers()
    if any(offer.value.startswith("__main__:") for offer in offers):
        return None
    tools = code.versions({"bootbuild", *(offer.distribution for offer in offers)})
    files = inputs(recipe)
    try:
        stamps = _stamps(files)
        contents = [digest(FileContent(path)) for path in files]
    except (OSError, CutShort):
        return None
    asked = [*_leaves(dataclasses.replace(recipe, places={}))]  # where a key stands changes nothing
    epoch = os.environ.get("SOURCE_DATE_EPOCH")  # a PE file's time
    text = repr((FORMAT, asked, contents, offers, tools, epoch, sys.implementation.name, sys.version))
    return State(hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest(), stamps)


def load(recipe: Recipe, now: State) -> BuildRecord | None:
    """The record of a build from the same state by the same code whose images are all there; None without."""
    path = _path(recipe)
    try:
        _stamps([path])  # never waits on a pipe
        head, names, made_by, body = path.read_bytes().split(b"\n", 3)
        if head.decode() != now.digest:
            return None
        took_part = [str(name) for name in json.loads(names)]
        if not code.foreign(code.loaded()) <= {*took_part} or code.digest(took_part)[0] != made_by.decode():
            return None
        record = _decoded(body)
        _stamps(Path(image.path) for image in record.images)
        whole = all(digest(FileContent(Path(image.path))) == image.digest for image in record.images)
    except (ImportError, OSError, RecursionError, TypeError, ValueError, CutShort):
        # not there, damaged, or of another version
        return None
    return replace(record, reused=True) if whole else None


def save(recipe: Recipe, before: State, record: BuildRecord) -> None:
    """Keep `record`, unless an input or the code changed while it was made or a boot was not conclusive.

    A process runs the code that it loaded for its first build: what changed since is not what ran.

    That it cannot be kept is no failure of the build. The blocks of each run are left out: no report of a
    build shows them.
    """
    outcomes = {verdict.outcome for image in record.images for verdict in image.verdicts}
    if Outcome.INCONCLUSIVE in outcomes:
        return
    images = tuple(
        replace(
            image,
            verdicts=tuple(
                replace(verdict, runs=tuple(replace(run, blocks=()) for run in verdict.runs))
                for verdict in image.verdicts
            ),
        )
        for image in record.images
    )
    took_part = sorted(code.loaded())
    try:
        from msgspec.json import encode

        made_by, changed = code.digest(took_part)
        if changed >= _BEGAN - _TICK or _stamps(inputs(recipe)) != before.stamps:
            return
        body = encode(replace(record, images=images))
        path = _path(recipe)
        make_folder(path.parent)
        lines = (before.digest.encode(), json.dumps(took_part).encode(), made_by.encode(), body)
        write_file(path, b"\n".join(lines))
    except (ImportError, OSError, RecursionError, TypeError, ValueError, BootbuildError):
        return


def _path(recipe: Recipe) -> Path:
    """Hidden in the folder of the images, and named like them: no two recipes may write the same image."""
    image = recipe.image(recipe.targets, ".record")
    return image.parent / ".bootbuild" / image.name


def inputs(recipe: Recipe) -> tuple[Path, ...]:
    """Every file that `recipe` names: kernel, System.map, modules, the paths among a target's options."""
    asked = recipe.payload
    symbols = (asked.symbols,) if asked.symbols is not None else ()
    options = (leaf for target in recipe.targets.values() for leaf in _leaves(target.options))
    paths = (leaf for leaf in options if isinstance(leaf, Path))
    return (asked.path, *symbols, *(module.path for module in asked.modules), *paths)


def _leaves(value: object) -> Iterator[object]:
    """All that a value is made of: of dataclasses the fields, those too that their repr leaves out."""
    if isinstance(value, Mapping):
        parts: list[object] = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        parts = [*value]
    elif dataclasses.is_dataclass(value):
        parts = [getattr(value, field.name) for field in dataclasses.fields(value)]
    else:
        yield value
        return
    yield type(value).__qualname__, len(parts)
    for part in parts:
        yield from _leaves(part)


def _stamps(paths: Iterable[Path]) -> tuple[tuple[int, ...], ...]:
    """Raises OSError for what is no regular file, which has no content that could be compared."""
    found = [path.stat() for path in paths]
    if not all(stat.S_ISREG(one.st_mode) for one in found):
        raise OSError("not a regular file")
    return tuple((one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in found)


def _decoded(body: bytes) -> BuildRecord:
    """Raises ValueError for what is no record."""
    from msgspec import DecodeError
    from msgspec.json import decode

    try:
        return decode(body, type=BuildRecord)
    except DecodeError as error:  # a ValueError since 0.20 only
        raise ValueError(str(error)) from None
