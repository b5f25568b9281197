"""Guest `unikernel`: a kernel whose startup path takes its command line and bootbuild's own record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from bootbuild.abi.handover import Handover, boot_type_name, read_string
from bootbuild.api import (
    Finding,
    Given,
    GuestView,
    Piece,
    Rule,
    Span,
    Startup,
    Waist,
    load_blob,
    record_faults,
)

NO_RECORD = Rule(
    "UNIKERNEL-001",
    "no record, or one that says something else",
    "RSI points to the handover record, and that has what the environment gave.",
    "leave RSI as the stub found it",
)
WRONG_CMDLINE = Rule(
    "UNIKERNEL-002",
    "another command line than the environment's",
    "RDI points to the command line that the environment gave, byte for byte, or is 0 if it gave none.",
    "pass the address that the record has",
)


class Unikernel:
    """Entered by the back stub of this distribution, whoever started the image."""

    name = "unikernel"
    summary = "start(cmdline, record), in 64-bit mode"
    widths = (64,)
    entered_at: Literal["linked", "physical"] = "physical"
    rules = (NO_RECORD, WRONG_CMDLINE)

    def back(self, width: int) -> Piece | None:
        return _back(Waist(64)) if width in self.widths else None

    def ring3_back(self) -> Piece:
        return _back(Waist(64, privilege=3, owns_paging=False))

    def judge(
        self,
        view: GuestView,
        startup: Startup,
        given: Given,
        stub: Span | None,
        symbols: Mapping[str, int],
    ) -> tuple[Mapping[str, Any], Sequence[Finding]]:
        try:
            record = Handover.parse(view.read, view.get("rsi"))
        except ValueError as reason:
            return {}, [Finding(NO_RECORD.id, str(reason))]
        findings = [
            Finding(NO_RECORD.id, text) for _, text in record_faults(record, given, view, startup, stub)
        ]
        cmdline = None
        try:
            cmdline = read_string(view.read, view.get("rdi"), "RDI")
        except ValueError as reason:
            findings.append(Finding(WRONG_CMDLINE.id, str(reason)))
        else:
            if (cmdline or b"") != given.cmdline:
                text = f"RDI points to {cmdline!r}, the environment gave {given.cmdline!r}"
                findings.append(Finding(WRONG_CMDLINE.id, text))
        handover = {
            "boot_type": boot_type_name(record.boot_type),
            "cmdline": None if cmdline is None else cmdline.decode("utf-8", "replace"),
        }
        return handover, findings


def _back(takes: Waist) -> Piece:
    """The stub: it touches nothing that a hypervisor keeps to itself, so one does for both rings."""
    return Piece(load_blob("bootbuild_unikernel", "unikernel_back"), "unikernel_back", takes, leaves=None)
