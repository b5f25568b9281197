"""A guest whose frames are scattered is judged by its own physical addresses."""

from __future__ import annotations

from typing import Any

import pytest

from bootbuild.boot.pseudo_physical import PseudoPhysical
from bootbuild.model.content import MemoryContent
from bootbuild.model.machine import Load

PAGE = 4096
FRAMES = (7, 3, 9)  #: machine frames of the guest's frames 0, 1 and 2


class Machine:
    """Machine memory of twelve pages, each full of its own number; virtual addresses are machine ones."""

    def __init__(self) -> None:
        self.memory = bytearray(b"".join(bytes([frame]) * PAGE for frame in range(12)))

    def read_physical(self, address: int, size: int) -> bytes:
        return bytes(self.memory[address : address + size])

    def translate(self, address: int) -> int | None:
        return address if address < len(self.memory) else None

    def first_change(self, load: Load) -> int | None:
        found = zip(load.content.read(0, load.size), self.memory[load.address :], strict=False)
        return next((load.address + at for at, (a, b) in enumerate(found) if a != b), None)


@pytest.fixture
def view() -> PseudoPhysical:
    machine: Any = Machine()
    return PseudoPhysical(machine, FRAMES)


def test_a_read_goes_from_frame_to_frame(view: PseudoPhysical) -> None:
    assert view.read_physical(PAGE - 2, PAGE + 4) == b"\7\7" + b"\3" * PAGE + b"\x09\x09"


@pytest.mark.parametrize("address", [3 * PAGE, -1, 7 * PAGE])
def test_there_is_no_other_memory(view: PseudoPhysical, address: int) -> None:
    with pytest.raises(LookupError, match="the guest has no memory at physical address"):
        view.read_physical(address, 1)


def test_an_address_is_told_as_the_guests_own(view: PseudoPhysical) -> None:
    assert view.translate(3 * PAGE + 5) == PAGE + 5
    assert view.translate(4 * PAGE) is None, "another's frame"
    assert view.translate(100 * PAGE) is None


def test_a_change_too(view: PseudoPhysical) -> None:
    same, other = bytes([9]) * 20, bytes([9]) * 10 + b"\0"
    assert view.first_change(Load(9 * PAGE, MemoryContent(same), 0, 20, 20)) is None
    assert view.first_change(Load(9 * PAGE, MemoryContent(other), 0, 11, 11)) == 2 * PAGE + 10


def test_the_first_frame_may_have_another_address_in_the_image() -> None:
    machine: Any = Machine()
    view = PseudoPhysical(machine, FRAMES, 16 * PAGE)
    assert view.read_physical(17 * PAGE - 2, 3) == b"\7\7\3"
    assert view.translate(3 * PAGE + 5) == 17 * PAGE + 5
    with pytest.raises(LookupError):
        view.read_physical(PAGE, 1)
