"""docs/recipe.md is what the schema says: the same keys, types and defaults, and an example that boots."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bootbuild import pipeline
from bootbuild.cli.build import build
from bootbuild.formats.elf_read import read_elf
from bootbuild.host import Host
from bootbuild.model.content import FileContent
from bootbuild.recipe.faults import validate
from bootbuild.recipe.overrides import Overrides
from bootbuild.recipe.read import read
from bootbuild.recipe.schema import json_schema

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs/recipe.md"
#: recipe → `--payload` or `--module` → file, by the command that the recipe's first lines give
COMMANDS = {
    path: dict(re.findall(r"(--payload|--module) (\S+)", said[1]))
    for path in sorted((REPOSITORY / "recipes").glob("*.toml"))
    if (said := re.search(r"^#   bootbuild (.*)$", path.read_text(), re.MULTILINE))
}
TEXT = PAGE.read_text(encoding="utf-8")
SCHEMA = json.loads(json_schema())
TABLES = {
    "Top level": SCHEMA,
    "[payload]": SCHEMA["$defs"]["PayloadTable"],
    "[[payload.modules]]": SCHEMA["$defs"]["ModuleTable"],
    "[targets.NAME]": SCHEMA["$defs"]["TargetTable"],
    "[output]": SCHEMA["$defs"]["OutputTable"],
    "[expect]": SCHEMA["$defs"]["ExpectTable"],
    "[boot]": SCHEMA["$defs"]["BootTable"],
}
#: Defaults that are not in the schema, where None says that something else decides.
ELSEWHERE = {
    ("[payload]", "width"): "the ELF class",
    ("[payload]", "guest"): "`linux` for Linux",
    ("[output]", "name"): "the payload's",
    ("[payload]", "entry"): "`load`",
    ("[payload]", "bss"): "`0`",
    ("[payload]", "elf_class"): "the payload's",
    ("[targets.NAME]", "profiles"): "all installed",
    ("[targets.NAME]", "startup"): "`payload.startup`",
    ("[boot]", "memory"): "the profile's",
    ("[boot]", "budget"): f"`{pipeline.BUDGET:_}`",
    ("[boot]", "timeout"): f"`{pipeline.TIMEOUT}`",
}
TYPES: dict[str, dict[str, Any]] = {
    "path": {"type": "string", "minLength": 1},
    "text": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "table": {},
    "array of text": {"type": "array", "items": {"type": "string"}},
    "array of tables": {"type": "array", "items": {"$ref": "#/$defs/ModuleTable"}},
    "boolean": {"type": "boolean"},
    "Address": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]},
    "Size": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]},
    "text or Address": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]},
    "32 or 64": {"enum": [32, 64]},
}
NAMES = {str: "string", int: "integer"}


EXAMPLES = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
#: Keys that say what an ELF file says itself: in the second example, or for files that say it wrongly.
NOT_OF_ELF = {"load", "entry", "bss", "paddr_offset"}


def rows(heading: str) -> dict[str, tuple[str, str, str]]:
    """key → (type, default, meaning) of the table under a heading."""
    section = TEXT.split(f"\n### {heading}\n")[1].split("\n#")[0]
    cells = [
        [cell.strip() for cell in line[1:-1].split("|")]
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    return {key.strip("` "): (kind, default, meaning) for key, kind, default, meaning in cells}


@pytest.mark.parametrize("heading", TABLES)
def test_each_table_has_the_schemas_keys(heading: str) -> None:
    assert list(rows(heading)) == list(TABLES[heading]["properties"])
    assert all(meaning for _, _, meaning in rows(heading).values())


@pytest.mark.parametrize("heading", TABLES)
def test_types_and_defaults_are_the_schemas(heading: str) -> None:
    for key, (kind, default, _) in rows(heading).items():
        schema: dict[str, Any] = TABLES[heading]["properties"][key]
        if "enum" in schema:
            (of,) = {NAMES[type(value)] for value in schema["enum"]}
            schema = {"type": of, **schema}
        assert TYPES[kind].items() <= schema.items(), (heading, key)
        if key in TABLES[heading].get("required", ()):
            expected = "required"
        elif (heading, key) in ELSEWHERE:
            expected = ELSEWHERE[heading, key]
        else:
            expected = f"`{json.dumps(schema['default'])}`" if "default" in schema else ""
        assert default == expected, (heading, key)


@pytest.mark.parametrize("recipe", COMMANDS, ids=lambda path: path.name)
def test_a_recipe_wants_no_other_files_than_its_command_names(recipe: Path, tmp_path: Path) -> None:
    files = {option: tmp_path / Path(name).name for option, name in COMMANDS[recipe].items()}
    for file in files.values():
        file.write_bytes(b"a file")
    modules = tuple(str(file) for option, file in files.items() if option == "--module")
    assert read(recipe, Host.discover(), Overrides(str(files["--payload"]), modules)).path == recipe


@pytest.fixture
def example(tmp_path: Path, hello64: Path) -> Path:
    """The page's example, with the files that it names."""
    path = tmp_path / "recipe.toml"
    path.write_text(EXAMPLES[0])
    shutil.copy(hello64, tmp_path / "vmlinux")
    symbols = read_elf(FileContent(hello64), "hello64.elf").symbols
    listed = sorted((symbols[name], name) for name in ("startup_64", "hello"))
    (tmp_path / "System.map").write_text("".join(f"{at:016x} T {name}\n" for at, name in listed))
    (tmp_path / "initrd.cpio").write_bytes(b"a module\n" * 100)
    return path


