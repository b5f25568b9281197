"""Rules about recipes, BB-R001 to BB-R026."""

from __future__ import annotations

from bootbuild.model.rule import Rule

_STRICT = (
    "A recipe is read strictly: what bootbuild does not understand it does not skip, since a key that is "
    "skipped is a wish that is silently not granted."
)

UNREADABLE = Rule(
    "BB-R001",
    "a recipe that cannot be read",
    "A recipe is a regular file; folders, pipes and devices are not opened, since reading them may never "
    "end.",
    "give the path of a recipe; `bootbuild new hello DIR` makes one",
)
TOO_LARGE = Rule(
    "BB-R002",
    "a recipe that is too large",
    "A recipe is limited to 64 KiB, so that no input costs unbounded time or memory. A real one has 2 KiB.",
    "give a recipe, not the kernel",
)
NOT_TEXT = Rule(
    "BB-R003",
    "a recipe that is not UTF-8 text",
    "TOML 1.0 documents are UTF-8 without a byte-order mark and without control characters.",
    "save it as UTF-8 without a byte-order mark",
)
NOT_TOML = Rule(
    "BB-R004",
    "a recipe that is not TOML",
    "Recipes are TOML 1.0 documents (toml.io), which also forbids to give one key twice.",
    "correct the syntax at the place that is named",
)
TOO_DEEP = Rule(
    "BB-R005",
    "a recipe nested too deeply",
    "Nesting, and the parts of a dotted key, are limited to 32. No key of a recipe needs more than 4.",
    "flatten it",
)
API = Rule(
    "BB-R006",
    "a recipe without `api = 1`",
    "The first key says for which version of the recipe format it was written, so that a later bootbuild "
    "can never misunderstand it.",
    "write `api = 1` as the first line",
)
UNKNOWN_KEY = Rule("BB-R007", "an unknown key", _STRICT, "remove it; `bootbuild schema` describes all keys")
MISSING_KEY = Rule(
    "BB-R008",
    "a required key that is missing",
    "Only `api`, `payload.path`, one target, and the path of each module have no default.",
    "add it",
)
WRONG_TYPE = Rule(
    "BB-R009",
    "a value of the wrong type",
    _STRICT + ' Nothing is converted: "1" is no integer, 1 is no text.',
    "write the value as the type that is named",
)
WRONG_VALUE = Rule(
    "BB-R010",
    "a value that is not allowed",
    "The value has the right type but is outside of what the key can mean.",
    "give a value that the message allows",
)
UNKNOWN_TARGET = Rule(
    "BB-R011",
    "a target that is not installed",
    "Each table under [targets] is named after a target plugin.",
    "install its plugin; `bootbuild plugins` lists what there is",
)
UNKNOWN_GUEST = Rule(
    "BB-R012",
    "a guest that is not installed",
    "`payload.guest` names the handover protocol that the startup path speaks; each is a plugin.",
    "install its plugin; `bootbuild plugins` lists what there is",
)
UNKNOWN_PROFILE = Rule(
    "BB-R013",
    "a profile that is not installed",
    "A profile is one emulated firmware, loader or monitor of a target; each is a plugin.",
    "install its plugin; `bootbuild plugins` lists what there is",
)
FOREIGN_PROFILE = Rule(
    "BB-R014",
    "a profile of another target",
    "A profile starts an image by its own target's protocol and no other.",
    "name the profile under its own target",
)
NO_FILE = Rule(
    "BB-R015",
    "a file that is not there",
    "Paths in a recipe are relative to the recipe's folder, those on the command line to the current one, "
    "and must name regular files that can be read.",
    "correct the path, or make the file first",
)
SAME_MODULE = Rule(
    "BB-R016",
    "a module given twice",
    "The guest would get the same file as two modules, which is never what was meant.",
    "remove one of them",
)
NO_TARGET = Rule(
    "BB-R017",
    "a recipe without a target",
    "Without a target there is no image to build.",
    "add a table such as [targets.pvh]",
)
UNREAD_OPTION = Rule(
    "BB-R018",
    "an option that its target does not read",
    "Beside `entry`, `profiles` and `startup` a target has only the keys that its own plugin declares. "
    + _STRICT,
    "remove it",
)
COMBINE = Rule(
    "BB-R019",
    "a wrong list of targets to combine",
    "`output.combine` lists the targets that share one file: at least two, each once, each with its table.",
    "list targets of this recipe, each once",
)
OVERRIDE = Rule(
    "BB-R020",
    "an override that cannot be applied",
    "`--set KEY=VALUE` takes a dotted key of the recipe and a TOML value, or else plain text.",
    "write it as `--set payload.cmdline='console=ttyS0'`",
)
NO_PROFILE = Rule(
    "BB-R021",
    "a target that nothing would boot",
    "Every image is proved by booting it; an image without a profile would be written unproved.",
    "name at least one profile, or install a plugin with one",
)
SAME_PROFILE = Rule(
    "BB-R022",
    "a profile given twice",
    "The second run would say what the first did.",
    "remove one of them",
)
SAME_RECIPE = Rule(
    "BB-R023",
    "two recipes with one image",
    "An image is named after its payload and targets. Recipes of one command that share these and the output "
    "directory would overwrite each other's images.",
    "give each recipe once, or each its own `output.directory`",
)
WRONG_SCALAR = Rule(
    "BB-R024",
    "a malformed address or size",
    "Addresses and sizes are integers or text with an optional unit K, M, G, T (also KiB, MiB, GiB, TiB; "
    "powers of 1024), at least 0 and below 2^64.",
    'write for instance 0x100000, "1M" or "64MiB"',
)
UNPRINTABLE = Rule(
    "BB-R025",
    "text with a NUL or a line break",
    "Command lines end at a NUL in every boot protocol, and paths cannot hold one: what follows would be "
    "lost.",
    "remove the character",
)
NOT_EMPTY = Rule(
    "BB-R026",
    "a folder that cannot take a new example",
    "`bootbuild new` writes into a folder that is empty or not there yet, so that it overwrites nothing.",
    "name a folder that does not exist yet, where you may write",
)

RULES = (
    UNREADABLE,
    TOO_LARGE,
    NOT_TEXT,
    NOT_TOML,
    TOO_DEEP,
    API,
    UNKNOWN_KEY,
    MISSING_KEY,
    WRONG_TYPE,
    WRONG_VALUE,
    UNKNOWN_TARGET,
    UNKNOWN_GUEST,
    UNKNOWN_PROFILE,
    FOREIGN_PROFILE,
    NO_FILE,
    SAME_MODULE,
    NO_TARGET,
    UNREAD_OPTION,
    COMBINE,
    OVERRIDE,
    NO_PROFILE,
    SAME_PROFILE,
    SAME_RECIPE,
    WRONG_SCALAR,
    UNPRINTABLE,
    NOT_EMPTY,
)
