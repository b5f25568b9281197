"""The keys of a recipe and their types, as pydantic models: validated from here, and `bootbuild schema`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StrictStr,
    ValidationError,
    WithJsonSchema,
)
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticCustomError

from bootbuild.host.nearest import did_you_mean, shown
from bootbuild.model.rule import Rule
from bootbuild.recipe import rules, scalars
from bootbuild.recipe.positions import Key


def _one_line(text: str) -> str:
    """Text that can be a path or a command line: no NUL, no line break, and encodable."""
    if any(character in text for character in "\0\n\r"):
        raise PydanticCustomError("unprintable", "holds a NUL or a line break")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("unprintable", "is not UTF-8") from None
    return text


def _file_name(text: str) -> str:
    if "/" in text or text.startswith("."):
        raise PydanticCustomError("file_name", "is no name of a file")
    return text


def _scalar(convert: Callable[[object], int | str]) -> PlainValidator:
    """A validator by a function of `scalars`."""

    def validate(value: object) -> int | str:
        try:
            return convert(value)
        except ValueError as error:
            raise PydanticCustomError("scalar", "{said}", {"said": str(error)}) from None

    return PlainValidator(validate)


def _integer(value: object) -> object:
    """To Python True and 1.0 equal 1; to a recipe they are other things."""
    if type(value) is not int:
        raise PydanticCustomError("int_type", "is no integer")
    return value


_NUMBER_OR_TEXT = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}

Line = Annotated[StrictStr, AfterValidator(_one_line)]
PathText = Annotated[Line, Field(min_length=1)]
FileName = Annotated[PathText, AfterValidator(_file_name)]
Address = Annotated[int, _scalar(scalars.address), WithJsonSchema(_NUMBER_OR_TEXT)]
Size = Annotated[int, _scalar(scalars.size), WithJsonSchema(_NUMBER_OR_TEXT)]
Startup = Annotated[str | int, _scalar(scalars.symbol_or_address), WithJsonSchema(_NUMBER_OR_TEXT)]
Width = Annotated[Literal[32, 64], BeforeValidator(_integer)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ModuleTable(_Table):
    """A file that is loaded beside the kernel."""

    model_config = ConfigDict(json_schema_extra={"required": ["path"]})

    path: PathText = Field(default="", description="the file, relative to the recipe")
    cmdline: Line = Field(default="", description="the module's own command line")


class PayloadTable(_Table):
    """The kernel, and what is handed to it."""

    model_config = ConfigDict(json_schema_extra={"required": ["path"]})

    path: PathText = Field(
        default="", description="ELF, bzImage or, with `load`, raw; relative to the recipe"
    )
    guest: StrictStr | None = Field(
        default=None,
        description="handover protocol of the startup path: a plugin's name; default: as the kernel is",
    )
    startup: Startup | None = Field(default=None, description="symbol or address of the shared startup path")
    width: Width | None = Field(default=None, description="mode of the code there; default: the ELF class")
    symbols: PathText | None = Field(default=None, description="System.map of a payload without symbols")
    cmdline: Line = Field(default="", description="command line that every environment passes to the guest")
    modules: list[ModuleTable] = Field(
        default=[], description="files loaded beside the kernel, in this order"
    )
    load: Address | None = Field(
        default=None, description="physical address of a raw kernel, or of a static PIE (ET_DYN)"
    )
    entry: Address | None = Field(default=None, description="physical entry of a raw kernel; default: `load`")
    bss: Size | None = Field(
        default=None, description="bytes of zeros that a raw kernel expects behind itself"
    )
    paddr_offset: Address | None = Field(
        default=None, description="linked less load address of an ELF kernel whose p_paddr is its p_vaddr"
    )
    elf_class: Width | None = Field(
        default=None, description="ELF class of the images; default: the payload's"
    )
    repair: bool = Field(default=True, description="rewrite ELF notes on which loaders disagree")


class TargetTable(_Table):
    """One way of being started. All other keys are options of the target's plugin."""

    model_config = ConfigDict(extra="allow")

    entry: Literal["insert", "native", "chain"] = Field(
        default="insert",
        description="insert: our stub makes the entry; native: the payload brings its own, prove it; "
        "chain: our stub runs first and goes on to the payload's own",
    )
    profiles: list[StrictStr] | None = Field(
        default=None, description="environments to boot in; default: all installed"
    )
    startup: Startup | None = Field(
        default=None, description="where this target joins; default: as the payload says"
    )


class OutputTable(_Table):
    """Where images go."""

    directory: PathText = Field(default="out", description="folder of the images, relative to the recipe")
    combine: list[StrictStr] = Field(default=[], description="targets that share one file")
    name: FileName | None = Field(
        default=None, description="name of the images, before target and suffix; default: the payload's"
    )


class ExpectTable(_Table):
    """What an image must do after its handover."""

    console: Annotated[StrictStr, Field(min_length=1)] | None = Field(
        default=None, description="text that must appear on a console"
    )
    reached: Startup | None = Field(
        default=None, description="symbol or address that must be reached after the startup path"
    )


class BootTable(_Table):
    """The machine that images are tried on; what is absent the profile chooses."""

    memory: Size | None = Field(default=None, description="RAM in bytes")
    budget: int | None = Field(
        default=None, gt=0, lt=1 << 63, description="instructions that one run may take"
    )
    timeout: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="seconds of wall time that one run may take"
    )


