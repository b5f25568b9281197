"""Guest `freebsd`: entered at btext with the loader's metadata, and judged by them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from bootbuild.api import Finding, Given, GuestView, Piece, Rule, Span, Startup, Waist, load_blob
from bootbuild_freebsd import judge, rules
from bootbuild_freebsd.metadata import ADDR, NAME, SIZE, TYPE, File, Preloaded, read_preloaded

KERNEL_TYPES = ("elf kernel", "elf64 kernel")  #: which native_parse_preload_data looks for, in this order


class FreeBsd:
    """FreeBSD/amd64, started as by its own loader.

    In ring 3 it cannot be: hammer_time loads tables and registers that belong to the hypervisor there.
    """

    name = "freebsd"
    summary = "FreeBSD/amd64: the loader's metadata (sys/sys/linker.h) at btext"
    widths = (64,)
    entered_at: Literal["linked", "physical"] = "linked"
    rules = rules.RULES

    def back(self, width: int) -> Piece | None:
        if width not in self.widths:
            return None
        return Piece(load_blob("bootbuild_freebsd", "freebsd_back"), "freebsd_back", Waist(64), leaves=None)

    def judge(
        self,
        view: GuestView,
        startup: Startup,
        given: Given,
        stub: Span | None,
        symbols: Mapping[str, int],
    ) -> tuple[Mapping[str, Any], Sequence[Finding]]:
        findings = _findings(rules.MACHINE, judge.machine(view, startup, stub))
        try:
            _, modulep, kernend = struct.unpack("<III", view.read(view.get("rsp"), 12))
            preloaded = read_preloaded(view.read, modulep)
            own = _kernel(preloaded)
        except LookupError:
            return {}, [*findings, Finding(rules.NO_METADATA.id, "the stack is not mapped")]
        except ValueError as reason:
            return {}, [*findings, Finding(rules.NO_METADATA.id, str(reason))]
        environment, end, wrong = judge.variables(own, view, given)
        ends = [preloaded.end, end, *judge.file_ends(preloaded), 0 if stub is None else stub.end]
        findings += [
            *_findings(rules.KERNEL, judge.kernel(own, view, startup, stub)),
            *_findings(rules.MEMORY, judge.memory(own, view, given)),
            *_findings(rules.ENVIRONMENT, wrong),
            *_findings(rules.FILES, judge.files(preloaded, own, view, given)),
            *_findings(rules.KEPT, judge.kept(own, ends, (modulep, kernend), given)),
            *_findings(rules.FIRMWARE, judge.firmware(own, given)),
            *_findings(rules.SCREEN, judge.screen(own, given)),
        ]
        handover = {
            "modulep": hex(modulep),
            "kernend": hex(kernend),
            "environment": environment,
            "files": [_described(file) for file in preloaded.files],
        }
        return handover, findings


def _findings(rule: Rule, texts: Iterable[str]) -> list[Finding]:
    return [Finding(rule.id, text) for text in texts]


def _kernel(preloaded: Preloaded) -> File:
    """The file that the kernel takes for itself. Raises ValueError if there is none."""
    for kind in KERNEL_TYPES:
        for file in preloaded.files:
            if file.text(TYPE) == kind:
                return file
    raise ValueError(f"no file is of type {' or '.join(map(repr, KERNEL_TYPES))}")


def _described(file: File) -> dict[str, Any]:
    return {
        "name": file.text(NAME),
        "type": file.text(TYPE),
        "address": hex(file.number(ADDR) or 0),
        "size": file.number(SIZE),
    }
