"""The keys of a recipe and their types, as pydantic models, and `bootbuild schema`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StrictStr,
    WithJsonSchema,
)
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticCustomError

from bootbuild.recipe import scalars


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
    level: Literal["stub", "handoff"] | None = Field(
        default=None,
        description="where each boot ends: where a kernel's own stub hands it over, or at its startup path",
    )
    exact: bool = Field(
        default=False, description="whether a packed kernel unpacks itself alone, without the host's help"
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
