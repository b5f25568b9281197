"""Target `linux`: an image that every loader of the Linux/x86 boot protocol starts."""

from __future__ import annotations

from typing import Any

from bootbuild.api import Contribution, ElfImage, Guest, Payload, Problem, RefusedError
from bootbuild_baremetal.linux_rules import NO_BZIMAGE, NO_CHAIN, NO_ROUTE, RULES


class Linux:
    """The kernel's own entries by Documentation/arch/x86/boot.rst."""

    name = "linux"
    summary = "Linux/x86 boot protocol (bzImage): GRUB, QEMU, kexec, VMMs"
    options: type[Any] | None = None
    rules = RULES
    packed = True  #: its loaders read the file that the kernel is packed in

    def contribute(self, payload: Payload, guest: Guest, options: Any) -> Contribution:
        """There is no such stub yet."""
        raise RefusedError(Problem(NO_ROUTE, payload.source, "nothing is inserted yet"))

    def native(self, payload: Payload, guest: Guest, options: Any) -> Contribution:
        """The bzImage as it is. Raises RefusedError (BB-L402)."""
        if not payload.format.startswith("bzimage"):
            raise RefusedError(Problem(NO_BZIMAGE, payload.source, f"it is {payload.format}"))
        return Contribution(
            target=self.name, guest=guest.name, container="bzimage", startup=payload.startup
        )

    def chain(self, payload: Payload, guest: Guest, options: Any) -> Contribution:
        """There is no such stub."""
        text = "a bzImage unpacks itself, and leaves a chained stub nothing to do"
        raise RefusedError(Problem(NO_CHAIN, payload.source, text))

    def entry_of(self, image: ElfImage) -> int | None:
        return None
