"""Unicorn's Python binding. It is typed only in part, so its names are given here as Any."""

from __future__ import annotations

import signal
from importlib.metadata import version
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

from unicorn import unicorn_const as _unicorn_const
from unicorn import x86_const as _x86_const
from unicorn.unicorn_py3 import unicorn as _implementation

VERSION: str = version("unicorn")
Uc: Any = _implementation.Uc
UcError = _implementation.UcError
uc: Any = _unicorn_const  #: constants of the engine
x86: Any = _x86_const  #: constants of the architecture
library: Any = _implementation.uclib  #: the C library, for what the binding leaves out


def emulate(engine: Any, begin: int, until: int = 0, count: int = 0) -> None:
    """Run `engine`; Ctrl-C stops it, and is raised when it has stopped. Raises UcError, KeyboardInterrupt.

    Where Python raises by itself it could do so between the engine's C frames and the first line of a
    hook, which prints a traceback and goes on.
    """
    ours = current_thread() is main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not ours:
        engine.emu_start(begin, until, 0, count)
        return
    interrupted = False

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        engine.emu_stop()

    signal.signal(signal.SIGINT, interrupt)
    try:
        engine.emu_start(begin, until, 0, count)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if interrupted:
            raise KeyboardInterrupt
