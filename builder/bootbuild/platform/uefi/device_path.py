"""Device paths: UEFI 2.10 §10."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from bootbuild.platform.uefi.call import BadPointer

END_TYPE, END_ENTIRE, END_INSTANCE = 0x7F, 0xFF, 0x01
END = bytes((END_TYPE, END_ENTIRE, 4, 0))
_MEDIA, _VENDOR, _FILE_PATH, _VOLUME_FILE, _VOLUME = 0x04, 0x03, 0x04, 0x06, 0x07


def vendor_media(guid: bytes) -> bytes:
    """A node of somebody's own kind of medium."""
    return struct.pack("<BBH", _MEDIA, _VENDOR, 4 + len(guid)) + guid


def file_path(name: str) -> bytes:
    """A node that names a file."""
    data = (name + "\0").encode("utf-16-le")
    return struct.pack("<BBH", _MEDIA, _FILE_PATH, 4 + len(data)) + data


def file_name(node: bytes) -> str | None:
    """The file that a node names; None for a node of another kind."""
    if node[:2] != bytes((_MEDIA, _FILE_PATH)):
        return None
    return node[4:].decode("utf-16-le", "replace").removesuffix("\0")


def in_volume(path: tuple[bytes, ...]) -> bool:
    """Whether a path leads into a firmware volume."""
    return any(node[0] == _MEDIA and node[1] in (_VOLUME, _VOLUME_FILE) for node in path)


def nodes(read: Callable[[int, int], bytes], at: int) -> Iterator[bytes]:
    """The nodes of a path in memory, its end as the last. Raises BadPointer for one without an end."""
    for _ in range(64):
        head = read(at, 4)
        size = int.from_bytes(head[2:4], "little")
        if size < 4:
            break
        yield read(at, size)
        if head[0] == END_TYPE and head[1] == END_ENTIRE:
            return
        at += size
    raise BadPointer(f"the device path at {at:#x} has no end")
