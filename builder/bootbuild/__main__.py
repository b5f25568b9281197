"""`python -m bootbuild` is `bootbuild`."""

from __future__ import annotations

import sys

from bootbuild.cli import main

if __name__ == "__main__":
    sys.exit(main())
