"""docs/commands.md names every command, option, exit code, JSON key and enumeration, and no other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import click
import pytest

from bootbuild.abi.handover import BootType, HypervisorType, boot_type_name, hypervisor_type_name
from bootbuild.api import Said
from bootbuild.cli import INTERRUPTED
from bootbuild.cli.group import BROKEN_PIPE
from bootbuild.cli.group import bootbuild as group
from bootbuild.errors import ExitCode
from bootbuild.host.discovery import KINDS
from bootbuild.model.trace import StopKind
from bootbuild.model.verdict import Evidence, Outcome
from debian_kernels import Kernels

PAGE = Path(__file__).resolve().parents[2] / "docs/commands.md"
TEXT = PAGE.read_text(encoding="utf-8")
PROGRAM = Path(sys.executable).with_name("bootbuild")
#: Dictionaries whose keys are names of something else: targets, fields of Linux's setup header.
OPEN = ("entries", "setup")


def section(heading: str) -> str:
    """The text under a heading, up to the next of the same or a higher level."""
    level = heading.split(" ", maxsplit=1)[0]
    return re.split(rf"^#{{1,{len(level)}}} ", TEXT.split(f"\n{heading}\n")[1], flags=re.MULTILINE)[0]


def names_of(command: click.Command) -> set[str]:
    """The names of a command's options, `--help` aside."""
    return {name for one in command.params if isinstance(one, click.Option) for name in one.opts}


def shared() -> set[str]:
    """Options that two or more commands have and that mean the same in each."""
    return {"--json", "-q", "--quiet", "-v", "--verbose", "-p", "--no-plugins"}


def in_tables(text: str) -> set[str]:
    """Options in the first column of a section's tables."""
    cells = re.findall(r"^\| (`-.*?) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(--?[a-z-]+)`", cell)}


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    assert re.findall(r"^### ([a-z]+)$", section("## Commands"), re.MULTILINE) == [
        "build", "boot", "inspect", "check", "explain", "plugins", "schema", "new",
    ]  # fmt: skip
    assert set(group.commands) == set(re.findall(r"^### ([a-z]+)$", section("## Commands"), re.MULTILINE))


@pytest.mark.parametrize("name", sorted(group.commands))
def test_every_option_is_named_and_no_other(name: str) -> None:
    text, options = section(f"### {name}"), names_of(group.commands[name])
    assert in_tables(text) == options - shared()
    common = options & shared()
    if name in {"boot", "build"}:
        assert "common options" in text and common == shared()
    else:
        assert {option for option in shared() if f"`{option}`" in text} == common
    assert in_tables(section("## Common options")) == shared() | {"-h", "--help"}


def test_every_exit_code_is_in_the_table_and_no_other() -> None:
    table = re.findall(r"^\| (\d+) \| ([A-Z]+) \|", section("## Exit codes"), re.MULTILINE)
    assert [(int(code), name) for code, name in table] == [(code.value, code.name) for code in ExitCode]
    assert f"\n{INTERRUPTED} after Ctrl-C, {BROKEN_PIPE} when the reader of stdout has gone" in TEXT
    epilog = {int(code) for code in re.findall(r"(\d+) \w", group.epilog or "")}
    assert epilog == {code.value for code in ExitCode}


@pytest.mark.parametrize(
    ("field", "kind"), [("outcome", Outcome), ("evidence", Evidence), ("stop.kind", StopKind)]
)
def test_every_value_of_an_enumeration_is_listed(field: str, kind: type[Enum]) -> None:
    assert listed(field) == [one.value for one in kind]


def listed(field: str) -> list[str]:
    """The values of one row of the table of enumerations."""
    (row,) = re.findall(rf"^\| `{re.escape(field)}` \| (.*) \|$", TEXT, re.MULTILINE)
    return re.findall(r"`([^`]+)`", row)


def test_the_other_enumerations_are_listed_too() -> None:
    assert listed("boot_type") == [boot_type_name(one) for one in BootType]
    assert listed("hypervisor_type") == [hypervisor_type_name(one) for one in HypervisorType]
    assert listed("plugins[].kind") == list(KINDS)
    assert listed("verdict") == list(get_args(Said))


