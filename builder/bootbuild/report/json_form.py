"""The reports for programs: `bootbuild/build/1` and `bootbuild/boot/1`, described in docs/cli.md.

Addresses are hex strings, absent is null; keys stay in the order in which they are documented.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import bootbuild
from bootbuild.model.machine import Filling
from bootbuild.model.record import BuildRecord, ImageRecord
from bootbuild.model.trace import BootTrace, Stop
from bootbuild.model.verdict import ProfileVerdict
from bootbuild.report.runs import exact_run, run_with
from bootbuild.report.text import console_text

BUILD = "bootbuild/build/1"
BOOT = "bootbuild/boot/1"


def build(records: Sequence[BuildRecord]) -> str:
    """JSON of all recipes of one command."""
    recipes = [
        {
            "recipe": record.recipe,
            "payload": {
                "path": record.payload,
                "format": record.payload_format,
                "sha256": record.payload_digest,
                "changes": list(record.payload_changes),
            },
            "plugins": [{"distribution": name, "version": version} for name, version in record.plugins],
            "seconds": round(record.seconds, 3),
            "images": [_image(image) for image in record.images],
        }
        for record in records
    ]
    return dump({"schema": BUILD, "bootbuild": bootbuild.__version__, "recipes": recipes})


def boot(image: str, verdicts: Sequence[ProfileVerdict], trace: bool = False) -> str:
    """JSON of `bootbuild boot`. `trace` adds the blocks and events of each exact run."""
    return dump({"schema": BOOT, "image": image, "runs": [_run(verdict, trace) for verdict in verdicts]})


def hexadecimal(value: int | None) -> str | None:
    """An address."""
    return None if value is None else f"{value:#x}"


def dump(value: Any) -> str:
    """JSON as it is written: indented, ASCII (file names need not be UTF-8), one newline at the end."""
    return json.dumps(value, indent=2) + "\n"


def _image(image: ImageRecord) -> dict[str, Any]:
    return {
        "path": image.path,
        "targets": list(image.targets),
        "size": image.size,
        "sha256": image.digest,
        "entries": {target: hexadecimal(entry) for target, entry in image.entries.items()},
        "repairs": list(image.repairs),
        "outcome": image.outcome.value,
        "runs": [_run(verdict) for verdict in image.verdicts],
    }


def _run(verdict: ProfileVerdict, trace: bool = False) -> dict[str, Any]:
    run = exact_run(verdict)
    made = [run_with(verdict, filling) for filling in (Filling.EXACT, Filling.POISON_A, Filling.POISON_B)]
    form = {
        "target": verdict.target,
        "profile": verdict.profile,
        "version": verdict.version,
        "evidence": verdict.evidence.value,
        "outcome": verdict.outcome.value,
        "reached": verdict.reached or None,
        "stop": _stop(run.stop) if run and run.stops else None,
        "entered": hexadecimal(run.entered) if run else None,
        "instructions": run.instructions if run else None,
        "seconds": round(run.seconds, 3) if run else None,
        "console": console_text(run) if run else None,
        "handover": dict(verdict.handover) if verdict.handover is not None else None,
        "findings": [
            {"rule": f.rule, "message": f.message, "remedy": f.remedy or None, "lines": list(f.lines)}
            for f in verdict.findings
        ],
        "traces": [one.digest if one else None for one in made],
    }
    return {**form, **_trace(run)} if trace else form


def _stop(stop: Stop) -> dict[str, Any]:
    return {
        "kind": stop.kind.value,
        "ip": hexadecimal(stop.ip),
        "detail": stop.detail,
        "checkpoint": stop.checkpoint or None,
        "rule": stop.rule or None,
        "address": hexadecimal(stop.address),
        "physical": hexadecimal(stop.physical),
    }


def _trace(run: BootTrace | None) -> dict[str, Any]:
    if run is None:
        return {"blocks": None, "startup_blocks": None, "events": None}
    return {
        "blocks": [[hexadecimal(address), size] for address, size in run.blocks],
        "startup_blocks": run.startup_blocks,
        "events": [
            {"kind": e.kind, "ip": hexadecimal(e.ip), "detail": e.detail, "rule": e.rule or None}
            for e in run.events
        ],
    }
