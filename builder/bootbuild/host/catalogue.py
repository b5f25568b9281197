"""Every rule there is, with whose it is: those of core's packages, and those of loaded plugins."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping

import bootbuild
from bootbuild.host.host import Host
from bootbuild.model.rule import Rule

#: RULES that are in no package's `rules`
ELSEWHERE = (
    "bootbuild.store",
    "bootbuild.boot.subject",
    "bootbuild.containers.pe_rules",
    "bootbuild.platform.uefi.rules",
)
Catalogue = Mapping[str, tuple[Rule, str]]  #: rule id → the rule, and the package or plugin that it is from


def core_rules() -> Catalogue:
    """The rules of every package of bootbuild that has a `rules` module; these import nothing heavy."""
    packages = [f"bootbuild.{one.name}" for one in pkgutil.iter_modules(bootbuild.__path__) if one.ispkg]
    modules = [
        name for name in (f"{package}.rules" for package in packages) if importlib.util.find_spec(name)
    ]
    return {
        rule.id: (rule, name.removesuffix(".rules"))
        for name in sorted((*modules, *ELSEWHERE))
        for rule in importlib.import_module(name).RULES
    }


def all_rules(host: Host) -> Catalogue:
    """Core's rules, then those of every plugin that `host` has loaded; core's meaning of an id wins."""
    found: dict[str, tuple[Rule, str]] = {}
    for offer, plugin in host.loaded():
        for rule in getattr(plugin, "rules", ()):
            found.setdefault(rule.id, (rule, f"{offer.full_name} of {offer.owner}"))
    return {**found, **core_rules()}
