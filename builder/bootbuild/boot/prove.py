"""One image in one profile: three runs, compared and judged; what a guest relies on is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bootbuild.api.environment import Profile, has_levels, may_give_up
from bootbuild.api.loader import Loader, LoaderVerdict
from bootbuild.boot.judge import CLOCK
from bootbuild.boot.run import Run, Subject, run_once, scene_of
from bootbuild.errors import InputError
from bootbuild.model.machine import Filling
from bootbuild.model.verdict import Finding, Outcome, ProfileVerdict

_GARBAGE = (Filling.POISON_A, Filling.POISON_B)
_SLACK = 1_000_000  #: instructions that a poisoned run may always take


def prove(
    subject: Subject,
    profile: Profile,
    loader: Loader | None = None,
    *,
    required: bool = True,
    disabled: frozenset[str] = frozenset(),
) -> ProfileVerdict:
    """Boot three times and judge.

    A file that the profile's loader refuses is not booted: FAILED if it is `required` to boot here, else
    REFUSED; so is one that gives up where the profile allows that. `disabled` leaves out the findings of
    these rules: tests use it to see that each rule decides something.
    """
    refusal = _refusal(subject, profile, loader)
    runs: list[Run] = []
    if refusal:
        findings = refusal
    else:
        runs, findings = _three_runs(subject, profile)
    kept = tuple(dict.fromkeys(f for f in findings if f.rule not in disabled))
    refused = not required and (not runs or {f.rule for f in kept} <= may_give_up(profile))
    return ProfileVerdict(
        target=profile.target,
        profile=profile.name,
        version=profile.version,
        evidence=profile.evidence,
        outcome=Outcome.REFUSED if refused and kept else _outcome(runs, kept),
        findings=kept,
        runs=tuple(run.trace for run in runs),
        handover=runs[0].handover if runs else None,
        reached=runs[0].proved if runs else "",
        level=runs[0].level if runs and has_levels(profile) else None,
    )


_OTHER_WAY = "leave this profile out; `bootbuild check` shows by which protocols each loader starts the file"


def _refusal(subject: Subject, profile: Profile, loader: Loader | None) -> list[Finding]:
    """Why the profile's loader does not start the file as the profile would; empty if it does."""
    meant: set[int | None] = {None}
    if loader is not None:
        answers = loader.judge(subject.image.file)
        said = [v for v in answers if v.boot == profile.target]
        if not said:  # what refuses the file by another protocol has come to no protocol
            text = f"{loader.name} {loader.version} does not start this file as {profile.target}"
            return [_refused(loader, v) for v in answers if v.verdict == "refuse"] or [
                Finding("BB-B024", text, _OTHER_WAY)
            ]
        meant = {v.entry for v in said if v.verdict == "accept"}
        if not meant:
            return [_refused(loader, v) for v in said]
    try:
        scene = scene_of(profile, subject, Filling.EXACT)
    except InputError as error:
        return [Finding(p.rule.id, p.message, p.remedy or p.rule.remedy) for p in error.problems]
    if loader is not None and not meant & {None, scene.state.entry}:
        entries = ", ".join(f"{entry:#x}" for entry in meant if entry is not None)
        text = f"{loader.name} {loader.version} enters it at {entries}, the profile at {scene.state.entry:#x}"
        return [Finding("BB-B027", text)]
    return []


def _refused(loader: Loader, said: LoaderVerdict) -> Finding:
    """By the loader's own rule, in its own words."""
    text = f"{loader.name} {loader.version}: {said.verdict}"
    return Finding(said.rule or "BB-B024", f"{text}: {said.message}" if said.message else text)


def _three_runs(subject: Subject, profile: Profile) -> tuple[list[Run], list[Finding]]:
    """`_runs`; where one shows that the guest has to unpack itself without the host's help, all so."""
    runs, findings = _runs(subject, profile)
    alone = next((run.alone for run in runs if run.alone), "")
    return _runs(replace(subject, exact=alone), profile) if alone else (runs, findings)


def _runs(subject: Subject, profile: Profile) -> tuple[list[Run], list[Finding]]:
    """The exact run; then, if it passed, the two poisoned ones and what their differences mean."""
    exact = run_once(subject, profile, Filling.EXACT, subject.budget)
    runs = [exact]
    if exact.findings or exact.alone:
        return runs, list(exact.findings)
    # the first run tells how much a boot takes: a poisoned one that needs far more is lost
    budget = min(subject.budget, 4 * exact.trace.instructions + _SLACK)
    runs += [run_once(subject, profile, filling, budget) for filling in _GARBAGE]
    if any(run.alone for run in runs):
        return runs, []
    different = [run for run in runs[1:] if _differs(exact, run)]
    if different:
        return runs, list(_reliance(subject, profile, exact, different, budget))
    return runs, [f for run in runs for f in run.findings]  # of a clock that ran out


def _differs(exact: Run, run: Run) -> bool:
    """Whether a poisoned run proves a difference; one that the clock has ended proves nothing."""
    return run.conclusive and (bool(run.findings) or run.trace.digest != exact.trace.digest)


def _reliance(
    subject: Subject, profile: Profile, exact: Run, different: list[Run], budget: int
) -> Iterator[Finding]:
    """Poison each undefined thing alone: whichever changes the run is what the guest relies on."""
    found = False
    for undefined in profile.undefined:
        only = frozenset({undefined.name})
        for filling in _GARBAGE:
            run = run_once(subject, profile, filling, budget, only)
            if run.alone:  # with less garbage than the runs that were all right
                run = run_once(replace(subject, exact=run.alone), profile, filling, subject.budget, only)
            if _differs(exact, run):
                found = True
                change = _change(exact, run)
                by = undefined.by or profile.target
                text = f"relies on {undefined.name}, which {by} leaves undefined: {change}"
                yield Finding(undefined.rule, text, lines=run.findings[0].lines if run.findings else ())
                break
    if not found:
        run = different[0]
        text = f"with garbage in everything that {profile.target} leaves undefined: {_change(exact, run)}"
        yield Finding("BB-U009", text, lines=run.findings[0].lines if run.findings else ())


def _change(exact: Run, run: Run) -> str:
    """What a poisoned run did differently."""
    if run.findings:
        return run.findings[0].message
    if run.handover != exact.handover:
        return "what is handed over changes with it"
    for number, (ours, theirs) in enumerate(zip(exact.way, run.way, strict=False)):
        if ours[0] != theirs[0]:
            went, goes = exact.trace.blocks[number][0], run.trace.blocks[number][0]
            return f"it goes to {goes:#x} where it went to {went:#x}"
    return f"it runs {len(run.way)} blocks where it ran {len(exact.way)}"


def _outcome(runs: list[Run], findings: tuple[Finding, ...]) -> Outcome:
    if any(finding.rule != CLOCK for finding in findings):
        return Outcome.FAILED
    if findings or not runs or not all(run.conclusive and run.proved for run in runs):
        return Outcome.INCONCLUSIVE  # also when a rule was disabled: nothing is left to prove it by
    return Outcome.BOOTED
