"""Builds that run at once into one folder do not see each other: each image is whole at every time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from building_site import Site, digest

WRITER = """
import os, sys
from pathlib import Path
from bootbuild import store
if sys.argv[3] == "a hidden name":
    store._nameless = lambda _: -1
for _ in range(150):
    store.write_file(Path(sys.argv[1]), sys.argv[2].encode() * 100_000)
"""


def test_at_no_time_is_anything_else_under_the_name(site: Callable[..., Site]) -> None:
    here = site(megabytes=16)
    inputs = here.state()
    assert here.run().returncode == 0
    alone = digest(here.out / here.image)
    builds = [here.start("--force") for _ in range(4)]
    seen = set()
    while any(build.poll() is None for build in builds):
        seen.add(digest(here.out / here.image))
    for build in builds:
        said, complaint = build.communicate()
        assert (build.returncode, complaint) == (0, "") and "BOOTED" in said
    assert seen == {alone}
    assert (here.left(), here.state()) == ([".bootbuild", here.image], inputs)


@pytest.mark.parametrize("how", ["O_TMPFILE", "a hidden name"])
def test_of_writers_of_one_file_the_last_wins(how: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, letter, how], stderr=subprocess.PIPE, text=True)
        for letter in "abcd"
    ]
    try:
        while any(writer.poll() is None for writer in writers):
            if path.exists():
                data = path.read_bytes()
                assert len(data) == 100_000 and len({*data}) == 1
    finally:
        for writer in writers:
            writer.kill()
    assert [writer.communicate()[1] for writer in writers] == [""] * 4
    assert [entry.name for entry in tmp_path.iterdir()] == ["image"]
