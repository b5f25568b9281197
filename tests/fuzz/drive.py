"""Mutated files through everything that reads or builds from them: nothing but bootbuild's own errors.

    python tests/fuzz/drive.py --seed 7 --count 1000000      # by hand; the closing line has the figures
    python tests/fuzz/drive.py --seed 7 --first 1234 --count 1 --keep case.bin

Prints one line of JSON. Each case has ten seconds; the process as a whole has 2 GiB of addresses, of which
a bzImage that states 1 GiB may ask for half.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType

from bootbuild.boot.subject import find_startup, request_subject
from bootbuild.containers import container
from bootbuild.errors import ExitCode, InputError, PluginError, RefusedError
from bootbuild.formats.notes import claims
from bootbuild.formats.payload import Fit, Opened, open_content, open_payload, read_payload
from bootbuild.formats.symbols import read_system_map
from bootbuild.host import Host
from bootbuild.model.machine import Filling, Offer
from bootbuild.model.payload import Payload
from bootbuild.model.request import BootRequest
from bootbuild.report.inspection import as_json, as_text, inspect
from mutate import Herd
from specimens import elf, specimens

SECONDS = 10  #: for one case
ADDRESSES = 2 << 30  #: bytes of address space for the process
WRITTEN = 8  #: one of so many sound payloads is built into an image, which costs most
FITS = (
    *(Fit(),) * 8,
    *(Fit(load=load) for load in (0, 0x100000, 0x200000, 0x1234567, 0xFFFFF000)),
    Fit(load=0x200000, entry=0x200010, bss=0x10000, width=32),
    Fit(load=0x200000, entry=0x1FFFFF),
    Fit(elf_class=32),
    Fit(elf_class=64),
    Fit(load=0x400000, elf_class=32),
    Fit(load=0x400000, elf_class=64),
    Fit(paddr_offset=0),
    Fit(paddr_offset=0xC0000000),
    Fit(paddr_offset=0xFFFFFFFF80000000, elf_class=32),
)


class TooLong(BaseException):
    """A case took more than its time; nothing that reads files may catch this."""


@dataclass
class Tally:
    """What became of the cases."""

    cases: int = 0
    read: int = 0  #: of which the headers were accepted, so that what is behind them was reached
    built: int = 0  #: images that were written, verified and read back
    rules: Counter[str] = field(default_factory=Counter)  #: rule id → cases that it stopped
    slowest: float = 0.0  #: seconds
    findings: list[str] = field(default_factory=list)


def attempt(work: Callable[[], None], seconds: float = SECONDS) -> str:
    """Do it; "" if it ended, or ended with an error that tells the user of his file. Else what happened."""

    def late(_signal: int, _frame: FrameType | None) -> None:
        raise TooLong

    old = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        work()
    except (InputError, RefusedError, PluginError) as error:  # a claim may name a guest that there is not
        if not error.problems or not all(p.message and p.rule.remedy for p in error.problems):
            return f"an error without words: {error!r}"
    except TooLong:
        return f"more than {seconds} s\n{traceback.format_exc(limit=-4)}"
    except BaseException as error:  # noqa: BLE001 - whatever else comes out is what is looked for
        return f"{error!r}\n{traceback.format_exc(limit=-6)}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    return ""


class Trial:
    """One file through all that reads it."""

    def __init__(self, path: Path, host: Host, tally: Tally) -> None:
        self.path = path
        self.host = host
        self.tally = tally
        self.loaders = [host.loader(name) for name in host.names("loader")]
        self.profiles = [host.profile(name) for name in host.profiles_of("pvh")]

    def steps(self, random: Random) -> tuple[Callable[[], None], ...]:
        """Each is tried on its own, whatever the one before it said."""
        fit, width = random.choice(FITS), random.choice((32, 64))
        entry = random.choice(("insert", "insert", "native", "chain"))
        write = random.randrange(WRITTEN) == 0
        return (
            self.judge,
            self.show,
            self.boot,
            lambda: self.build(fit, width, entry, write),
            lambda: self.system_map(random.random() < 0.02),
        )

    def judge(self) -> None:
        """Loader models never raise, not even for a file."""
        content = open_content(self.path)
        for loader in self.loaders:
            try:
                said = loader.judge(content)
            except Exception as error:
                raise AssertionError(f"{loader.name} raised") from error
            known = {rule.id for rule in loader.rules} | {""}
            assert all(one.rule in known for one in said), loader.name

    def show(self) -> None:
        found = inspect(self.path, self.host)
        self.tally.read += 1
        assert as_text(found)
        json.loads(as_json(found))

    def boot(self) -> None:
        """Up to the scene, which every profile makes of the image without running it."""
        request = BootRequest(self.path, ("pvh",), until="console:x")
        subject = request_subject(request, self.host, 1000, 1.0)
        for profile in self.profiles:
            try:
                profile.scene(subject.image, Offer(), Filling.EXACT)
            except InputError:
                continue

    def build(self, fit: Fit, width: int, entry: str, write: bool) -> None:
        opened = open_payload(self.path, fit)
        payload = self.payload(opened, width)
        target = self.host.target("pvh")
        make = {"insert": target.contribute, "native": target.native, "chain": target.chain}[entry]
        contribution = make(payload, self.host.guest("native"), None)
        holder = container(contribution.container)
        layout = holder.lay_out(payload, [contribution])
        if not write or opened.elf.content.size > 1 << 20:
            return
        made = self.path.with_suffix(".made")
        try:
            holder.write(payload, layout, made)
            image, _ = read_payload(open_content(made), str(made))
            assert entry != "insert" or claims(image)
            self.tally.built += 1
        finally:
            made.unlink(missing_ok=True)

    def payload(self, opened: Opened, width: int) -> Payload:
        known = [name for name in ("startup", "startup_64", "startup_32") if name in opened.elf.symbols]
        startup = find_startup(opened.elf, known[0] if known else opened.elf.entry, width)
        return Payload(opened.elf, str(self.path), opened.format, opened.digest, "native", startup)

    def system_map(self, asked: bool) -> None:
        if asked:
            read_system_map(open_content(self.path), str(self.path))


def image() -> bytes:
    """One that bootbuild made, whose notes and claim are mutated like everything else."""
    host = Host.discover(plugins=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel"
        path.write_bytes(elf(64, shift=0xFFFFFFFF80000000))
        payload = Trial(path, host, Tally()).payload(open_payload(path), 64)
        contribution = host.target("pvh").contribute(payload, host.guest("native"), None)
        holder = container("elf")
        holder.write(payload, holder.lay_out(payload, [contribution]), path.with_suffix(".made"))
        return path.with_suffix(".made").read_bytes()


def drive(seed: int, first: int, count: int, keep: Path | None = None) -> Tally:
    """`count` cases of `seed` from number `first` on; `keep` gets the file of the last."""
    herd, host, tally = Herd.of(specimens(image())), Host.discover(plugins=False), Tally()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        path = Path(folder) / "case"
        trial = Trial(path, host, tally)
        for index in range(first, first + count):
            name, data, random = herd.case(seed, index)
            path.write_bytes(data)
            began = time.perf_counter()
            for step in trial.steps(random):
                said = attempt(lambda step=step: counted(step, tally))  # type: ignore[misc]
                if said:
                    tally.findings.append(f"seed {seed} case {index} ({name}): {said}")
            tally.cases += 1
            tally.slowest = max(tally.slowest, time.perf_counter() - began)
            if keep is not None:
                keep.write_bytes(data)
    return tally


def counted(step: Callable[[], None], tally: Tally) -> None:
    try:
        step()
    except (InputError, RefusedError) as error:
        tally.rules.update({problem.rule.id for problem in error.problems})
        raise


def main() -> ExitCode:
    """Drive, and print what became of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    began = time.perf_counter()
    tally = drive(options.seed, options.first, options.count, options.keep)
    figures = {
        "cases": tally.cases,
        "seconds": round(time.perf_counter() - began, 1),
        "past header validation": round(tally.read / max(tally.cases, 1), 3),
        "built": tally.built,
        "slowest": round(tally.slowest, 2),
        "rules": dict(sorted(tally.rules.items())),
        "findings": tally.findings[:50],
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return ExitCode.FAILED if tally.findings else ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