def test_the_example_has_every_key_and_is_accepted(example: Path) -> None:
    tree = tomllib.loads(example.read_text())
    assert validate(tree)[1] == []
    found = {
        "Top level": tree,
        "[payload]": tree["payload"],
        "[[payload.modules]]": tree["payload"]["modules"][0],
        "[targets.NAME]": tree["targets"]["pvh"],
        **{f"[{name}]": tree[name] for name in ("output", "expect", "boot")},
    }
    unused = {name: NOT_OF_ELF if name == "[payload]" else set() for name in TABLES}
    assert {name: set(table) for name, table in found.items()} == {
        name: rows(name).keys() - unused[name] for name in TABLES
    }
    recipe = read(example, Host.discover())
    assert recipe.boot.memory == 256 << 20


def test_the_example_boots(example: Path) -> None:
    program = Path(sys.executable).with_name("bootbuild")
    done = subprocess.run([program, example], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_flat_binary_is_accepted_and_placed(tmp_path: Path) -> None:
    path = tmp_path / "flat.toml"
    path.write_text(EXAMPLES[1])
    (tmp_path / "kernel.bin").write_bytes(bytes(4096))
    host = Host.discover()
    payload = pipeline.read_payloads(read(path, host), host)["pvh"]
    assert (payload.format, payload.startup.paddr, payload.startup.width) == ("raw", 0x100010, 32)
    assert [(s.paddr, s.filesz, s.memsz) for s in payload.elf.loads] == [(0x100000, 4096, 4096 + 0x10000)]
    assert len(EXAMPLES) == 2


def test_every_override_of_the_command_is_on_the_page() -> None:
    section = TEXT.split("\n## Overrides\n")[1].split("\n## ")[0]
    named = set(re.findall(r"`?(--?[a-z]+)", "".join(re.findall(r"^\| .*? \|", section, re.MULTILINE))))
    shared = {"--force", "-f", "--json", "-q", "--quiet", "-v", "--verbose", "-p", "--no-plugins"}
    options = {name for one in build.params for name in one.opts if name.startswith("-")}
    assert named == options - shared


def test_the_error_on_the_page_is_the_one_that_is_printed(tmp_path: Path) -> None:
    (tmp_path / "kernel").touch()
    (tmp_path / "kernel.toml").write_text("api = 1\n[payload]\npth = 'kernel'\n[targets.pvh]\n")
    program = Path(sys.executable).with_name("bootbuild")
    done = subprocess.run([program, "kernel.toml"], cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = [line.removeprefix("bootbuild: error: ") for line in done.stderr.splitlines()]
    shown = re.findall(r"^    (kernel\.toml:.*)$", TEXT, re.MULTILINE)
    assert len(shown) == 1 and shown[0] in lines
