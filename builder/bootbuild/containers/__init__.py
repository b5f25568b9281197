"""Containers: the one place where an image is laid out and written, whatever the targets in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bootbuild.errors import Problem, RefusedError
from bootbuild.model.content import Content
from bootbuild.model.contribution import Contribution, Layout
from bootbuild.model.payload import Payload


class Container(Protocol):
    """A file format that can hold a payload with what targets add to it."""

    suffix: str  #: of an image's name

    def lay_out(self, payload: Payload, contributions: Sequence[Contribution]) -> Layout:
        """Give every contribution its place. Raises RefusedError with every reason against it."""

    def write(self, payload: Payload, layout: Layout, destination: Path) -> Content:
        """Write the image, whole or not at all, after checking what was written; the bytes that were written.

        These stay what they are, whoever writes to `destination` afterwards. Raises OutputError, and
        VerificationError when the bytes are not what the layout says.
        """


NAMES = ("elf", "bzimage", "pe")  #: what a Contribution's `container` may be


def container(name: str) -> Container:
    """The container of that name. Raises RefusedError (BB-W006) where a target asks for an unknown one."""
    if name == "elf":
        from bootbuild.containers.elf import ElfContainer

        return ElfContainer()
    if name == "bzimage":
        from bootbuild.containers.bzimage import BzimageContainer

        return BzimageContainer()
    if name == "pe":
        from bootbuild.containers.pe import PeContainer

        return PeContainer()
    from bootbuild.containers.rules import WRONG_CONTAINER

    known = ", ".join(NAMES)
    raise RefusedError(Problem(WRONG_CONTAINER, f"container {name}", f"is unknown; known: {known}"))
