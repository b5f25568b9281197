"""The report for people: a line for each boot, what profiles stand for, every finding with its remedy.

The same records give the same bytes: nothing here depends on time or host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bootbuild.model.record import BuildRecord
from bootbuild.model.trace import LINKED, BootTrace
from bootbuild.model.verdict import Evidence, Level, Outcome, ProfileVerdict
from bootbuild.report.runs import exact_run
from bootbuild.report.table import BOLD, GREEN, RED, RESET, YELLOW, printable, table

_COLORS = {Outcome.BOOTED: GREEN, Outcome.REFUSED: YELLOW, Outcome.FAILED: RED, Outcome.INCONCLUSIVE: YELLOW}
_HEAD = ("RESULT", "IMAGE", "PROFILE", "INSTRS", "REACHED")  # as narrow as ordinary cells: 80 to 100 columns

Boot = tuple[str, ProfileVerdict]  #: image, verdict


def build(records: Sequence[BuildRecord], width: int | None = None, color: bool = False) -> str:
    """The table and the findings of all images of all recipes."""
    boots = [
        (image.path, verdict) for record in records for image in record.images for verdict in image.verdicts
    ]
    notes = "".join(f"\n{printable(line)}\n" for record in records for line in _remarks(record))
    return _table(boots, width, color) + _findings(boots, color) + notes if records else ""


def _remarks(record: BuildRecord) -> Iterator[str]:
    """What was done to a payload beside adding to it, and what was not done to an image."""
    if record.payload_changes:
        yield f"{record.payload}: {', '.join(record.payload_changes)}"
    for image in record.images:
        if image.repairs:
            yield f"{image.path}: notes rewritten, since {'; '.join(image.repairs)}"
        if not image.verdicts:
            yield f"{image.path}: nothing booted it; it is unproved"
        refused = [v.name for v in image.verdicts if v.outcome is Outcome.REFUSED]
        if refused:
            yield (
                f"{image.path}: refused by {', '.join(refused)}, which the recipe does not name; "
                "list in `profiles` those that must start it"
            )


def boot(
    image: str,
    verdicts: Sequence[ProfileVerdict],
    trace: bool = False,
    width: int | None = None,
    color: bool = False,
) -> str:
    """The table, console, findings and, if asked for, the traces of one image."""
    boots = [(image, verdict) for verdict in verdicts]
    text = _table(boots, width, color) + _findings(boots, color)
    for verdict in verdicts:
        run = exact_run(verdict)
        if run is not None and run.console:
            text += f"\n{_strong(f'console in {verdict.name}', color)}\n" + _quoted(console_text(run))
        if trace and run is not None:
            text += f"\n{_strong(f'trace in {verdict.name}', color)}\n" + _trace(run)
    return text


def console_text(run: BootTrace) -> str:
    """What a guest printed; bytes that are no UTF-8 as escapes."""
    return run.console.decode("utf-8", "backslashreplace")


def _table(boots: Sequence[Boot], width: int | None, color: bool) -> str:
    """What was reached in which profile, never more than was seen; then what these profiles stand for."""
    rows = []
    for image, verdict in boots:
        run = exact_run(verdict)
        count = f"{run.instructions:,}" if run is not None else "-"
        reached = (verdict.reached or "nothing") if verdict.runs else "not started"
        rows.append((verdict.outcome.value, image, verdict.name, count, reached))
    head, *lines = table(_HEAD, rows, width, shorten=1, right=(3,))
    text = _strong("  ".join(head).rstrip(), color) + "\n"
    for line, (_, verdict) in zip(lines, boots, strict=True):
        outcome = f"{_COLORS[verdict.outcome]}{line[0]}{RESET}" if color else line[0]
        text += "  ".join((outcome, *line[1:])).rstrip() + "\n"
    verdicts = [verdict for _, verdict in boots]
    profiles = _held_to(verdicts) + _levels(verdicts) + _kernels(verdicts)
    return f"{text}\n{profiles}" if profiles else text


def _held_to(verdicts: Iterable[ProfileVerdict]) -> str:
    """Which version of the real program each profile is, and how that is known: a line for each way."""
    text = ""
    for evidence in Evidence:
        names = sorted({printable(f"{v.name} {v.version}") for v in verdicts if v.evidence is evidence})
        text += f"{evidence.value}: {', '.join(names)}\n" if names else ""
    return text


def _levels(verdicts: Sequence[ProfileVerdict]) -> str:
    """Up to which level each boot that has levels came: a line for each."""
    text = ""
    for level in Level:
        names = sorted({verdict.name for verdict in verdicts if verdict.level is level})
        text += f"level {level.value}: {', '.join(names)}\n" if names else ""
    return text


def _kernels(verdicts: Sequence[ProfileVerdict]) -> str:
    """By how much the kernel was moved, and who unpacked it, where that had to be: a line for each way."""
    names: dict[str, set[str]] = {}
    for verdict in verdicts:
        for text in _of_kernel(exact_run(verdict)):
            names.setdefault(text, set()).add(verdict.name)
    return "".join(f"{text}: {', '.join(sorted(names[text]))}\n" for text in sorted(names))


def _of_kernel(run: BootTrace | None) -> Iterator[str]:
    if run is None:
        return
    if run.unpacked:
        yield f"unpacked by {printable(run.unpacked)}"
    if run.placed is not None and run.placed != LINKED:
        virtually = f", virtually by {run.placed.virtual:+#x}" if run.placed.virtual else ""
        yield f"moved by {run.placed.physical:+#x}{virtually}"


def _findings(boots: Sequence[Boot], color: bool) -> str:
    """Every finding with its remedy and registers; what several profiles find alike is shown in full once.

    One line for an image that has given up where it may: nothing is wrong with it.
    """
    text = ""
    seen: dict[tuple[str, str, str], str] = {}
    for image, verdict in boots:
        where = _strong(f"{printable(image)} in {verdict.name}", color)
        if last_words := _gave_up(verdict):
            text += f"\n{where}: {printable(last_words)}\n"
            continue
        if verdict.findings:
            text += f"\n{where}\n"
        for finding in verdict.findings:
            text += f"  {finding.rule}: {printable(finding.message)}\n"
            first = seen.setdefault((image, finding.rule, finding.message), verdict.name)
            if first != verdict.name:
                text += f"    as in {first}\n"
                continue
            if finding.remedy:
                text += f"    {printable(finding.remedy)}\n"
            text += "".join(f"    | {printable(line)}\n" for line in finding.lines)
    if seen:
        rule = next(iter(seen))[1]
        text += f"\n`bootbuild explain {rule}` says more of a rule\n"
    return text


def _gave_up(verdict: ProfileVerdict) -> str:
    """What an image that ran, and was not to start here, said in the end; "" of any other."""
    run = exact_run(verdict)
    if run is None or verdict.outcome is not Outcome.REFUSED:
        return ""
    said = console_text(run).strip().splitlines()
    finding = verdict.findings[0]
    return f"{said[-1].strip() if said else finding.message} ({finding.rule})"


def _trace(run: BootTrace) -> str:
    lines = [f"  {address:#018x}  {size:5}\n" for address, size in run.blocks]
    if 0 < run.startup_blocks < len(lines):
        lines.insert(run.startup_blocks, "  -- startup path reached --\n")
    events = [f"  {event.ip:#018x}  {event.kind}: {printable(event.detail)}\n" for event in run.events]
    return "".join(lines + events)


def _quoted(text: str) -> str:
    lines = text.replace("\r\n", "\n").split("\n")
    return "".join(f"  | {printable(line)}".rstrip() + "\n" for line in (lines if lines[-1] else lines[:-1]))


def _strong(text: str, color: bool) -> str:
    return f"{BOLD}{text}{RESET}" if color else text