def test_events_that_core_records_are_listed(repository: Path) -> None:
    sources = [*(repository / "builder").rglob("*.py"), *(repository / "plugins").glob("bootbuild_*/**/*.py")]
    calls = "".join(re.findall(r"\.record\(\s*([^,]*),", "".join(p.read_text() for p in sources)))
    recorded = set(re.findall(r'"([a-z-]+)"', calls))
    recorded |= {"msr", "violation"} if '"msr" if probe' in calls else set()
    assert recorded <= set(listed("events[].kind"))


def output(*arguments: str | Path, cwd: Path) -> dict[str, Any]:
    done = subprocess.run(
        [PROGRAM, *arguments, "--json"], cwd=cwd, capture_output=True, text=True, check=False
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def keys(value: Any) -> Iterator[str]:
    """Every key of a JSON value, those of open dictionaries aside."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            if key not in OPEN:
                yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


@pytest.fixture(scope="module")
def hello(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the hello kernels and their images."""
    folder = tmp_path_factory.mktemp("page")
    subprocess.run([PROGRAM, "new", "hello", "."], cwd=folder, check=True, capture_output=True)
    subprocess.run([PROGRAM, "hello.toml"], cwd=folder, check=True, capture_output=True)
    return folder


def named(*headings: str) -> set[str]:
    """Every word in code type of these sections, paths taken apart."""
    text = "".join(section(heading) for heading in headings)
    return set(re.findall(r"[a-z0-9_]+", " ".join(re.findall(r"`([^`\n]*)`", text))))


BUILD, BOOT = "### build --json: `bootbuild/build/1`", "### boot --json: `bootbuild/boot/1`"
INSPECT = "### inspect --json: `bootbuild/inspect/1`"
CHECK = "### check --json: `bootbuild/check/1`"
PLUGINS = "### plugins --json: `bootbuild/plugins/1`"


def test_every_key_of_a_build_record_is_named(hello: Path) -> None:
    ran = output("hello.toml", "--set", "expect.console=no such text", cwd=hello)
    assert ran["recipes"][0]["images"][0]["runs"][0]["findings"]
    assert set(keys(ran)) <= named(BUILD, BOOT)


def test_every_key_of_a_boot_is_named(hello: Path) -> None:
    booted = ("boot", "out/hello64-pvh.elf", "--as", "pvh@qemu", "--module", "module.txt", "--trace")
    assert set(keys(output(*booted, cwd=hello))) <= named(BOOT)
    failed = output("boot", "hello64.elf", "--as", "pvh", "--until", "startup_64", cwd=hello)
    assert failed["runs"][0]["findings"]
    assert set(keys(failed)) <= named(BOOT)


def test_every_key_of_a_linux_kernels_boot_is_named(tmp_path: Path, kernels: Kernels, initrd: Path) -> None:
    booted = output("boot", kernels.cloud.vmlinux, "--as", "pvh", "--module", initrd, cwd=tmp_path)
    assert booted["runs"][0]["handover"]["ramdisk"]
    assert set(keys(booted)) <= named(BOOT)


def test_every_key_of_an_inspection_is_named(hello: Path) -> None:
    found = output("inspect", "out/hello64-pvh.elf", cwd=hello)
    assert found["claims"] and found["segments"] and found["notes"]
    assert set(keys(found)) <= named(INSPECT)


def test_every_key_of_a_check_is_named(hello: Path) -> None:
    found = output("check", "out/hello64-pvh.elf", cwd=hello)
    assert {one["rule"] is None for one in found["models"]} == {True, False}
    assert set(keys(found)) <= named(CHECK)


def test_every_key_of_the_list_of_plugins_is_named(hello: Path) -> None:
    (hello / "bootbuild_of_another_api-1.dist-info").mkdir()
    info = hello / "bootbuild_of_another_api-1.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bootbuild-of-another-api\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[bootbuild9]\ntarget.x = x:X\n")
    done = subprocess.run(
        [sys.executable, "-m", "bootbuild", "plugins", "--json"],  # from here: it is on sys.path
        cwd=hello,
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)
    assert [problem["rule"] for problem in found["problems"]] == ["BB-P003"]
    assert set(keys(found)) <= named(PLUGINS)


def test_every_schema_is_named_by_its_heading(hello: Path) -> None:
    for arguments in (
        ("hello.toml",),
        ("boot", "out/hello64-pvh.elf", "--as", "pvh"),
        ("inspect", "hello64.elf"),
        ("check", "hello64.elf"),
        ("plugins",),
    ):
        schema = output(*arguments, cwd=hello)["schema"]
        command = schema.split("/")[1]
        assert f'"{schema}"' in section(f"### {command} --json: `{schema}`")
