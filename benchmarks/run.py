"""How long the main jobs take, beside programs that do a part of the same work, in one run.

Usage: run.py [--runs N] [--json] [hello] [linux] [xen-pv] [efi]. Every figure is the median over N whole
processes after one warm-up, with the operating system's own accounting (wait4). Figures are for reading and
comparing; no test depends on them.

A program that is not installed has no row. ukify is package systemd-ukify of Debian 13, neither in Debian 12
nor on PyPI; the script of that package runs on Debian 12, with pefile of PyPI.
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
KERNELS_JSON = KERNELS / "kernels.json"
QEMU = shutil.which("qemu-system-x86_64")
HELLOS = {width: REPOSITORY / f"builder/bootbuild/guests/hello/hello{width}.elf" for width in (64, 32)}
HELLO = HELLOS[64]
STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
RECIPE = """
api = 1
[payload]
path = "{}"
guest = "linux"
startup = "startup_64"
[targets.pvh]
entry = "{}"
"""
HELLO_AS = """
api = 1
[payload]
path = "{path}"
startup = "startup_{width}"
width = {width}
{targets}
[expect]
console = "hello: done"
"""
#: width → what starts hello at it
TARGETS = {
    64: ("pvh", "xen-pv", "multiboot1", "multiboot2", "linux"),
    32: ("pvh", "multiboot1", "multiboot2", "linux"),
}
MULTIBOOT = ("multiboot1", "multiboot2")
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

APPLICATION_ONLY = """
import sys
from pathlib import Path
from bootbuild.boot.subject import find_startup
from bootbuild.containers import container
from bootbuild.formats.payload import open_payload
from bootbuild.guests.native import Native
from bootbuild.host import Host
from bootbuild.model.content import FileContent
from bootbuild.model.payload import Module, Payload
opened = open_payload(Path(sys.argv[1]))
elf = opened.elf
startup = find_startup(elf, elf.entry, 64)
modules = tuple(Module(name, FileContent(Path(name))) for name in sys.argv[3:])
payload = Payload(elf, sys.argv[1], opened.format, opened.digest, "native", startup, modules=modules)
target = Host.discover().target("efi")
contribution = target.contribute(payload, Native(), target.options())
holder = container("pe")
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


def beyond(name: str, whole: Figure, part: Figure, goal: str) -> Figure:
    """What one figure takes beyond another, its peak aside."""
    return Figure(name, whole.wall - part.wall, whole.cpu - part.cpu, whole.peak, goal)


def hello_as(folder: Path, width: int, targets: Sequence[str]) -> str:
    """A recipe of hello at a width, for some targets."""
    recipe = folder / f"hello{width}-{'-'.join(targets)}.toml"
    tables = "\n".join(f"[targets.{target}]" for target in targets)
    recipe.write_text(HELLO_AS.format(path=HELLOS[width], width=width, targets=tables))
    return str(recipe)


def hello(tool: str, folder: Path, runs: int) -> list[Figure]:
    """The main job, once more unchanged, what one more profile costs, and QEMU printing the same greeting."""
    out = str(folder / "hello")
    job = [tool, *RECIPES, "-q", "-o", out]
    figures = [
        measure("bootbuild --help", [tool, "--help"], runs, "0.15 s"),
        measure("hello: 2 widths × 6 profiles × 3 runs", [*job, "--force"], runs, "3 s"),
        measure("the same, unchanged", job, runs, "0.4 s"),
    ]
    for name, targets, goal in (
        ("multiboot: 2 widths × 4 profiles × 3 runs", dict.fromkeys(TARGETS, MULTIBOOT), ""),
        ("linux: 2 widths × 4 profiles × 3 runs", dict.fromkeys(TARGETS, ("linux",)), "3 s"),
        ("every target: 2 widths × its profiles × 3 runs", TARGETS, "4 s"),
    ):
        recipes = [hello_as(folder, width, targets[width]) for width in TARGETS]
        every = [tool, *recipes, "-q", "--force", "-o", str(folder / "all")]
        figures.append(measure(name, every, runs, goal))
    image = f"{out}/hello64-pvh.elf"
    one = measure("boot hello in one profile", [tool, "boot", image, "--as", "pvh@qemu", "-q"], runs)
    every = measure("boot hello in six profiles", [tool, "boot", image, "--as", "pvh", "-q"], runs)
    more = beyond("five more profiles", every, one, "0.75 s")
    if QEMU:
        real = measure("QEMU (TCG) to hello: done", qemu(128, image, ""), runs, until=b"hello: done")
        one = beside(one, real)
        return [*figures, one, more, real]
    return [*figures, one, more]


