"""`bootbuild RECIPE...`: the table, the record, every way to end, each with its exit code."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bootbuild.errors import ExitCode
from bootbuild.host import Host
from bootbuild.model.verdict import Evidence

Bootbuild = Callable[..., subprocess.CompletedProcess[str]]


PROFILES = Host.discover().profiles_of("pvh")


def lines(image: str, startup: str) -> list[str]:
    """What is printed of one image that boots everywhere."""
    return [f"BOOTED  {image}  {name:20}  N  {startup}, console 'hello from'" for name in PROFILES]


def versions() -> list[str]:
    """What stands below the table: what each of the profiles in it is."""
    told = ["", "oracle: ", "source: "]
    for name in PROFILES:
        profile = Host.discover().profile(name)
        told[1 + (profile.evidence is Evidence.SOURCE)] += f"{name} {profile.version}, "
    return [line.removesuffix(", ") for line in told]


HEAD = "RESULT  IMAGE                PROFILE                INSTRS  REACHED"
TABLE = [HEAD, *lines("out/hello64-pvh.elf", "startup_64")]


def uncounted(table: str) -> list[str]:
    """The lines of a table with N for each number of instructions."""
    return re.sub(r"[0-9]{3},[0-9]{3}  ", "N  ", table).splitlines()


def only_rules(text: str) -> set[str]:
    """The rules that a table's findings name."""
    return set(re.findall(r"^  (BB-\w+):", text, re.MULTILINE))


def test_a_recipe_is_built_and_booted_in_every_profile(bootbuild: Bootbuild, hello: Path) -> None:
    done = bootbuild("hello.toml")
    assert uncounted(done.stdout) == [*TABLE, *versions()]
    assert done.stderr.splitlines() == [
        "bootbuild: reading hello64.elf",
        "bootbuild: writing out/hello64-pvh.elf",
        *(f"bootbuild: booting out/hello64-pvh.elf as {name}" for name in PROFILES),
    ]
    assert done.returncode == ExitCode.OK


def test_a_table_of_ordinary_names_fits_a_page(bootbuild: Bootbuild, hello: Path) -> None:
    """Every run is one line, with its image and profile in it, of 100 columns at most."""
    rows = [line for line in bootbuild("hello.toml", "-q").stdout.splitlines() if line.startswith("BOOTED")]
    assert [line.split()[1:3] for line in rows] == [["out/hello64-pvh.elf", name] for name in PROFILES]
    assert max(map(len, rows)) <= 100


def test_build_is_the_default_command(bootbuild: Bootbuild, hello: Path) -> None:
    assert bootbuild("build", "hello.toml").stdout == bootbuild("hello.toml").stdout
    assert bootbuild("-q", "hello.toml").stdout == bootbuild("hello.toml").stdout


def test_several_recipes_are_one_table(bootbuild: Bootbuild, hello: Path) -> None:
    done = bootbuild("hello.toml", "hello32.toml", "-q")
    assert uncounted(done.stdout) == [*TABLE, *lines("out/hello32-pvh.elf", "startup_32"), *versions()]
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")


def test_verbose_progress_has_seconds_quiet_none(bootbuild: Bootbuild, hello: Path) -> None:
    said = bootbuild("-v", "hello.toml").stderr.splitlines()
    assert len(said) == 2 + len(PROFILES)
    assert all(re.match(r"bootbuild: +\d+\.\d\d s  [a-z]+ ", line) for line in said)
    assert bootbuild("-q", "hello.toml").stderr == ""


def test_overrides_take_the_place_of_the_recipes_keys(bootbuild: Bootbuild, hello: Path) -> None:
    (hello / "elsewhere").mkdir()
    (hello / "hello64.elf").rename(hello / "elsewhere/other.elf")
    (hello / "module.txt").rename(hello / "elsewhere/other.txt")
    done = bootbuild(
        "hello.toml", "--payload", "elsewhere/other.elf", "--module", "elsewhere/other.txt",
        "--cmdline", "greeting=from-the-command-line", "-o", "elsewhere/images",
        "--set", 'targets.pvh.profiles=["qemu"]', "--set", "expect.console=greeting=from-the-command-line",
    )  # fmt: skip
    assert done.returncode == ExitCode.OK, done.stderr + done.stdout
    line, *held_to = done.stdout.splitlines()[1:]
    assert line.startswith("BOOTED  elsewhere/images/other-pvh.elf  pvh@qemu  ")
    assert line.endswith("  startup_64, console 'greeting=from-the-command-line'")
    assert held_to == ["", "oracle: pvh@qemu 7.2"]


