"""Ctrl-C while the engine runs is raised behind it, whatever the engine and its hooks were doing."""

from __future__ import annotations

import signal
import sys
from typing import Any

import pytest

from bootbuild.machine.binding import Uc, emulate, uc

CODE = 0x1000
ROUNDS = 100


def engine_with(code: bytes) -> Any:
    engine = Uc(uc.UC_ARCH_X86, uc.UC_MODE_64)
    engine.mem_map(CODE, 0x1000)
    engine.mem_write(CODE, code)
    return engine


def test_ctrl_c_stops_a_guest_that_has_no_end_and_is_never_lost_in_a_hook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A loop of two instructions whose hooks take most of the time, interrupted at many moments."""
    lost: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lost.append)
    alarm = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    engine = engine_with(b"\x90\xeb\xfd")  # nop; jmp back to it
    waiting = 0.0

    def hooked(*_: Any) -> None:
        nonlocal waiting
        if waiting:
            signal.setitimer(signal.ITIMER_REAL, waiting)
            waiting = 0

    engine.hook_add(uc.UC_HOOK_CODE, hooked)
    try:
        for moment in range(ROUNDS):
            waiting = 0.001 + moment * 0.00001
            with pytest.raises(KeyboardInterrupt):
                emulate(engine, CODE, count=10_000_000)
    finally:
        signal.signal(signal.SIGALRM, alarm)
    assert lost == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_application_stays_in_charge() -> None:
    heard: list[int] = []
    engine = engine_with(b"\x90" * 8)
    engine.hook_add(uc.UC_HOOK_CODE, lambda *_: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, lambda number, _frame: heard.append(number))
    try:
        emulate(engine, CODE, count=3)
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT] * 3
