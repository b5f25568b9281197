"""Mutated files through everything that reads kernels: nothing but bootbuild's own errors, in bounds.

    python tests/fuzz/drive.py --cases 1000000            # by hand: `make fuzz CASES=1000000`
    python tests/fuzz/drive.py --first 1234 --cases 1 --keep case.bin

Prints one line of JSON: how many cases, how many came past the validation of headers, the slowest, the peak
of memory, and every finding with the number of the case that shows it. Exit code 1 with findings.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Literal, get_args

from bootbuild import pipeline
from bootbuild.api.loader import Said
from bootbuild.boot.subject import find_startup, request_subject
from bootbuild.containers import container
from bootbuild.errors import BootbuildError, ExitCode, InputError
from bootbuild.formats.payload import Fit, Opened, open_content, open_payload
from bootbuild.formats.repair import faults, safe_notes
from bootbuild.formats.symbols import read_system_map
from bootbuild.host import Host
from bootbuild.model.content import MemoryContent
from bootbuild.model.machine import Filling, Offer
from bootbuild.model.payload import PT_NULL, Payload
from bootbuild.model.request import BootRequest
from bootbuild.recipe.model import TargetRecipe
from bootbuild.report import acceptance, inspection

PAYLOADS = Path(__file__).resolve().parents[1] / "payloads"  #: pytest has it on its path, a script not

SECONDS = 2.0  #: of CPU for one case
ADDRESSES = 3 << 30  #: bytes of address space for the process: a bzImage that states 1 GiB gets that much
SHOWN = 20  #: findings that are told of
PRINTED = 0.1  #: share of the cases whose reports are made too
BUILT = 0.12  #: share of the payloads of which an image is also written; it costs ten times the rest
ERRORS = (ExitCode.INPUT, ExitCode.REFUSED)  #: what a file can be blamed for
UNKNOWN_NAME = "BB-P001"  #: of a plugin: an image may say that it was made for a guest that is not there

#: refusals that say that headers were not believed; what is refused otherwise came past them
HEADERS = frozenset(f"BB-E{number:03}" for number in (*range(1, 15), 20, 21, 30))

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
TARGETS = ("pvh", "multiboot1", "multiboot2")
OFFERS = (  # the last is more than most machines have
    *(Offer(),) * 3,
    Offer(cmdline=b'a \'b c\' "d\\"" {e}'),
    Offer(modules=tuple((f"module{i}", MemoryContent(bytes(i << 12 | 1)), b"word") for i in range(4))),
    Offer(modules=(("module", MemoryContent(bytes(1 << 20)), b""),) * 40, memory=32 << 20),
)
STARTUPS = ("startup", "startup_64", "_start", "start_kernel", "absent", 0x100100, 0xFFFFFFFF80100100)


class TooSlow(BaseException):
    """A case spent its CPU time. No `except Exception` of a product takes this for its own."""


def out_of_time(_signal: int, _frame: FrameType | None) -> None:
    raise TooSlow(f"more than {SECONDS} s of CPU")


@dataclass
class Tally:
    """What became of the cases so far."""

    cases: int = 0
    accepted: int = 0  #: read as a kernel, headers, notes and symbol table
    past: int = 0  #: the same, or refused for something behind the headers
    opened: int = 0  #: payloads that could be built from, as the recipe has them
    scenes: int = 0  #: machines that a profile would have started the file in
    built: int = 0  #: images written, checked by pyelftools and read back
    slowest: tuple[float, int] = (0.0, -1)  #: seconds of CPU, case
    refusals: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)  #: by what they are


def blamed(error: BootbuildError) -> tuple[str, ...]:
    """The rules by which a file was refused; raises `error` again if it blames anything else."""
    rules = tuple(problem.rule.id for problem in error.problems)
    if not rules or (error.exit_code not in ERRORS and {*rules} != {UNKNOWN_NAME}):
        raise error
    return rules


class Driver:
    """Everything that reads a file, in the order in which the commands do."""

    def __init__(self, host: Host, out: Path) -> None:
        self.host = host
        self.out = out  #: image that is written
        self._loaders = [host.loader(name) for name in host.names("loader")]
        self._profiles = [host.profile(name) for name in host.names("profile")]
        self.tally = Tally()

    def run(self, path: Path, random: Random) -> None:
        """One file. Raises whatever is a finding."""
        self._inspect(path, random)
        self._judge(path, random)
        for step in (self._open, self._subject, self._system_map):
            try:
                step(path, random)
            except BootbuildError as error:
                blamed(error)

    def _inspect(self, path: Path, random: Random) -> None:
        rules: tuple[str, ...] = ()
        try:
            found = inspection.inspect(path, self.host)
            if random.random() < PRINTED:
                json.loads(inspection.as_json(found))
                inspection.as_text(found).encode()
        except BootbuildError as error:
            rules = blamed(error)
        self.tally.accepted += not rules
        self.tally.past += not HEADERS & {*rules}
        self.tally.refusals.update({*rules})

    def _judge(self, path: Path, random: Random) -> None:
        """What the loader models say of it: never an exception, only verdicts that can be printed."""
        content = open_content(path)
        judged = []
        for loader in self._loaders:
            verdicts = tuple(loader.judge(content))
            known = {"", *(rule.id for rule in loader.rules)}
            for said in verdicts:
                assert said.verdict in get_args(Said) and said.rule in known, (loader.name, said)
                # A refusal says by which rule; an entry is an address.
                assert said.rule or said.verdict not in ("refuse", "crash"), (loader.name, said)
                assert said.entry is None or 0 <= said.entry < 1 << 64, (loader.name, said)
                self.tally.verdicts[f"{loader.name} {said.boot} {said.verdict}"] += 1
            judged.append(acceptance.Judged(loader.name, loader.version, loader.evidence, verdicts))
        if random.random() < PRINTED:
            found = acceptance.Acceptance(str(path), tuple(judged))
            json.loads(acceptance.as_json(found))
            acceptance.as_text(found).encode()

    def _open(self, path: Path, random: Random) -> None:
        opened = open_payload(path, random.choice(FITS))
        elf = opened.elf
        assert elf.loads and all(
            s.file.end <= elf.content.size for s in elf.segments if s.filesz and s.type != PT_NULL
        )
        assert all(s.physical.end <= 1 << elf.bits for s in elf.loads)
        self.tally.opened += 1
        faults(elf)
        safe_notes(elf)
        known: list[str | int] = [*list(elf.symbols)[:3], elf.entry, elf.entry]
        asked = random.choice((*STARTUPS, *known, *known))
        guest = random.choice(self.host.names("guest"))
        width = random.choice((32, 64, None))
        startup = find_startup(elf, asked, width, self.host.guest(guest), opened.moved)
        if random.random() < BUILT:
            self._build(opened, Payload(elf, str(path), opened.format, opened.digest, guest, startup), random)

    def _build(self, opened: Opened, payload: Payload, random: Random) -> None:
        made = made_by(random.choice(TARGETS), random.choice(("insert", "native", "chain")), self.host)
        contributions = [pipeline.contribute(payload, made, self.host)]
        layout = container("elf").lay_out(payload, contributions)
        if payload.elf.content.size < 1 << 20:
            container("elf").write(payload, layout, self.out)
            self.tally.built += 1

    def _subject(self, path: Path, random: Random) -> None:
        """Up to the scene that each profile makes of the image, which is all but running it."""
        until = random.choice(
            (None, "startup", "console:", "console:", hex(random.choice((0, 0x100100, 1 << 63))))
        )
        subject = request_subject(BootRequest(path, ("pvh@qemu",), until=until), self.host, 1, 1.0)
        for profile in self._profiles:
            try:
                profile.scene(subject.image, random.choice(OFFERS), Filling.EXACT)
                self.tally.scenes += 1
            except InputError as error:
                blamed(error)

    def _system_map(self, path: Path, random: Random) -> None:
        if random.random() < PRINTED:
            read_system_map(open_content(path), str(path))

    def note(self, index: int, name: str, error: BaseException) -> None:
        """Remember a finding; of those that are alike the first."""
        frames = traceback.extract_tb(error.__traceback__)
        place = frames[-1]
        what = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
        found = self.tally.findings.setdefault(
            what,
            {
                "case": index,
                "of": name,
                "count": 0,
                "said": f"{error}"[:300],
                "trace": [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames],
            },
        )
        found["count"] += 1


def made_by(name: str, entry: Literal["insert", "native", "chain"], host: Host) -> TargetRecipe:
    """A target as a recipe has it that says no more of it."""
    options = host.target(name).options
    return TargetRecipe(name, entry, None, None, options() if options else None)


def made_image(folder: Path, host: Host) -> bytes:
    """hello as bootbuild makes it bootable: a file with a claim, and with two segments more."""
    from importlib import resources

    opened = open_payload(Path(str(resources.files("bootbuild") / "guests/hello/hello64.elf")))
    startup = find_startup(opened.elf, "startup_64", 64, host.guest("native"))
    payload = Payload(opened.elf, "hello64.elf", opened.format, opened.digest, "native", startup)
    contribution = pipeline.contribute(payload, made_by("pvh", "insert", host), host)
    layout = container("elf").lay_out(payload, [contribution])
    container("elf").write(payload, layout, folder / "image.elf")
    return (folder / "image.elf").read_bytes()


def drive(seed: int, first: int, cases: int, keep: Path | None, progress: int) -> dict[str, Any]:
    """Run cases `first` to `first + cases` of `seed`; what is to be reported."""
    sys.path.append(str(PAYLOADS))
    from mutate import Herd
    from specimens import specimens

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    signal.signal(signal.SIGPROF, out_of_time)
    host = Host.discover(plugins=False)
    file = os.memfd_create("kernel")
    path = Path(f"/proc/self/fd/{file}")
    with tempfile.TemporaryDirectory() as folder:
        herd = Herd(specimens(made_image(Path(folder), host)))
        driver = Driver(host, Path(folder) / "out.elf")
        tally = driver.tally
        began = time.perf_counter()
        for index in range(first, first + cases):
            name, data, random = herd.case(seed, index)
            os.ftruncate(file, 0)
            os.pwrite(file, data, 0)
            if keep is not None:
                keep.write_bytes(data)
            spent = time.process_time()
            try:
                signal.setitimer(signal.ITIMER_PROF, SECONDS)
                driver.run(path, random)
                signal.setitimer(signal.ITIMER_PROF, 0)
            except (Exception, TooSlow) as error:  # noqa: BLE001 - whatever comes out is what is looked for
                signal.setitimer(signal.ITIMER_PROF, 0)
                driver.note(index, name, error)
            tally.slowest = max(tally.slowest, (time.process_time() - spent, index))
            tally.cases += 1
            if progress and tally.cases % progress == 0:
                print(json.dumps(report(tally, seed, first, began)), file=sys.stderr, flush=True)  # noqa: T201
        return report(tally, seed, first, began)


def report(tally: Tally, seed: int, first: int, began: float) -> dict[str, Any]:
    return {
        "seed": seed,
        "first": first,
        "cases": tally.cases,
        "seconds": round(time.perf_counter() - began, 1),
        "past_headers": round(tally.past / max(tally.cases, 1), 4),
        "accepted": round(tally.accepted / max(tally.cases, 1), 4),
        "opened": tally.opened,
        "scenes": tally.scenes,
        "built": tally.built,
        "slowest": {"seconds": round(tally.slowest[0], 3), "case": tally.slowest[1]},
        "peak_mib": peak_mib(),
        "refusals": dict(sorted(tally.refusals.items())),
        "verdicts": dict(sorted(tally.verdicts.items())),
        "findings": [{"what": what, **found} for what, found in list(tally.findings.items())[:SHOWN]],
    }


def peak_mib() -> int:
    """Of this process image alone: ru_maxrss is at least what the process had that forked."""
    said = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert said is not None
    return int(said[1]) >> 10


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutated kernels through all that reads them.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--keep", type=Path, help="write each case here: the last one stays")
    parser.add_argument("--progress", type=int, default=0, help="report on stderr after so many cases")
    asked = parser.parse_args()
    found = drive(asked.seed, asked.first, asked.cases, asked.keep, asked.progress)
    print(json.dumps(found))  # noqa: T201
    return 1 if found["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
