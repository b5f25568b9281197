"""Other programs write onto the files of a build or boot: it boots its own bytes, or says what happened."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bootbuild.errors import ExitCode
from debian_kernels import Kernels

PROGRAM = Path(sys.executable).with_name("bootbuild")
#: Does something to a file before a step of the build: what another program might do just then.
PLUGIN = """
import os
from pathlib import Path
from bootbuild.api import hookimpl

class Hook:
    @hookimpl
    def bootbuild_{step}(self, {arguments}):
        path = Path({path!r})
        {code}
"""
ARGUMENTS = {"boot": "image, profile", "build": "payload, contributions"}
CUT = "os.truncate(path, 4096)"
OVERWRITE = "path.write_bytes(bytes(path.stat().st_size))"

Bootbuild = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def meanwhile(tmp_path: Path) -> Bootbuild:
    """meanwhile(step, path, code, arguments…): bootbuild, in which `code` runs before every such step."""
    subprocess.run([PROGRAM, "new", "hello", "."], cwd=tmp_path, check=True, capture_output=True)
    recipe = tmp_path / "hello.toml"
    recipe.write_text(
        recipe.read_text().replace("[targets.pvh]", '[targets.pvh]\nprofiles = ["qemu", "xen-domu"]')
    )

    def run(step: str, path: str, code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        text = PLUGIN.format(step=step, arguments=ARGUMENTS[step], path=path, code=code)
        (tmp_path / "meanwhile.py").write_text(text)
        return subprocess.run(
            [PROGRAM, *arguments, "-q", "-p", "meanwhile:Hook"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize("code", [CUT, OVERWRITE, "path.unlink(missing_ok=True)"])
def test_a_module_is_what_it_was_when_the_build_began(
    code: str, meanwhile: Bootbuild, tmp_path: Path
) -> None:
    (tmp_path / "large").write_bytes(b"module " * 100_000)
    done = meanwhile("boot", "large", code, "hello.toml", "--module", "large")
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert done.stdout.count("\nBOOTED ") == 2


@pytest.mark.parametrize("code", [CUT, OVERWRITE])
def test_a_kernel_is_booted_as_it_was_when_the_boot_began(
    code: str, meanwhile: Bootbuild, kernels: Kernels, tmp_path: Path
) -> None:
    (tmp_path / "vmlinux").write_bytes(kernels.cloud.vmlinux.read_bytes())
    done = meanwhile(
        "boot", "vmlinux", code, "boot", "vmlinux", "--as", "pvh@qemu", "--as", "pvh@firecracker"
    )
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert done.stdout.count("\nBOOTED ") == 2


def test_a_build_boots_the_image_that_it_wrote_whatever_has_its_name_now(
    meanwhile: Bootbuild, tmp_path: Path
) -> None:
    image = tmp_path / "out/hello64-pvh.elf"
    subprocess.run([PROGRAM, "hello.toml", "-q"], cwd=tmp_path, check=True, capture_output=True)
    own = hashlib.sha256(image.read_bytes()).hexdigest()
    done = meanwhile("boot", str(image), OVERWRITE, "hello.toml", "--json")
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    (told,) = json.loads(done.stdout)["recipes"][0]["images"]
    assert told["sha256"] == own
    assert {run["outcome"] for run in told["runs"]} == {"BOOTED"}
    assert not image.read_bytes().strip(b"\0"), "what stands there is another's"
    again = subprocess.run([PROGRAM, "hello.toml"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "booting" in again.stderr, "and the record does not vouch for it"


@pytest.mark.parametrize("left", [0, 64, 4096])
def test_a_payload_that_is_cut_short_during_the_build_is_one_error(
    left: int, meanwhile: Bootbuild, tmp_path: Path
) -> None:
    done = meanwhile("build", "hello64.elf", f"os.truncate(path, {left})", "hello.toml")
    assert (done.returncode, done.stdout.strip()) == (ExitCode.INPUT, "")
    assert done.stderr == (
        "bootbuild: error: hello64.elf: became shorter while it was read (BB-E031); "
        "run it again when no other program writes the file\n"
    )
    assert not list((tmp_path / "out").iterdir())
