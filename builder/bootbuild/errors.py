"""Every way in which bootbuild itself can fail, with its exit code.

A guest that fails is a value (findings in a verdict, exit code 1). What is here are failures of the
input or of the tool: each carries *all* problems that were found, never only the first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from bootbuild.model.rule import Rule


class ExitCode(IntEnum):
    """What the `bootbuild` process returns."""

    OK = 0
    FAILED = 1  #: an image did not pass
    USAGE = 2  #: the command line is wrong (click's own code)
    RECIPE = 3  #: a recipe is wrong
    INPUT = 4  #: a payload, module or image is malformed
    REFUSED = 5  #: the input is sound, but what the recipe asks cannot be built from it
    PLUGIN = 6  #: a plugin is missing, doubled, or broken
    MACHINE = 7  #: the emulated machine failed its own self-test
    INCONCLUSIVE = 8  #: no image failed, but one could not be judged
    OUTPUT = 9  #: an output file cannot be written
    INTERNAL = 70  #: a defect of bootbuild (sysexits.h EX_SOFTWARE)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: `where: message (rule)`, and how to get on."""

    rule: Rule
    where: str  #: file, file:line, file: key, or file@offset
    message: str
    remedy: str = ""  #: overrides the rule's general remedy where a better one is known

    def __str__(self) -> str:
        remedy = self.remedy or self.rule.remedy
        text = f"{self.where}: {self.message} ({self.rule.id})"
        return f"{text}; {remedy}" if remedy else text


class BootbuildError(Exception):
    """Base of all; `problems` are printed one a line, `exit_code` is returned."""

    exit_code: ExitCode = ExitCode.INTERNAL

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class RecipeError(BootbuildError):
    """A recipe cannot be read or does not say something that can be done."""

    exit_code = ExitCode.RECIPE


class InputError(BootbuildError):
    """A payload, module or image is malformed, truncated or hostile."""

    exit_code = ExitCode.INPUT


class RefusedError(BootbuildError):
    """The request is understood and the input sound, but no image can be made of it."""

    exit_code = ExitCode.REFUSED


class PluginError(BootbuildError):
    """A plugin is unknown, offered twice, made for another API, or does not load."""

    exit_code = ExitCode.PLUGIN


class MachineError(BootbuildError):
    """The emulated core is not the one this version was made for."""

    exit_code = ExitCode.MACHINE


class VerificationError(BootbuildError):
    """What was written is not what was asked for: a defect of bootbuild or of a library, found in time."""

    exit_code = ExitCode.INTERNAL


class OutputError(BootbuildError):
    """An output file cannot be written; none is left half written."""

    exit_code = ExitCode.OUTPUT


class PluginDefect(Exception):
    """What a part of a plugin returned cannot be used. `Host.culprit` says whose plugin that is; one that
    comes with bootbuild is a defect of bootbuild.
    """

    def __init__(self, plugin: object, part: str, said: str) -> None:
        """`plugin`: the object; `part`: its method; `said`: what it did, after the name of its owner."""
        self.plugin = plugin
        self.where = f"{type(plugin).__module__}, {type(plugin).__qualname__}.{part}"
        self.said = said
        super().__init__(f"{self.where} {said}")
