"""A build that is killed, runs out of room, may not write or has a twin: whole images, or none."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bootbuild.errors import ExitCode

Bootbuild = Callable[..., subprocess.CompletedProcess[str]]
MIB = 1 << 20
MOMENTS = 16
IMAGE = "large-pvh.elf"
RECORD = ".bootbuild/large-pvh.record"


@pytest.fixture
def large(hello: Path) -> Path:
    """A folder with a kernel of 64 MiB, most of it behind what is loaded, and its recipe."""
    kernel = (hello / "hello64.elf").read_bytes()
    with (hello / "large.elf").open("wb") as file:
        file.write(kernel)
        for index in range(64):
            file.write(hashlib.sha256(b"%d" % index).digest() * (MIB // 32))
    text = (hello / "hello.toml").read_text().replace("hello64.elf", "large.elf")
    (hello / "large.toml").write_text(text.replace("[targets.pvh]", '[targets.pvh]\nprofiles = ["qemu"]'))
    shutil.rmtree(hello / "out")
    return hello


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def left(folder: Path) -> list[str]:
    """All files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def start(program: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [program, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_killed_at_any_moment_it_leaves_whole_files_or_none(
    program: Path, large: Path, bootbuild: Bootbuild
) -> None:
    began = time.monotonic()
    assert bootbuild("large.toml", "-q", "-f").returncode == ExitCode.OK
    whole = time.monotonic() - began
    wanted, inputs = (
        digest(large / "out" / IMAGE),
        {name: digest(large / name) for name in ("large.elf", "module.txt")},
    )
    before, after = 0, 0
    for moment in range(MOMENTS):
        shutil.rmtree(large / "out", ignore_errors=True)
        process = start(program, large, "large.toml", "-q", "-f")
        time.sleep(whole * (moment + 1) / MOMENTS)
        process.kill()
        process.communicate()
        found = left(large / "out")
        assert set(found) <= {IMAGE, RECORD}, found
        if IMAGE in found:
            after += process.returncode != 0
            assert digest(large / "out" / IMAGE) == wanted
        else:
            before += 1
        assert {name: digest(large / name) for name in inputs} == inputs
    assert before, "no kill came before the image was there"
    assert bootbuild("large.toml", "-q").returncode == ExitCode.OK
    assert digest(large / "out" / IMAGE) == wanted


def test_an_old_image_stays_until_the_new_one_is_whole(
    program: Path, large: Path, bootbuild: Bootbuild
) -> None:
    began = time.monotonic()
    assert bootbuild("large.toml", "-q", "-f").returncode == ExitCode.OK
    whole = time.monotonic() - began
    old = digest(large / "out" / IMAGE)
    with (large / "large.elf").open("ab") as file:
        file.write(b"other bytes")
    for moment in range(4):
        process = start(program, large, "large.toml", "-q", "-f")
        time.sleep(whole * (moment + 1) / 8)
        process.kill()
        process.communicate()
        assert IMAGE in left(large / "out")
        if digest(large / "out" / IMAGE) != old:
            assert (large / "out" / IMAGE).read_bytes().find(b"other bytes") > 64 * MIB


# No room, and no permission.


def _can_mount() -> bool:
    folder = Path("/tmp") / f"bootbuild-mount-{os.getpid()}"
    folder.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True, check=False
        )
        if done.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return done.returncode == 0
    except FileNotFoundError:
        return False
    finally:
        folder.rmdir()


WAYS = ["limit", *(["full", "read-only"] if _can_mount() else [])]
SAID = {
    "limit": "file too large",
    "full": "no space left on device",
    "read-only": "read-only file system",
}


@pytest.fixture
def mounted(large: Path) -> Iterator[Callable[..., Path]]:
    """mounted(options): `out`, a small file system of its own."""
    made = []

    def mount(*options: str) -> Path:
        (large / "out").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", *options, "none", large / "out"], check=True)
        made.append(large / "out")
        return large / "out"

    yield mount
    for folder in made:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("way", WAYS)
def test_what_cannot_be_written_is_one_line_and_leaves_nothing(
    way: str, program: Path, large: Path, mounted: Callable[..., Path]
) -> None:
    def little() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))

    if way == "full":
        mounted("-o", "size=1m")
    if way == "read-only":
        mounted("-o", "ro")
    inputs = digest(large / "large.elf")
    done = subprocess.run(
        [program, "large.toml", "-q"], cwd=large, capture_output=True, text=True, check=False,
        preexec_fn=little if way == "limit" else None,
    )  # fmt: skip
    assert done.returncode == ExitCode.OUTPUT
    (line,) = done.stderr.splitlines()
    assert f"out/{IMAGE}: {SAID[way]} (BB-W092); " in line
    assert (done.stdout, left(large / "out")) == ("", [])
    assert digest(large / "large.elf") == inputs


def test_where_nobody_may_write_it_says_so(bootbuild: Bootbuild, hello: Path) -> None:
    done = bootbuild("hello.toml", "-q", "-o", "/sys/kernel")  # which not even root may write to
    assert (done.returncode, done.stdout) == (ExitCode.OUTPUT, "")
    assert "/sys/kernel/hello64-pvh.elf: " in done.stderr
    assert done.stderr.count("(BB-W09") == 1 == len(done.stderr.splitlines())


def test_two_builds_into_one_folder_both_succeed(program: Path, large: Path, bootbuild: Bootbuild) -> None:
    both = [start(program, large, "large.toml", "-f") for _ in range(2)]
    said = [process.communicate(timeout=100) for process in both]
    assert [process.returncode for process in both] == [ExitCode.OK, ExitCode.OK], said
    assert said[0][0] == said[1][0]
    assert left(large / "out") == [RECORD, IMAGE]
    made = digest(large / "out" / IMAGE)
    assert bootbuild("large.toml", "-q", "-o", "alone").returncode == ExitCode.OK
    assert digest(large / "alone" / IMAGE) == made


def test_of_two_builds_of_one_name_one_is_there_whole(
    program: Path, large: Path, bootbuild: Bootbuild
) -> None:
    (large / "other").mkdir()
    data = (large / "large.elf").read_bytes()
    (large / "other/large.elf").write_bytes(data + b"other")
    first = start(program, large, "large.toml", "-q", "-f")
    second = start(program, large, "large.toml", "-q", "-f", "--payload", "other/large.elf")
    codes = [process.wait(100) for process in (first, second)]
    for process in (first, second):
        process.communicate()
    assert set(left(large / "out")) == {RECORD, IMAGE}
    allowed = set()
    for name, arguments in (("a", ()), ("b", ("--payload", "other/large.elf"))):
        assert bootbuild("large.toml", "-q", "-o", name, *arguments).returncode == ExitCode.OK
        allowed.add(digest(large / name / IMAGE))
    assert digest(large / "out" / IMAGE) in allowed
    assert len(allowed) == 2
    assert set(codes) == {ExitCode.OK}
