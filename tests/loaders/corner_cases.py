"""All files at the edges of what loaders take."""

from __future__ import annotations

from corner_dom0 import DOM0
from corner_files import OTHERS
from corner_pvh import MATRIX

CASES = [*MATRIX, *DOM0, *OTHERS]
