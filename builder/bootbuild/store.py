"""Output files, whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator
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
AN_INPUT = Rule(
    "BB-W093",
    "Output path is that of an input",
    "An image replaces what has its name, and a symbolic link is followed; the recipe, kernel, modules and "
    "System.map are only ever read.",
    "name another folder with -o",
)

RULES = (FOLDER, NOT_A_FILE, UNWRITABLE, AN_INPUT)

PREFIX = ".bootbuild-"  #: of names that a file has before its own
_ALLOWED = "name a folder with -o in which you may make files"
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


_REMEDIES = {
    errno.EACCES: _ALLOWED,
    errno.ENOENT: _ALLOWED,  # of a folder: as /proc says it, in which nobody can make one
    errno.EPERM: _ALLOWED,
    errno.EROFS: _ALLOWED,
    errno.ENAMETOOLONG: "give a shorter name (`output.name` in the recipe) or folder",
}


def _failed(destination: Path, error: OSError) -> OutputError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return OutputError(Problem(FOLDER, str(destination), f"no folder {destination.parent}"))
    return _unwritable(destination, error)


def _unwritable(path: Path, error: OSError) -> OutputError:
    text = (error.strerror or str(error)).lower()
    return OutputError(Problem(UNWRITABLE, str(path), text, _REMEDIES.get(error.errno or 0, "")))


def make_folder(path: Path) -> None:
    """Make an output folder and those above it, if missing. Raises OutputError (BB-W091, BB-W092)."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise OutputError(Problem(NOT_A_FILE, str(path), "is no folder")) from None
    except OSError as error:
        raise _unwritable(path, error) from None


def spare(inputs: Iterable[Path], destination: Path) -> None:
    """Raises OutputError: BB-W093 when writing `destination` would replace one of `inputs`, BB-W092."""
    try:
        same = [
            path for path in inputs if path.exists() and destination.exists() and path.samefile(destination)
        ]
    except OSError as error:
        raise _failed(destination, error) from None
    if same:
        raise OutputError(Problem(AN_INPUT, str(destination), f"is the input {same[0]}"))


@contextmanager
def writing(destination: Path) -> Iterator[Output]:
    """Write a file that appears under its name complete, durable and with mode 0644, or not at all.

    Whatever ends the block early, SIGKILL too, leaves the old file, if there was one, and no other: until it
    is complete the file has no name, where the file system can do that. A symbolic link is followed. Raises
    OutputError (BB-W09n).
    """
    temporary: Path | None = None
    fd = -1
    try:
        try:
            target = Path(os.path.realpath(destination))
            if target.exists() and not stat.S_ISREG(target.stat().st_mode):
                what = "a directory" if target.is_dir() else "not a regular file"
                raise OutputError(Problem(NOT_A_FILE, str(destination), what))
            fd = _nameless(target.parent)
            if fd < 0:
                fd, name = tempfile.mkstemp(prefix=PREFIX, dir=target.parent)
                temporary = Path(name)
        except OSError as error:
            raise _failed(destination, error) from None
        yield Output(destination, temporary or Path(f"/proc/self/fd/{fd}"), fd)
        try:
            os.fchmod(fd, MODE)
            os.fsync(fd)
            temporary = temporary or _named(fd, target.parent)
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


def _nameless(folder: Path) -> int:
    """A new file in the file system of a folder that no process can see; -1 where that cannot be had."""
    flag = getattr(os, "O_TMPFILE", 0)
    if not flag or not Path("/proc/self/fd").is_dir():
        return -1
    try:
        return os.open(folder, flag | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}:
            return -1
        raise


def _named(fd: int, folder: Path) -> Path:
    """A name for a complete file, which can then be renamed over another: link(2) never replaces one."""
    name = f"{PREFIX}{secrets.token_hex(16)}"
    where = os.open(folder, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY)
    try:
        # with a directory's descriptor Python calls linkat(2), which follows; without one it does not
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=where, follow_symlinks=True)
    finally:
        os.close(where)
    return folder / name


def _sync_folder(path: Path) -> None:
    """Make the rename itself durable, where the folder can be opened and its file system can do that.

    The file has its name by now: that it may lose it when power fails is no failure of the write. A folder
    that may be written but not listed (mode 0333, a drop box) cannot be opened.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
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
