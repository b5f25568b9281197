"""Shell completion as docs/commands.md sets it up: the scripts exist, and bash's completes for real."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


def complete(program: Path, *words: str, cwd: Path) -> list[str]:
    """What click offers for the last of `words`, as `type,value`."""
    done = subprocess.run(
        [program],
        cwd=cwd,
        env={
            **os.environ,
            "_BOOTBUILD_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("bootbuild", *words)),
            "COMP_CWORD": str(len(words)),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split("\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_printed(
    program: Path, shell: str, request: pytest.FixtureRequest
) -> None:
    if shell == "bash":  # click asks it for its version
        request.getfixturevalue("bash")
    done = subprocess.run(
        [program],
        env={**os.environ, "_BOOTBUILD_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_BOOTBUILD_COMPLETE" in done.stdout and "bootbuild" in done.stdout


def test_commands_and_recipes_are_offered_first(program: Path, tmp_path: Path) -> None:
    assert complete(program, "bo", cwd=tmp_path)[:2] == ["plain,boot", "file,bo"]
    assert "file,hel" in complete(program, "hel", cwd=tmp_path)


def test_options_of_a_command_and_of_the_default_command_are_offered(program: Path, tmp_path: Path) -> None:
    assert "plain,--until" in complete(program, "boot", "--un", cwd=tmp_path)
    assert "plain,--payload" in complete(program, "hello.toml", "--pay", cwd=tmp_path)
    assert "plain,hello" in complete(program, "new", "he", cwd=tmp_path)


def test_bash_completes_with_the_line_of_the_page(
    program: Path, bash: Path, tmp_path: Path, repository: Path
) -> None:
    page = (repository / "docs/commands.md").read_text(encoding="utf-8")
    line = next(line.strip() for line in page.splitlines() if "bash_source bootbuild)" in line)
    script = (
        f"{line}\nCOMP_WORDS=(bootbuild inspect --js); COMP_CWORD=2; COMPREPLY=()\n"
        "_bootbuild_completion bootbuild\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    done = subprocess.run(
        [bash, "--norc", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["--json"], done.stderr