def qemu(memory: int, kernel: str | Path, cmdline: str) -> list[str]:
    """QEMU as the profile pvh@qemu plays it; `memory` in MiB."""
    bare = "-accel tcg -cpu max -M pc -nodefaults -display none -serial stdio -no-reboot".split()
    return [str(QEMU), *bare, "-m", str(memory), "-kernel", str(kernel), "-append", cmdline]


def linux(tool: str, folder: Path, runs: int) -> list[Figure]:
    """Debian's kernels: an entry inserted beside cp and objcopy; every profile; a boot beside QEMU's."""
    if not KERNELS_JSON.exists():
        return []
    files = {name: one["files"] for name, one in json.loads(KERNELS_JSON.read_text())["linux"].items()}
    vmlinux = KERNELS / files["cloud"]["vmlinux"]
    size = vmlinux.stat().st_size / 2**20
    copies = [measure("cp vmlinux", ["cp", str(vmlinux), str(folder / "copy")], runs)]
    if objcopy := shutil.which("objcopy"):
        command = [objcopy, str(vmlinux), str(folder / "objcopied")]
        copies.append(measure("objcopy vmlinux", command, runs))
    made = str(folder / "made.elf")
    small = measure("build hello, no boot", [sys.executable, "-c", BUILD_ONLY, str(HELLO), made], runs)
    build = measure(
        f"insert an entry into vmlinux ({size:.0f} MiB), no boot",
        [sys.executable, "-c", BUILD_ONLY, str(vmlinux), made],
        runs,
        f"{2 * size:.0f} MiB (1.5 ×: {1.5 * size:.0f})",
    )
    figures = [beside(build, *copies), small, beyond("that beyond start-up", build, small, "0.7 s"), *copies]
    for name, found in files.items():
        for entry in ("native", "insert"):
            recipe = folder / f"{name}-{entry}.toml"
            recipe.write_text(RECIPE.format(KERNELS / found["vmlinux"], entry))
            job = [tool, str(recipe), "-q", "-o", str(folder / entry)]
            what = f"{name}, {entry}"
            figures.append(measure(f"{what}: six profiles × 3 runs", [*job, "--force"], runs, "4 s"))
        figures.append(measure(f"{what}: unchanged", job, runs, "0.4 s"))
        packed = [tool, "boot", str(KERNELS / found["vmlinuz"]), "--as", "linux@kexec-64bit", "-q"]
        goal = {"cloud": "2 s", "generic": "4 s"}.get(name, "")
        figures.append(measure(f"{name}, its bzImage: linux@kexec-64bit × 3 runs", packed, runs, goal))
    boot = [tool, "boot", str(vmlinux), "--as", "pvh@qemu", "--guest", "linux", "-q"]
    figures.append(measure("to x86_64_start_kernel", [*boot, "--until", "x86_64_start_kernel"], runs, "2 s"))
    banner = "earlyprintk=ttyS0"
    talking = measure(
        "to `Linux version`", [*boot, "--until", "console:Linux version", "--cmdline", banner], runs
    )
    if QEMU:
        real = measure(
            "QEMU (TCG) to `Linux version`", qemu(512, vmlinux, banner), runs, until=b"Linux version"
        )
        return [*figures, beside(talking, real), real]
    return [*figures, talking]


def xen_pv(tool: str, folder: Path, runs: int) -> list[Figure]:
    """Xen PV: hello in both profiles, and Debian's cloud kernel by its own entry and behind a stub."""
    recipe = hello_as(folder, 64, ["xen-pv"])
    job = [tool, recipe, "-q", "--force", "-o", str(folder / "hello-pv")]
    figures = [measure("hello, xen-pv: 2 profiles × 3 runs", job, runs, "3 s")]
    if not KERNELS_JSON.exists():
        return figures
    vmlinux = KERNELS / json.loads(KERNELS_JSON.read_text())["linux"]["cloud"]["files"]["vmlinux"]
    job = [tool, str(REPOSITORY / "recipes/linux-xen-pv.toml"), "-q", "--force", "--payload", str(vmlinux)]
    job += ["--module", str(KERNELS / "initrd.cpio")]
    for entry in ("native", "chain"):
        out = folder / f"pv-{entry}"
        build = [*job, "--set", f"targets.xen-pv.entry={entry}", "-o", str(out)]
        figures.append(measure(f"cloud, {entry}, xen-pv: 2 profiles × 3 runs to its console", build, runs))
        (image,) = out.glob("*.elf")
        for profile in ("domu", "dom0"):
            boot = [tool, "boot", str(image), "-q", "--as", f"xen-pv@{profile}"]
            boot += ["--cmdline", "console=hvc0 earlyprintk=xen"]
            for until, goal in (("start_kernel", "2 s"), ("console:Linux version", "10 s")):
                name = f"{entry}, {profile}, to {until.removeprefix('console:')}"
                figures.append(measure(name, [*boot, "--until", until], runs, goal))
    return figures


