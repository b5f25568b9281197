"""Output files appear whole, or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bootbuild.errors import ExitCode, OutputError
from bootbuild.store import make_folder, write_file, writing


def refused(path: Path) -> str:
    with pytest.raises(OutputError) as caught, writing(path):
        raise AssertionError
    (problem,) = caught.value.problems
    assert (problem.where, caught.value.exit_code) == (str(path), ExitCode.OUTPUT)
    return problem.rule.id


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("nameless", [True, False], ids=["O_TMPFILE", "a hidden name"])
def test_a_file_has_its_name_only_when_it_is_whole(
    tmp_path: Path, nameless: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not nameless:
        monkeypatch.setattr("bootbuild.store._nameless", lambda _: -1)
    path = tmp_path / "image"
    with writing(path) as output:
        output.write(b"one ")
        output.write(memoryview(b"two"))
        assert names(tmp_path) == [] or not nameless, "nobody can see it yet"
        assert output.path.read_bytes() == b"one two", "but who checks it can"
    assert path.read_bytes() == b"one two"
    assert names(tmp_path) == ["image"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_every_file_has_mode_0644(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_file(tmp_path / "image", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "image").stat().st_mode & 0o7777 == 0o644


@pytest.mark.parametrize("nameless", [True, False], ids=["O_TMPFILE", "a hidden name"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_what_goes_wrong_leaves_the_old_file_alone(
    tmp_path: Path, error: type[BaseException], nameless: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not nameless:
        monkeypatch.setattr("bootbuild.store._nameless", lambda _: -1)
    path = tmp_path / "image"
    path.write_bytes(b"old")

    def write_half() -> None:
        with writing(path) as output:
            output.write(b"new")
            raise error

    with pytest.raises(error):
        write_half()
    assert (path.read_bytes(), names(tmp_path)) == (b"old", ["image"])


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_process_leaves_nothing(tmp_path: Path, sent: signal.Signals) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom bootbuild.store import writing\n"
        "with writing(Path(sys.argv[1])) as output:\n"
        "    output.write(b'x'); print('writing', flush=True); time.sleep(60)\n"
    )
    path = ":".join(entry for entry in sys.path if entry)
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "image")],
        env={"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(sent)
        assert process.wait(20) != 0
    assert names(tmp_path) == []


def test_an_existing_file_is_replaced_by_another(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        write_file(path, b"new")
        assert reader.read() == b"old"  # who had it open keeps it
    assert path.read_bytes() == b"new"


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    real, link = tmp_path / "folder" / "image", tmp_path / "link"
    real.write_bytes(b"old")
    link.symlink_to(real)
    write_file(link, b"new")
    assert link.is_symlink()
    assert (real.read_bytes(), names(real.parent)) == (b"new", ["image"])


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe, Path("/dev/null")):
        assert refused(path) == "BB-W091"
    assert Path("/dev/null").is_char_device()
    assert names(tmp_path) == ["pipe"]


def test_a_folder_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refused(tmp_path / "absent" / "image") == "BB-W090"
    assert refused(tmp_path / "file" / "image") == "BB-W090"


def test_a_folder_that_nobody_can_make_is_told_as_that() -> None:
    """Its error says that something is not there; room is not what it lacks."""
    with pytest.raises(OutputError, match=r"/proc/out: .* \(BB-W092\); name a folder with -o in which"):
        make_folder(Path("/proc/out"))


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert refused(tmp_path / ("x" * 300)) == "BB-W092"
    assert refused(Path("/proc/image")) in ("BB-W090", "BB-W092")
    if os.geteuid():
        (tmp_path / "locked").mkdir(mode=0o555)
        assert refused(tmp_path / "locked" / "image") == "BB-W092"


def test_no_space_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    def write_to_a_full_disk() -> None:
        with writing(tmp_path / "image") as output:
            full = os.open("/dev/full", os.O_WRONLY)
            os.dup2(full, output._fd)
            os.close(full)
            output.write(b"x")

    with pytest.raises(OutputError, match=r"no space left on device \(BB-W092\)"):
        write_to_a_full_disk()
    assert names(tmp_path) == []


def test_folders_are_made_with_those_above(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    for path, rule in ((tmp_path / "file", "BB-W091"), (tmp_path / "file" / "under", "BB-W092")):
        with pytest.raises(OutputError, match=rule):
            make_folder(path)


def test_a_large_file_is_written_quickly(tmp_path: Path) -> None:
    begin = time.perf_counter()
    with writing(tmp_path / "image") as output:
        for _ in range(64):
            output.write(bytes(1 << 20))
    assert (tmp_path / "image").stat().st_size == 64 << 20
    assert time.perf_counter() - begin < 20
