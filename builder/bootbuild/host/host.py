"""The plugin host: one object per run that resolves names to plugins and loads only what is named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any, cast

from bootbuild.errors import BootbuildError, PluginDefect, PluginError, Problem
from bootbuild.host import rules
from bootbuild.host.discovery import KINDS, Offer, canonical, doubled, installed
from bootbuild.host.nearest import did_you_mean, shown

if TYPE_CHECKING:
    from bootbuild.api import Guest, Loader, Profile, Target
    from bootbuild.host.hooks import Hooks

CORE = "bootbuild"  #: the distribution whose plugins `--no-plugins` keeps
ADDED = "(-p)"  #: stands for the version of what `-p MODULE:OBJECT` added


class Host:
    """Names of plugins, and the plugins that were asked for so far. Not global: make one per run."""

    def __init__(
        self,
        offers: Iterable[Offer],
        added: Iterable[tuple[Offer, object]] = (),
        left_out: Iterable[Offer] = (),
    ) -> None:
        """`left_out` are never used; they make messages about what is missing true."""
        from bootbuild.api import API_VERSION

        added = tuple(added)
        self._api = API_VERSION
        self._offers = tuple(sorted({*offers, *(offer for offer, _ in added)}))
        self._own = tuple(offer for offer in self._offers if offer.major == API_VERSION)
        self._doubled = doubled(self._own)
        self._left_out = tuple(left_out)
        self._loaded: dict[Offer, object] = dict(added)
        self._hooks: Hooks | None = None

    @classmethod
    def discover(cls, plugins: bool = True, blocked: Sequence[str] = (), extra: Sequence[str] = ()) -> Host:
        """The host of everything installed.

        `plugins=False` keeps only bootbuild's own. `blocked` names distributions to leave out. `extra` are
        `-p` arguments: `module:object` adds a plugin object (imported at once), `no:DISTRIBUTION` blocks.
        Raises PluginError with every wrong one of them.
        """
        offers = installed()
        blocks = [*blocked, *(text[3:] for text in extra if text.startswith("no:"))]
        owners = {canonical(offer.distribution): offer.distribution for offer in offers}
        problems = [
            Problem(
                rules.ADDITION,
                f"-p no:{name}",
                f"no installed plugin is of the distribution {shown(name)}",
                did_you_mean(name, owners.values()),
            )
            for name in blocks
            if canonical(name) not in owners
        ]
        left_out = {canonical(name) for name in blocks}
        kept = [
            offer
            for offer in offers
            if (owner := canonical(offer.distribution)) not in left_out and (plugins or owner == CORE)
        ]
        added: list[tuple[Offer, object]] = []
        for text in dict.fromkeys(extra):
            if not text.startswith("no:"):
                try:
                    added.append(_added(text))
                except PluginError as error:
                    problems.extend(error.problems)
        if problems:
            raise PluginError(problems)
        return cls(kept, added, (offer for offer in offers if offer not in kept))

    def offers(self) -> tuple[Offer, ...]:
        """Everything that is offered for any plugin API, sorted: what `bootbuild plugins` shows."""
        return self._offers

    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the offers themselves, seen from metadata: doubled, misnamed, of another API."""
        found = [self._doubled_problem(several) for several in self._doubled.values()]
        found += [_kind_problem(offer) for offer in self._own if not offer.well_named]
        found += [self._major_problem(offer) for offer in self._offers if offer.major != self._api]
        return tuple(found)

    def names(self, kind: str) -> tuple[str, ...]:
        """The names of one kind, sorted, from metadata alone. KeyError for a kind that there is not."""
        if kind not in KINDS:
            raise KeyError(kind)
        return tuple(sorted({offer.name for offer in self._own if offer.kind == kind and offer.well_named}))

    def profiles_of(self, target: str) -> tuple[str, ...]:
        """Full names (`pvh@qemu`) of a target's profiles, sorted, from metadata alone."""
        return tuple(name for name in self.names("profile") if name.partition("@")[0] == target)

    def remedy(self, kind: str, name: str, known: Iterable[str]) -> str:
        """How to get on where no `kind` is called `name`: who has it but was left out, else what is near."""
        for offer in self._left_out:
            if (offer.kind, offer.name) == (kind, name):
                return f"`-p no:` or `--no-plugins` left out {offer.owner}, which offers it"
        return did_you_mean(name, known)

    def select(self, wanted: Iterable[str]) -> tuple[str, ...]:
        """Full names of the profiles that `wanted` names: `pvh@qemu` itself, or `pvh` for all of a target.

        Raises PluginError with every name that means no profile.
        """
        chosen: dict[str, None] = {}
        problems = []
        known = self.names("profile")
        for name in wanted:
            meant = [name] if name in known else list(self.profiles_of(name))
            chosen.update(dict.fromkeys(meant))
            if not meant:
                if "@" not in name and name in self.names("target"):
                    message = f"no profile of the target {name!r} is installed"
                    problems.append(Problem(rules.UNKNOWN, name, message))
                else:
                    problems.append(self._unknown("profile", name, {*known, *self.names("target")}))
        if problems:
            raise PluginError(problems)
        return tuple(chosen)

    def target(self, name: str) -> Target:
        """The target `name`. Raises PluginError, as the next three do."""
        return cast("Target", self._get("target", name))

    def guest(self, name: str) -> Guest:
        """The handover protocol `name`."""
        return cast("Guest", self._get("guest", name))

    def profile(self, name: str) -> Profile:
        """The profile with the full name `name`: "pvh@qemu"."""
        return cast("Profile", self._get("profile", name))

    def loader(self, name: str) -> Loader:
        """The loader model `name`."""
        return cast("Loader", self._get("loader", name))

    @property
    def hooks(self) -> Hooks:
        """The lifecycle hooks of all `hook.*` plugins; these are all loaded, in the order of their names."""
        if self._hooks is None:
            from bootbuild.host.hooks import Hooks

            found = [(self._find("hook", name), self._get("hook", name)) for name in self.names("hook")]
            self._hooks = Hooks([(offer.owner, offer.full_name, plugin) for offer, plugin in found])
        return self._hooks

    def load_all(self) -> tuple[Problem, ...]:
        """Load everything that loads; the problems of what does not."""
        problems: list[Problem] = []
        for kind in KINDS:
            for name in self.names(kind):
                try:
                    self._get(kind, name)
                except PluginError as error:
                    problems += error.problems
        return tuple(problems)

    def loaded(self) -> tuple[tuple[Offer, object], ...]:
        """What was loaded so far, sorted."""
        return tuple((offer, self._loaded[offer]) for offer in sorted(self._loaded))

    def active(self) -> tuple[tuple[str, str], ...]:
        """(distribution, version) of everything that was loaded so far, sorted: for the record."""
        return tuple(sorted({(offer.distribution, offer.version) for offer in self._loaded}))

    def culprit(self, error: BaseException) -> PluginError | None:
        """The plugin in whose code `error` was raised, as an error that names it; None if in nobody's.

        The innermost frame of a plugin that does not come with bootbuild counts; for a PluginDefect, the
        plugin that it speaks of.
        """
        if isinstance(error, PluginDefect):
            owners = [o for o, p in self._loaded.items() if p is error.plugin and o.distribution != CORE]
            said = " ".join(error.said.split())
            problems = [Problem(rules.HOOK_RAISED, error.where, f"{o.owner} {said}") for o in owners[:1]]
            return PluginError(problems) if problems else None
        foreign = {
            o.value.partition(":")[0].partition(".")[0]: o for o in self._loaded if o.distribution != CORE
        }
        found, step = None, error.__traceback__
        while step is not None:
            module = str(step.tb_frame.f_globals.get("__name__", ""))
            if module.partition(".")[0] in foreign:
                found = (foreign[module.partition(".")[0]], f"{module}, {step.tb_frame.f_code.co_qualname}")
            step = step.tb_next
        if found is None:
            return None
        offer, where = found
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return PluginError(Problem(rules.HOOK_RAISED, where, f"{offer.owner} raised {said}"))

    def _get(self, kind: str, name: str) -> object:
        offer = self._find(kind, name)
        if offer not in self._loaded:
            plugin = _load(offer)
            _check(offer, plugin)
            self._loaded[offer] = plugin
        return self._loaded[offer]

    def _find(self, kind: str, name: str) -> Offer:
        found = [offer for offer in self._own if (offer.kind, offer.name) == (kind, name)]
        if len(found) > 1:
            raise PluginError(self._doubled_problem(tuple(found)))
        if found and found[0].well_named:
            return found[0]
        if found:
            raise PluginError(_kind_problem(found[0]))
        for offer in self._offers:
            if (offer.kind, offer.name) == (kind, name):
                raise PluginError(self._major_problem(offer))
        raise PluginError(self._unknown(kind, name, self.names(kind)))

    def _unknown(self, kind: str, name: str, known: Iterable[str]) -> Problem:
        message = f"no {kind} of this name is installed"
        return Problem(rules.UNKNOWN, f"{kind} {shown(name)}", message, self.remedy(kind, name, known))

    def _doubled_problem(self, offers: Sequence[Offer]) -> Problem:
        owners = " and by ".join(f"{offer.owner} ({offer.value})" for offer in offers)
        return Problem(rules.DOUBLED, offers[0].full_name, f"offered by {owners}")

    def _major_problem(self, offer: Offer) -> Problem:
        message = f"{offer.owner} was made for plugin API {offer.major}, this bootbuild has {self._api}"
        return Problem(rules.MAJOR, offer.full_name, message)


