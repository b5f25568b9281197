"""The runs behind a verdict: which one a report is about."""

from __future__ import annotations

from bootbuild.model.machine import Filling
from bootbuild.model.trace import BootTrace
from bootbuild.model.verdict import ProfileVerdict


def run_with(verdict: ProfileVerdict, filling: Filling) -> BootTrace | None:
    """The first run with this filling; None if none was made."""
    return next((run for run in verdict.runs if run.filling is filling), None)


def exact_run(verdict: ProfileVerdict) -> BootTrace | None:
    """The run with the profile's exact state, which a report is about; None if the file was refused."""
    return run_with(verdict, Filling.EXACT)
