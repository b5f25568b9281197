"""hello as the bzImage that target linux makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from bootbuild.boot.subject import find_startup
from bootbuild.containers import container
from bootbuild.formats.payload import open_payload
from bootbuild.guests.native import Native
from bootbuild.model.payload import Payload
from bootbuild_baremetal.linux_options import LinuxOptions
from bootbuild_baremetal.linux_target import Linux

Kind = tuple[int, Literal["none", "lz4"]]  #: the width of the kernel, and how it is compressed


def hello_bzimage(sources: dict[int, Path], kind: Kind, folder: Path) -> Path:
    """The bzImage, in `folder`, of the one of `sources` that has this width."""
    width, compress = kind
    source, guest = sources[width], Native()
    opened = open_payload(source)
    startup = find_startup(opened.elf, f"startup_{width}", width, guest)
    payload = Payload(opened.elf, str(source), opened.format, opened.digest, guest.name, startup)
    made = Linux().contribute(payload, guest, LinuxOptions(compress=compress))
    holder = container(made.container)
    path = folder / f"hello{width}-{compress}.bzimage"
    holder.write(payload, holder.lay_out(payload, [made]), path)
    return path