class RecipeTable(_Table):
    """A bootbuild recipe: one payload in, images for every target out, each proved by booting it."""

    model_config = ConfigDict(json_schema_extra={"required": ["api", "payload", "targets"]})

    api: Annotated[Literal[1], BeforeValidator(_integer)] = Field(
        default=1, description="version of the recipe format"
    )
    payload: PayloadTable = Field(default=PayloadTable(), description="the kernel")
    targets: dict[str, TargetTable] = Field(
        default={}, description="one table for each way of being started; at least one"
    )
    output: OutputTable = Field(default=OutputTable(), description="where images go")
    expect: ExpectTable = Field(default=ExpectTable(), description="what an image must do after its handover")
    boot: BootTable = Field(default=BootTable(), description="the machine that images are tried on")


@dataclass(frozen=True)
class Fault:
    """One key that the schema does not accept."""

    key: Key
    rule: Rule
    message: str
    remedy: str = ""


_TYPES = {
    "string_type": "must be text",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be an array",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
}


_BOUNDED = "give a number within these bounds, or leave the key out"
_EMPTY = ("must not be empty", "write something, or leave the key out")
#: what pydantic says of a value in its own words, in ours, with a remedy
_VALUES = {
    "string_too_short": _EMPTY,
    "too_short": _EMPTY,
    "greater_than": ("must be above 0", _BOUNDED),
    "less_than": ("must be below 2^63", _BOUNDED),
    "finite_number": ("must be a finite number", _BOUNDED),
    "file_name": (
        "a file's name has no `/` and does not begin with a dot",
        "give a name alone; its folder is `output.directory`",
    ),
}
_PLACES = "startup", "reached"  #: keys that name a place in the kernel


def validate(tree: Mapping[str, Any]) -> tuple[RecipeTable, list[Fault]]:
    """The recipe without what is wrong in it, and everything that is."""
    try:
        return RecipeTable.model_validate(tree), []
    except ValidationError as error:
        faults = [_fault(details) for details in error.errors(include_url=False, include_context=False)]
    return RecipeTable.model_validate(_without(tree, {fault.key for fault in faults})), faults


def _fault(details: Mapping[str, Any]) -> Fault:
    key: Key = tuple(details["loc"])
    kind, said, value = details["type"], details["msg"], details["input"]
    if key == ("api",):
        return Fault(key, rules.API, f"recipe format {shown(value)} is not known to this bootbuild")
    if kind == "extra_forbidden":
        return Fault(key, rules.UNKNOWN_KEY, "unknown key", did_you_mean(key[-1], _known(key[:-1])))
    if kind in _TYPES:
        return Fault(key, rules.WRONG_TYPE, f"{_TYPES[kind]}, not {_type_name(value)}")
    if kind == "scalar":
        remedy = "write a symbol such as startup_64, or an address such as 0x1000000"
        remedy = remedy if key[-1] in _PLACES else ""
        return Fault(key, rules.WRONG_SCALAR, f"{shown(value)}: {said}", remedy)
    if kind == "unprintable":
        return Fault(key, rules.UNPRINTABLE, said)
    text, remedy = _VALUES.get(kind, (f"{said[:1].lower()}{said[1:]}", ""))
    return Fault(key, rules.WRONG_VALUE, f"{shown(value)}: {text}", remedy)


def _known(table: Key) -> list[str]:
    """The keys of the table at `table`."""
    tables: dict[Key, type[BaseModel]] = {
        (): RecipeTable,
        ("payload",): PayloadTable,
        ("payload", "modules"): ModuleTable,
        ("output",): OutputTable,
        ("expect",): ExpectTable,
        ("boot",): BootTable,
    }
    return list(tables[tuple(part for part in table if isinstance(part, str))].model_fields)


def _type_name(value: object) -> str:
    names = {
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "text",
        list: "an array",
        dict: "a table",
    }
    return names.get(type(value), "a date or time")


def _without(tree: Any, bad: set[Key], at: Key = ()) -> Any:
    """A copy of `tree` that lacks the keys in `bad`; with a bad element an array goes as a whole."""
    if isinstance(tree, dict):
        return {
            key: _without(value, bad, (*at, key))
            for key, value in tree.items()
            if (*at, key) not in bad
            and not (isinstance(value, list) and any((*at, key, i) in bad for i in range(len(value))))
        }
    if isinstance(tree, list):
        return [_without(value, bad, (*at, index)) for index, value in enumerate(tree)]
    return tree


def json_schema() -> str:
    """The JSON schema of recipes (draft 2020-12), as it is committed in docs/schema/recipe.json."""
    schema = _as_toml(RecipeTable.model_json_schema(schema_generator=_Untitled))
    return json.dumps({"$schema": _Untitled.schema_dialect, **schema}, indent=2) + "\n"


class _Untitled(GenerateJsonSchema):
    """No titles that only repeat the key."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never."""
        return False


def _as_toml(schema: Any) -> Any:
    """A copy of `schema` without null, which TOML has not, and without defaults of what is required."""
    if isinstance(schema, list):
        return [_as_toml(one) for one in schema if one != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    required = schema.get("minLength") and schema.get("default") == ""
    no_default = required or schema.get("default") is None or "const" in schema or "$ref" in schema
    plain = {key: _as_toml(value) for key, value in schema.items() if key != "default" or not no_default}
    if len(plain.get("anyOf", ())) == 1:
        plain |= plain.pop("anyOf")[0]
    return plain
