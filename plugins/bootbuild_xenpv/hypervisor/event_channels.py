"""Event channels of one domain with the 2-level ABI: xen/common/event_channel.c, event_2l.c.

Who is at the other end: the control domain's daemons, which are not there, or the domain itself.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from bootbuild.api import Cpu
from bootbuild.platform.xen import EINVAL, ENOSYS, EPERM
from bootbuild_xenpv.hypervisor.domain import PvDomain
from bootbuild_xenpv.hypervisor.hypercall import (
    EEXIST,
    ENOENT,
    ENOSPC,
    UnmodelledError,
    not_itself,
)
from bootbuild_xenpv.hypervisor.vcpu import Vcpu

TIMER = 0  #: VIRQ_TIMER
_UNBOUND, _INTERDOMAIN, _VIRQ, _IPI = 1, 2, 4, 5  #: EVTCHNSTAT_*
_VIRQS = 24  #: NR_VIRQS
_OF_A_VCPU = (0, 1, 7, 13)  #: VIRQ_TIMER, _DEBUG, _XENOPROF, _XENPMU: the others are global
_PIRQS = 64  #: nr_pirqs is more than the host has IRQs; no domain here has one of them
_ALLOCATED = 64  #: EVTCHNS_PER_BUCKET: ports that exist come in such steps
_LAST_PORT = 1023  #: max_evtchn_port, as xl has it
_PENDING, _MASK = 2048, 2560  #: in shared_info: evtchn_pending, evtchn_mask, a bit for each port
_UPCALL_PENDING, _PENDING_SELECTOR = 0, 8  #: in vcpu_info


@dataclass(frozen=True)
class _Channel:
    """A port in use. `remote`: domain and port at the other end; `number` of a virtual interrupt."""

    state: int
    remote: tuple[int, int] = (0, 0)
    number: int = 0


@dataclass
class EventChannels:
    """The ports that are taken, and who is told of an event."""

    domain: PvDomain
    vcpu: Vcpu
    notified: Callable[[Cpu, int], None]  #: told of an event that leaves the domain, by its port
    _ports: dict[int, _Channel] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for port in (self.domain.store_port, self.domain.console_port):
            if port:
                self._ports[port] = _Channel(_INTERDOMAIN)

    def serve(self, cpu: Cpu, command: int, pointer: int) -> int:
        """An event_channel_op. Raises BadAddressError and UnmodelledError."""
        if command in self._with_port:
            (port,) = struct.unpack("<I", cpu.read(pointer, 4))
            return self._with_port[command](self, cpu, port, pointer)
        if command not in self._others:
            raise UnmodelledError((command, pointer))
        return self._others[command](self, cpu, pointer)

    def raise_port(self, cpu: Cpu, port: int) -> None:
        """An event arrives at a port of the domain (evtchn_2l_set_pending)."""
        if not self._set(cpu, _PENDING, port) and not self._get(cpu, _MASK, port):
            self._tell(cpu, port)

    def raise_virq(self, cpu: Cpu, number: int) -> None:
        """A virtual interrupt arrives, if it is bound."""
        for port, channel in self._ports.items():
            if channel.state == _VIRQ and channel.number == number:
                self.raise_port(cpu, port)

    # -- new ports

    def _take(self, channel: _Channel) -> int:
        """The number of a new port, or an error: the lowest that is free."""
        port = next(port for port in range(1, _LAST_PORT + 2) if port not in self._ports)
        if port > _LAST_PORT:
            return -ENOSPC
        self._ports[port] = channel
        return port

    def _give(self, cpu: Cpu, pointer: int, channel: _Channel) -> int:
        port = self._take(channel)
        if port < 0:
            return port
        cpu.write(pointer, struct.pack("<I", port))
        return 0

    def _alloc_unbound(self, cpu: Cpu, pointer: int) -> int:
        domid, remote = struct.unpack("<HH", cpu.read(pointer, 8)[:4])
        if error := not_itself(self.domain.domid, domid):
            return error
        own = not not_itself(self.domain.domid, remote)
        channel = _Channel(_UNBOUND, (self.domain.domid if own else remote, 0))
        return self._give(cpu, pointer + 4, channel)

    def _bind_interdomain(self, cpu: Cpu, pointer: int) -> int:
        domid, remote = struct.unpack("<H2xI4x", cpu.read(pointer, 12))
        if error := not_itself(self.domain.domid, domid):
            return -EINVAL if error == -EPERM else error  # of the control domain's, none waits for this one
        other = self._ports.get(remote)
        if other is None or (other.state, other.remote[0]) != (_UNBOUND, self.domain.domid):
            return -EINVAL
        port = self._take(_Channel(_INTERDOMAIN, (self.domain.domid, remote)))
        if port < 0:
            return port
        self._ports[remote] = _Channel(_INTERDOMAIN, (self.domain.domid, port))
        self.raise_port(cpu, port)
        cpu.write(pointer + 8, struct.pack("<I", port))
        return 0

    def _bind_virq(self, cpu: Cpu, pointer: int) -> int:
        number, vcpu = struct.unpack("<II4x", cpu.read(pointer, 12))
        if number >= _VIRQS or (vcpu and number not in _OF_A_VCPU):
            return -EINVAL
        if vcpu:
            return -ENOENT
        if any((c.state, c.number) == (_VIRQ, number) for c in self._ports.values()):
            return -EEXIST
        return self._give(cpu, pointer + 8, _Channel(_VIRQ, number=number))

    def _bind_pirq(self, cpu: Cpu, pointer: int) -> int:
        (number,) = struct.unpack("<I8x", cpu.read(pointer, 12))
        return -EPERM if number < _PIRQS and not self.domain.privileged else -EINVAL

    def _bind_ipi(self, cpu: Cpu, pointer: int) -> int:
        (vcpu,) = struct.unpack("<I4x", cpu.read(pointer, 8))
        return -ENOENT if vcpu else self._give(cpu, pointer + 4, _Channel(_IPI))

    # -- ports that there are

    def _close(self, cpu: Cpu, port: int, _pointer: int) -> int:
        channel = self._ports.pop(port, None)
        if channel is None:
            return -EINVAL
        self._clear(cpu, _PENDING, port)
        remote, other = channel.remote
        if channel.state == _INTERDOMAIN and other and remote == self.domain.domid:
            self._ports[other] = _Channel(_UNBOUND, (remote, 0))
        return 0

    def _send(self, cpu: Cpu, port: int, _pointer: int) -> int:
        channel = self._ports.get(port)
        if channel is None or channel.state == _VIRQ:
            return -EINVAL
        if channel.state == _IPI:
            self.raise_port(cpu, port)
        elif channel.state == _INTERDOMAIN:
            if channel.remote[1]:
                self.raise_port(cpu, channel.remote[1])
            else:
                self.notified(cpu, port)
        return 0

    def _status(self, cpu: Cpu, pointer: int) -> int:
        domid, port = struct.unpack("<H2xI16x", cpu.read(pointer, 24))
        if error := not_itself(self.domain.domid, domid):
            return error
        if port >= -(-(max(self._ports, default=0) + 1) // _ALLOCATED) * _ALLOCATED:
            return -EINVAL
        channel = self._ports.get(port, _Channel(0))
        cpu.write(pointer + 8, struct.pack("<II", channel.state, 0))
        if channel.state in (_UNBOUND, _INTERDOMAIN):
            cpu.write(pointer + 16, struct.pack("<H", channel.remote[0]))
        if channel.state == _INTERDOMAIN:
            cpu.write(pointer + 20, struct.pack("<I", channel.remote[1]))
        if channel.state == _VIRQ:
            cpu.write(pointer + 16, struct.pack("<I", channel.number))
        return 0

    def _bind_vcpu(self, cpu: Cpu, port: int, pointer: int) -> int:
        (vcpu,) = struct.unpack("<4xI", cpu.read(pointer, 8))
        if vcpu:
            return -ENOENT
        channel = self._ports.get(port, _Channel(0))
        movable = channel.state in (_UNBOUND, _INTERDOMAIN)
        return 0 if movable or (channel.state == _VIRQ and channel.number not in _OF_A_VCPU) else -EINVAL

    def _unmask(self, cpu: Cpu, port: int, _pointer: int) -> int:
        if port and port not in self._ports and port >= _ALLOCATED:
            return -EINVAL
        if self._clear(cpu, _MASK, port) and self._get(cpu, _PENDING, port):
            self._tell(cpu, port)
        return 0

    def _set_priority(self, _cpu: Cpu, port: int, _pointer: int) -> int:
        return -ENOSYS if port in self._ports or port < _ALLOCATED else -EINVAL  # of the FIFO ABI alone

    def _reset(self, cpu: Cpu, pointer: int) -> int:
        (domid,) = struct.unpack("<H", cpu.read(pointer, 2))
        if error := not_itself(self.domain.domid, domid):
            return error
        for port in list(self._ports):
            self._clear(cpu, _PENDING, port)
        self._ports.clear()
        return 0

    # -- the bits

    def _tell(self, cpu: Cpu, port: int) -> None:
        """vcpu_mark_events_pending: the vCPU is told when it next leaves Xen, unless it masks events."""
        (selector,) = struct.unpack("<Q", self.vcpu.read_info(cpu, _PENDING_SELECTOR, 8))
        word = 1 << port // 64
        if not selector & word:
            self.vcpu.write_info(cpu, _PENDING_SELECTOR, struct.pack("<Q", selector | word))
            self.vcpu.write_info(cpu, _UPCALL_PENDING, b"\1")

    def _place(self, table: int, port: int) -> tuple[int, int]:
        return self.domain.shared_info + table + port // 8, 1 << port % 8

    def _get(self, cpu: Cpu, table: int, port: int) -> bool:
        at, bit = self._place(table, port)
        return bool(cpu.read_physical(at, 1)[0] & bit)

    def _set(self, cpu: Cpu, table: int, port: int) -> bool:
        """Set a port's bit; whether it was set."""
        at, bit = self._place(table, port)
        (old,) = cpu.read_physical(at, 1)
        cpu.write_physical(at, bytes([old | bit]))
        return bool(old & bit)

    def _clear(self, cpu: Cpu, table: int, port: int) -> bool:
        """Clear a port's bit; whether it was set."""
        at, bit = self._place(table, port)
        (old,) = cpu.read_physical(at, 1)
        cpu.write_physical(at, bytes([old & ~bit]))
        return bool(old & bit)

    # EVTCHNOP_*
    _with_port: ClassVar[Mapping[int, Callable[[EventChannels, Cpu, int, int], int]]] = {
        3: _close,
        4: _send,
        8: _bind_vcpu,
        9: _unmask,
        13: _set_priority,
    }
    _others: ClassVar[Mapping[int, Callable[[EventChannels, Cpu, int], int]]] = {
        0: _bind_interdomain,
        1: _bind_virq,
        2: _bind_pirq,
        5: _status,
        6: _alloc_unbound,
        7: _bind_ipi,
        10: _reset,
    }
