"""What `bootbuild explain` says of a rule, a target, a guest, a profile or a loader model."""

from __future__ import annotations

import dataclasses
import textwrap

from bootbuild.api import Guest, Loader, Profile, Target
from bootbuild.errors import PluginError, Problem
from bootbuild.host import Host
from bootbuild.host.catalogue import all_rules, core_rules
from bootbuild.host.nearest import did_you_mean, shown
from bootbuild.host.rules import UNKNOWN
from bootbuild.model.rule import Rule

_KINDS = ("target", "guest", "profile", "loader")


def explain(topic: str, host: Host) -> str:
    """The text for `topic`. Raises PluginError for what nothing has that name."""
    texts = []  # a target and a guest may share a name: multiboot2, pvh
    if topic in host.names("target"):
        texts.append(_target(host.target(topic), host))
    if topic in host.names("guest"):
        texts.append(_guest(host.guest(topic)))
    if topic in host.names("profile"):
        texts.append(_profile(host.profile(topic)))
    if topic in host.names("loader"):
        texts.append(_loader(host.loader(topic)))
    if texts:
        return "\n".join(texts)
    catalogue = core_rules()
    if topic.upper() not in catalogue:
        host.load_all()
        catalogue = all_rules(host)
    found = catalogue.get(topic) or catalogue.get(topic.upper())
    if found is None:
        known = [*catalogue, *(name for kind in _KINDS for name in host.names(kind))]
        remedy = did_you_mean(topic, known) if len(known) < 10 else _nearest(topic, known)
        raise PluginError(
            Problem(UNKNOWN, shown(topic), "no rule, target, guest, profile or loader has this name", remedy)
        )
    return _rule(*found)


def _nearest(topic: str, known: list[str]) -> str:
    """A suggestion, but never a list of every rule there is."""
    if f"BB-{topic.upper()}" in known:
        return f"did you mean 'BB-{topic.upper()}'?"
    remedy = did_you_mean(topic, known)
    return remedy if remedy.startswith("did you mean") else "`bootbuild plugins` lists targets and profiles"


def _rule(rule: Rule, origin: str) -> str:
    return (
        f"{rule.id}: {rule.title} ({origin})\n\n"
        f"{_paragraph(rule.explanation)}\n\n{_paragraph('What to do: ' + rule.remedy + '.')}\n"
    )


def _loader(loader: Loader) -> str:
    text = f"loader {loader.name} {loader.version}: a model that `bootbuild check` asks\n\n"
    text += f"evidence: {loader.evidence.value}\n" + _paragraph(f"source: {loader.source}") + "\n"
    return text + _rules(loader.rules)


def _target(target: Target, host: Host) -> str:
    text = f"target {target.name}: {target.summary}\n"
    if target.options is not None:
        text += "\noptions:\n"
        for field in dataclasses.fields(target.options):
            default = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            text += f"  {field.name} = {default!r}  ({field.type})\n"
            if meaning := field.metadata.get("meaning"):
                text += f"      {meaning}\n"
    text += "".join(f"\nprofile {name}" for name in host.profiles_of(target.name)) + "\n"
    return text + _rules(target.rules)


def _guest(guest: Guest) -> str:
    widths = " and ".join(str(width) for width in guest.widths)
    return f"guest {guest.name}: {guest.summary}\n\nwidths: {widths}\n" + _rules(guest.rules)


def _profile(profile: Profile) -> str:
    text = f"profile {profile.target}@{profile.name}: {profile.summary}\n\n"
    text += f"version: {profile.version}\nevidence: {profile.evidence.value}\nsource: {profile.source}\n"
    if profile.loader:
        text += f"loader model: {profile.loader}\n"
    if profile.undefined:
        text += "\nundefined by its ABI, filled with garbage in the second and third run:\n"
        text += "".join(f"  {one.name} ({one.rule})\n" for one in profile.undefined)
    return text + _rules(profile.rules)


def _rules(rules: tuple[Rule, ...]) -> str:
    return "\nrules:\n" + "".join(f"  {rule.id}: {rule.title}\n" for rule in rules) if rules else ""


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 92, initial_indent="  ", subsequent_indent="  ")
