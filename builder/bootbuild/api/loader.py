"""Plugin kind `loader`: the acceptance rules of one real loader, applied without running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from bootbuild.model.content import Content
from bootbuild.model.payload import ElfImage
from bootbuild.model.rule import Rule
from bootbuild.model.verdict import Evidence

#: accept: starts it at `entry`. refuse: says no. ignore: starts it another way, or has no answer.
#: wild: starts it at an address that the image did not mean. crash: the loader itself dies,
#: or does not come to an end
Said = Literal["accept", "refuse", "ignore", "wild", "crash"]


PROTOCOLS = (
    "pvh",
    "xen-pv",
    "linux",
    "multiboot1",
    "multiboot2",
    "efi",
)  #: that are asked about; plugins add theirs


@dataclass(frozen=True)
class LoaderVerdict:
    """What that loader does with the file, asked for one protocol."""

    boot: str  #: the protocol: one of PROTOCOLS, or a plugin's own
    verdict: Said
    entry: int | None = None  #: where it jumps to: physical, but virtual for "xen-pv"; None if it does not
    rule: str = ""  #: id of the rule that decided, of its own; the finding has it
    message: str = ""  #: the loader's own words; "" where it says nothing


class Loader(Protocol):
    """One loader at one version."""

    @property
    def name(self) -> str:
        """What users call it."""

    @property
    def version(self) -> str:
        """Of the program that it models."""

    @property
    def evidence(self) -> Evidence:
        """How it is known to be true."""

    @property
    def source(self) -> str:
        """Where the facts are from."""

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Rules of its own that its verdicts name."""

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        """What the loader does with these bytes, one verdict for each protocol that is a question at all.

        Never raises, whatever the bytes are; reads headers and notes, never the bulk.
        """


def read_elf(content: Content, name: str) -> ElfImage:
    """The ELF file in `content`, as bootbuild reads it. Raises InputError, which calls it `name`."""
    from bootbuild.formats.elf_read import read_elf as read

    return read(content, name)


def decompress(name: str, packed: bytes, room: int = 0) -> Content:
    """Kernel data packed by "gzip", "bzip2", "lzma", "xz", "lzo", "lz4" or "zstd", with its size after it.

    The size is that of the last four bytes (boot.rst, payload_length; gzip's own trailer has it). `room`
    zeros follow what is unpacked. Raises ValueError for an unknown name, damaged data or another size, and
    ModuleNotFoundError for "lzo" where bootbuild's extra `lzo` is not installed.
    """
    from bootbuild.formats.bzimage import decompress as undo

    return undo(name, packed, room)
