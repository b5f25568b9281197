"""Builds that run at once into one folder do not see each other: each image is whole, and the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from building_site import Site, digest

MakeSite = Callable[..., Site]


def test_builds_of_one_recipe_at_once_make_one_image(site: MakeSite) -> None:
    here = site(megabytes=16)
    inputs = here.state()
    assert here.run().returncode == 0
    alone = digest(here.out / here.image)
    for _ in range(2):
        builds = [here.start("--force") for _ in range(3)]
        seen = set()
        while any(build.poll() is None for build in builds):
            seen.add(digest(here.out / here.image))
        for build in builds:
            said, complaint = build.communicate()
            assert (build.returncode, complaint) == (0, "") and "BOOTED" in said
        assert seen == {alone}  # at no time was anything else under that name
        assert here.left() == [".bootbuild", here.image]
    assert here.state() == inputs


def test_a_build_that_writes_is_not_taken_for_one_that_was_killed(site: MakeSite) -> None:
    """Another recipe's images go to the same folder while one is written slowly: its file stays."""
    here = site(megabytes=64)
    (here.folder / "other.elf").write_bytes((here.folder / "kernel.elf").read_bytes()[:9312])
    recipe = (here.folder / here.recipe).read_text()
    (here.folder / "other.toml").write_text(recipe.replace("kernel.elf", "other.elf"))
    other = Site(here.folder, "other.toml", "other-pvh.elf", ("other.elf",))
    slow = here.start("--force")
    while slow.poll() is None:
        assert other.run("--force").returncode == 0
    assert (slow.communicate()[1], slow.returncode) == ("", 0)
    assert here.left() == [".bootbuild", here.image, other.image]


WRITER = """
import sys
from pathlib import Path
from bootbuild.store import write_file
path, letter = Path(sys.argv[1]), sys.argv[2].encode()
for _ in range(150):
    write_file(path, letter * 100_000)
    (path.parent / f".bootbuild-{letter.decode()}.partial").write_bytes(b"left by one that was killed")
"""
SWEEPER = """
import sys
from pathlib import Path
from bootbuild.store import _sweep
while True:
    _sweep(Path(sys.argv[1]).parent)
"""


def test_writers_and_sweepers_of_one_file_never_meet(tmp_path: Path) -> None:
    """Each writer writes the same file again and again, and sweeps up; one does nothing but sweep."""
    path = tmp_path / "image"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, letter], stderr=subprocess.PIPE, text=True)
        for letter in "abcd"
    ]
    sweeper = subprocess.Popen([sys.executable, "-c", SWEEPER, path])
    try:
        while any(writer.poll() is None for writer in writers):
            if path.exists():
                data = path.read_bytes()
                assert len(data) == 100_000 and len({*data}) == 1
        assert sweeper.poll() is None
    finally:
        for process in (sweeper, *writers):
            process.kill()
        sweeper.wait()
    assert [writer.communicate()[1] for writer in writers] == [""] * 4
