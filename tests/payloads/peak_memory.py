"""How much memory a piece of Python takes at most, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys

# VmHWM is of this process image alone; ru_maxrss would be at least that of the process that forked.
MEASURE = """
import re
from pathlib import Path
def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) << 10
{before}
begin = peak()
{code}
print(peak() - begin)
"""


def peak(before: str, code: str, data: bytes = b"") -> tuple[int, str]:
    """Bytes by which `code` raised the peak that `before` had reached, and what it printed.

    `data` is its stdin.
    """
    command = [sys.executable, "-c", MEASURE.format(before=before, code=code)]
    done = subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True)
    *printed, grown = done.stdout.decode().splitlines()
    return int(grown), "\n".join(printed)
