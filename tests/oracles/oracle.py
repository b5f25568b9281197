"""Running a real emulator or hypervisor until it says something, within bounds, and ending only that."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ESCAPE = re.compile(rb"\x1b(?:\[[0-9;?]*[A-Za-z]|[c=>])|\r")  #: what firmware paints a terminal with
LIMIT = 8 << 20  #: bytes of console kept; a guest that prints more is stuck in a loop


@dataclass(frozen=True)
class Transcript:
    """What a command printed, cleaned of terminal escapes, and how it ended.

    `seen` has, for each marker that appeared, the seconds until it did; `failed` is the text of the first
    failure pattern that matched; `returncode` is None when the command was ended by us.
    """

    command: tuple[str, ...]
    text: str
    seen: dict[str, float]
    missing: tuple[str, ...]
    failed: str
    returncode: int | None
    seconds: float

    @property
    def reached(self) -> bool:
        """Every marker appeared and no failure pattern did."""
        return not self.missing and not self.failed

    def __str__(self) -> str:
        end = f"failed: {self.failed!r}" if self.failed else f"missing: {self.missing}"
        lines = "\n".join(self.text.splitlines()[-60:])
        return f"{' '.join(self.command)}\n{end}, after {self.seconds:.1f} s, exit {self.returncode}\n{lines}"


def _end(process: subprocess.Popen[bytes], ends: Sequence[signal.Signals]) -> int | None:
    """End a process group that we started; its exit code if it had already ended by itself."""
    code = process.poll()
    for number in ends:
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(5)
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()
    return code


def run_until(
    command: Sequence[str | os.PathLike[str]],
    markers: Sequence[str] = (),
    *,
    fail: Sequence[str] = (),
    timeout: float = 60,
    wait: bool = False,
    cwd: Path | None = None,
    ends: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGKILL),
) -> Transcript:
    """Run `command` until every regular expression of `markers` has matched its output.

    It also ends when one of `fail` matches, after `timeout` seconds, when it prints more than LIMIT bytes,
    or when the command exits; with `wait` (or without markers) matching alone does not end it. The command
    gets a process group of its own, no input, and is gone when this returns: `ends` are the signals for that.
    """
    arguments = tuple(os.fspath(part) for part in command)
    wanted = {marker: re.compile(marker.encode(), re.MULTILINE) for marker in markers}
    fatal = [re.compile(pattern.encode(), re.MULTILINE) for pattern in fail]
    seen: dict[str, float] = {}
    failed = ""
    console = b""
    code: int | None = None
    start = time.monotonic()
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        cwd=cwd,
    )
    assert process.stdout is not None
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while (left := timeout - (time.monotonic() - start)) > 0 and len(console) < LIMIT:
                if not selector.select(left):
                    continue
                part = os.read(process.stdout.fileno(), 65536)
                # Cleaned as a whole: an escape may be cut in two by a read.
                console = ESCAPE.sub(b"", console + part)
                for marker, pattern in wanted.items():
                    if marker not in seen and pattern.search(console):
                        seen[marker] = time.monotonic() - start
                matches = [match for pattern in fatal if (match := pattern.search(console))]
                if matches:
                    failed = matches[0][0].decode(errors="replace")
                    break
                if not part:
                    code = process.wait(max(left, 1))
                    break
                if markers and len(seen) == len(wanted) and not wait:
                    break
    finally:
        ended = _end(process, ends)
        process.stdout.close()
    return Transcript(
        command=arguments,
        text=console.decode(errors="replace"),
        seen=seen,
        missing=tuple(marker for marker in markers if marker not in seen),
        failed=failed,
        returncode=ended if code is None else code,
        seconds=time.monotonic() - start,
    )
