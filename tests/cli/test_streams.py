"""stdout, stderr, terminals, pipes and Ctrl-C: a command ends cleanly whatever becomes of its streams."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny_guest
from bootbuild.errors import ExitCode

Bootbuild = Callable[..., subprocess.CompletedProcess[str]]

ENDLESS = b"\x40\xeb\xfd"  # next: inc %eax; jmp next
ESCAPE = "\x1b["


def in_a_terminal(program: Path, folder: Path, *arguments: str, **env: str) -> str:
    """What `arguments` print to a terminal of 80 columns."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [program, *arguments],
        cwd=folder,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", **env},
        stdout=follower,
        stderr=subprocess.DEVNULL,
    )
    os.close(follower)
    text = b""
    try:
        while part := os.read(leader, 65536):
            text += part
    except OSError:  # Linux: EIO when the other side is closed
        pass
    os.close(leader)
    assert process.wait(timeout=60) == 0
    return text.decode().replace("\r\n", "\n")


def test_colour_is_for_terminals_that_are_not_told_otherwise(
    program: Path, bootbuild: Bootbuild, hello: Path
) -> None:
    plain = in_a_terminal(program, hello, "hello.toml", NO_COLOR="1")
    dumb = in_a_terminal(program, hello, "hello.toml", NO_COLOR="", TERM="dumb")
    coloured = in_a_terminal(program, hello, "hello.toml", NO_COLOR="")
    assert ESCAPE not in plain and plain == dumb
    assert re.search(r"\n\x1b\[32mBOOTED *\x1b\[0m  ", coloured)
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain
    assert ESCAPE not in bootbuild("hello.toml").stdout


def test_a_guest_cannot_move_the_cursor(bootbuild: Bootbuild, hello: Path) -> None:
    done = bootbuild(
        "boot", "out/hello64-pvh.elf", "--as", "pvh@qemu", "--until", "console:done",
        "--cmdline", "greeting=\x1b[2J\r",
    )  # fmt: skip
    assert done.returncode == ExitCode.OK
    assert "\\x1b[2J" in done.stdout and "\x1b" not in done.stdout and "\r" not in done.stdout


@pytest.mark.parametrize(
    "arguments", [["schema"], ["--help"], ["boot", "--help"], ["boot", "out/hello64-pvh.elf", "--as", "pvh"]]
)
def test_a_reader_that_has_gone_ends_it_with_141(program: Path, hello: Path, arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [program, *arguments], cwd=hello, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert done.returncode == 141
    assert [line for line in done.stderr.splitlines() if not line.startswith("bootbuild: booting")] == []


def test_no_library_says_anything_on_stderr(bootbuild: Bootbuild, hello: Path) -> None:
    """As LIEF would at the end, of all that it has not freed."""
    done = bootbuild("hello.toml", "-q")
    assert (done.returncode, done.stderr) == (0, "")


def test_nobody_reading_stderr_changes_nothing(program: Path, hello: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    for arguments, code in ((["hello.toml", "--json"], ExitCode.OK), (["absent.toml"], ExitCode.RECIPE)):
        done = subprocess.run(
            [program, *arguments], cwd=hello, stderr=writer, stdout=subprocess.PIPE, check=False
        )
        assert done.returncode == code
    os.close(writer)


def test_a_closed_stderr_does_not_put_progress_into_the_result(program: Path, hello: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f"exec '{program}' hello.toml --json 2>&-"],
        cwd=hello,
        stdout=subprocess.PIPE,
        check=False,
    )
    assert done.returncode == ExitCode.OK
    assert json.loads(done.stdout)["schema"] == "bootbuild/build/1"


@pytest.mark.parametrize(
    ("redirection", "said"), [(">&-", "it is closed"), (">/dev/full", "no space left on device")]
)
def test_a_stdout_that_takes_nothing_is_9(program: Path, hello: Path, redirection: str, said: str) -> None:
    pages = ("-h", "--version", "boot -h", "schema --help") if redirection != ">&-" else ()
    for command in ("hello.toml -q", "schema", "plugins", *pages):
        done = subprocess.run(
            ["sh", "-c", f"exec '{program}' {command} {redirection}"],
            cwd=hello,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert done.returncode == ExitCode.OUTPUT
        assert done.stderr.startswith(f"bootbuild: error: stdout: {said} (BB-W092); ")
        assert len(done.stderr.splitlines()) == 1


def test_ctrl_c_ends_a_boot_with_130_and_no_traceback(program: Path, tmp_path: Path) -> None:
    (tmp_path / "endless.elf").write_bytes(tiny_guest.guest(later=ENDLESS))
    process = subprocess.Popen(
        [program, "boot", "endless.elf", "--as", "pvh@qemu", "--until", hex(tiny_guest.STARTUP),
         "--budget", str(1 << 60)],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline() == "bootbuild: booting endless.elf as pvh@qemu\n"
    with pytest.raises(subprocess.TimeoutExpired):  # it is running the guest
        process.wait(timeout=2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err.strip()) == (130, "", "")


def test_ctrl_c_while_an_image_is_written_leaves_no_part_of_it(program: Path, hello: Path) -> None:
    before = {path: path.read_bytes() for path in (hello / "out").iterdir()}
    process = subprocess.Popen(
        [program, "hello.toml"], cwd=hello, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    while "writing" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "") and "Traceback" not in err
    assert {path: path.read_bytes() for path in (hello / "out").iterdir()} == before


def test_help_costs_no_more_than_click() -> None:
    """Every command's help too; what loads the heavy libraries is work, not looking at a page."""
    heavy = ("lief", "unicorn", "msgspec", "elftools", "pluggy", "zstandard", "lz4")
    code = (
        "import sys\nfrom bootbuild.cli import main\n"
        "from bootbuild.cli.group import bootbuild as group\n"
        "assert {main([*at, '--help']) for at in ([], *([name] for name in group.commands))} == {0}\n"
        "assert main(['--version']) == 0\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", ["\udcff.toml", "a\nb.toml", "\x1b[2J.toml", "-", "", "x" * 5000])
def test_no_name_of_a_file_is_a_traceback(bootbuild: Bootbuild, name: str) -> None:
    done = bootbuild("build", "--", name)
    assert (done.returncode, done.stdout) == (ExitCode.RECIPE, "")
    assert len(done.stderr.splitlines()) == 1 and "\x1b" not in done.stderr
    for command in (["boot", "--as", "pvh"], ["inspect"]):
        done = bootbuild(*command, "-q" if command[0] == "boot" else "--no-plugins", "--", name)
        assert (done.returncode, done.stdout) == (ExitCode.INPUT, "")
        assert len(done.stderr.splitlines()) == 1 and "\x1b" not in done.stderr
