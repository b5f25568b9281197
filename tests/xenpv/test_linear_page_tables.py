"""Tables that lead to tables of their own level, and what else Xen answers to a change of page tables.

The guest of tests/oracles asks; there the same answers are held to those of real Xen.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pv_dump
from bootbuild.api import Profile
from bootbuild_xenpv.environments.xen import XenDom0, XenDomU
from bootbuild_xenpv.hypervisor.linear import LinearTables

PROFILES: dict[str, Callable[[], Profile]] = {"domu": XenDomU, "dom0": XenDom0}
EPERM, EBUSY, EINVAL = (2**64 - number for number in (1, 16, 22))

ANSWERS = {  # of tests/oracles/guest_pv/tables.c
    "self4.writable": EINVAL,
    "self4.readonly": 0,
    "self4.seen": 1,  # the root's own entries, at the addresses that it now maps
    "self4.entry": 1,  # and those of level 1
    "self4.mapping": EINVAL,  # what is mapped there is no table of level 1
    "self4.slot_made_writable": EINVAL,
    "others4.root_to_one": 0,
    "others4.root_to_one_writable": EINVAL,
    "others4.one_to_root": EINVAL,  # no link between two
    "others4.one_to_two": EINVAL,
    "others4.one_to_one": 0,  # that is no link
    "others4.two_to_one": 0,
    "others4.two_to_root": EINVAL,
    "others4.one_in_use": EBUSY,  # unpinned, and led to by two
    "others4.one_still_in_use": EBUSY,
    "others4.one_to_root_now": 0,
    "others4.root_to_root": 0,
    "others4.one_free": 0,
    "self2.pinned_writable": EINVAL,
    "self2.pinned": 0,
    "self2.level_too_low": EINVAL,
    "self2.free": 0,
    "self3.pinned_writable": EINVAL,
    "self3.pinned": 0,
    "self3.free": 0,
    "refused.frame_of_nobody": EPERM,
    "refused.frame_of_others": EBUSY,
    "refused.root_writable": EBUSY,
    "refused.not_covered": EINVAL,
    "refused.superpage": EINVAL,
    "refused.table_of_nobody": EINVAL,
    "refused.xens_slot": EINVAL,
}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_change_of_page_tables_is_answered_as_xen_answers_it(
    profile: str, gcc: Path, tmp_path: Path
) -> None:
    guest = pv_dump.compile_guest(gcc, tmp_path, "inside")
    said: dict[str, Any] = pv_dump.parse(pv_dump.emulated(PROFILES[profile](), guest, "", b"", 64))
    assert {name: said[name] for name in ANSWERS} == ANSWERS


def test_a_link_is_taken_as_often_as_it_is_given_up() -> None:
    tables = LinearTables()
    assert [tables.take(1, 2), tables.take(1, 2), tables.take(3, 2)] == ["", "", ""]
    tables.drop(1, 2)
    assert tables.take(4, 1) == "machine frame 0x1 leads to another table of its level"
    tables.drop(1, 2)
    assert tables.take(4, 1) == ""
    assert tables.take(2, 6) == "machine frame 0x2, where it is, is led to by another table of its level"
    tables.drop(3, 2)
    assert tables.take(2, 6) == ""
    assert tables.take(1, 5) == "machine frame 0x1, where it is, is led to by another table of its level"
