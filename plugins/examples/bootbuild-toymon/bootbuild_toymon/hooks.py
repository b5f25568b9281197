"""Hook `toymon-console`: a finding that core cannot know of, about what a guest printed."""

from __future__ import annotations

from bootbuild.api import Finding, ProfileVerdict, Rule, hookimpl

NOT_ASCII = Rule(
    "TOYMON-007",
    "console output that toymon cannot show",
    "toymon's console is ASCII; other bytes are dropped, and with them perhaps the one line that mattered.",
    "print ASCII only",
)


class ToymonConsole:
    """Asked for every verdict of every build, whatever the target: so it looks first whether it is meant."""

    rules = (NOT_ASCII,)

    @hookimpl
    def bootbuild_judge(self, verdict: ProfileVerdict) -> Finding | None:
        if verdict.target != "toymon":
            return None
        lines = [line for run in verdict.runs for line in run.console.splitlines() if not line.isascii()]
        return Finding(NOT_ASCII.id, f"it printed {lines[0]!r}") if lines else None