def test_the_record_says_what_was_made_and_seen(bootbuild: Bootbuild, hello: Path) -> None:
    done = bootbuild("hello.toml", "--json", "-q")
    record = json.loads(done.stdout)
    assert list(record) == ["schema", "bootbuild", "recipes"]
    assert record["schema"] == "bootbuild/build/1"
    (recipe,) = record["recipes"]
    assert list(recipe) == ["recipe", "payload", "plugins", "seconds", "reused", "images"]
    payload = (hello / "hello64.elf").read_bytes()
    assert recipe["payload"] == {
        "path": "hello64.elf",
        "format": "elf",
        "sha256": hashlib.sha256(payload).hexdigest(),
        "changes": [],
    }
    assert recipe["reused"] is False
    assert recipe["plugins"] == [{"distribution": "bootbuild", "version": record["bootbuild"]}]
    (image,) = recipe["images"]
    made = (hello / image["path"]).read_bytes()
    assert list(image) == ["path", "targets", "size", "sha256", "entries", "repairs", "outcome", "runs"]
    assert (image["size"], image["sha256"]) == (len(made), hashlib.sha256(made).hexdigest())
    assert (image["targets"], image["entries"], image["outcome"]) == (["pvh"], {"pvh": "0x200000"}, "BOOTED")
    assert [f"{run['target']}@{run['profile']}" for run in image["runs"]] == list(PROFILES)
    assert {"version": "7.2", "evidence": "oracle"}.items() <= image["runs"][
        PROFILES.index("pvh@qemu")
    ].items()
    assert {run["reached"] for run in image["runs"]} == {"startup_64, console 'hello from'"}


def test_a_guest_that_fails_is_1_with_the_rule_and_the_remedy(bootbuild: Bootbuild, hello: Path) -> None:
    done = bootbuild("hello.toml", "-q", "--set", "expect.console=no such text")
    assert (done.returncode, done.stderr) == (ExitCode.FAILED, "")
    assert only_rules(done.stdout) == {"BB-B023"}
    assert "out/hello64-pvh.elf in pvh@qemu\n  BB-B023: 'no such text' was not printed" in done.stdout


def test_a_recipe_may_expect_a_place_behind_the_startup_path(bootbuild: Bootbuild, hello: Path) -> None:
    done = bootbuild("hello.toml", "--set", "expect.reached='hello'")
    assert uncounted(done.stdout)[1:-3] == [
        line.replace("startup_64,", "startup_64, hello,") for line in TABLE[1:]
    ]
    done = bootbuild("hello.toml", "--set", "expect.reached='nowhere'", "-o", "other")
    assert (done.returncode, done.stdout) == (ExitCode.INPUT, "")
    assert "error: --set expect.reached: there is no symbol 'nowhere' (BB-E080)" in done.stderr
    assert not (hello.parent / "other").exists(), "before anything is written"


def test_a_symbol_that_is_not_there_is_told_at_the_recipes_key(bootbuild: Bootbuild, hello: Path) -> None:
    recipe = (hello / "hello.toml").read_text()
    line = next(n for n, text in enumerate(recipe.splitlines(), 1) if text.startswith("startup = "))
    (hello / "wrong.toml").write_text(recipe.replace('"startup_64"', '"startup_46"'))
    done = bootbuild("wrong.toml", "-q")
    assert (done.returncode, done.stdout.strip()) == (ExitCode.INPUT, "")
    assert done.stderr == (
        f"bootbuild: error: wrong.toml:{line}: payload.startup: there is no symbol 'startup_46' (BB-E080); "
        "did you mean 'startup_64'?\n"
    )


def test_the_clock_alone_is_8(bootbuild: Bootbuild, hello: Path) -> None:
    done = bootbuild("hello.toml", "-q", "--set", "boot.timeout=0.001")
    assert (done.returncode, done.stderr) == (ExitCode.INCONCLUSIVE, "")
    assert only_rules(done.stdout) == {"BB-B025"}


