"""From a recipe file and the command line's overrides to a Recipe that can be built, or to every problem."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from bootbuild.errors import ExitCode, PluginError, Problem, RecipeError
from bootbuild.host import Host
from bootbuild.host.nearest import did_you_mean, shown
from bootbuild.model.rule import Rule
from bootbuild.model.verdict import Level
from bootbuild.recipe import rules
from bootbuild.recipe.faults import Fault, validate
from bootbuild.recipe.model import (
    BootRecipe,
    ExpectRecipe,
    ModuleRecipe,
    OutputRecipe,
    PayloadRecipe,
    Recipe,
    TargetRecipe,
)
from bootbuild.recipe.options import OWN, file_problem, read_options
from bootbuild.recipe.overrides import Overrides, apply
from bootbuild.recipe.positions import Key
from bootbuild.recipe.schema import PayloadTable, RecipeTable, TargetTable
from bootbuild.recipe.source import Source, read_source


def read(path: Path, host: Host, overrides: Overrides | None = None) -> Recipe:
    """The recipe at `path`. Raises RecipeError with all problems; PluginError if only plugins are wrong."""
    source = read_source(path)
    reader = _Reader(source, host)
    reader.problems += ((0, problem) for problem in apply(source, overrides or Overrides()))
    table, faults = validate(source.tree)
    for fault in faults:
        reader.fault(fault)
    recipe = reader.recipe(path, table)
    if reader.problems:
        problems = [problem for _, problem in sorted(reader.problems, key=lambda pair: pair[0])]
        if len(reader.plugin_problems) == len(problems):
            raise PluginError(problems)
        raise RecipeError(problems)
    if overrides is not None and overrides.output is not None:  # shown as it was given
        recipe = replace(recipe, output=replace(recipe.output, directory=Path(overrides.output)))
    return recipe


def read_all(paths: Sequence[Path], host: Host, overrides: Overrides | None = None) -> tuple[Recipe, ...]:
    """Read several recipes. Raises RecipeError (or PluginError) with the problems of all of them."""
    recipes: list[Recipe] = []
    problems: list[Problem] = []
    codes: set[ExitCode] = set()
    for path in paths:
        try:
            recipes.append(read(path, host, overrides))
        except (RecipeError, PluginError) as error:
            problems += error.problems
            codes.add(error.exit_code)
    outputs: dict[Path, list[str]] = {}
    for recipe in recipes:
        for output in _outputs(recipe):
            outputs.setdefault(output, []).append(str(recipe.path))
    for output, names in outputs.items():
        if len(names) > 1:
            message = f"{' and '.join(names)} would each write this image"
            problems.append(Problem(rules.SAME_RECIPE, str(output), message))
            codes.add(ExitCode.RECIPE)
    if problems:
        raise (PluginError if codes == {ExitCode.PLUGIN} else RecipeError)(problems)
    return tuple(recipes)


def _outputs(recipe: Recipe) -> list[Path]:
    """What tells the recipe's images apart from another's: folder, payload, and the targets in each."""
    combined = [name for name in recipe.targets if name in recipe.output.combine]
    groups = [combined] * bool(combined)
    groups += [[name] for name in recipe.targets if name not in recipe.output.combine]
    images = [recipe.image(group) for group in groups]
    return [image.parent.resolve() / image.name for image in images]


@dataclass
class _Reader:
    """Makes the values of one recipe, and collects what is wrong on the way."""

    source: Source
    host: Host
    problems: list[tuple[int, Problem]] = field(default_factory=list)  #: with their lines
    plugin_problems: list[Problem] = field(default_factory=list)

    def recipe(self, path: Path, table: RecipeTable) -> Recipe:
        """The whole; of use only if `problems` stays empty."""
        base = path.parent
        if "api" not in self.source.tree:
            self.add((), rules.API, "the key `api` is missing")
        if not self.source.tree.get("targets"):
            self.add((), rules.NO_TARGET, "no target is asked for")
        targets = {name: self.target(base, name, target) for name, target in table.targets.items()}
        self.combine(table.output.combine, targets)
        return Recipe(
            path=path,
            payload=self.payload(base, table.payload),
            targets=MappingProxyType(targets),
            output=OutputRecipe(
                base / table.output.directory, tuple(table.output.combine), table.output.name
            ),
            expect=ExpectRecipe(table.expect.console, table.expect.reached),
            boot=BootRecipe(
                table.boot.memory,
                table.boot.budget,
                table.boot.timeout,
                None if table.boot.level is None else Level(table.boot.level),
                table.boot.exact,
            ),
            places=self.places(targets),
        )

    def places(self, targets: Iterable[str]) -> Mapping[str, str]:
        """Of every key that may name a place in the kernel."""
        keys: list[Key] = [("payload", "startup"), ("expect", "reached")]
        keys += [("targets", name, "startup") for name in targets]
        return MappingProxyType({".".join(map(str, key)): self.source.where(key) for key in keys})

    def payload(self, base: Path, table: PayloadTable) -> PayloadRecipe:
        """The [payload] table; its files must be there."""
        at: Key = ("payload",)
        if table.guest is not None:
            self.known("guest", table.guest, (*at, "guest"), rules.UNKNOWN_GUEST)
        modules = []
        seen: dict[str, int] = {}
        for index, module in enumerate(table.modules):
            key: Key = (*at, "modules", index, "path")
            path = self.file(base, module.path, key)
            modules.append(ModuleRecipe(path, module.cmdline))
            first = seen.setdefault(os.path.realpath(path), index)
            if module.path and first != index:
                self.add(key, rules.SAME_MODULE, f"{shown(module.path)} is module {first} already")
        return PayloadRecipe(
            path=self.file(base, table.path, (*at, "path")),
            guest=table.guest,
            startup=table.startup,
            width=table.width,
            symbols=self.file(base, table.symbols, (*at, "symbols")) if table.symbols is not None else None,
            cmdline=table.cmdline,
            modules=tuple(modules),
            load=table.load,
            entry=table.entry,
            bss=table.bss,
            paddr_offset=table.paddr_offset,
            elf_class=table.elf_class,
            repair=table.repair,
        )

    def target(self, base: Path, name: str, table: TargetTable) -> TargetRecipe:
        """One table under [targets]: its plugin, profiles and options."""
        at: Key = ("targets", name)
        profiles, options = None, None
        if self.known("target", name, at, rules.UNKNOWN_TARGET):
            profiles = self.profiles(name, table.profiles, at)
            try:
                plugin = self.host.target(name)
            except PluginError as error:
                self.plugin_problems += error.problems
                self.problems += ((self.source.line(at), problem) for problem in error.problems)
            else:
                written = self.source.tree["targets"][name]
                keys = {key: value for key, value in written.items() if key not in OWN}
                options, faults = read_options(plugin.options, keys, at, base)
                for fault in faults:
                    self.fault(fault)
        return TargetRecipe(name, table.entry, profiles, table.startup, options)

    def profiles(self, target: str, names: list[str] | None, at: Key) -> tuple[str, ...] | None:
        """Full names of the profiles that are asked for."""
        own = self.host.profiles_of(target)
        if names is None:
            if not own:
                self.add(at, rules.NO_PROFILE, f"no profile of the target {target!r} is installed")
            return None
        if not names:
            self.add((*at, "profiles"), rules.NO_PROFILE, "no profile is named")
        everything = {full.partition("@")[2]: full for full in self.host.names("profile")}
        chosen: list[str] = []
        for index, name in enumerate(names):
            key: Key = (*at, "profiles", index)
            full = name if "@" in name else f"{target}@{name}"
            if full in chosen:
                self.add(key, rules.SAME_PROFILE, f"{shown(name)} is named already")
            elif full not in own and (name in everything or name in everything.values()):
                other = everything.get(name, name).partition("@")[0]
                message = f"{shown(name)} is a profile of {other!r}, not of {target!r}"
                self.add(key, rules.FOREIGN_PROFILE, message)
            elif full not in own:
                message = f"no profile {shown(name)} of {target!r} is installed"
                remedy = self.host.remedy("profile", full, [one.partition("@")[2] for one in own])
                self.add(key, rules.UNKNOWN_PROFILE, message, remedy)
            chosen.append(full)
        return tuple(chosen)

    def combine(self, names: Sequence[str], targets: Mapping[str, TargetRecipe]) -> None:
        """`output.combine`: at least two, each once, each a target of this recipe."""
        at: Key = ("output", "combine")
        for index, name in enumerate(names):
            if name in names[:index]:
                self.add((*at, index), rules.COMBINE, f"{shown(name)} is listed already")
            elif name not in self.source.tree.get("targets", {}):
                remedy = did_you_mean(name, targets)
                self.add((*at, index), rules.COMBINE, f"{shown(name)} is no target of this recipe", remedy)
        if len(names) == 1:
            self.add(at, rules.COMBINE, "one target alone cannot be combined")

    def file(self, base: Path, name: str, key: Key) -> Path:
        """The path of a file that must be there; `name` is "" where the key is missing, or is reported."""
        path = base / name
        if not name:
            if not self.reported(key):
                self.add(key, rules.MISSING_KEY, "this key is required")
            return path
        problem = file_problem(path)
        if problem:
            self.add(key, rules.NO_FILE, problem)
        return path

    def known(self, kind: str, name: str, key: Key, rule: Rule) -> bool:
        """Whether a plugin of this kind and name is installed; if not, that is a problem."""
        names = self.host.names(kind)
        if name not in names:
            remedy = self.host.remedy(kind, name, names)
            self.add(key, rule, f"no {kind} {shown(name)} is installed", remedy)
        return name in names

    def fault(self, fault: Fault) -> None:
        """Report what the schema does not accept."""
        self.add(fault.key, fault.rule, fault.message, fault.remedy)

    def add(self, key: Key, rule: Rule, message: str, remedy: str = "") -> None:
        """Report a problem at `key`."""
        self.problems.append((self.source.line(key), Problem(rule, self.source.where(key), message, remedy)))

    def reported(self, key: Key) -> bool:
        """Whether a problem at `key`, or at a table around it, is reported already."""
        places = {self.source.where(key[:length]) for length in range(1, len(key) + 1)}
        return any(problem.where in places for _, problem in self.problems)
