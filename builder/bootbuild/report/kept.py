"""A build's record, kept beside its images, so that what has not changed is neither built nor booted again.

It counts only for the same recipe, overrides, input files, bootbuild and plugins, all by their SHA-256, and
while the images that it tells of are there with the bytes that were booted.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from bootbuild.errors import BootbuildError
from bootbuild.model.content import FileContent, digest
from bootbuild.model.record import BuildRecord
from bootbuild.model.verdict import Outcome
from bootbuild.store import make_folder, write_file

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from bootbuild.host.host import Host
    from bootbuild.recipe.model import Recipe

FORMAT = 1  #: of the kept file; another one is not read


@dataclass(frozen=True)
class State:
    """All that a build's result depends on."""

    digest: str  #: SHA-256, hex
    stamps: tuple[tuple[int, ...], ...]  #: of the input files, to see whether they changed meanwhile


def state(recipe: Recipe, host: Host) -> State | None:
    """What `recipe` would be built from now; None where that cannot be told for sure.

    That is: a plugin was added with `-p`, or its distribution has no list of its files' hashes that holds (an
    editable install has none), or an input cannot be read. The build itself says what is wrong with an input.
    """
    tools = _tools(host)
    files = inputs(recipe)
    if tools is None:
        return None
    try:
        stamps = _stamps(files)
        contents = [digest(FileContent(path)) for path in files]
    except OSError:
        return None
    text = repr((FORMAT, recipe, contents, tools))
    return State(hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest(), stamps)


def load(recipe: Recipe, now: State) -> BuildRecord | None:
    """The record of a build from the same state whose images are all still there; None if there is none."""
    try:
        head, _, body = _path(recipe).read_bytes().partition(b"\n")
        if head.decode() != now.digest:
            return None
        (record,) = _adapter().validate_json(body)
        whole = all(digest(FileContent(Path(image.path))) == image.digest for image in record.images)
    except (OSError, ValueError):  # not there, damaged, or of another version
        return None
    return replace(record, reused=True) if whole else None


def save(recipe: Recipe, before: State, record: BuildRecord) -> None:
    """Keep `record`, unless an input changed while it was made or a boot was not conclusive.

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
    try:
        if _stamps(inputs(recipe)) != before.stamps:
            return
        body = _adapter().dump_json((replace(record, images=images),))
        path = _path(recipe)
        make_folder(path.parent)
        write_file(path, before.digest.encode() + b"\n" + body)
    except (OSError, ValueError, BootbuildError):
        return


def _path(recipe: Recipe) -> Path:
    """Hidden in the folder of the images, and named like them: no two recipes may write the same image."""
    image = recipe.image(recipe.targets, ".record")
    return image.parent / ".bootbuild" / image.name


def inputs(recipe: Recipe) -> tuple[Path, ...]:
    """Every file that `recipe` names: kernel, System.map, modules."""
    asked = recipe.payload
    symbols = (asked.symbols,) if asked.symbols is not None else ()
    return (asked.path, *symbols, *(module.path for module in asked.modules))


def _stamps(paths: Iterable[Path]) -> tuple[tuple[int, ...], ...]:
    found = [path.stat() for path in paths]
    return tuple((one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in found)


def _tools(host: Host) -> tuple[str, ...] | None:
    """The code that takes part: every distribution with plugins to the byte, libraries by version."""
    names = sorted({offer.distribution for offer in host.offers()})
    found = []
    try:
        for name in names:
            one = metadata.distribution(name)
            record = one.read_text("RECORD")  # a hash for each file
            if record is None or '"editable": true' in (one.read_text("direct_url.json") or ""):
                return None
            found += [
                f"{name} {one.version}",
                *sorted(line for line in record.splitlines() if ",sha256=" in line),
            ]
        for requirement in metadata.requires("bootbuild") or ():
            if "extra ==" not in requirement:
                library = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
                found.append(f"{library} {metadata.version(library)}")
    except metadata.PackageNotFoundError:  # what `-p` added is of no distribution
        return None
    return tuple(found)


def _adapter() -> TypeAdapter[tuple[BuildRecord]]:
    from pydantic import ConfigDict, TypeAdapter

    config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    return TypeAdapter(tuple[BuildRecord], config=config)
