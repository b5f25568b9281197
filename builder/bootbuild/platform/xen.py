"""Xen as all its guests see it: CPUID leaves, the hypercalls that each may make, the console ring."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bootbuild.api.machine import Cpu, Cpuid, Platform
from bootbuild.model.machine import MapEntry
from bootbuild.platform.pc import signature

CPUID_BASE = 0x40000000
MSR_HYPERCALL = 0x40000000  #: CPUID base+2, EBX: where the guest asks for its hypercall page
EPERM, EFAULT, EINVAL, ENOSYS = 1, 14, 22, 38
_M32 = (1 << 32) - 1  #: of an argument that is an int

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
DOMID_SELF = 0x7FF0
_SHUTDOWN_REASONS = ("poweroff", "reboot", "suspend", "crash", "watchdog", "soft reset")
_FEATURES = 1 << 2 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 10  # what an auto-translated guest is told, features.h
_FEATURE_DOM0 = 1 << 11

_CONSOLE_PIECE, _CONSOLE_MOST = 127, 1 << 20  #: bytes: guest_console_write's buffer; shown of one call
_CONSOLE_KEPT = 4 << 20  #: bytes shown of one run

# struct xencons_interface, xen/include/public/io/console.h
_RING_OUT, _RING_OUT_SIZE, _RING_OUT_CONS, _RING_OUT_PROD = 1024, 2048, 3080, 3084


Call = Callable[[Cpu, Sequence[int]], int]
"""Serves a hypercall: the machine, the arguments; the answer, negative for an error."""


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


class Xen(Platform):
    """What every guest of Xen can ask: console, memory map, version, shutdown, in one domain.

    The base of each kind of guest, in this package and in plugins. A subclass says by which instruction a
    call comes in, looks it up in `calls`, and adds to that or overrides the methods that serve one: each
    takes the machine, whose virtual addresses are the caller's, and the call's arguments, and answers what
    the guest gets, errors negative. LookupError is -EFAULT. A call that is not modelled answers -ENOSYS and
    is recorded.
    """

    def __init__(self, domain: XenDomain, *, clobber: int | None = None) -> None:
        """`clobber`: what a hypercall leaves in the registers of its arguments, as Xen's ABI allows
        (arch-x86/xen-x86_{32,64}.h) and debug builds of Xen do (clobber_regs); None: what was there.
        """
        super().__init__()
        self.domain = domain
        self.clobber = clobber
        #: by number: what serves it, and how many arguments it has (xen/include/hypercall-defs.c)
        self.calls: dict[int, tuple[Call, int]] = {
            PLATFORM_OP: (self.platform_op, 1),
            MEMORY_OP: (self.memory_op, 2),
            XEN_VERSION: (self.xen_version, 2),
            CONSOLE_IO: (self.console_io, 3),
            SCHED_OP: (self.sched_op, 2),
            EVENT_CHANNEL_OP: (self.event_channel_op, 2),
        }

    def leaf(self, number: int) -> Cpuid | None:
        """What CPUID says in one of Xen's leaves (arch-x86/cpuid.h); None for any other."""
        if not CPUID_BASE <= number < CPUID_BASE + 0x10000:
            return None
        major, minor = self.domain.version
        return {
            CPUID_BASE: (CPUID_BASE + 5, *signature(b"XenVMMXenVMM")),
            CPUID_BASE + 1: (major << 16 | minor, 0, 0, 0),
            CPUID_BASE + 2: (1, MSR_HYPERCALL, 0, 0),
            CPUID_BASE + 4: (1 << 3 | 1 << 4, 0, self.domain.domid, 0),  # vcpu id and domid present
        }.get(number, (0, 0, 0, 0))

    def unmodelled(self, cpu: Cpu, number: int, arguments: Sequence[int]) -> int:
        """Record that a call, or this use of it, is not modelled: -ENOSYS."""
        name = _NAMES.get(number, f"hypercall {number}")
        cpu.record(
            "hypercall", f"{name}({', '.join(hex(a) for a in arguments[:3])}) is not modelled: -ENOSYS"
        )
        return -ENOSYS

    def platform_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        """XENPF_*: the firmware and the console that dom0 asks about."""
        # struct xen_platform_op: uint32_t cmd, interface_version; union u
        command, _, kind = struct.unpack("<III", cpu.read(arguments[0], 12))
        if not self.domain.privileged:
            return -EPERM
        if command == XENPF_FIRMWARE_INFO and kind == XEN_FW_EFI_INFO:
            return -ENOSYS  # not started by EFI (efi_get_info)
        if command == XENPF_GET_DOM0_CONSOLE and self.domain.version < (4, 18):
            return -ENOSYS  # not known before
        return self.unmodelled(cpu, PLATFORM_OP, arguments)

    def memory_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        """XENMEM_memory_map, add_to_physmap."""
        command, pointer = arguments[0], arguments[1]
        if command == XENMEM_MEMORY_MAP:
            # struct xen_memory_map: unsigned int nr_entries; XEN_GUEST_HANDLE(void) buffer
            wide = bool(cpu.get("code64"))
            room, buffer = struct.unpack("<I4xQ" if wide else "<II", cpu.read(pointer, 16 if wide else 8))
            entries = self.domain.memory_map[:room]
            table = b"".join(struct.pack("<QQI", e.address, e.size, e.type) for e in entries)
            cpu.write(buffer, table)
            cpu.write(pointer, struct.pack("<I", len(entries)))
            return 0
        if command == XENMEM_ADD_TO_PHYSMAP:
            return 0
        return self.unmodelled(cpu, MEMORY_OP, arguments)

    def xen_version(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        """XENVER_version, extraversion, get_features."""
        command, pointer = arguments[0] & _M32, arguments[1]
        major, minor = self.domain.version
        if command == 0:  # XENVER_version
            return major << 16 | minor
        if command == 1:  # XENVER_extraversion: char[16]
            cpu.write(pointer, self.domain.extra_version.encode()[:15].ljust(16, b"\0"))
            return 0
        if command == 6:  # XENVER_get_features: submap index in, bitmap out
            (submap,) = struct.unpack("<I", cpu.read(pointer, 4))
            features = _FEATURES | (_FEATURE_DOM0 if self.domain.privileged else 0)
            cpu.write(pointer + 4, struct.pack("<I", features if submap == 0 else 0))
            return 0
        return self.unmodelled(cpu, XEN_VERSION, arguments)

    def console_io(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        """The hypervisor's own console, for dom0."""
        if not self.domain.privileged:
            return -EPERM  # a release build of Xen serves dom0 alone
        command, count, at = arguments[0] & _M32, arguments[1] & _M32, arguments[2]
        if command != 0:  # CONSOLEIO_write
            return 0
        if count > _CONSOLE_MOST:
            cpu.record("console", f"CONSOLEIO_write of {count} bytes: {_CONSOLE_MOST} are shown")
        end = at + min(count, _CONSOLE_MOST)
        while at < end:  # what comes before a page that is not there is printed
            piece = cpu.read(at, min(_CONSOLE_PIECE, end - at))
            self._print(cpu, piece)
            at += len(piece)
        return 0

    def sched_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        """SCHEDOP_shutdown; what yields lets the daemon behind the console run."""
        command, pointer = arguments[0] & _M32, arguments[1]
        if command == 2:  # SCHEDOP_shutdown
            (reason,) = struct.unpack("<I", cpu.read(pointer, 4))
            name = _SHUTDOWN_REASONS[reason] if reason < len(_SHUTDOWN_REASONS) else f"reason {reason}"
            self.drain_console(cpu)
            kind: Literal["shutdown", "reset", "crash"] = "shutdown" if reason == 0 else "crash"
            cpu.stop("reset" if reason == 1 else kind, f"SCHEDOP_shutdown: {name}")
            return 0
        if command in (0, 1, 3):  # yield, block, poll: the daemons behind the rings run meanwhile
            self.drain_console(cpu)
            return 0
        return self.unmodelled(cpu, SCHED_OP, arguments)

    def event_channel_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        """EVTCHNOP_send to console and store."""
        command, pointer = arguments[0] & _M32, arguments[1]
        if command == 4:  # EVTCHNOP_send
            (port,) = struct.unpack("<I", cpu.read(pointer, 4))
            if port == self.domain.console_port and self.domain.console_frame:
                self.drain_console(cpu)
                return 0
            return 0 if port == self.domain.store_port else -EINVAL
        return self.unmodelled(cpu, EVENT_CHANNEL_OP, arguments)

    def _print(self, cpu: Cpu, text: bytes) -> None:
        room = _CONSOLE_KEPT - len(self.console)
        self.console += text[:room]
        if 0 < room <= len(text):
            cpu.record("console", f"of what comes behind {_CONSOLE_KEPT} bytes nothing is shown")

    def drain_console(self, cpu: Cpu) -> None:
        """What xenconsoled does: take everything between out_cons and out_prod."""
        if not self.domain.console_frame:
            return
        ring = self.domain.console_frame << 12
        consumer, producer = struct.unpack("<II", cpu.read_physical(ring + _RING_OUT_CONS, 8))
        count = (producer - consumer) & _M32
        if count > _RING_OUT_SIZE:
            cpu.record(
                "console", f"console ring overrun: {count} bytes claimed in a ring of {_RING_OUT_SIZE}"
            )
            return
        data = cpu.read_physical(ring + _RING_OUT, _RING_OUT_SIZE)
        self._print(cpu, bytes(data[(consumer + i) % _RING_OUT_SIZE] for i in range(count)))
        cpu.write_physical(ring + _RING_OUT_CONS, struct.pack("<I", producer))
