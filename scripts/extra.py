"""Print the requirements of one extra of pyproject.toml, one a line, without installing the project."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def main(extra: str) -> int:
    """Print them; 2 when there is no such extra."""
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    if extra not in extras:
        print(f"pyproject.toml: no extra {extra!r}; there are {', '.join(extras)}", file=sys.stderr)
        return 2
    print(*extras[extra], sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
