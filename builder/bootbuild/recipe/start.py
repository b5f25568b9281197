"""The recipes that bootbuild ships to start from, copied to where the user wants them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from bootbuild.errors import OutputError, Problem
from bootbuild.recipe import rules

SHIPPED = (".elf", ".toml", ".txt")  #: what a user needs; sources and build rules stay in the package


def copy_example(name: str, directory: Path) -> tuple[Path, ...]:
    """Copy the example `name` into `directory`, which must be empty or not there.

    Returns the new files, sorted. Raises OutputError, and then has left nothing.
    """
    example = resources.files("bootbuild") / "guests" / name
    files = sorted((file.name, file) for file in example.iterdir() if file.name.endswith(SHIPPED))
    new = [directory / file_name for file_name, _ in files]
    try:
        folders = [folder for folder in (directory, *directory.parents) if not folder.exists()]
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise OutputError(Problem(rules.NOT_EMPTY, str(directory), "the folder is not empty"))
        with _whole(new, folders):
            for path, (_, file) in zip(new, files, strict=True):
                path.write_bytes(file.read_bytes())
    except OSError as error:
        message = error.strerror or str(error)
        raise OutputError(
            Problem(rules.NOT_EMPTY, str(error.filename or directory), message.lower())
        ) from None
    return tuple(new)


@contextmanager
def _whole(files: Iterable[Path], folders: Iterable[Path]) -> Iterator[None]:
    """Remove `files`, then `folders`, the inner first, where not all of them can be made."""
    try:
        yield
    except BaseException:
        for path in files:
            path.unlink(missing_ok=True)
        for folder in folders:
            folder.rmdir()
        raise
