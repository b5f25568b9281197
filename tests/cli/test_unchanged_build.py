"""A second build of what has not changed: neither built nor booted, and anything that changed is seen."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootbuild.errors import ExitCode
from bootbuild.host import Host
from bootbuild.recipe.read import read
from bootbuild.report import kept

Bootbuild = Callable[..., subprocess.CompletedProcess[str]]
UNCHANGED = "bootbuild: hello.toml: unchanged since it was built and booted; --force does it again\n"
IMAGE = Path("out/hello64-pvh.elf")

PLUGIN = """
from bootbuild.api import Finding, hookimpl

class Judge:
    @hookimpl
    def bootbuild_judge(self, verdict):
        return None

    @hookimpl
    def bootbuild_finished(self, record):
        image = record.images[0]
        run = image.verdicts[0].runs[0]
        print("finished", image.outcome.value, record.reused, bool(run.blocks), bool(run.startup_blocks))
"""


@pytest.fixture
def built(hello: Path, bootbuild: Bootbuild) -> Path:
    """A folder in which hello.toml has just been built, in one profile."""
    recipe = hello / "hello.toml"
    recipe.write_text(recipe.read_text().replace("[targets.pvh]", '[targets.pvh]\nprofiles = ["qemu"]'))
    assert bootbuild("hello.toml", "-q").returncode == ExitCode.OK
    assert bootbuild("hello.toml").stderr == UNCHANGED
    return hello


def record_of(folder: Path) -> Path:
    return folder / "out/.bootbuild/hello64-pvh.record"


def test_it_reports_what_the_first_one_saw_and_touches_nothing(bootbuild: Bootbuild, hello: Path) -> None:
    first = json.loads(bootbuild("hello.toml", "-q", "--json").stdout)
    before = {path: path.stat().st_mtime_ns for path in (hello / "out").rglob("*")}
    second = json.loads(bootbuild("hello.toml", "-q", "--json").stdout)
    assert {path: path.stat().st_mtime_ns for path in (hello / "out").rglob("*")} == before
    assert (first["recipes"][0].pop("reused"), second["recipes"][0].pop("reused")) == (False, True)
    assert second == first


def test_what_a_guest_prints_need_not_be_text(built: Path, bootbuild: Bootbuild) -> None:
    text = "greeting=\u00fc\u0007"
    arguments = ("hello.toml", "--json", "--cmdline", text, "--set", f"expect.console={text}", "-q")
    first, second = (json.loads(bootbuild(*arguments).stdout)["recipes"][0] for _ in range(2))
    assert (first.pop("reused"), second.pop("reused")) == (False, True)
    assert text in first["images"][0]["runs"][0]["console"]
    assert second == first


def test_force_does_it_again(built: Path, bootbuild: Bootbuild) -> None:
    for flag in ("--force", "-f"):
        done = bootbuild("hello.toml", flag)
        assert "booting out/hello64-pvh.elf as pvh@qemu" in done.stderr
        assert done.stdout == bootbuild("hello.toml").stdout


def change(path: Path) -> None:
    """Other bytes, of the same length and with the same time."""
    data, stat = bytearray(path.read_bytes()), path.stat()
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _system_map(folder: Path) -> None:
    (folder / "System.map").write_text("ffffffff81000000 T startup_64\n")


CHANGES: dict[str, Callable[[Path], object]] = {
    "recipe": lambda folder: (folder / "hello.toml").write_text(
        (folder / "hello.toml").read_text() + "[boot]\nbudget = 9_000_000\n"
    ),
    "payload": lambda folder: change(folder / "hello64.elf"),
    "module": lambda folder: change(folder / "module.txt"),
    "image": lambda folder: change(folder / IMAGE),
    "image gone": lambda folder: (folder / IMAGE).unlink(),
    "no record": lambda folder: record_of(folder).unlink(),
    "record cut": lambda folder: os.truncate(record_of(folder), record_of(folder).stat().st_size // 2),
    "record of another version": lambda folder: record_of(folder).write_bytes(
        record_of(folder).read_bytes().replace(b'"payload_format"', b'"payload_shape"')
    ),
    "record of anything": lambda folder: record_of(folder).write_bytes(os.urandom(4096)),
    "record without a state": lambda folder: record_of(folder).write_bytes(b""),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_changed_is_built_and_booted(what: str, built: Path, bootbuild: Bootbuild) -> None:
    CHANGES[what](built)
    done = bootbuild("hello.toml")
    assert "bootbuild: booting out/hello64-pvh.elf as pvh@qemu" in done.stderr
    assert done.returncode == ExitCode.OK
    assert bootbuild("hello.toml").stderr == UNCHANGED


@pytest.mark.parametrize(
    "arguments",
    [("--cmdline", "greeting=other"), ("--module", "hello.toml"), ("--set", "boot.budget=9000000")],
    ids=lambda arguments: str(arguments[0]),
)
def test_overrides_are_part_of_what_was_built(
    arguments: tuple[str, ...], built: Path, bootbuild: Bootbuild
) -> None:
    assert "booting" in bootbuild("hello.toml", *arguments).stderr
    assert bootbuild("hello.toml", *arguments).stderr == UNCHANGED
    assert "booting" in bootbuild("hello.toml").stderr


def test_a_folder_of_its_own_for_each_output(built: Path, bootbuild: Bootbuild) -> None:
    assert "booting" in bootbuild("hello.toml", "-o", "elsewhere").stderr
    assert bootbuild("hello.toml", "-o", "elsewhere").stderr == UNCHANGED
    assert bootbuild("hello.toml").stderr == UNCHANGED


def install(folder: Path, version: str, record: str | None) -> dict[str, str]:
    """A distribution with a hook on PYTHONPATH."""
    (folder / "judge_plugin.py").write_text(PLUGIN)
    info = folder / "judge.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: judge\nVersion: {version}\n")
    (info / "entry_points.txt").write_text("[bootbuild1]\nhook.judge = judge_plugin:Judge\n")
    if record is not None:
        (info / "RECORD").write_text(f"judge_plugin.py,sha256={record},1\n")
    return {"PYTHONPATH": str(folder)}


def test_plugins_are_part_of_it_by_version_and_by_their_files_hashes(
    built: Path, bootbuild: Bootbuild
) -> None:
    (built / "site").mkdir()
    for version, record in (("1.0", "aaa"), ("1.1", "aaa"), ("1.1", "bbb")):
        env = install(built / "site", version, record)
        done = bootbuild("hello.toml", env=env)
        assert "booting" in done.stderr, (version, record)
        assert done.stdout.startswith("finished BOOTED False True True\n")
        done = bootbuild("hello.toml", env=env)
        assert done.stderr == UNCHANGED
        assert done.stdout.startswith("finished BOOTED True False True\n"), (
            "the hook hears of it all the same"
        )
    assert "booting" in bootbuild("hello.toml").stderr, "without the plugin it is another build"


@pytest.mark.parametrize("how", ["-p", "no hashes", "editable"])
def test_code_that_may_change_at_any_time_is_never_taken_as_unchanged(
    how: str, built: Path, bootbuild: Bootbuild
) -> None:
    site = built / "site"
    site.mkdir()
    env = install(site, "1.0", "aaa" if how == "editable" else None)
    arguments = ["hello.toml"]
    if how == "editable":
        (site / "judge.dist-info/direct_url.json").write_text('{"dir_info": {"editable": true}, "url": ""}')
    if how == "-p":
        (site / "judge.dist-info/entry_points.txt").unlink()
        arguments += ["-p", "judge_plugin:Judge"]
    for _ in range(2):
        done = bootbuild(*arguments, env=env)
        assert "booting" in done.stderr, done.stderr


def test_a_failure_is_as_lasting_as_a_success(hello: Path, bootbuild: Bootbuild) -> None:
    arguments = ("hello.toml", "--set", "expect.console=no such text")
    first, second = bootbuild(*arguments), bootbuild(*arguments)
    assert (first.returncode, second.returncode) == (ExitCode.FAILED, ExitCode.FAILED)
    assert (second.stderr, second.stdout) == (UNCHANGED, first.stdout)


def test_what_was_not_conclusive_is_tried_again(built: Path, bootbuild: Bootbuild) -> None:
    for _ in range(2):
        done = bootbuild("hello.toml", "--set", "boot.timeout=0.001")
        assert done.returncode == ExitCode.INCONCLUSIVE
        assert "booting" in done.stderr


def test_a_record_that_cannot_be_kept_does_not_fail_the_build(hello: Path, bootbuild: Bootbuild) -> None:
    (hello / "elsewhere").mkdir()
    (hello / "elsewhere/.bootbuild").write_text("in the way")
    done = bootbuild("hello.toml", "-o", "elsewhere")
    assert (done.returncode, "error" in done.stderr) == (ExitCode.OK, False)
    assert (hello / "elsewhere/.bootbuild").read_text() == "in the way"


def test_an_input_that_changed_during_the_build_is_not_taken_as_built(built: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(built)
    host = Host.discover()
    recipe = read(Path("hello.toml"), host)
    now = kept.state(recipe, host)
    assert now is not None
    record = kept.load(recipe, now)
    assert record is not None
    record_of(built).unlink()
    change(built / "module.txt")
    kept.save(recipe, now, record)
    assert not record_of(built).exists()
