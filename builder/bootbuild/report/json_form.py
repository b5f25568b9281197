"""The reports for programs: `bootbuild/build/1` and `bootbuild/boot/1`, described in docs/commands.md.

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
            "reused": record.reused,
            "images": [_image(image) for image in record.images],
        }
        for record in records
    ]
    return dump({"schema": BUILD, "bootbuild": bootbuild.__version__, "recipes": recipes})


def boot(image: str, verdicts: Sequence[ProfileVerdict], trace: bool = False) -> str:
    """JSON of `bootbuild boot`. `trace` adds the blocks and events of each exact run."""
    runs = [_run(verdict) | (_trace(exact_run(verdict)) if trace else {}) for verdict in verdicts]
    return dump({"schema": BOOT, "image": image, "runs": runs})


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
        "runs": [_proof(verdict) | _run(verdict) for verdict in image.verdicts],
    }


def _proof(verdict: ProfileVerdict) -> dict[str, Any]:
    """What a record says of how a run is known, and how far it came."""
    return {
        "version": verdict.version,
        "evidence": verdict.evidence.value,
        "reached": verdict.reached or None,
    }


def _run(verdict: ProfileVerdict) -> dict[str, Any]:
    run = exact_run(verdict)
    made = [run_with(verdict, filling) for filling in (Filling.EXACT, Filling.POISON_A, Filling.POISON_B)]
    return {
        "target": verdict.target,
        "profile": verdict.profile,
        "outcome": verdict.outcome.value,
        "stop": _stop(run.stop) if run and run.stops else None,
        "entered": hexadecimal(run.entered) if run else None,
        "level": verdict.level.value if verdict.level else None,
        "unpacked": (run.unpacked or None) if run else None,
        "placed": _placed(run),
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


def _placed(run: BootTrace | None) -> dict[str, Any] | None:
    if run is None or run.placed is None:
        return None
    return {"physical": hexadecimal(run.placed.physical), "virtual": hexadecimal(run.placed.virtual)}


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
