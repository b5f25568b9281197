"""What `bootbuild check` shows: each loader model's verdicts on one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bootbuild.api.loader import PROTOCOLS, LoaderVerdict
from bootbuild.errors import PluginError, Problem
from bootbuild.formats.whole import whole_files
from bootbuild.host import Host
from bootbuild.host.nearest import did_you_mean, shown
from bootbuild.host.rules import UNKNOWN
from bootbuild.model.verdict import Evidence
from bootbuild.report.json_form import dump, hexadecimal
from bootbuild.report.table import BOLD, GREEN, RED, RESET, YELLOW, printable, table

CHECK = "bootbuild/check/1"
_HEAD = ("VERDICT", "MODEL", "BOOT", "ENTRY", "RULE", "MESSAGE")
_COLORS = {"accept": GREEN, "ignore": YELLOW, "refuse": RED, "wild": RED, "crash": RED}


@dataclass(frozen=True)
class Judged:
    """One loader model, and what it said."""

    model: str
    version: str
    evidence: Evidence
    verdicts: tuple[LoaderVerdict, ...]

    @property
    def accepted(self) -> bool:
        """It starts the file as the file means it, by one protocol at least."""
        return any(said.verdict == "accept" for said in self.verdicts)


@dataclass(frozen=True)
class Acceptance:
    """One file before several models."""

    image: str
    judged: tuple[Judged, ...]
    named: bool = False  #: models or protocols were: then each counts

    @property
    def counted(self) -> list[Judged]:
        """All that were named, else those that have more to say than that the file is not for them."""
        return [one for one in self.judged if self.named or any(v.verdict != "ignore" for v in one.verdicts)]

    @property
    def missing(self) -> list[Judged]:
        """Those that count and do not accept it."""
        return [one for one in self.counted if not one.accepted]

    @property
    def accepted(self) -> bool:
        """By every model that counts, and one does."""
        return bool(self.counted) and not self.missing


@whole_files()
def judge(path: Path, host: Host, models: Sequence[str] = (), boots: Sequence[str] = ()) -> Acceptance:
    """Ask the loaders `models` (all, if none is named) for the protocols `boots` (all, if none is named).

    A loader that has no answer for any of `boots` is left out, unless it is named: then it ignores the file.
    Raises InputError for a file that cannot be opened, PluginError for an unknown model, and for a protocol
    that no loader knows.
    """
    from bootbuild.formats.payload import open_content

    loaders = [host.loader(name) for name in (dict.fromkeys(models) or host.names("loader"))]
    content = open_content(path)
    judged: list[Judged] = []
    known = set(PROTOCOLS)
    for loader in loaders:
        every = tuple(loader.judge(content))
        known |= {v.boot for v in every}
        said = tuple(v for v in every if not boots or v.boot in boots)
        if not said and models:
            answers = ", ".join(dict.fromkeys(v.boot for v in every)) or "nothing"
            text = f"of this file it answers for {answers} only"
            said = tuple(LoaderVerdict(boot, "ignore", message=text) for boot in dict.fromkeys(boots))
        if said:
            judged.append(Judged(loader.name, loader.version, loader.evidence, said))
    unknown = [boot for boot in dict.fromkeys(boots) if boot not in known]
    if unknown:
        known |= {v.boot for name in host.names("loader") for v in host.loader(name).judge(content)}
        problems = [
            Problem(UNKNOWN, f"protocol {shown(boot)}", "no loader answers for it", did_you_mean(boot, known))
            for boot in unknown
            if boot not in known
        ]
        if problems:
            raise PluginError(problems)
    return Acceptance(str(path), tuple(judged), named=bool(models or boots))


def as_json(found: Acceptance) -> str:
    """For programs: `bootbuild/check/1`."""
    rows = [
        {
            "model": one.model,
            "version": one.version,
            "evidence": one.evidence.value,
            "boot": said.boot,
            "verdict": said.verdict,
            "entry": hexadecimal(said.entry),
            "rule": said.rule or None,
            "message": said.message or None,
        }
        for one in found.judged
        for said in one.verdicts
    ]
    return dump({"schema": CHECK, "image": found.image, "models": rows})


def as_text(found: Acceptance, width: int | None = None, color: bool = False) -> str:
    """For people: one line a verdict, in the order of the models' names."""
    said = [(one, verdict) for one in found.judged for verdict in one.verdicts]
    rows = [
        (
            verdict.verdict,
            f"{one.model} {one.version} ({one.evidence.value})",
            verdict.boot,
            hexadecimal(verdict.entry) or "-",
            verdict.rule or "-",
            verdict.message,
        )
        for one, verdict in said
    ]
    text = f"{printable(found.image)}\n\n"
    head, *lines = table(_HEAD, rows, width, shorten=5)
    text += (f"{BOLD}{'  '.join(head).rstrip()}{RESET}" if color else "  ".join(head).rstrip()) + "\n"
    for line, (_, verdict) in zip(lines, said, strict=True):
        first = f"{_COLORS[verdict.verdict]}{line[0]}{RESET}" if color else line[0]
        text += "  ".join((first, *line[1:])).rstrip() + "\n"
    if found.missing:
        text += f"\nnot accepted by {', '.join(one.model for one in found.missing)}\n"
        rules = sorted({v.rule for one in found.missing for v in one.verdicts if v.rule})
        if rules:
            text += f"`bootbuild explain {rules[0]}` says what a rule means\n"
    return text
