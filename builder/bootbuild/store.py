"""Output files, whole or not at all."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bootbuild.errors import OutputError, Problem
from bootbuild.model.rule import Rule

FOLDER = Rule(
    "BB-W090",
    "Output folder missing",
    "An output file is first written beside its final place, then renamed: the folder must be there.",
    "create the folder, or name another with -o",
)
NOT_A_FILE = Rule(
    "BB-W091",
    "Output path is something other than a file",
    "Renaming over a directory fails, and over a device or pipe would destroy it.",
    "name another path with -o",
)
UNWRITABLE = Rule(
    "BB-W092",
    "Output cannot be written",
    "The folder must allow new files, and the file system must have room for a second copy of the file "
    "while it is written.",
    "free some space, or name another folder with -o",
)

RULES = (FOLDER, NOT_A_FILE, UNWRITABLE)

PREFIX, SUFFIX = ".bootbuild-", ".partial"  #: of a file that is being written
MODE = 0o644  #: of every output, whatever the umask: images are data that other tools read


class Output:
    """A file that is being written; it has no name yet that anyone should use."""

    def __init__(self, destination: Path, path: Path, fd: int) -> None:
        self.destination = destination
        self.path = path  #: the temporary file, to be checked before it gets its name
        self._fd = fd

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`. Raises OutputError (BB-W092)."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise _failed(self.destination, error) from None


def _failed(destination: Path, error: OSError) -> OutputError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return OutputError(Problem(FOLDER, str(destination), f"no folder {destination.parent}"))
    text = (error.strerror or str(error)).lower()
    return OutputError(Problem(UNWRITABLE, str(destination), text))


def make_folder(path: Path) -> None:
    """Make an output folder and those above it, if missing. Raises OutputError (BB-W091, BB-W092)."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise OutputError(Problem(NOT_A_FILE, str(path), "is no folder")) from None
    except OSError as error:
        text = (error.strerror or str(error)).lower()
        raise OutputError(Problem(UNWRITABLE, str(path), text)) from None


@contextmanager
def writing(destination: Path) -> Iterator[Output]:
    """Write a file that appears under its name complete, durable and with mode 0644, or not at all.

    Whatever ends the block early, KeyboardInterrupt too, leaves the old file, if there was one, and no
    other; what a process that was killed has left there is removed by the next one that writes into the
    folder. A symbolic link is followed. Raises OutputError (BB-W09n).
    """
    temporary: Path | None = None
    fd = -1
    try:
        try:
            target = Path(os.path.realpath(destination))
            if target.exists() and not stat.S_ISREG(target.stat().st_mode):
                what = "a directory" if target.is_dir() else "not a regular file"
                raise OutputError(Problem(NOT_A_FILE, str(destination), what))
            _sweep(target.parent)
            fd, temporary = _create(target.parent)
        except OSError as error:
            raise _failed(destination, error) from None
        yield Output(destination, temporary, fd)
        try:
            os.fchmod(fd, MODE)
            os.fsync(fd)
            temporary.replace(target)
            temporary = None
            _sync_folder(target.parent)
        except OSError as error:
            raise _failed(destination, error) from None
    finally:
        if fd >= 0:
            os.close(fd)
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _create(folder: Path) -> tuple[int, Path]:
    """A new file with a name of its own, locked as long as it is open, which tells that it is in use."""
    while True:
        fd, name = tempfile.mkstemp(prefix=PREFIX, suffix=SUFFIX, dir=folder)
        _lock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return fd, Path(name)
        os.close(fd)  # another process took it for a leftover before it was locked


def _sweep(folder: Path) -> None:
    """Remove the unfinished files of processes that are no more."""
    for path in folder.glob(f"{PREFIX}*{SUFFIX}"):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:  # gone, or not ours to read
            continue
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode) and _lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB):
                path.unlink(missing_ok=True)
        except OSError:
            pass  # not ours to remove; it does no harm
        finally:
            os.close(fd)


def _lock(fd: int, how: int) -> bool:
    """Whether the file is now this process's. Where a file system knows no locks, none ever is."""
    try:
        fcntl.flock(fd, how)
    except OSError:
        return False
    return True


def _sync_folder(path: Path) -> None:
    """Make the rename itself durable. Some file systems have no fsync of folders: the file is safe there."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError:
        pass
    finally:
        os.close(fd)


def write_file(destination: Path, data: bytes) -> None:
    """Write a whole small file (a record, a report). Raises OutputError (BB-W09n)."""
    with writing(destination) as output:
        output.write(data)
