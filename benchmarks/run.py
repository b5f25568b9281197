"""How long the main jobs take, beside programs that do a part of the same work, in one run.

Usage: run.py [--runs N] [--json]. Every figure is the median over N whole processes after one warm-up, with
the operating system's own accounting (wait4). Figures are for reading and comparing; no test depends on them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
KERNELS = Path(os.environ.get("BOOTBUILD_KERNELS") or REPOSITORY / "build/kernels")
RECIPES = [str(REPOSITORY / "recipes" / name) for name in ("hello.toml", "hello32.toml")]
BUILD_ONLY = """
import sys
from pathlib import Path
from bootbuild.boot.subject import find_startup
from bootbuild.containers import container
from bootbuild.formats.payload import open_payload
from bootbuild.guests.native import Native
from bootbuild.host import Host
from bootbuild.model.payload import Payload
opened = open_payload(Path(sys.argv[1]))
elf = opened.elf
payload = Payload(elf, sys.argv[1], opened.format, opened.digest, "native", find_startup(elf, elf.entry, 64))
contribution = Host.discover().target("pvh").contribute(payload, Native(), None)
holder = container("elf")
holder.write(payload, holder.lay_out(payload, [contribution]), Path(sys.argv[2]))
"""


@dataclass(frozen=True)
class Figure:
    """Medians of one command: wall and CPU seconds, the largest resident set in MiB."""

    name: str
    wall: float
    cpu: float
    peak: float
    goal: str = ""
    ratios: tuple[tuple[str, float], ...] = ()


def once(command: Sequence[str], until: bytes = b"") -> tuple[float, float, float]:
    """One process; with `until`, it is ended when that text appears on its standard output."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, cwd=REPOSITORY
        )
        assert process.stdout is not None
        seen = b""
        while part := os.read(process.stdout.fileno(), 65536):
            seen += part
            if until and until in seen:
                process.terminate()
                break
        wall = time.perf_counter() - began
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    if until and until not in seen:
        raise SystemExit(f"{command[0]} never printed {until!r}: {said[-500:]}")
    if not until and process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed: {said[-500:]}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def measure(name: str, command: Sequence[str], runs: int, goal: str = "", until: bytes = b"") -> Figure:
    """Medians over `runs` processes after one that does not count."""
    once(command, until)
    rows = [once(command, until) for _ in range(runs)]
    wall, cpu, peak = (statistics.median(column) for column in zip(*rows, strict=True))
    return Figure(name, wall, cpu, peak, goal)


def beside(figure: Figure, *others: Figure, by: Callable[[Figure], float] = lambda f: f.wall) -> Figure:
    """The figure with its ratio to each other one."""
    ratios = tuple((other.name, by(figure) / by(other)) for other in others)
    return Figure(figure.name, figure.wall, figure.cpu, figure.peak, figure.goal, ratios)


def hello(tool: str, folder: Path, runs: int) -> list[Figure]:
    """The main job, what one more profile costs, and QEMU printing the same greeting."""
    out = str(folder / "hello")
    figures = [measure("bootbuild --help", [tool, "--help"], runs, "0.15 s")]
    main = measure(
        "main job: hello, 2 widths × 2 profiles × 3 runs", [tool, *RECIPES, "-q", "-o", out], runs, "3 s"
    )
    image = f"{out}/hello64-pvh.elf"
    one = measure("boot hello in one profile", [tool, "boot", image, "--as", "pvh@qemu", "-q"], runs)
    both = measure("boot hello in two profiles", [tool, "boot", image, "--as", "pvh", "-q"], runs)
    more = both.wall - one.wall
    figures += [main, one, Figure("one more profile", more, both.cpu - one.cpu, both.peak, "0.15 s")]
    if qemu := shutil.which("qemu-system-x86_64"):
        bare = "-accel tcg -cpu max -M pc -m 128 -nodefaults -display none -serial stdio -no-reboot".split()
        real = measure(
            "QEMU (TCG) to hello: done", [qemu, *bare, "-kernel", image], runs, until=b"hello: done"
        )
        figures[2:4] = [beside(one, real), figures[3]]
        figures.append(real)
    return figures


def linux(tool: str, folder: Path, runs: int) -> list[Figure]:
    """Debian's kernel: built into an image, and booted to its C entry."""
    cloud = json.loads((KERNELS / "kernels.json").read_text())["linux"]["cloud"]["files"]
    vmlinux, symbols = KERNELS / cloud["vmlinux"], KERNELS / cloud["system_map"]
    size = vmlinux.stat().st_size / 2**20
    made = folder / "vmlinux-pvh.elf"
    copy = measure("cp vmlinux", ["cp", str(vmlinux), str(folder / "copy")], runs)
    build = measure(
        f"insert an entry into vmlinux ({size:.0f} MiB)",
        [sys.executable, "-c", BUILD_ONLY, str(vmlinux), str(made)],
        runs,
        f"2 s, {4 * size:.0f} MiB (goal {1.5 * size:.0f})",
    )
    figures = [copy]
    if objcopy := shutil.which("objcopy"):
        figures.append(measure("objcopy vmlinux", [objcopy, str(vmlinux), str(folder / "objcopied")], runs))
    boot = [
        tool,
        "boot",
        str(vmlinux),
        "--as",
        "pvh@qemu",
        "--guest",
        "linux",
        "--symbols",
        str(symbols),
        "-q",
    ]
    start = measure(
        "boot Debian's kernel to x86_64_start_kernel", [*boot, "--until", "x86_64_start_kernel"], runs, "2 s"
    )
    return [beside(build, *figures), *figures, start]


def table(figures: Sequence[Figure]) -> str:
    """The figures in columns."""
    rows = [("", "WALL s", "CPU s", "PEAK MiB", "GOAL", "RATIO")]
    for f in figures:
        ratios = ", ".join(f"{ratio:.1f} × {name}" for name, ratio in f.ratios)
        rows.append((f.name, f"{f.wall:.3f}", f"{f.cpu:.3f}", f"{f.peak:.0f}", f.goal, ratios))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def main() -> None:
    """Measure everything that can be measured here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tool = str(Path(sys.executable).with_name("bootbuild"))
    with tempfile.TemporaryDirectory() as name:
        figures = hello(tool, Path(name), options.runs)
        if (KERNELS / "kernels.json").exists():
            figures += linux(tool, Path(name), options.runs)
        else:
            print(f"no kernels in {KERNELS}: make kernels", file=sys.stderr)
    if options.json:
        print(json.dumps([f.__dict__ for f in figures], indent=2))
    else:
        print(table(figures))


if __name__ == "__main__":
    main()
