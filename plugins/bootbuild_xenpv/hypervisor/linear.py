"""Linear page tables: tables that lead to others of their own level, so that a guest sees its entries.

get_l2_linear_pagetable and its like, xen/arch/x86/mm.c, of a Xen with CONFIG_PV_LINEAR_PT (as it is unless it
is built or started without: `pv-linear-pt=no`).
"""

from __future__ import annotations

from collections import Counter


class LinearTables:
    """Which tables lead to others of their level. A table that leads to itself is none of them."""

    def __init__(self) -> None:
        self._leads: Counter[int] = Counter()  #: how many such entries a table has
        self._led_to: Counter[int] = Counter()  #: how many lead to it

    def take(self, table: int, frame: int) -> str:
        """One more entry of `table` leads to `frame`, of the same level; else why it may not, in words."""
        if self._led_to[table]:
            return f"machine frame {table:#x}, where it is, is led to by another table of its level"
        if self._leads[frame]:
            return f"machine frame {frame:#x} leads to another table of its level"
        self._leads[table] += 1
        self._led_to[frame] += 1
        return ""

    def drop(self, table: int, frame: int) -> None:
        """Such an entry is gone."""
        self._leads[table] -= 1
        self._led_to[frame] -= 1
