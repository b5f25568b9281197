"""Entry in flat 32-bit protected mode: the state, and garbage where the ABI promises nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bootbuild.model.garbage import garbage_of
from bootbuild.model.machine import Descriptor, EntryState, Filling, TableRegister, Undefined

_NO_TABLE = TableRegister(0, 0)
_SEEDS = {Filling.EXACT: 0, Filling.POISON_A: 0xA11CE5ED, Filling.POISON_B: 0x0B0B5EED}
_SELECTORS = {
    "cs": (0x20, 0x1238),
    "ds": (0x28, 0xFFF0),
    "es": (0x30, 0x0440),
    "ss": (0x38, 0x0770),
    "fs": (0x40, 0x0888),
    "gs": (0x48, 0x0990),
}
# CD and NW as the reset leaves them (SDM volume 3 §9.1.1); WP, NE, MP and what stops x87 code: AM, TS, EM
_CR0 = (0x60000011, 0x0005003F)
_CR4 = (0x00000648, 0x000000B0)  # DE, MCE and SSE, as UEFI has it; PSE, PAE, PGE
_EFER = (0x00000800, 0x00000101)  # NXE; LME and SCE


@dataclass(frozen=True)
class Poison:
    """Garbage for one run: which undefined things get it, and from which seed."""

    seed: int
    names: frozenset[str]

    def pick(self, name: str, exact: int, garbage_a: int, garbage_b: int) -> int:
        """`exact` unless `name` is poisoned in this run."""
        if name not in self.names:
            return exact
        return garbage_a if self.seed == _SEEDS[Filling.POISON_A] else garbage_b

    @property
    def memory(self) -> int:
        """Seed for free memory; 0 leaves zeros."""
        return self.seed if "free memory" in self.names else 0

    def garbage(self, size: int) -> bytes:
        """`size` bytes of what somebody else left, in every run other ones."""
        pattern = garbage_of(self.seed)
        return (pattern * -(-size // len(pattern)))[:size]


def poison_of(filling: Filling, only: frozenset[str] | None, undefined: Sequence[Undefined]) -> Poison:
    """The garbage of one run: in all that is `undefined`, or in what `only` names of it."""
    if filling is Filling.EXACT:
        return Poison(0, frozenset())
    names = frozenset(u.name for u in undefined)
    return Poison(_SEEDS[filling], names if only is None else names & only)


def general_garbage(exact: Mapping[str, int], poison: Poison) -> dict[str, int]:
    """EAX, ECX, EDX, ESI, EDI and EBP, with garbage in those that are named in `poison`."""
    found = {}
    for index, name in enumerate(("EAX", "ECX", "EDX", "ESI", "EDI", "EBP")):
        key = "r" + name[1:].lower()
        # 0x2BADB002 is what qboot leaves in EAX: a guest must not take it for Multiboot
        first = 0x2BADB002 if name == "EAX" else 0xDEAD0000 + index
        found[key] = poison.pick(name, exact.get(key, 0), first, 0x5EED0101 * (index + 1) & 0xFFFFFFFF)
    return found


def poisoned_state(exact: EntryState, poison: Poison) -> EntryState:
    """The profile's state with everything that is named in `poison` replaced by this run's garbage.

    Not replaced: EBX, the hidden parts of CS, DS, ES, SS and TR, CR0.PE and PG, and EFLAGS.VM, IF and TF.
    """
    registers = dict(exact.registers)
    registers |= general_garbage(registers, poison)
    registers["rsp"] = poison.pick("ESP", registers.get("rsp", 0), 0x90000008, 0x00000003)
    # DF, AC, ID and the arithmetic flags are "unspecified"
    registers["rflags"] = poison.pick("EFLAGS", registers.get("rflags", 2), 0x00000CD7, 0x00240003)

    def segment(name: str) -> Descriptor:
        descriptor: Descriptor = getattr(exact, name)
        return replace(descriptor, selector=poison.pick("selectors", descriptor.selector, *_SELECTORS[name]))

    def table(name: str, register: TableRegister, limit: int) -> TableRegister:
        return TableRegister(
            poison.pick(name, register.base, 0xFFFFF000, 0x7F000000),
            poison.pick(name, register.limit, 0xFFFF, limit),
        )

    return replace(
        exact,
        registers=registers,
        cr0=poison.pick("CR0", exact.cr0, *_CR0),
        cr4=poison.pick("CR4", exact.cr4, *_CR4),
        efer=poison.pick("EFER", exact.efer, *_EFER),
        cs=segment("cs"),
        ds=segment("ds"),
        es=segment("es"),
        ss=segment("ss"),
        fs=segment("fs"),
        gs=segment("gs"),
        gdtr=table("GDTR", exact.gdtr, 0x17),
        idtr=table("IDTR", exact.idtr, 0x07),
    )


def flat_state(
    entry: int,
    registers: Mapping[str, int],
    *,
    code: int,
    data: int,
    fs_gs: Descriptor | None = None,
    tr: Descriptor,
    cr0: int = 0x11,
    cr3: int = 0,
    cr4: int = 0,
    efer: int = 0,
    gdtr: TableRegister = _NO_TABLE,
    idtr: TableRegister = _NO_TABLE,
) -> EntryState:
    """Code and data segments of 4 GiB at 0, with these selectors; FS and GS are as DS unless given."""
    flat = Descriptor(data, attributes=0xC093)
    return EntryState(
        mode="protected32",
        ip=entry,
        registers=registers,
        cr0=cr0,
        cr3=cr3,
        cr4=cr4,
        efer=efer,
        cs=Descriptor(code, attributes=0xC09B),
        ds=flat,
        es=flat,
        ss=flat,
        fs=fs_gs or flat,
        gs=fs_gs or flat,
        tr=tr,
        gdtr=gdtr,
        idtr=idtr,
    )
