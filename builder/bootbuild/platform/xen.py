"""Xen as an HVM or PVH guest sees it: CPUID leaves, hypercall page, hypercalls, console ring."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bootbuild.api.machine import Cpu, Cpuid, Platform
from bootbuild.model.machine import MapEntry
from bootbuild.platform.pc import HYPERVISOR_BIT, signature

CPUID_BASE = 0x40000000
MSR_HYPERCALL = 0x40000000  #: CPUID base+2, EBX: where the guest asks for its hypercall page
EPERM, EFAULT, EINVAL, ENOSYS = 1, 14, 22, 38

# xen/include/public/xen.h, __HYPERVISOR_*
PLATFORM_OP, MEMORY_OP, XEN_VERSION, CONSOLE_IO, VCPU_OP = 7, 12, 17, 18, 24
SCHED_OP, EVENT_CHANNEL_OP, HVM_OP = 29, 32, 34
_NAMES = {
    PLATFORM_OP: "platform_op",
    MEMORY_OP: "memory_op",
    XEN_VERSION: "xen_version",
    CONSOLE_IO: "console_io",
    20: "grant_table_op",
    VCPU_OP: "vcpu_op",
    SCHED_OP: "sched_op",
    EVENT_CHANNEL_OP: "event_channel_op",
    33: "physdev_op",
    HVM_OP: "hvm_op",
}
XENMEM_ADD_TO_PHYSMAP, XENMEM_MEMORY_MAP = 7, 9
XENPF_FIRMWARE_INFO, XENPF_GET_DOM0_CONSOLE, XEN_FW_EFI_INFO = 50, 64, 4  # xen/include/public/platform.h
HVM_PARAM_STORE_PFN, HVM_PARAM_STORE_EVTCHN, HVM_PARAM_CONSOLE_PFN, HVM_PARAM_CONSOLE_EVTCHN = 1, 2, 17, 18
DOMID_SELF = 0x7FF0
_SHUTDOWN_REASONS = ("poweroff", "reboot", "suspend", "crash", "watchdog", "soft reset")
_FEATURES = 1 << 2 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 10  # what an auto-translated guest is told, features.h
_FEATURE_DOM0 = 1 << 11

_EFLAGS_VM = 1 << 17
_CONSOLE_PIECE, _CONSOLE_MOST = 127, 1 << 20  #: bytes: guest_console_write's buffer; shown of one call

# struct xencons_interface, xen/include/public/io/console.h
_RING_OUT, _RING_OUT_SIZE, _RING_OUT_CONS, _RING_OUT_PROD = 1024, 2048, 3080, 3084


@dataclass(frozen=True)
class XenDomain:
    """What this domain is told of itself. Frame numbers are guest-physical."""

    domid: int
    version: tuple[int, int]
    extra_version: str
    memory_map: tuple[MapEntry, ...]
    console_frame: int  #: 0: no ring, as in dom0
    console_port: int
    store_frame: int
    store_port: int
    privileged: bool = False  #: dom0: console_io is served


class XenHvm(Platform):
    """One domain. A hypercall that is not modelled answers -ENOSYS and is recorded."""

    def __init__(
        self,
        domain: XenDomain,
        *,
        instruction: Literal["vmcall", "vmmcall"] = "vmcall",
        clobber: int | None = None,
    ) -> None:
        """`clobber`: what a hypercall leaves in the registers of its arguments, as Xen's ABI allows
        (arch-x86/xen-x86_{32,64}.h) and debug builds of Xen do (clobber_regs); None: what was there.
        """
        super().__init__()
        self._domain = domain
        self._instruction = instruction
        self._clobber = clobber
        self._parameters = {
            HVM_PARAM_STORE_PFN: domain.store_frame,
            HVM_PARAM_STORE_EVTCHN: domain.store_port,
            HVM_PARAM_CONSOLE_PFN: domain.console_frame,
            HVM_PARAM_CONSOLE_EVTCHN: domain.console_port,
        }
        #: what serves it, and how many arguments it has (xen/include/hypercall-defs.c)
        self._calls: dict[int, tuple[Callable[[Cpu, Sequence[int]], int], int]] = {
            PLATFORM_OP: (self._platform_op, 1),
            MEMORY_OP: (self._memory_op, 2),
            XEN_VERSION: (self._xen_version, 2),
            CONSOLE_IO: (self._console_io, 3),
            SCHED_OP: (self._sched_op, 2),
            EVENT_CHANNEL_OP: (self._event_channel_op, 2),
            HVM_OP: (self._hvm_op, 2),
        }

    def clobbering(self, value: int) -> XenHvm:
        """The same domain, not yet started, whose hypercalls leave `value` in their argument registers."""
        return XenHvm(self._domain, instruction=self._instruction, clobber=value)

    # -- CPUID and MSR (xen/include/public/arch-x86/cpuid.h)

    def cpuid(self, cpu: Cpu, leaf: int, subleaf: int, native: Cpuid) -> Cpuid:
        eax, ebx, ecx, edx = native
        if leaf == 1:
            return (eax, ebx, ecx | HYPERVISOR_BIT, edx)
        if not CPUID_BASE <= leaf < CPUID_BASE + 0x10000:
            return native
        major, minor = self._domain.version
        return {
            CPUID_BASE: (CPUID_BASE + 5, *signature(b"XenVMMXenVMM")),
            CPUID_BASE + 1: (major << 16 | minor, 0, 0, 0),
            CPUID_BASE + 2: (1, MSR_HYPERCALL, 0, 0),
            CPUID_BASE + 4: (1 << 3 | 1 << 4, 0, self._domain.domid, 0),  # vcpu id and domid present
        }.get(leaf, (0, 0, 0, 0))

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
        serve, count = self._calls.get(number, (None, 0))
        try:
            result = serve(cpu, arguments) if serve else self._unknown(cpu, number, arguments)
        except LookupError:
            result = -EFAULT
        mask = 2**64 - 1 if wide else 2**32 - 1
        if self._clobber is not None and result != -ENOSYS:
            for name in names[:count]:
                cpu.set(name, self._clobber & mask)
        cpu.set("rax" if wide else "eax", result & mask)
        return True

    def _unknown(self, cpu: Cpu, number: int, arguments: Sequence[int]) -> int:
        name = _NAMES.get(number, f"hypercall {number}")
        cpu.record(
            "hypercall", f"{name}({', '.join(hex(a) for a in arguments[:3])}) is not modelled: -ENOSYS"
        )
        return -ENOSYS

    def _platform_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        # struct xen_platform_op: uint32_t cmd, interface_version; union u
        command, _, kind = struct.unpack("<III", cpu.read(arguments[0], 12))
        if not self._domain.privileged:
            return -EPERM
        if command == XENPF_FIRMWARE_INFO and kind == XEN_FW_EFI_INFO:
            return -ENOSYS  # not started by EFI (efi_get_info)
        if command == XENPF_GET_DOM0_CONSOLE and self._domain.version < (4, 18):
            return -ENOSYS  # not known before
        return self._unknown(cpu, PLATFORM_OP, arguments)

    def _memory_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        command, pointer = arguments[0], arguments[1]
        if command == XENMEM_MEMORY_MAP:
            # struct xen_memory_map: unsigned int nr_entries; XEN_GUEST_HANDLE(void) buffer
            wide = bool(cpu.get("code64"))
            room, buffer = struct.unpack("<I4xQ" if wide else "<II", cpu.read(pointer, 16 if wide else 8))
            entries = self._domain.memory_map[:room]
            table = b"".join(struct.pack("<QQI", e.address, e.size, e.type) for e in entries)
            cpu.write(buffer, table)
            cpu.write(pointer, struct.pack("<I", len(entries)))
            return 0
        if command == XENMEM_ADD_TO_PHYSMAP:
            return 0
        return self._unknown(cpu, MEMORY_OP, arguments)

    def _xen_version(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        command, pointer = arguments[0], arguments[1]
        major, minor = self._domain.version
        if command == 0:  # XENVER_version
            return major << 16 | minor
        if command == 1:  # XENVER_extraversion: char[16]
            cpu.write(pointer, self._domain.extra_version.encode()[:15].ljust(16, b"\0"))
            return 0
        if command == 6:  # XENVER_get_features: submap index in, bitmap out
            (submap,) = struct.unpack("<I", cpu.read(pointer, 4))
            features = _FEATURES | (_FEATURE_DOM0 if self._domain.privileged else 0)
            cpu.write(pointer + 4, struct.pack("<I", features if submap == 0 else 0))
            return 0
        return self._unknown(cpu, XEN_VERSION, arguments)

    def _console_io(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        if not self._domain.privileged:
            return -EPERM  # a release build of Xen serves dom0 alone
        command, count, at = (arguments[0] & 0xFFFFFFFF, arguments[1] & 0xFFFFFFFF, arguments[2])
        if command != 0:  # CONSOLEIO_write
            return 0
        if count > _CONSOLE_MOST:
            cpu.record("console", f"CONSOLEIO_write of {count} bytes: {_CONSOLE_MOST} are shown")
        end = at + min(count, _CONSOLE_MOST)
        while at < end:  # what comes before a page that is not there is printed
            piece = cpu.read(at, min(_CONSOLE_PIECE, end - at))
            self.console += piece
            at += len(piece)
        return 0

    def _sched_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        command, pointer = arguments[0], arguments[1]
        if command == 2:  # SCHEDOP_shutdown
            (reason,) = struct.unpack("<I", cpu.read(pointer, 4))
            name = _SHUTDOWN_REASONS[reason] if reason < len(_SHUTDOWN_REASONS) else f"reason {reason}"
            self._drain(cpu)
            kind: Literal["shutdown", "reset", "crash"] = "shutdown" if reason == 0 else "crash"
            cpu.stop("reset" if reason == 1 else kind, f"SCHEDOP_shutdown: {name}")
            return 0
        if command in (0, 1, 3):  # yield, block, poll: the daemons behind the rings run meanwhile
            self._drain(cpu)
            return 0
        return self._unknown(cpu, SCHED_OP, arguments)

    def _event_channel_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        command, pointer = arguments[0], arguments[1]
        if command == 4:  # EVTCHNOP_send
            (port,) = struct.unpack("<I", cpu.read(pointer, 4))
            if port == self._domain.console_port and self._domain.console_frame:
                self._drain(cpu)
                return 0
            return 0 if port == self._domain.store_port else -EINVAL
        return self._unknown(cpu, EVENT_CHANNEL_OP, arguments)

    def _hvm_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        command, pointer = arguments[0], arguments[1]
        if command not in (0, 1):
            return self._unknown(cpu, HVM_OP, arguments)
        # struct xen_hvm_param: domid_t domid; uint16_t pad; uint32_t index; uint64_t value
        domid, index, value = struct.unpack("<HxxIQ", cpu.read(pointer, 16))
        if domid not in (DOMID_SELF, self._domain.domid):
            return -EPERM
        if command == 1:
            cpu.write(pointer + 8, struct.pack("<Q", self._parameters.get(index, 0)))
        else:
            self._parameters[index] = value
        return 0

    def _drain(self, cpu: Cpu) -> None:
        """What xenconsoled does: take everything between out_cons and out_prod."""
        if not self._domain.console_frame:
            return
        ring = self._domain.console_frame << 12
        consumer, producer = struct.unpack("<II", cpu.read_physical(ring + _RING_OUT_CONS, 8))
        count = (producer - consumer) & 0xFFFFFFFF
        if count > _RING_OUT_SIZE:
            cpu.record(
                "console", f"console ring overrun: {count} bytes claimed in a ring of {_RING_OUT_SIZE}"
            )
            return
        data = cpu.read_physical(ring + _RING_OUT, _RING_OUT_SIZE)
        self.console += bytes(data[(consumer + i) % _RING_OUT_SIZE] for i in range(count))
        cpu.write_physical(ring + _RING_OUT_CONS, struct.pack("<I", producer))
