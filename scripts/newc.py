"""A cpio archive in the newc format, as Linux's initramfs reads it, the same bytes from the same input.

Source: Linux Documentation/driver-api/early-userspace/buffer-format.rst. Device nodes need no mknod here.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """One file. `name` is relative to the root; `mode` has the type bits; `device` is (major, minor)."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


DEVICES = (
    Entry("dev", stat.S_IFDIR | 0o755),
    Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
    Entry("dev/kmsg", stat.S_IFCHR | 0o600, device=(1, 11)),
    Entry("dev/null", stat.S_IFCHR | 0o666, device=(1, 3)),
)


def folders(names: Iterable[str]) -> list[Entry]:
    """The directories that `names` lie in, each once, parents first."""
    found = {parent.as_posix() for name in names for parent in Path(name).parents} - {".", "/"}
    return [Entry(name, stat.S_IFDIR | 0o755) for name in sorted(found)]


def tree(root: Path) -> list[Entry]:
    """Everything below a folder, sorted; symbolic links stay links."""
    entries = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            entries.append(Entry(name, stat.S_IFLNK | 0o777, str(path.readlink()).encode()))
        elif stat.S_ISDIR(mode):
            entries.append(Entry(name, stat.S_IFDIR | 0o755))
        elif stat.S_ISREG(mode):
            # Only the executable bit matters to an initramfs; the rest is the builder's umask.
            entries.append(Entry(name, stat.S_IFREG | (0o755 if mode & 0o111 else 0o644), path.read_bytes()))
    return entries


def _record(number: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    fields = (number, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return head + bytes(-len(head) % 4) + entry.data + bytes(-len(entry.data) % 4)


def archive(entries: Iterable[Entry]) -> bytes:
    """The archive of `entries`, in the order given; the first of one name wins. Ends on a 512-byte block."""
    unique: dict[str, Entry] = {}
    for entry in entries:
        unique.setdefault(entry.name, entry)
    records = [_record(number, entry) for number, entry in enumerate(unique.values(), 1)]
    data = b"".join([*records, _record(0, Entry("TRAILER!!!", 0))])
    return data + bytes(-len(data) % 512)
