"""Plugin kind `guest`: the handover protocol that a payload's startup path speaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from bootbuild.api.environment import Scene
from bootbuild.api.machine import Cpu
from bootbuild.model.blob import Blob
from bootbuild.model.machine import Given
from bootbuild.model.payload import ElfImage, Payload, Startup
from bootbuild.model.rule import Rule
from bootbuild.model.span import Span
from bootbuild.model.trace import Placed
from bootbuild.model.verdict import Finding, Level
from bootbuild.model.waist import Piece


class GuestView(Protocol):
    """The machine standing at the startup path, read only. Addresses virtual unless they say physical."""

    def get(self, register: str) -> int:
        """A register by its lower-case name."""

    def read(self, address: int, size: int) -> bytes:
        """Bytes through the page tables now in force. LookupError if not mapped."""

    def read_physical(self, address: int, size: int) -> bytes:
        """Bytes at a physical address. LookupError where there is no memory."""

    def translate(self, address: int) -> int | None:
        """Physical address of a virtual one; None if not mapped."""

    @property
    def code_width(self) -> int:
        """16, 32 or 64: what CS and EFER.LMA make of the bytes at RIP. Compatibility mode is 32."""


class Guest(Protocol):
    """One handover protocol: how to enter it, and how to tell whether it was kept.

    A guest that can be entered in ring 3, under Xen PV, has a method more, `ring3_back() -> Piece`: the back
    for width 64 that leaves segments, page tables and IF to the hypervisor. One that can be entered while EFI
    boot services are alive has `boot_services_back() -> Piece`, which leaves them, and the stack, to the
    firmware. One that is `movable` (True) keeps no address of the image but in what the linker of stubs fills
    in: a loader may put it elsewhere. Where its `finds_itself(image, startup)` is true such a kernel maps
    itself from wherever it is loaded, and no word of it is mended. One whose kernels say in their file how
    they want to be started is a `SelfDescribed` too.
    """

    @property
    def name(self) -> str:
        """What users call it."""

    @property
    def summary(self) -> str:
        """One line."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of startup code that it knows."""

    @property
    def entered_at(self) -> Literal["linked", "physical"]:
        """Which address of the startup path the CPU is at when it is entered at width 64.

        "linked": the virtual one, under a mapping of the payload's own addresses. "physical": the one where
        it is loaded, under an identity map. At width 32 there is no paging, and it is always physical.
        """

    @property
    def rules(self) -> tuple[Rule, ...]:
        """That its findings name."""

    def back(self, width: int) -> Piece | None:
        """The stub that turns the record into this protocol and jumps to `bb_startup`.

        None: it cannot be entered by a stub of ours; only `entry = "native"` works.
        """

    def judge(
        self,
        view: GuestView,
        startup: Startup,
        given: Given,
        stub: Span | None,
        symbols: Mapping[str, int],
    ) -> tuple[Mapping[str, Any], Sequence[Finding]]:
        """Compare what the guest is handed at its startup path with what the environment gave.

        `stub`: physical range of our inserted stubs, None for a native entry. `symbols`: the payload's,
        as far as they are known. Returns the handover as
        JSON types (addresses as hex strings) for the report, and every difference.
        """


@runtime_checkable
class SelfDescribed(Protocol):
    """What a guest has beside `Guest` if its kernels' files speak of their start."""

    def startup_of(self, elf: ElfImage) -> int | None:
        """Physical address of the kernel's own entry by this protocol; None if the file has none.

        The startup path of a recipe that names none. Raises RefusedError for a file that contradicts itself.
        """

    def settings(self, payload: Payload) -> tuple[Blob, ...]:
        """What the back has to be told of this kernel: companions, whose exports it refers to.

        Raises RefusedError if the kernel demands what this back cannot give.
        """


class Follower(Protocol):
    """Goes with one run of a kernel that unpacks itself, and tells where it has put itself.

    The machine stops before every block that it points out, and it is asked what the guest has to `touch`
    there, and then to do its work.
    """

    @property
    def how(self) -> str:
        """In a few words, who unpacks the kernel: "the host (lz4)", or "the guest: REASON"."""

    @property
    def why(self) -> str:
        """Why the guest unpacks itself without the host's help; empty where it does not."""

    @property
    def sound(self) -> bool:
        """Whether the guest is as it would be alone. If it is not where the run ends, the run counts for
        nothing, and is done again by the guest alone.
        """

    @property
    def handed(self) -> Sequence[Finding] | None:
        """What is wrong with what a boot stub of the kernel's own has handed over; None: it has handed over
        nothing yet, or there is none.
        """

    @property
    def placed(self) -> Placed | None:
        """Where the kernel lies, once the machine stands at its entry."""

    @property
    def patience(self) -> int:
        """Instructions that the guest may take to unpack itself, beyond the budget of the run."""

    def block(self, cpu: Cpu, address: int, code: bytes) -> bool:
        """A block (linear address, bytes) is about to run for the first time: whether to stop there."""

    def touched(self, cpu: Cpu) -> Sequence[int]:
        """Linear addresses that the guest would have written to before it stood here, in that order.

        For each that is not mapped it gets the page fault that it would have got.
        """

    def stopped(self, cpu: Cpu) -> None:
        """Do what is to be done before the block that was pointed out."""


@runtime_checkable
class Unpacking(Protocol):
    """What a guest has beside `Guest` if its kernels may unpack themselves."""

    def follow(self, image: ElfImage, scene: Scene, exact: str, level: Level | None) -> Follower | None:
        """For one run of an image whose kernel is packed; None if it is not of this guest's making.

        `exact`: why the guest has to do everything itself; empty: it need not. With `level` STUB the run ends
        where a boot stub of the kernel's own has `handed` it over.
        """
