"""Entry states: the core as an environment hands it over, hidden descriptors included."""

from __future__ import annotations

from bootbuild.machine.calibrate import GENERAL
from bootbuild.machine.engine import EFER_LMA, MSR_EFER, Core, Segment
from bootbuild.machine.paging import CR0_PE, CR0_PG, CR4_PAE
from bootbuild.model.machine import Descriptor, EntryState

EFER_LME = 1 << 8


def enter(core: Core, state: EntryState) -> None:
    """Put the core into `state`. Raises ValueError for a state that no processor can be in."""
    _check(state)
    _leave_long_mode(core)
    _control_registers(core, state)
    core.save()
    for index, name in enumerate(GENERAL):
        core.put_general(index, state.registers.get(name, 0))
    core.put_ip(state.ip)
    for name in ("es", "cs", "ss", "ds", "fs", "gs", "tr", "ldtr"):
        descriptor: Descriptor = getattr(state, name)
        core.put_segment(name, _hidden(descriptor))
    for name, table in (("gdtr", state.gdtr), ("idtr", state.idtr)):
        core.put_segment(name, Segment(0, table.base, table.limit, 0))
    user = state.mode == "long64-user"
    core.put_mode(3 if user else 0, bool(state.efer & EFER_LME), bool(state.cr0 & CR0_PE))
    core.forget_exception()
    core.restore()
    core.set("cr2", 0)
    core.set("fpcw", state.fcw)
    core.set("mxcsr", state.mxcsr)
    core.set("rflags", state.registers.get("rflags", 2) | 2)
    core.flush_tlb()


def _check(state: EntryState) -> None:
    unknown = set(state.registers) - set(GENERAL) - {"rflags"}
    if unknown:
        raise ValueError(f"no such register: {', '.join(sorted(unknown))}")
    long = state.mode in ("long64", "long64-user")
    protected = state.mode != "real16"
    wrong = []
    if bool(state.cr0 & CR0_PE) != protected:
        wrong.append("CR0.PE")
    if long and not (state.cr0 & CR0_PG and state.cr4 & CR4_PAE and state.efer & EFER_LME):
        wrong.append("CR0.PG, CR4.PAE or EFER.LME")
    if bool(state.cs.attributes & 0x2000) != long:
        wrong.append("CS.L")
    if wrong:
        raise ValueError(f"{' and '.join(wrong)} cannot be so in {state.mode}")


def _leave_long_mode(core: Core) -> None:
    """The engine starts in long mode without paging; only the order that the SDM gives leads out."""
    core.set("cr4", CR4_PAE)
    core.set("cr0", CR0_PG | CR0_PE)
    core.set("cr0", CR0_PE)
    core.msr_write(MSR_EFER, 0)
    core.set("cr4", 0)
    core.set("cr0", 0)


def _control_registers(core: Core, state: EntryState) -> None:
    core.set("cr4", state.cr4)
    core.set("cr3", state.cr3)
    core.msr_write(MSR_EFER, state.efer & ~EFER_LMA)
    core.set("cr0", state.cr0 & ~CR0_PG | CR0_PE * bool(state.cr0 & CR0_PG))
    core.set("cr0", state.cr0)


def _hidden(descriptor: Descriptor) -> Segment:
    """A descriptor cache from VMCS-style attributes: access byte to bits 8–15, AVL/L/D/G to bits 20–23."""
    attributes = descriptor.attributes
    flags = (attributes & 0xFF) << 8 | (attributes >> 12 & 0xF) << 20
    return Segment(descriptor.selector, descriptor.base, descriptor.limit, flags)
