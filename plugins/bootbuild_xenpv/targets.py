"""Target `xen-pv`: an image that Xen starts in ring 3, by the notes of owner Xen."""

from __future__ import annotations

from bootbuild.api import Contribution, ElfImage, Guest, InputError, Payload, Problem, RefusedError
from bootbuild_xenpv.notes import physical_entry, read_notes
from bootbuild_xenpv.rules import NO_ENTRY, RULES


class XenPv:
    """The payload's own PV entry."""

    name = "xen-pv"
    summary = "Xen PV: a domain in ring 3, without hardware virtualisation"
    options = None
    linux_startup = "x86_64_start_reservations"  #: xen_start_kernel goes there, arch/x86/xen/enlighten_pv.c
    rules = RULES

    def contribute(self, payload: Payload, guest: Guest, options: None) -> Contribution:
        text = f"guest {guest.name} has no stub for Xen PV yet"
        raise RefusedError(Problem(NO_ENTRY, payload.source, text, 'use `entry = "native"`'))

    def native(self, payload: Payload, guest: Guest, options: None) -> Contribution:
        """The payload's own PV entry, as it is."""
        try:
            read_notes(payload.elf)
        except InputError as reason:
            raise RefusedError(reason.problems) from None
        return Contribution(target=self.name, guest=guest.name, container="elf", startup=payload.startup)

    def chain(self, payload: Payload, guest: Guest, options: None) -> Contribution:
        text = "there is no stub to run before a PV entry yet"
        raise RefusedError(Problem(NO_ENTRY, payload.source, text, 'use `entry = "native"`'))

    def entry_of(self, image: ElfImage) -> int | None:
        return physical_entry(image)
