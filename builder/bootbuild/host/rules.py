"""Rules about plugins, BB-P001 to BB-P019."""

from __future__ import annotations

from bootbuild.model.rule import Rule

_METADATA = (
    "A plugin is found by the entry points in its distribution's metadata "
    "(Python packaging, entry points specification), so that only what is named is imported."
)

UNKNOWN = Rule(
    "BB-P001",
    "a plugin that is not installed",
    "Targets, guests, profiles and loader models are plugins, named `kind.name` in the entry-point group "
    "`bootbuild1`. " + _METADATA,
    "install the distribution that offers it; `bootbuild plugins` lists what there is",
)
DOUBLED = Rule(
    "BB-P002",
    "one name offered twice",
    "If two distributions offer the same name, which of them is used would depend on the order of sys.path. "
    "No image may depend on that.",
    "uninstall one of them, or leave it out with `-p no:DISTRIBUTION`",
)
MAJOR = Rule(
    "BB-P003",
    "a plugin for another plugin API",
    "The digit in the entry-point group is the major version of the plugin API (`bootbuild1` for 1). "
    "What was made for another one is listed, but never loaded.",
    "install a version of the plugin, or of bootbuild, so that both speak the same plugin API",
)
BROKEN = Rule(
    "BB-P004",
    "a plugin that does not load",
    "The module behind the entry point raised while it was imported, or what the entry point names is not "
    "in it, or it raised when it was called without arguments.",
    "repair or uninstall the distribution, or leave it out with `-p no:DISTRIBUTION`",
)
SHAPE = Rule(
    "BB-P005",
    "a plugin that lacks something of its kind",
    "What an entry point gives must have every attribute and method of its kind's protocol in "
    "`bootbuild.api`, under the name that the entry point promised.",
    "complete the plugin as `bootbuild.api` describes its kind",
)
KIND = Rule(
    "BB-P006",
    "an entry point that no kind of plugin fits",
    "The name of an entry point is `kind.name`; kinds are target, guest, profile, loader and hook, and the "
    "name of a profile is `target@name`.",
    "correct the entry point's name in the plugin's packaging metadata",
)
ADDITION = Rule(
    "BB-P007",
    "a wrong -p argument",
    "`-p MODULE:OBJECT` adds one plugin object that is importable but not installed; "
    "`-p no:DISTRIBUTION` leaves out an installed one.",
    "give MODULE:OBJECT or no:DISTRIBUTION, as `bootbuild plugins` names it",
)
HOOK_RAISED = Rule(
    "BB-P008",
    "a plugin that raised",
    "A hook, or another part of a plugin, raised an exception that is none of bootbuild's, or returned what "
    "it may not. Going on without it would give another result than was asked for.",
    "repair the plugin, or leave it out (`-p no:DISTRIBUTION`); BOOTBUILD_DEBUG=1 shows where it was",
)
HOOK_UNKNOWN = Rule(
    "BB-P009",
    "a hook that does not fit its specification",
    "Hooks are bootbuild_build, bootbuild_boot, bootbuild_judge and bootbuild_finished; an implementation "
    "may leave out arguments, not invent them.",
    "correct the name or the arguments of the hook",
)
PREFIX = Rule(
    "BB-P010",
    "a rule id that belongs to bootbuild",
    "Rule ids are stable names that users search for. The prefix `BB-` is bootbuild's own; two plugins must "
    "not give one id two meanings either.",
    "give the plugin's rules ids with a prefix of its own",
)

RULES = (UNKNOWN, DOUBLED, MAJOR, BROKEN, SHAPE, KIND, ADDITION, HOOK_RAISED, HOOK_UNKNOWN, PREFIX)
