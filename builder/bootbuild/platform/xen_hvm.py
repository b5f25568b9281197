"""Xen as an HVM or PVH guest sees it: by CPUID and MSRs, a hypercall page, VMCALL or VMMCALL."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Literal

from bootbuild.api.machine import Cpu, Cpuid
from bootbuild.platform.pc import HYPERVISOR_BIT
from bootbuild.platform.xen import (
    DOMID_SELF,
    EFAULT,
    ENOSYS,
    EPERM,
    HVM_OP,
    MSR_HYPERCALL,
    Xen,
    XenDomain,
)

HVM_PARAM_STORE_PFN, HVM_PARAM_STORE_EVTCHN, HVM_PARAM_CONSOLE_PFN, HVM_PARAM_CONSOLE_EVTCHN = 1, 2, 17, 18
_EFLAGS_VM = 1 << 17


class XenHvm(Xen):
    """One domain."""

    def __init__(
        self,
        domain: XenDomain,
        *,
        instruction: Literal["vmcall", "vmmcall"] = "vmcall",
        clobber: int | None = None,
    ) -> None:
        """`instruction`: the processor's own, Intel's or AMD's. `clobber`: as `Xen` has it."""
        super().__init__(domain, clobber=clobber)
        self._instruction = instruction
        self._parameters = {
            HVM_PARAM_STORE_PFN: domain.store_frame,
            HVM_PARAM_STORE_EVTCHN: domain.store_port,
            HVM_PARAM_CONSOLE_PFN: domain.console_frame,
            HVM_PARAM_CONSOLE_EVTCHN: domain.console_port,
        }
        self.calls[HVM_OP] = (self._hvm_op, 2)

    def clobbering(self, value: int) -> XenHvm:
        """The same domain, not yet started, whose hypercalls leave `value` in their argument registers."""
        return XenHvm(self.domain, instruction=self._instruction, clobber=value)

    # -- CPUID and MSR (xen/include/public/arch-x86/cpuid.h)

    def cpuid(self, cpu: Cpu, leaf: int, subleaf: int, native: Cpuid) -> Cpuid:
        eax, ebx, ecx, edx = native
        if leaf == 1:
            return (eax, ebx, ecx | HYPERVISOR_BIT, edx)
        return self.leaf(leaf) or native

    def write_msr(self, cpu: Cpu, index: int, value: int) -> bool:
        """Fill the page whose physical address is written with 32-byte hypercall stubs."""
        if index != MSR_HYPERCALL or value & 0xFFF:
            return False
        opcode = b"\x0f\x01\xc1" if self._instruction == "vmcall" else b"\x0f\x01\xd9"
        page = bytearray(b"\xcc" * 4096)
        for number in range(128):
            code = b"\x0f\x0b" if number == 23 else b"\xb8" + struct.pack("<I", number) + opcode + b"\xc3"
            page[32 * number : 32 * number + len(code)] = code  # 23 is iret: not for HVM guests, ud2
        try:
            cpu.write_physical(value, bytes(page))
        except LookupError:
            return False
        return True

    # -- hypercalls

    def hypercall(self, cpu: Cpu, instruction: Literal["vmcall", "vmmcall"]) -> bool:
        """hvm_hypercall (xen/arch/x86/hvm/hypercall.c): the ABI is that of the code which calls."""
        if instruction != self._instruction:
            return False
        protected = bool(cpu.get("cr0") & 1)
        if protected and (cpu.get("cpl") or cpu.get("rflags") & _EFLAGS_VM):
            cpu.set("rax", -EPERM & 2**64 - 1)
            return True
        wide = bool(cpu.get("code64"))
        names = ("rdi", "rsi", "rdx", "r10", "r8") if wide else ("ebx", "ecx", "edx", "esi", "edi")
        number, arguments = cpu.get("rax" if wide else "eax"), [cpu.get(name) for name in names]
        serve, count = self.calls.get(number, (None, 0))
        try:
            result = serve(cpu, arguments) if serve else self.unmodelled(cpu, number, arguments)
        except LookupError:
            result = -EFAULT
        mask = 2**64 - 1 if wide else 2**32 - 1
        if self.clobber is not None and result != -ENOSYS:
            for name in names[:count]:
                cpu.set(name, self.clobber & mask)
        cpu.set("rax" if wide else "eax", result & mask)
        return True

    def _hvm_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        command, pointer = arguments[0], arguments[1]
        if command not in (0, 1):
            return self.unmodelled(cpu, HVM_OP, arguments)
        # struct xen_hvm_param: domid_t domid; uint16_t pad; uint32_t index; uint64_t value
        domid, index, value = struct.unpack("<HxxIQ", cpu.read(pointer, 16))
        if domid not in (DOMID_SELF, self.domain.domid):
            return -EPERM
        if command == 1:
            cpu.write(pointer + 8, struct.pack("<Q", self._parameters.get(index, 0)))
        else:
            self._parameters[index] = value
        return 0
