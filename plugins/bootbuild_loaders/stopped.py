"""How a model leaves a file that its loader does not start."""

from __future__ import annotations

from bootbuild.api import Said


class Stopped(Exception):
    """The loader ends here: of itself ("refuse"), or because it dies or hangs ("crash").

    "ignore": nobody knows. `rule` is an id, `message` what the loader says.
    """

    def __init__(self, rule: str, message: str, verdict: Said = "refuse") -> None:
        super().__init__(message)
        self.rule, self.message, self.verdict = rule, message, verdict
