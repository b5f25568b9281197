"""Boots of hello as a bzImage by a loader that puts everything wherever it is told."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from bootbuild.boot.prove import prove
from bootbuild.boot.subject import request_subject
from bootbuild.host import Host
from bootbuild.model.request import BootRequest
from bootbuild.model.verdict import Outcome, ProfileVerdict
from bootbuild.pipeline import BUDGET, TIMEOUT
from hello_bzimage import Kind
from linux_anywhere import Anywhere, Places

CMDLINE = b"one two"
KINDS: list[Kind] = [(64, "none"), (64, "lz4"), (32, "none"), (32, "lz4")]


@dataclass(frozen=True)
class Images:
    """hello as a bzImage, and the initrd."""

    paths: dict[Kind, Path]
    initrd: Path

    @property
    def place(self) -> int:
        """For which address the protected-mode code is linked: the first word of struct bzimage."""
        raw = self.paths[64, "none"].read_bytes()
        (place,) = struct.unpack_from("<I", raw, (raw[0x1F1] + 1) * 512 + 0x40)
        return int(place)


def boot(images: Images, places: Places, kind: Kind = (64, "none"), **given: object) -> ProfileVerdict:
    """`given`: what of the environment's gifts is otherwise than `Anywhere` has it."""
    modules = ((images.initrd, b""),)
    request = BootRequest(images.paths[kind], ("linux",), cmdline=CMDLINE, modules=modules)
    subject = request_subject(request, Host.discover(), BUDGET, TIMEOUT)
    return prove(subject, Anywhere(places, **given))


def check(verdict: ProfileVerdict) -> None:
    assert verdict.outcome is Outcome.BOOTED, verdict.findings
