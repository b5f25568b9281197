"""A second build of what has not changed: neither built nor booted, and anything that changed is seen."""

from __future__ import annotations

import colorsys
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from bootbuild.errors import ExitCode
from bootbuild.host import Host
from bootbuild.model.record import BuildRecord, ImageRecord
from bootbuild.model.verdict import Evidence, Outcome, ProfileVerdict
from bootbuild.recipe.read import read
from bootbuild.report import kept

Bootbuild = Callable[..., subprocess.CompletedProcess[str]]
UNCHANGED = "bootbuild: hello.toml: unchanged since it was built and booted; --force does it again\n"
IMAGE = Path("out/hello64-pvh.elf")

PLUGIN = """
from bootbuild.api import hookimpl
{more}

class Judge:
    @hookimpl
    def bootbuild_judge(self, verdict):
        {judge}

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


def pipe(path: Path) -> None:
    """Whoever opens it to read waits for ever."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)


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
    "record with a number for names": lambda folder: record_of(folder).write_bytes(
        re.sub(rb"\n.*?\n", b"\n5\n", record_of(folder).read_bytes(), count=1)
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_changed_is_built_and_booted(what: str, built: Path, bootbuild: Bootbuild) -> None:
    CHANGES[what](built)
    done = bootbuild("hello.toml")
    assert "bootbuild: booting out/hello64-pvh.elf as pvh@qemu" in done.stderr
    assert done.returncode == ExitCode.OK
    assert bootbuild("hello.toml").stderr == UNCHANGED


def test_a_pipe_in_the_place_of_an_image_or_its_record_is_not_read(built: Path, bootbuild: Bootbuild) -> None:
    pipe(built / IMAGE)
    done = bootbuild("hello.toml")
    assert (done.returncode, "BB-W091" in done.stderr) == (ExitCode.OUTPUT, True)
    (built / IMAGE).unlink()
    pipe(record_of(built))
    assert anew(bootbuild("hello.toml"))


def test_a_pipe_in_a_plugins_package_is_not_read(built: Path, bootbuild: Bootbuild) -> None:
    env = install(built / "site")
    pipe(built / "site/judge_plugin/pipe")
    assert [anew(bootbuild("hello.toml", env=env)) for _ in range(2)] == [True, False]


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


def distribution(site: Path, name: str, version: str, requires: str = "", record: str | None = None) -> Path:
    """A distribution's metadata, in place of that of another version of it; its folder."""
    for old in site.glob(f"{name}-*.dist-info"):
        shutil.rmtree(old)
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (info / "METADATA").write_text(head + (f"Requires-Dist: {requires}\n" if requires else ""))
    if record is not None:
        (info / "RECORD").write_text(record)
    return info


def install(site: Path, requires: str = "", more: str = "", judge: str = "return None") -> dict[str, str]:
    """A package with a hook, installed where PYTHONPATH leads; the environment that has it."""
    package = site / "judge_plugin"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(PLUGIN.format(more=more, judge=judge))
    (package / "rules.json").write_text('{"a": 1}')
    (package / "large.bin").write_bytes(b"a" * (1 << 20))
    info = distribution(site, "judge", "1.0", requires, "judge_plugin/__init__.py,sha256=aaa,1\n")
    (info / "entry_points.txt").write_text("[bootbuild1]\nhook.judge = judge_plugin:Judge\n")
    return {"PYTHONPATH": str(site)}


def anew(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether everything was built and booted; else nothing was."""
    assert done.returncode == ExitCode.OK, done.stderr
    assert ("booting" in done.stderr) != (done.stderr == UNCHANGED), done.stderr
    return done.stderr != UNCHANGED


def test_a_plugin_takes_part_while_it_is_installed(built: Path, bootbuild: Bootbuild) -> None:
    env = install(built / "site")
    done = bootbuild("hello.toml", env=env)
    assert anew(done) and done.stdout.startswith("finished BOOTED False True True\n")
    done = bootbuild("hello.toml", env=env)
    assert not anew(done)
    assert done.stdout.startswith("finished BOOTED True False True\n"), "the hook hears of it all the same"
    assert anew(bootbuild("hello.toml")), "without the plugin it is another build"


@pytest.mark.parametrize("file", ["__init__.py", "rules.json", "large.bin"])
@pytest.mark.parametrize("how", ["with a RECORD", "without", "editable", "-p"])
def test_a_file_of_a_plugin_counts_by_its_bytes_however_it_is_installed(
    how: str, file: str, built: Path, bootbuild: Bootbuild
) -> None:
    site, arguments = built / "site", ["hello.toml"]
    env = install(site)
    (info,) = site.glob("*.dist-info")
    if how == "without":
        (info / "RECORD").unlink()
    if how == "editable":
        (info / "direct_url.json").write_text('{"dir_info": {"editable": true}, "url": ""}')
        (info / "RECORD").write_text("__editable__.judge.pth,sha256=aaa,1\n")
    if how == "-p":
        shutil.rmtree(info)
        arguments += ["-p", "judge_plugin:Judge"]
    assert [anew(bootbuild(*arguments, env=env)) for _ in range(2)] == [True, False]
    path = site / "judge_plugin" / file
    was, data = path.stat(), path.read_bytes()
    path.write_bytes(data + b"#" if file == "__init__.py" else data.replace(b"a", b"b", 1))
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert [anew(bootbuild(*arguments, env=env)) for _ in range(2)] == [True, False]


def test_a_plugin_of_the_program_itself_is_never_taken_as_unchanged(built: Path) -> None:
    program = built / "program.py"
    text = PLUGIN.format(more="", judge="return None")
    program.write_text(
        f"{text}\nfrom bootbuild.cli import main\nmain(['hello.toml', '-p', '__main__:Judge'])\n"
    )
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, program], cwd=built, capture_output=True, text=True, check=True
        )
        assert "booting" in done.stderr


def test_what_a_plugin_imports_counts_wherever_it_is_from(built: Path, bootbuild: Bootbuild) -> None:
    """Imported only while a build is under way, and of no distribution."""
    env = install(built / "site", judge="import beside")
    beside = built / "site/beside.py"
    for text in ("A = 1\n", "A = 2\n"):
        beside.write_text(text)
        assert [anew(bootbuild("hello.toml", env=env)) for _ in range(2)] == [True, False]
    beside.unlink()
    beside.with_suffix("").mkdir()
    (beside.with_suffix("") / "__init__.py").write_text("A = 2\n")
    assert anew(bootbuild("hello.toml", env=env))


@pytest.mark.parametrize("library", ["unicorn", "lief", "msgspec"])
def test_another_version_of_a_library_is_another_build(
    library: str, built: Path, bootbuild: Bootbuild
) -> None:
    env = {"PYTHONPATH": str(built / "site")}
    for version in ("98.0", "99.0"):
        distribution(built / "site", library, version)
        assert [anew(bootbuild("hello.toml", env=env)) for _ in range(2)] == [True, False]
    assert anew(bootbuild("hello.toml"))


def test_another_version_of_what_a_plugin_requires_is_another_build(
    built: Path, bootbuild: Bootbuild
) -> None:
    site = built / "site"
    env = install(site, requires="Near_er.Thing [fast] >= 1 ; python_version > '3'")
    for near, far in ((None, None), ("1", None), ("1", "1"), ("2", "1"), ("2", "2")):
        if near is not None:
            distribution(site, "near_er_thing", near, requires="far<9")
        if far is not None:
            distribution(site, "far", far)
        assert [anew(bootbuild("hello.toml", env=env)) for _ in range(2)] == [True, False], (near, far)


@pytest.mark.parametrize("package", ["pluggy", "bootbuild", "bootbuild_pvh"])
def test_what_stands_before_a_package_counts_in_its_place(
    package: str, built: Path, bootbuild: Bootbuild
) -> None:
    """The same version, the same RECORD, one comment more: as if a file was edited where it is installed."""
    found = find_spec(package)
    assert found is not None and found.origin is not None
    site = built / "site"
    shutil.copytree(Path(found.origin).parent, site / package)
    env = {"PYTHONPATH": str(site)}
    assert not anew(bootbuild("hello.toml", env=env)), "the same bytes in another place"
    with (site / package / "__init__.py").open("a") as file:
        file.write("# more\n")
    assert [anew(bootbuild("hello.toml", env=env)) for _ in range(2)] == [True, False]
    assert anew(bootbuild("hello.toml"))


def test_what_python_loads_by_itself_counts(built: Path, bootbuild: Bootbuild) -> None:
    """And so does Python: here one that calls itself by another version, as its sitecustomize is told."""
    (built / "sitecustomize.py").write_text(
        'import os, sys\nsys.version = os.environ.get("VERSION", sys.version)\n'
    )
    env = {"PYTHONPATH": str(built)}
    assert [anew(bootbuild("hello.toml", env=env)) for _ in range(2)] == [True, False]
    env["VERSION"] = "3.99"
    assert [anew(bootbuild("hello.toml", env=env)) for _ in range(2)] == [True, False]


def test_a_plugin_whose_files_are_not_all_seen_is_never_taken_as_unchanged(
    built: Path, bootbuild: Bootbuild
) -> None:
    env = install(built / "site")
    (built / "elsewhere").mkdir()
    (built / "site/judge_plugin/data").symlink_to(built / "elsewhere")
    assert [anew(bootbuild("hello.toml", env=env)) for _ in range(2)] == [True, True]


def test_a_module_before_pythons_own_counts(built: Path, bootbuild: Bootbuild) -> None:
    own = Path(colorsys.__file__)
    env = install(built / "site", more="import colorsys")
    assert [anew(bootbuild("hello.toml", env=env)) for _ in range(2)] == [True, False]
    (built / "site/colorsys.py").write_bytes(own.read_bytes())
    assert [anew(bootbuild("hello.toml", env=env)) for _ in range(2)] == [True, False]


TARGET = """
from dataclasses import dataclass, field
from ipaddress import IPv6Network
from pathlib import Path
from bootbuild_pvh.environments.qemu import Qemu
from bootbuild_pvh.targets import Pvh

@dataclass(frozen=True)
class Options:
    table: Path | None = None
    more: tuple[Path, ...] = ()
    unsaid: int = field(default=0, repr=False)
    everybody: IPv6Network = IPv6Network("::/0")

class Tabled(Pvh):
    name, options, rules = "tabled", Options, ()

    def contribute(self, payload, guest, options):
        assert options.table.read_text() and all(path.read_text() for path in options.more)
        return super().contribute(payload, guest, None)

class Box(Qemu):
    target, name, loader, rules = "tabled", "box", "", ()
"""


def test_a_file_that_a_targets_option_names_is_an_input(built: Path, bootbuild: Bootbuild) -> None:
    (built / "tabled.py").write_text(TARGET)
    for name in ("table", "one", "two"):
        (built / name).write_text(name)
    text = (built / "hello.toml").read_text().replace("targets.pvh", "targets.tabled")
    text = text.replace('profiles = ["qemu"]', 'table = "table"\nmore = ["one", "two"]')
    (built / "hello.toml").write_text(text)

    def again() -> list[bool]:
        arguments = ("hello.toml", "-p", "tabled:Tabled", "-p", "tabled:Box")
        return [anew(bootbuild(*arguments, env={"PYTHONPATH": str(built)})) for _ in range(2)]

    assert again() == [True, False]
    for name in ("table", "two"):
        change(built / name)
        assert again() == [True, False]
    (built / "hello.toml").write_text(text.replace("table =", "unsaid = 1\ntable ="))
    assert again() == [True, False]


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


def test_a_record_that_is_no_json_is_not_kept(hello: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a guest of a plugin's finds a handover that is not of the types that it promised."""
    monkeypatch.chdir(hello)
    host = Host.discover()
    recipe = read(Path("hello.toml"), host)
    before = kept.state(recipe, host)
    assert before is not None
    endless: dict[str, object] = {}
    endless["odd"] = endless
    for handover, keeps in (({"odd": object()}, False), (endless, False), ({"odd": 1 << 63}, True)):
        verdict = ProfileVerdict("pvh", "x", "", Evidence.SOURCE, Outcome.BOOTED, (), (), handover)
        image = ImageRecord("hello", ("pvh",), 1, "", {}, (verdict,))
        kept.save(recipe, before, BuildRecord("hello.toml", "hello", "elf", "", (image,), (), ""))
        assert (hello / "out/.bootbuild").exists() == keeps


@pytest.mark.parametrize("what", ["module.txt", "site/judge_plugin/rules.json"])
def test_what_changed_during_the_build_is_not_taken_as_built(
    what: str, built: Path, bootbuild: Bootbuild
) -> None:
    """The hook writes it anew, as it was: of what is read twice nothing says which bytes were taken."""
    path = built / what
    env = install(
        built / "site",
        more="from pathlib import Path",
        judge=f"p = Path({str(path)!r}); p.write_bytes(p.read_bytes())",
    )
    assert [anew(bootbuild("hello.toml", env=env)) for _ in range(2)] == [True, True]


def test_code_that_changed_before_a_later_recipe_of_the_command_is_not_what_ran(
    built: Path, bootbuild: Bootbuild
) -> None:
    """While the first of two is built, somebody updates the plugin: the second is still judged by the old."""
    plugin = built / "site/judge_plugin/__init__.py"
    change_once = f"p = Path({str(plugin)!r}); t = p.read_text(); t.endswith('#') or p.write_text(t + '#')"
    env = install(built / "site", more="from pathlib import Path", judge=change_once)
    two = (built / "hello.toml").read_text().replace("hello64.elf", "again.elf")
    (built / "two.toml").write_text(two)
    shutil.copy(built / "hello64.elf", built / "again.elf")
    several = ("--set", 'targets.pvh.profiles=["qemu", "xen-domu"]')  # the change is no matter of the last ms
    assert bootbuild("hello.toml", "two.toml", *several, env=env).returncode == ExitCode.OK
    assert plugin.read_text().endswith("#")
    assert "booting out/again-pvh.elf" in bootbuild("two.toml", *several, env=env).stderr
    assert "booting" not in bootbuild("two.toml", *several, env=env).stderr
