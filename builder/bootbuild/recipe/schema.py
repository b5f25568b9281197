"""The keys of a recipe and their types, and `bootbuild schema`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta, Struct
from msgspec.json import schema_components

from bootbuild.model.rule import Rule
from bootbuild.recipe import rules, scalars


class Before(NamedTuple):
    """On a type: `read` makes of a recipe's value what is then held to the type, or says what is wrong."""

    read: Callable[[object], object]  #: raises ValueError
    rule: Rule  #: that a value breaks of which it does
    remedy: str = ""


def _one_line(value: object) -> object:
    """Text that can be a path or a command line: no NUL, no line break, and encodable."""
    if isinstance(value, str):
        if any(character in value for character in "\0\n\r"):
            raise ValueError("holds a NUL or a line break")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("is not UTF-8") from None
    return value


def _file_name(value: object) -> object:
    if isinstance(value, str) and ("/" in value or value.startswith(".")):
        raise ValueError("a file's name has no `/` and does not begin with a dot")
    return value


_PLACE = "write a symbol such as startup_64, or an address such as 0x1000000"
_NAME = "give a name alone; its folder is `output.directory`"
#: how a number may be written that is read from text, too
_WRITTEN = Meta(extra_json_schema={"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]})


def says(text: str) -> Meta:
    """What a key is, for readers of the schema."""
    return Meta(description=text)


Line = Annotated[str, Before(_one_line, rules.UNPRINTABLE)]
Text = Annotated[str, Meta(min_length=1)]
PathText = Annotated[Line, Meta(min_length=1)]
FileName = Annotated[PathText, Before(_file_name, rules.WRONG_VALUE, _NAME)]
Address = Annotated[int, Before(scalars.address, rules.WRONG_SCALAR), _WRITTEN]
Size = Annotated[int, Before(scalars.size, rules.WRONG_SCALAR), _WRITTEN]
Startup = Annotated[
    Annotated[int, Meta(ge=0)] | str, Before(scalars.symbol_or_address, rules.WRONG_SCALAR, _PLACE)
]
Width = Literal[32, 64]
Count = Annotated[int, Meta(gt=0, le=(1 << 63) - 1)]
Seconds = Annotated[float, Meta(gt=0, le=sys.float_info.max)]


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a recipe, their types, what they are, and their defaults."""


class ModuleTable(Table, frozen=True):
    """A file that is loaded beside the kernel."""

    path: Annotated[PathText, says("the file, relative to the recipe")] = ""
    cmdline: Annotated[Line, says("the module's own command line")] = ""


class PayloadTable(Table, frozen=True):
    """The kernel, and what is handed to it."""

    path: Annotated[PathText, says("ELF, bzImage or, with `load`, raw; relative to the recipe")] = ""
    guest: Annotated[
        str | None,
        says("handover protocol of the startup path: a plugin's name; default: as the kernel is"),
    ] = None
    startup: Annotated[Startup | None, says("symbol or address of the shared startup path")] = None
    width: Annotated[Width | None, says("mode of the code there; default: the ELF class")] = None
    symbols: Annotated[PathText | None, says("System.map of a payload without symbols")] = None
    cmdline: Annotated[Line, says("command line that every environment passes to the guest")] = ""
    modules: Annotated[list[ModuleTable], says("files loaded beside the kernel, in this order")] = []
    load: Annotated[
        Address | None,
        says("physical address of a raw kernel, or of a static PIE (ET_DYN)"),
    ] = None
    entry: Annotated[Address | None, says("physical entry of a raw kernel; default: `load`")] = None
    bss: Annotated[Size | None, says("bytes of zeros that a raw kernel expects behind itself")] = None
    paddr_offset: Annotated[
        Address | None,
        says("linked less load address of an ELF kernel whose p_paddr is its p_vaddr"),
    ] = None
    elf_class: Annotated[Width | None, says("ELF class of the images; default: the payload's")] = None
    repair: Annotated[bool, says("rewrite ELF notes on which loaders disagree")] = True


class TargetTable(Table, frozen=True, forbid_unknown_fields=False):
    """One way of being started. All other keys are options of the target's plugin."""

    entry: Annotated[
        Literal["insert", "native", "chain"],
        says(
            "insert: our stub makes the entry; native: the payload brings its own, prove it; "
            "chain: our stub runs first and goes on to the payload's own"
        ),
    ] = "insert"
    profiles: Annotated[list[str] | None, says("environments to boot in; default: all installed")] = None
    startup: Annotated[Startup | None, says("where this target joins; default: as the payload says")] = None


class OutputTable(Table, frozen=True):
    """Where images go."""

    directory: Annotated[PathText, says("folder of the images, relative to the recipe")] = "out"
    combine: Annotated[list[str], says("targets that share one file")] = []
    name: Annotated[
        FileName | None,
        says("name of the images, before target and suffix; default: the payload's"),
    ] = None


class ExpectTable(Table, frozen=True):
    """What an image must do after its handover."""

    console: Annotated[Text | None, says("text that must appear on a console")] = None
    reached: Annotated[
        Startup | None,
        says("symbol or address that must be reached after the startup path"),
    ] = None


class BootTable(Table, frozen=True):
    """The machine that images are tried on; what is absent the profile chooses."""

    memory: Annotated[Size | None, says("RAM in bytes")] = None
    budget: Annotated[Count | None, says("instructions that one run may take")] = None
    timeout: Annotated[Seconds | None, says("seconds of wall time that one run may take")] = None
    level: Annotated[
        Literal["stub", "handoff"] | None,
        says("where each boot ends: where a kernel's own stub hands it over, or at its startup path"),
    ] = None
    exact: Annotated[
        bool,
        says("whether a packed kernel unpacks itself alone, without the host's help"),
    ] = False


class RecipeTable(Table, frozen=True):
    """A bootbuild recipe: one payload in, images for every target out, each proved by booting it."""

    api: Annotated[Literal[1], says("version of the recipe format")] = 1
    payload: Annotated[PayloadTable, says("the kernel")] = PayloadTable()
    targets: Annotated[
        dict[str, TargetTable],
        says("one table for each way of being started; at least one"),
    ] = {}
    output: Annotated[OutputTable, says("where images go")] = OutputTable()
    expect: Annotated[ExpectTable, says("what an image must do after its handover")] = ExpectTable()
    boot: Annotated[BootTable, says("the machine that images are tried on")] = BootTable()


#: keys that must be written; they have a default, so that what else is wrong is told with their absence
_REQUIRED = {
    RecipeTable.__name__: ["api", "payload", "targets"],
    PayloadTable.__name__: ["path"],
    ModuleTable.__name__: ["path"],
}


def json_schema() -> str:
    """The JSON schema of recipes (draft 2020-12), as it is committed in docs/schema/recipe.json."""
    _, tables = schema_components([RecipeTable])
    for name, table in tables.items():
        required = table["required"] = _REQUIRED.get(name, [])
        keys = table["properties"].items()
        table["properties"] = {key: _as_toml(said, key in required) for key, said in keys}
    top = tables.pop(RecipeTable.__name__)
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps({"$schema": dialect, **top, "$defs": tables}, indent=2) + "\n"


def _as_toml(said: dict[str, Any], required: bool) -> dict[str, Any]:
    """What is said of one key, without null, which TOML has not, and without a default that says nothing."""
    said = {**said, "anyOf": [one for one in said.get("anyOf", ()) if one != {"type": "null"}]}
    if len(said["anyOf"]) == 1:
        said |= {"anyOf": (), **said["anyOf"][0]}
    left_out = set()
    if required or "$ref" in said or said.get("default") is None:
        left_out.add("default")
    left_out.add("type" if said["anyOf"] else "anyOf")  # what is written, not what is made of it
    return {key: value for key, value in said.items() if key not in left_out}
