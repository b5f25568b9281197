"""The check before the first run: this is the engine that the machine was made for."""

from __future__ import annotations

import functools

from bootbuild.machine.engine import calibrate


@functools.cache
def self_test() -> None:
    """Calibrate the engine and run the known cases, once per process. Raises MachineError (BB-B090)."""
    calibrate()
