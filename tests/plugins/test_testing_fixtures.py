"""The fixtures for plugin authors pass what is right, and fail what is not, in words that name it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tiny_guest import STARTUP, guest

SUITE = """
import subprocess, sys
from pathlib import Path
import pytest

HERE = Path(__file__).parent
HELLO = HERE / "hello.toml"
TINY = {{"profile": "pvh@qemu", "until": "{startup:#x}", "width": 32}}

@pytest.fixture
def own(tmp_path):
    def write(old, new):
        text = HELLO.read_text()
        assert old in text
        (HERE / "own.toml").write_text(text.replace(old, new))
        return HERE / "own.toml"
    return write

@pytest.fixture
def made(boots):
    return boots(HELLO).images[0].path

def test_boots_right(boots):
    record = boots(HELLO)
    (image,) = record.images
    assert {{"pvh@qemu", "pvh@xen-domu"}} <= {{v.name for v in image.verdicts}}
    assert Path(image.path).is_file()

def test_boots_not_booted(boots, own):
    boots(own('"hello from"', '"no such words"'))

def test_boots_not_a_recipe(boots, own):
    boots(own("[targets.pvh]", "[targets.pvhh]"))

def test_boots_no_file(boots):
    boots(HERE / "missing.toml")

def test_refuses_right(refuses):
    (verdict,) = refuses(HERE / "stack.elf", "BB-U002", **TINY)
    assert verdict.name == "pvh@qemu"

def test_refuses_another(refuses):
    refuses(HERE / "stack.elf", "BB-U001", **TINY)

def test_refuses_nothing(refuses, made):
    refuses(made, "BB-U002")

def test_refuses_one_of_two(refuses):
    refuses(HERE / "two.elf", "BB-U002", **TINY)

def test_refuses_module_right(refuses, made):
    refuses(made, "BB-L004", profile="pvh@qemu", modules=[(HELLO, b""), (HELLO, b"")])

def test_refuses_input_right(refuses):
    assert refuses(HERE / "text.elf", "BB-E030") == ()

def test_refuses_input_another(refuses):
    refuses(HERE / "text.elf", "BB-E001")

def test_refuses_in_no_profile(refuses, made):
    refuses(made, "BB-U002", profile="pvh@bochs")

def test_same_bytes_right(same_bytes):
    assert [path.name for path in same_bytes(HELLO)] == ["hello64-pvh.elf"]

def test_same_bytes_differ(same_bytes, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE / "site"))
    monkeypatch.setenv("CARELESS", "append")
    same_bytes(HELLO)

def test_same_bytes_one_more(same_bytes, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE / "site"))
    monkeypatch.setenv("CARELESS", "file")
    same_bytes(HELLO)

def test_same_bytes_not_built(same_bytes, own):
    same_bytes(own('path = "hello64.elf"', 'path = "hello46.elf"'))
"""

CARELESS = """
import os
from pathlib import Path
from bootbuild.api import hookimpl

class Careless:
    @hookimpl
    def bootbuild_finished(self, record):
        path = Path(record.images[0].path)
        if os.environ["CARELESS"] == "append":
            with path.open("ab") as file:
                file.write(os.getcwd().encode())
        elif os.environ["TZ"] == "UTC":
            path.with_name("notes.txt").write_text("made in UTC")
"""


def _install_careless(site: Path) -> None:
    """A hook that lets the folder, or the time zone, into what a build leaves."""
    info = site / "careless-1.dist-info"
    info.mkdir(parents=True)
    (site / "careless.py").write_text(CARELESS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: careless\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[bootbuild1]\nhook.careless = careless:Careless\n")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """Each test of SUITE: None where it passed, else what pytest says of it."""
    folder = tmp_path_factory.mktemp("author")
    subprocess.run(
        [sys.executable, "-m", "bootbuild", "new", "hello", folder], check=True, capture_output=True
    )
    (folder / "test_author.py").write_text(SUITE.format(startup=STARTUP))
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (folder / "stack.elf").write_bytes(guest(first=b"\x50\x58"))  # push %eax; pop %eax
    # cmp $0x6ef4, %edi; jz over four nops; then as above
    two = b"\x81\xff\xf4\x6e\0\0" + b"\x74\x04" + b"\x90" * 4 + b"\x50\x58"
    (folder / "two.elf").write_bytes(guest(first=two))
    (folder / "text.elf").write_text("no kernel")
    _install_careless(folder / "site")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, "-c", "pytest.ini", "--junitxml", "results.xml"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    found: dict[str, str | None] = {}
    for case in ET.parse(folder / "results.xml").iter("testcase"):
        trouble = next((part for part in case if part.tag in ("failure", "error")), None)
        found[case.attrib["name"]] = None if trouble is None else f"{trouble.tag}: {trouble.text}"
    return found


RIGHT = {
    f"test_{name}_right" for name in ("boots", "refuses", "refuses_module", "refuses_input", "same_bytes")
}
WRONG = {
    "test_boots_not_booted": (
        "pvh@qemu: FAILED\n  'no such words' was not printed: ",
        "(BB-B023)\n",
        "pvh@xen-domu: FAILED\n",
    ),
    "test_boots_not_a_recipe": ("cannot be built:\n", "no target 'pvhh' is installed (BB-R011)"),
    "test_boots_no_file": ("cannot be built:\n", "missing.toml: "),
    "test_refuses_another": (
        "BB-U001 alone was to be found, but\npvh@qemu: FAILED\n  relies on ESP",
        "(BB-U002)",
    ),
    "test_refuses_nothing": (
        "BB-U002 alone was to be found, but\npvh@cloud-hypervisor: BOOTED\n",
        "pvh@xen-domu: BOOTED",
    ),
    "test_refuses_one_of_two": ("BB-U002 alone was to be found, but\n", "(BB-U001)", "(BB-U002)"),
    "test_refuses_input_another": (
        "BB-E001 alone was to be found, but\n",
        "text.elf: not a kernel: ",
        "(BB-E030)",
    ),
    "test_refuses_in_no_profile": ("cannot be booted:\nprofile 'pvh@bochs': ", "(BB-P001)"),
    "test_same_bytes_differ": ("hello64-pvh.elf differs between the builds, first at offset 0x",),
    "test_same_bytes_one_more": ("notes.txt was made by one of the builds only",),
    "test_same_bytes_not_built": ("cannot be built:\n", "hello46.elf' does not exist"),
}


def test_all_of_them_ran(results: dict[str, str | None]) -> None:
    assert results.keys() == RIGHT | WRONG.keys()


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_what_is_right_passes(results: dict[str, str | None], name: str) -> None:
    assert results[name] is None


@pytest.mark.parametrize("name", sorted(WRONG))
def test_what_is_wrong_fails_in_words_and_without_a_traceback(
    results: dict[str, str | None], name: str
) -> None:
    said = results[name]
    assert said is not None
    assert said.startswith("failure: ")
    for words in WRONG[name]:
        assert words in said
    assert "testing.py" not in said
    assert "Traceback" not in said
