"""Machine frames: a domain's memory is contiguous for itself, and scattered in the machine."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from bootbuild.api import Filling, Load, Region, RegionKind, Span

MiB, GiB = 1 << 20, 1 << 30
PAGE = 4096
PCI_HOLE = Span(3 * GiB, GiB)  #: no RAM, but devices and flash; what would be there lies from 4 GiB on
EXTENT = 512  #: frames: xl populates a PV domain's memory by extents of 2 MiB (meminit_pv, xg_dom_x86.c)
_FIRST = 0x40000  #: no frame number of a domain of 1 GiB is a machine frame of its own
_STRIDES = {Filling.POISON_A: 0x9E3779B1, Filling.POISON_B: 0x85EBCA6B}  #: primes larger than any domain


class Frames:
    """The machine frames of a domain of `count` pages, and the frame table both ways.

    With `Filling.EXACT` whole extents are in descending order; with the others no two neighbours are
    neighbours in the machine. No frame number of the domain is ever a number of its machine frames. All lie
    below PCI_HOLE, or behind it.
    """

    def __init__(self, count: int, filling: Filling) -> None:
        self.count = count
        self.size = -(-count // EXTENT) * EXTENT  #: machine frames from `first` on, not all of them given out
        self.first = max(_FIRST, 1 << count.bit_length())
        if (self.first + self.size) * PAGE > PCI_HOLE.start:
            self.first = PCI_HOLE.end // PAGE
        stride = _STRIDES.get(filling)
        if stride is None:
            top = self.first + self.size - EXTENT
            places: Iterator[int] = (top - (pfn & -EXTENT) + pfn % EXTENT for pfn in range(count))
        else:
            places = (self.first + (pfn * stride + stride) % self.size for pfn in range(count))
        self.p2m = array("Q", places)
        self.m2p = array("Q", [2**64 - 1]) * self.size  #: from `first` on; all ones: not this domain's
        for pfn, mfn in enumerate(self.p2m):
            self.m2p[mfn - self.first] = pfn

    @property
    def region(self) -> Region:
        """The machine's memory that holds them."""
        return Region(Span(self.first * PAGE, self.size * PAGE), RegionKind.RAM)

    def machine(self, address: int) -> int:
        """Machine address of a pseudo-physical one."""
        return self.p2m[address // PAGE] * PAGE + address % PAGE

    def scatter(self, load: Load) -> Iterator[Load]:
        """A load at a pseudo-physical address as loads of machine memory."""
        done = 0
        while done < load.memsz:
            address = load.address + done
            size = min(self._run(address), load.memsz - done)
            bytes_here = max(0, min(size, load.size - done))
            yield Load(self.machine(address), load.content, load.offset + done, bytes_here, size)
            done += size

    def _run(self, address: int) -> int:
        """Bytes from `address` on that are contiguous in the machine."""
        first = pfn = address // PAGE
        while pfn + 1 < self.count and self.p2m[pfn + 1] == self.p2m[pfn] + 1:
            pfn += 1
        return (pfn + 1 - first) * PAGE - address % PAGE
