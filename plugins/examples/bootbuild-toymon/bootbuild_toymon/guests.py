"""Guest `toyos`: kernels whose startup path takes a command line and a way to print, in registers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from bootbuild.abi.handover import read_string
from bootbuild.api import Finding, Given, GuestView, Piece, Rule, Span, Startup, Waist, load_blob

MAGIC = 0x54594F53

NO_MAGIC = Rule(
    "TOYOS-001",
    "no magic at the startup path of toyos",
    "EAX tells the kernel that it was entered by its own protocol (README.md); it stops otherwise.",
    "enter the kernel with EAX = 0x54594f53",
)
WRONG_CMDLINE = Rule(
    "TOYOS-002",
    "another command line than the environment's",
    "EBX points to the command line that the environment gave, byte for byte, or is 0 if it gave none.",
    "pass the address that the record has",
)
WRONG_POST_STUB = Rule(
    "TOYOS-003",
    "post stub outside the stub range",
    "EDX is called to print. Only what lies in the stub range stays there while the kernel runs.",
    "pass the address that the record has",
)


class ToyOs:
    """Entered by a back stub of this distribution's own, which takes the record apart."""

    name = "toyos"
    summary = "toyos, a kernel that does not exist"
    widths = (32,)
    entered_at: Literal["linked", "physical"] = "physical"
    rules = (NO_MAGIC, WRONG_CMDLINE, WRONG_POST_STUB)

    def back(self, width: int) -> Piece | None:
        if width not in self.widths:
            return None
        return Piece(load_blob("bootbuild_toymon", "toyos_back"), "toyos_back", takes=Waist(32), leaves=None)

    def judge(
        self,
        view: GuestView,
        startup: Startup,
        given: Given,
        stub: Span | None,
        symbols: Mapping[str, int],
    ) -> tuple[Mapping[str, Any], Sequence[Finding]]:
        magic, post_stub = view.get("eax"), view.get("edx")
        findings = []
        if magic != MAGIC:
            findings.append(Finding(NO_MAGIC.id, f"EAX is {magic:#x}, not {MAGIC:#x}"))
        try:
            cmdline = read_string(view.read, view.get("ebx"), "EBX")
        except ValueError as reason:
            cmdline = None
            findings.append(Finding(WRONG_CMDLINE.id, str(reason)))
        else:
            if (cmdline or b"") != given.cmdline:
                text = f"EBX points to {cmdline!r}, the environment gave {given.cmdline!r}"
                findings.append(Finding(WRONG_CMDLINE.id, text))
        if stub is not None and post_stub not in stub:
            findings.append(Finding(WRONG_POST_STUB.id, f"EDX is {post_stub:#x}, the stub range is {stub}"))
        handover = {
            "cmdline": None if cmdline is None else cmdline.decode("utf-8", "replace"),
            "post_stub": hex(post_stub),
        }
        return handover, findings