def efi(tool: str, folder: Path, runs: int) -> list[Figure]:
    """An application of 64 MiB, nearly all a module, beside cp, objcopy and ukify; hello in every profile."""
    module = folder / "64MiB"
    with module.open("wb") as output:
        for _ in range(64):  # in pieces: a child's peak is at least what this process has had
            output.write(os.urandom(1 << 20))
    others = [measure("cp, 64 MiB", ["cp", str(module), str(folder / "copy")], runs)]
    if (objcopy := shutil.which("objcopy")) and STUB.exists():
        add = ["--add-section", f".initrd={module}", "--change-section-vma", ".initrd=0x3000000"]
        command = [objcopy, *add, str(STUB), str(folder / "objcopied.efi")]
        others.append(measure("objcopy into systemd-stub, 64 MiB", command, runs))
    if (ukify := shutil.which("ukify")) and STUB.exists():
        command = [ukify, "build", "--stub", str(STUB), "--initrd", str(module)]
        command += ["--output", str(folder / "ukified.efi")]
        others.append(measure("ukify into systemd-stub, 64 MiB", command, runs))
    build = [sys.executable, "-c", APPLICATION_ONLY, str(HELLO), str(folder / "made.efi")]
    small = measure("an application of hello, no boot", build, runs)
    large = measure("the same with 64 MiB of module", [*build, str(module)], runs, "64 MiB")
    job = [tool, hello_as(folder, 64, ["efi"]), hello_as(folder, 32, ["efi"])]
    return [
        beside(large, *others),
        small,
        beyond("that beyond start-up", large, small, "0.25 s"),
        *others,
        measure(
            "hello, efi: 2 widths × 8 profiles × 3 runs",
            [*job, "-q", "--force", "-o", str(folder / "efi")],
            runs,
            "6 s",
        ),
        *levels(tool, folder, runs),
    ]


def levels(tool: str, folder: Path, runs: int) -> list[Figure]:
    """Debian's kernels by their own EFI stubs, the whole command, to each level."""
    if not KERNELS_JSON.exists():
        return []
    figures = []
    kernels = json.loads(KERNELS_JSON.read_text())["linux"]
    for flavour, level, goal in (
        ("cloud", "stub", "0.6 s"),
        ("cloud", "handoff", "2.5 s"),
        ("generic", "handoff", "4.5 s"),
    ):
        files = {name: KERNELS / path for name, path in kernels[flavour]["files"].items()}
        job = [tool, str(REPOSITORY / "recipes/linux-efi.toml"), "-q", "--force", "--level", level]
        job += ["--payload", str(files["vmlinuz"]), "--set", f"payload.symbols={files['system_map']}"]
        name = f"{flavour}, native, efi@ovmf × 3 runs: {level}"
        figures.append(measure(name, [*job, "-o", str(folder / "efi-native")], runs, goal))
    return figures


def table(figures: Sequence[Figure]) -> str:
    """The figures in columns."""
    rows = [("", "WALL s", "CPU s", "PEAK MiB", "GOAL", "RATIO")]
    for f in figures:
        ratios = ", ".join(f"{ratio:.1f} × {name}" for name, ratio in f.ratios)
        rows.append((f.name, f"{f.wall:.3f}", f"{f.cpu:.3f}", f"{f.peak:.0f}", f.goal, ratios))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


JOBS = {"hello": hello, "linux": linux, "xen-pv": xen_pv, "efi": efi}


def main() -> None:
    """Measure everything that can be measured here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("jobs", nargs="*", help=f"of {', '.join(JOBS)}; default: all")
    options = parser.parse_args()
    if unknown := set(options.jobs) - set(JOBS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    tool = str(Path(sys.executable).with_name("bootbuild"))
    if not KERNELS_JSON.exists():
        print(f"no kernels in {KERNELS}: make kernels", file=sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        figures = [
            figure
            for job, run in JOBS.items()
            if job in (options.jobs or JOBS)
            for figure in run(tool, Path(name), options.runs)
        ]
    if options.json:
        print(json.dumps([f.__dict__ for f in figures], indent=2))
    else:
        print(table(figures))


if __name__ == "__main__":
    main()