def _kind_problem(offer: Offer) -> Problem:
    remedy = did_you_mean(offer.kind, KINDS) if offer.kind not in KINDS else ""
    message = f"the name of this entry point of {offer.owner} is not `kind.name` of a known kind"
    return Problem(rules.KIND, offer.full_name, message, remedy)


def _load(offer: Offer) -> Any:
    """Import what `offer` points to and, if it is a class, call it. Raises PluginError naming whose it is."""
    try:
        found = EntryPoint(name=offer.full_name, group=f"bootbuild{offer.major}", value=offer.value).load()
        return found() if isinstance(found, type) else found
    except BootbuildError:
        raise
    except (Exception, SystemExit) as error:  # foreign code may raise anything; it becomes one line
        message = f"{offer.value} of {offer.owner} does not load: {_said(error)}"
        raise PluginError(Problem(rules.BROKEN, offer.full_name, message)) from error


def _check(offer: Offer, plugin: object) -> None:
    """Raise PluginError with everything in which `plugin` is not what `offer` promises."""
    from bootbuild.host.shape import faults

    who = f"{offer.value} of {offer.owner}"
    problems = [
        Problem(rules.SHAPE, offer.full_name, f"{who} {fault}")
        for fault in faults(offer.kind, offer.name, plugin)
    ]
    if not problems and canonical(offer.distribution) != CORE:
        problems = [
            Problem(rules.PREFIX, offer.full_name, f"{who} defines the rule {rule.id}")
            for rule in getattr(plugin, "rules", ())
            if rule.id.startswith("BB-")
        ]
    if problems:
        raise PluginError(problems)


def _added(text: str) -> tuple[Offer, object]:
    """The plugin that `-p MODULE:OBJECT` names, under an offer of its own. Raises PluginError."""
    from bootbuild.api import API_VERSION
    from bootbuild.host.shape import kind_of, name_of

    where = f"-p {text}"
    module, colon, path = text.partition(":")
    if not (colon and module and path):
        raise PluginError(Problem(rules.ADDITION, where, "neither MODULE:OBJECT nor no:DISTRIBUTION"))
    plugin = _load(Offer("", where, where, "", text, API_VERSION))
    kind = kind_of(plugin)
    if kind is None:
        raise PluginError(Problem(rules.SHAPE, where, "fits no kind of plugin"))
    offer = Offer(kind, name_of(kind, plugin), where, ADDED, text, API_VERSION)
    _check(offer, plugin)
    return offer, plugin


def _said(error: BaseException) -> str:
    """An exception in one line of bounded length."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
