"""Event channels of one domain: xen/common/event_channel.c."""

from __future__ import annotations

import struct

from bootbuild.api import Cpu
from bootbuild_xenpv.hypervisor.domain import PvDomain

_GIVES_PORT = {0: 8, 1: 8, 2: 8, 6: 4, 7: 4}
"""Where EVTCHNOP_bind_interdomain, bind_virq, bind_pirq, alloc_unbound and bind_ipi put the new port."""


class EventChannels:
    """The ports that are taken."""

    def __init__(self, domain: PvDomain) -> None:
        self._next_port = max(domain.console_port, domain.store_port) + 1

    def serve(self, cpu: Cpu, command: int, pointer: int) -> int | None:
        """An event_channel_op; None for one that is not of ports alone."""
        given = _GIVES_PORT.get(command)
        if given is not None:
            cpu.write(pointer + given, struct.pack("<I", self._next_port))
            self._next_port += 1
            return 0
        return 0 if command in (3, 8, 9, 13) else None  # close, bind_vcpu, unmask, set_priority
