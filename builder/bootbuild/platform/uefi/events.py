"""Events and timers, where nothing happens by itself: a timer that is set has expired. UEFI 2.10 §7.1."""

from __future__ import annotations

from dataclasses import dataclass

from bootbuild.platform.uefi import rules, status
from bootbuild.platform.uefi.call import Call
from bootbuild.platform.uefi.firmware import TPL_APPLICATION, Firmware
from bootbuild.platform.uefi.pages import Refused

_TIMER, _NOTIFY_WAIT, _NOTIFY_SIGNAL = 0x80000000, 0x100, 0x200  #: EVT_*
#: EVT_SIGNAL_EXIT_BOOT_SERVICES and EVT_SIGNAL_VIRTUAL_ADDRESS_CHANGE, which are no timers
_OF_FIRMWARE = frozenset({0x201, 0x60000202})
_KINDS = _OF_FIRMWARE | {kind | timer for kind in (0, _NOTIFY_WAIT, _NOTIFY_SIGNAL) for timer in (0, _TIMER)}
_CANCEL, _PERIODIC, _RELATIVE = range(3)  #: EFI_TIMER_DELAY
_EVENT_SIZE = 0x60  #: bytes that an event takes


@dataclass
class _Event:
    kind: int
    signaled: bool = False
    running: bool = False  #: a timer that was set
    periodic: bool = False  #: which goes on

    def happened(self) -> bool:
        """Whether it is signaled, which it is not any more then."""
        happened = self.signaled or self.running
        self.signaled = False
        self.running &= self.periodic
        return happened


class EventServices:
    """Each method is a service. Functions to be notified are not called: who asks for one is refused."""

    def __init__(self, firmware: Firmware) -> None:
        self._firmware = firmware
        self._events: dict[int, _Event] = {}

    def create_event(self, call: Call) -> int:
        return self._create(call, call[4])

    def create_event_ex(self, call: Call) -> int:
        return self._create(call, call[5])

    def _create(self, call: Call, pointer: int) -> int:
        kind, function = call[0] & 0xFFFFFFFF, call[2]
        notified = kind & (_NOTIFY_WAIT | _NOTIFY_SIGNAL)
        if not pointer or kind not in _KINDS or (notified and not function):
            raise Refused(status.INVALID_PARAMETER)
        if notified:
            return self._firmware.unmodelled(call, f"a function to be notified at {function:#x}")
        call.write64(pointer, self.new(kind))
        return status.SUCCESS

    def new(self, kind: int = 0) -> int:
        """An event. Raises Refused."""
        event = self._firmware.keep(bytes(_EVENT_SIZE))
        self._events[event] = _Event(kind)
        return event

    def _event(self, handle: int) -> _Event:
        if handle not in self._events:
            raise Refused(status.INVALID_PARAMETER)
        return self._events[handle]

    def set_timer(self, call: Call) -> int:
        event, how = self._event(call[0]), call[1] & 0xFFFFFFFF
        if not event.kind & _TIMER or how > _RELATIVE:
            raise Refused(status.INVALID_PARAMETER)
        event.running, event.periodic = how != _CANCEL, how == _PERIODIC
        return status.SUCCESS

    def signal_event(self, call: Call) -> int:
        self._event(call[0]).signaled = True
        return status.SUCCESS

    def check_event(self, call: Call) -> int:
        return status.SUCCESS if self._event(call[0]).happened() else status.NOT_READY

    def wait_for_event(self, call: Call) -> int | None:
        count, events, index = call[0], call[1], call[2]
        if not count or not events:
            raise Refused(status.INVALID_PARAMETER)
        if self._firmware.tpl != TPL_APPLICATION:
            raise Refused(status.UNSUPPORTED)
        for number in range(count):
            event = self._events.get(call.read64(events + 8 * number))
            if event is None or event.happened():
                if index:
                    call.write64(index, number)
                return status.SUCCESS if event else status.INVALID_PARAMETER
        text = "WaitForEvent waits for what does not happen: nobody presses a key, and no timer runs"
        call.cpu.stop("crash", text, rules.WAITS.id)
        return None

    def close_event(self, call: Call) -> int:
        self._event(call[0])
        del self._events[call[0]]
        return status.SUCCESS
