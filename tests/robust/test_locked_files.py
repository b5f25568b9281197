"""Files that may not be read: every command says so by a rule, with the exit code of such a file."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from bootbuild.errors import ExitCode
from building_site import HELD_TO_MODES, PROGRAM, Site


@pytest.mark.parametrize(
    ("arguments", "locked", "code", "rule"),
    [
        ("inspect kernel.elf", "kernel.elf", ExitCode.INPUT, "BB-E031"),
        ("check kernel.elf", "kernel.elf", ExitCode.INPUT, "BB-E031"),
        ("boot kernel.elf --as pvh@qemu", "kernel.elf", ExitCode.INPUT, "BB-E031"),
        ("boot kernel.elf --as pvh@qemu --symbols map", "map", ExitCode.INPUT, "BB-E031"),
        ("r.toml --payload kernel.elf", "kernel.elf", ExitCode.RECIPE, "BB-R015"),
        ("r.toml", "r.toml", ExitCode.RECIPE, "BB-R001"),
    ],
)
def test_a_file_of_mode_000_is_said_by_its_rule(
    site: Callable[..., Site], arguments: str, locked: str, code: ExitCode, rule: str
) -> None:
    here = site()
    (here.folder / here.recipe).rename(here.folder / "r.toml")
    (here.folder / "map").write_bytes(b"0000000000200000 T startup_64\n")
    (here.folder / locked).chmod(0)
    done = subprocess.run(
        [*HELD_TO_MODES, PROGRAM, *arguments.split()],
        cwd=here.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "")
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("bootbuild: booting")]
    assert line.startswith("bootbuild: error: ") and f"({rule})" in line
