"""Guest `multiboot2`: a 32-bit kernel that understands Multiboot2 information, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from bootbuild.abi.handover import pair_of
from bootbuild.abi.multiboot2 import Multiboot2Info, Tag, TagType
from bootbuild.api import (
    Blob,
    ElfImage,
    Finding,
    Given,
    GuestView,
    Payload,
    Piece,
    Span,
    Startup,
    Waist,
    load_blob,
)
from bootbuild_baremetal import judge
from bootbuild_baremetal.demands import header_of, settings
from bootbuild_baremetal.guest_rules import RULES
from bootbuild_baremetal.own import V2, entry_of, failure, why_none
from bootbuild_baremetal.rules import NO_ENTRY

SHOWN = 64  #: bytes of each tag in the report: all of those that are no list or text
_STEADY: dict[int, slice] = {TagType.MODULE: slice(8, None), TagType.EFI_MEMORY_MAP: slice(8 + 40)}
"""Type of tag → what of it each run has: no address of a module; of a descriptor what UEFI defines."""


class Multiboot2:
    """Entered at its Multiboot2 entry in 32-bit protected mode, whoever started the image."""

    name = "multiboot2"
    summary = "a Multiboot2 kernel: the information structure in EBX (Multiboot2 2.0, 3.3 and 3.6)"
    widths = (32,)
    entered_at: Literal["linked", "physical"] = "physical"
    rules = RULES

    def back(self, width: int) -> Piece | None:
        if width not in self.widths:
            return None
        return Piece(
            load_blob("bootbuild_baremetal", "multiboot2_back"), "bb_multiboot2_back", Waist(32), None
        )

    def startup_of(self, elf: ElfImage) -> int | None:
        """The entry address tag of its header, else e_entry (Multiboot2, 3.1.6); None without a header.

        Raises InputError for one that no loader would find (BB-L304 to BB-L306), and as `header_of` does.
        """
        header = header_of(elf)
        if header is not None:
            return entry_of(elf, header)
        problem = why_none(elf, V2)
        if problem.rule is NO_ENTRY:
            return None
        raise failure([problem])

    def settings(self, payload: Payload) -> tuple[Blob, ...]:
        """What the back is told of the kernel's header. Raises as `demands.settings` does."""
        return (settings(payload),)

    def judge(
        self,
        view: GuestView,
        startup: Startup,
        given: Given,
        stub: Span | None,
        symbols: Mapping[str, int],
    ) -> tuple[Mapping[str, Any], Sequence[Finding]]:
        findings = [] if stub is None else judge.state(view, startup, stub)
        try:
            info = judge.information(view)
        except ValueError as reason:
            return {}, [*findings, Finding("BB-H040", str(reason))]
        findings += judge.gifts(info, given, view, stub is not None)
        report = _report(view.get("ebx"), info)
        if stub is not None:
            findings += judge.others(info, given, startup, view)
            record, wrong = judge.pair(info, given, view, startup, stub)
            findings += wrong
            report["record"] = None if record is None else pair_of(record)
        return report, findings


def _shown(tag: Tag) -> str:
    """A tag for the report, which runs are compared by."""
    return tag.body[_STEADY.get(tag.type, slice(None))][:SHOWN].hex()


def _report(address: int, info: Multiboot2Info) -> dict[str, Any]:
    return {
        "information": hex(address),
        "tags": [{"type": tag.type, "body": _shown(tag)} for tag in info.tags],
        "boot_loader_name": None if info.loader_name is None else info.loader_name.decode("utf-8", "replace"),
        "cmdline": None if info.cmdline is None else info.cmdline.decode("utf-8", "replace"),
        "modules": [{"address": hex(m.start), "size": m.end - m.start} for m in info.modules],
        "memory_map": [
            {"address": hex(e.address), "size": hex(e.size), "type": e.type} for e in info.memory_map
        ],
    }
