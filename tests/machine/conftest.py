"""Machines that are closed after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from bootbuild.machine.run import Machine
from machine_guests import Guest, scene


@pytest.fixture
def machine() -> Iterator[Callable[[Guest | bytes], Machine]]:
    """A machine made of a guest, or of bare code in 32-bit protected mode."""
    made: list[Machine] = []

    def make(guest: Guest | bytes) -> Machine:
        made.append(Machine(scene(guest if isinstance(guest, Guest) else Guest(guest))))
        return made[-1]

    yield make
    for one in made:
        one.close()
