"""Target `efi`: a PE32+ application, as UEFI's boot manager starts it."""

from __future__ import annotations

from bootbuild.api import Contribution, ElfImage, Guest, Payload, Problem, RefusedError, Rule

NO_ENTRY = Rule(
    "BB-L501",
    "no UEFI entry",
    "UEFI starts PE32+ applications: a Linux bzImage with CONFIG_EFI_STUB is one, an ELF file is not.",
    "give the bzImage, not the vmlinux in it",
)


class Efi:
    """Linux by its own EFI stub, the file untouched."""

    name = "efi"
    summary = "UEFI: OVMF and its like, a PE32+ application"
    options = None
    packed = True
    rules = (NO_ENTRY,)

    def contribute(self, payload: Payload, guest: Guest, options: None) -> Contribution:
        raise RefusedError(Problem(NO_ENTRY, payload.source, "there is no stub that makes a UEFI entry yet"))

    def native(self, payload: Payload, guest: Guest, options: None) -> Contribution:
        raise RefusedError(Problem(NO_ENTRY, payload.source, "a file is not yet kept as it is"))

    def chain(self, payload: Payload, guest: Guest, options: None) -> Contribution:
        raise RefusedError(Problem(NO_ENTRY, payload.source, "there is no stub before a UEFI entry"))

    def entry_of(self, image: ElfImage) -> int | None:
        return None