def test_failed_goes_before_inconclusive(bootbuild: Bootbuild, hello: Path) -> None:
    (hello / "slow.toml").write_text((hello / "hello.toml").read_text() + "[boot]\ntimeout = 0.001\n")
    failing = (hello / "hello32.toml").read_text().replace("hello from", "no such text")
    (hello / "failing.toml").write_text(failing)
    done = bootbuild("slow.toml", "failing.toml", "-q")
    outcomes = [line.split()[0] for line in done.stdout.splitlines()[1 : 1 + 2 * len(PROFILES)]]
    assert outcomes == ["INCONCLUSIVE"] * len(PROFILES) + ["FAILED"] * len(PROFILES)
    assert done.returncode == ExitCode.FAILED


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--frob"], ExitCode.USAGE, "No such option '--frob'."),
        (["-q", "boot", "hello64.elf"], ExitCode.USAGE, "stand behind the command: bootbuild boot -q"),
        (["--json", "-f", "plugins"], ExitCode.USAGE, "behind the command: bootbuild plugins --json -f"),
        (["-o", "boot", "absent.toml"], ExitCode.RECIPE, "absent.toml: No such file or directory (BB-R001)"),
        (["biuld", "hello.toml"], ExitCode.USAGE, "No such command or recipe 'biuld'. Did you mean 'build'?"),
        (["build"], ExitCode.USAGE, "Missing argument 'RECIPE...'."),
        (["absent.toml"], ExitCode.RECIPE, "absent.toml: No such file or directory (BB-R001)"),
        (["hello64.elf"], ExitCode.RECIPE, "hello64.elf: this is a kernel, not a recipe (BB-R003)"),
        (["hello.toml", "--payload", "module.txt"], ExitCode.INPUT, "(BB-E030)"),
        (["hello.toml", "--set", "payload.startup=nowhere"], ExitCode.INPUT, "'nowhere' (BB-E080)"),
        (["hello.toml", "--set", "payload.startup=startup_46"], ExitCode.INPUT, "did you mean 'startup_64'?"),
        (["hello.toml", "--set", "payload.startup=5"], ExitCode.INPUT, "(BB-E081)"),
        (["hello.toml", "--set", "targets.pvh.entry=native"], ExitCode.REFUSED, "(BB-L001)"),
        (["hello.toml", "-p", "no_such_module:thing"], ExitCode.PLUGIN, "(BB-P004)"),
        (["hello.toml", "-o", "module.txt"], ExitCode.OUTPUT, "module.txt: is no folder (BB-W091)"),
        (["hello.toml", "--set", f"output.name={'x' * 250}"], ExitCode.OUTPUT, "name too long (BB-W092)"),
    ],
)
def test_each_way_to_fail_has_its_code_and_one_line(
    bootbuild: Bootbuild, hello: Path, arguments: list[str], code: ExitCode, said: str
) -> None:
    done = bootbuild(*arguments, *(["-q"] if arguments[-1] != "build" else []))
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr.splitlines()[-1]
    if code is not ExitCode.USAGE:
        assert len(done.stderr.splitlines()) == 1


def test_all_errors_of_all_recipes_are_said_at_once(bootbuild: Bootbuild, hello: Path) -> None:
    (hello / "one.toml").write_text("api = 1\n[payload]\npth = 'x'\n[targets.pvh]\nreloc = true\n")
    (hello / "two.toml").write_text("api = 1\npayload.path = 'absent'\ntargets.pvj = {}\n")
    done = bootbuild("one.toml", "hello.toml", "two.toml", "absent.toml")
    assert (done.returncode, done.stdout) == (ExitCode.RECIPE, "")
    places = [line.removeprefix("bootbuild: error: ") for line in done.stderr.splitlines()]
    assert [re.sub(r": [^:]+ \((BB-R\d+)\).*", r" \1", place) for place in places] == [
        "one.toml:2: payload.path BB-R008",
        "one.toml:3: payload.pth BB-R007",
        "one.toml:5: targets.pvh.reloc BB-R018",
        "two.toml:2: payload.path BB-R015",
        "two.toml:3: targets.pvj BB-R011",
        "absent.toml BB-R001",
    ]
    assert places[1].endswith("; did you mean 'path'?") and places[4].endswith("; did you mean 'pvh'?")


def test_a_recipe_that_cannot_be_built_does_not_keep_the_others(bootbuild: Bootbuild, hello: Path) -> None:
    (hello / "bad.toml").write_text("api = 1\npayload.path = 'module.txt'\ntargets.pvh = {}\n")
    (hello / "worse.toml").write_text("api = 1\npayload.path = 'hello.toml'\ntargets.pvh = {}\n")
    done = bootbuild("bad.toml", "hello.toml", "worse.toml", "-q")
    assert done.returncode == ExitCode.INPUT
    assert uncounted(done.stdout) == [*TABLE, *versions()]
    assert [re.search(r"error: (\S+): .*\((BB-E\d+)\)", line)[1] for line in done.stderr.splitlines()] == [  # type: ignore[index]
        "module.txt",
        "hello.toml",
    ]
