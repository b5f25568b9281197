"""Calling the lifecycle hooks: a typed front to pluggy, which names the plugin that raised."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from bootbuild.errors import BootbuildError, PluginError, Problem
from bootbuild.host import rules
from bootbuild.host.nearest import did_you_mean
from bootbuild.host.specs import Specs
from bootbuild.model.verdict import Finding

if TYPE_CHECKING:
    from bootbuild.api import Contribution, ElfImage, Payload, Profile, ProfileVerdict
    from bootbuild.model.contribution import Layout
    from bootbuild.model.record import BuildRecord

T = TypeVar("T")
HOOKS = tuple(name for name in vars(Specs) if name.startswith("bootbuild_"))


class Hooks:
    """The hooks of some plugins. With none of them every call costs nothing and changes nothing."""

    def __init__(self, plugins: Sequence[tuple[str, str, object]]) -> None:
        """`plugins`: (owner, entry point, plugin). Raises PluginError with every hook that does not fit."""
        self._manager = pluggy.PluginManager("bootbuild")
        self._manager.add_hookspecs(Specs)
        self._owners = {name: owner for owner, name, _ in plugins}
        problems: list[Problem] = []
        for owner, name, plugin in plugins:
            unknown = [
                attribute
                for attribute in dir(plugin)
                if attribute.startswith("bootbuild_") and attribute not in HOOKS
            ]
            for hook in unknown:
                message = f"{owner} implements {hook}, which is no hook"
                problems.append(Problem(rules.HOOK_UNKNOWN, name, message, did_you_mean(hook, HOOKS)))
            try:
                self._manager.register(plugin, name)
            except pluggy.PluginValidationError as error:
                said = re.sub(r"\s+", " ", str(error))
                problems.append(Problem(rules.HOOK_UNKNOWN, name, f"{owner}: {said}"))
        if problems:
            raise PluginError(problems)

    def build(
        self, payload: Payload, contributions: Sequence[Contribution], core: Callable[[], Layout]
    ) -> Layout:
        """The layout of the first plugin that makes one, else `core()`."""
        return self._first(core, "bootbuild_build", payload=payload, contributions=contributions)

    def boot(self, image: ElfImage, profile: Profile, core: Callable[[], ProfileVerdict]) -> ProfileVerdict:
        """The verdict of the first plugin that boots the image, else `core()`."""
        return self._first(core, "bootbuild_boot", image=image, profile=profile)

    def judge(self, verdict: ProfileVerdict) -> tuple[Finding, ...]:
        """The findings that plugins add to `verdict`."""
        found: list[object] = self._call("bootbuild_judge", verdict=verdict)
        for wrong in (one for one in found if one is not None and not isinstance(one, Finding)):
            owners = " or ".join(sorted(self._owners.values()))
            text = f"{owners} returned {wrong!r:.100}, which is no Finding"
            raise PluginError(Problem(rules.HOOK_RAISED, "bootbuild_judge", text))
        return tuple(finding for finding in found if isinstance(finding, Finding))

    def finished(self, record: BuildRecord) -> None:
        """Show every plugin the record."""
        self._call("bootbuild_finished", record=record)

    def _first(self, core: Callable[[], T], hook: str, **arguments: object) -> T:
        result: T | None = self._call(hook, **arguments)
        return core() if result is None else result

    def _call(self, hook: str, **arguments: object) -> Any:
        caller: pluggy.HookCaller = getattr(self._manager.hook, hook)
        try:
            return caller(**arguments)
        except BootbuildError:
            raise
        except (Exception, SystemExit) as error:  # foreign code may raise anything; it becomes one line
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            name = self._raiser(caller, error)
            who = self._owners.get(name, name)
            raise PluginError(Problem(rules.HOOK_RAISED, name, f"{hook} of {who} raised {said}")) from error

    def _raiser(self, caller: pluggy.HookCaller, error: BaseException) -> str:
        """The entry point whose implementation is in the traceback; all that could be, if none is."""
        implementations = caller.get_hookimpls()
        codes = {getattr(impl.function, "__code__", None): impl.plugin_name for impl in implementations}
        step = error.__traceback__
        while step is not None:
            if step.tb_frame.f_code in codes:
                return codes[step.tb_frame.f_code]
            step = step.tb_next
        return " or ".join(sorted(set(codes.values())))
