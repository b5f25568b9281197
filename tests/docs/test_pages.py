"""README.md and the pages of docs/: every relative link leads somewhere, every page can be reached."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def links(page: Path) -> Iterator[tuple[str, str]]:
    """(file, anchor) of each relative link."""
    for target in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        if not re.match(r"[a-z]+:", target):
            file, _, anchor = target.partition("#")
            yield file, anchor


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_relative_link_leads_somewhere() -> None:
    broken = []
    for page in PAGES:
        for file, anchor in links(page):
            target = page.parent / file if file else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{page.name}: {file}#{anchor}")
    assert broken == []


def test_the_readme_links_to_every_page() -> None:
    linked = {file for file, _ in links(PAGES[0])}
    assert [page.name for page in PAGES[1:] if f"docs/{page.name}" not in linked] == []


def test_every_file_that_the_readme_names_is_there() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    named = re.findall(r"`((?:docs|builder|plugins|tests|LICENSES|\.ci)/[^`\s]*)`", text)
    assert named
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


def test_the_readme_shows_what_its_first_command_prints(tmp_path: Path) -> None:
    """But for the lines that it leaves out."""
    text = PAGES[0].read_text(encoding="utf-8")
    shown = re.findall(
        r"^    (?! )(.*)$", text[text.index("    RESULT ") : text.index("\n`oracle` means")], re.M
    )
    for folder in ("recipes", "builder/bootbuild/guests/hello"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    program = Path(sys.executable).with_name("bootbuild")
    done = subprocess.run(
        [program, "recipes/hello.toml", "recipes/hello32.toml", "--force", "--quiet"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert len(shown) > 5
    assert [line for line in shown if line not in ("…", *done.stdout.splitlines())] == []
