"""I/O ports of a guest in ring 3: IN, OUT, and INS and OUTS, which use its memory as it could itself.

xen/arch/x86/pv/emul-priv-op.c (guest_io_read, rep_ins, rep_outs); xen/arch/x86/x86_emulate/x86_emulate.c.
"""

from __future__ import annotations

from collections.abc import Callable

from bootbuild.api import Cpu
from bootbuild_xenpv.hypervisor.domain import is_guests
from bootbuild_xenpv.hypervisor.instructions import Instruction

IN, OUT = (0xE4, 0xE5, 0xEC, 0xED), (0xE6, 0xE7, 0xEE, 0xEF)
INS, OUTS = (0x6C, 0x6D), (0x6E, 0x6F)
GP, PF = 13, 14
_WRITE = 2  #: of a page fault's error code
_TIMER = 0x42  #: channel 2 of the PIT, which Xen emulates for every domain (pv_pit_handler)
_AT_ONCE = 1024  #: elements; Xen, too, lets a long instruction be begun again
_DF = 1 << 10
_BASES = {0x64: "fs_base", 0x65: "gs_base"}  #: by the segment prefix; the others have base 0
_M64 = (1 << 64) - 1


class FaultError(Exception):
    """The instruction raises an exception, as it would of itself in ring 0; `address`: CR2 of a #PF."""

    def __init__(self, vector: int, error_code: int = 0, address: int = 0) -> None:
        super().__init__(f"exception {vector} for {address:#x}")
        self.vector, self.error_code, self.address = vector, error_code, address


class Ports:
    """Nothing answers at any port but the timer. Permissions are looked at elsewhere."""

    def __init__(self) -> None:
        self._timer = 0  #: what the channel counts

    def read(self, cpu: Cpu, found: Instruction) -> bool:
        """IN, from the port in the instruction or in DX."""
        size, port = _size(found), found.immediate if found.opcode < 0xE8 else cpu.get("rdx") & 0xFFFF
        keep = cpu.get("rax") & ~((1 << 8 * size) - 1) if size < 4 else 0
        cpu.set("rax", keep | self._value(port, size))
        return True

    def write(self, _cpu: Cpu, _found: Instruction) -> bool:
        """OUT: nobody listens."""
        return True

    def read_string(self, cpu: Cpu, found: Instruction) -> bool:
        """INS, to memory at RDI. Raises FaultError, with what came before it done."""
        size, port = _size(found), cpu.get("rdx") & 0xFFFF

        def put(at: int) -> None:
            data = self._value(port, size).to_bytes(size, "little")
            _each(at, size, _WRITE, lambda start, end: cpu.write(at + start, data[start:end]))

        _repeat(cpu, found, "rdi", 0, put)
        return True

    def write_string(self, cpu: Cpu, found: Instruction) -> bool:
        """OUTS, from memory at RSI. Raises FaultError, with what came before it done."""
        size = _size(found)
        base = next((cpu.get(_BASES[prefix]) for prefix in found.prefixes if prefix in _BASES), 0)
        _repeat(
            cpu,
            found,
            "rsi",
            base,
            lambda at: _each(at, size, 0, lambda start, end: cpu.read(at + start, end - start)),
        )
        return True

    def _value(self, port: int, size: int) -> int:
        value = (1 << 8 * size) - 1
        if port <= _TIMER < port + size:
            self._timer = self._timer - 1 & 0xFF  # time goes by with each reading
            shift = 8 * (_TIMER - port)
            value = value & ~(0xFF << shift) | self._timer << shift
        return value


def goes_on(cpu: Cpu, found: Instruction) -> bool:
    """Whether a string instruction was done in part, and RIP stays at it."""
    return found.opcode in (*INS, *OUTS) and found.repeats and cpu.get("rcx") != 0


def _size(found: Instruction) -> int:
    return 1 if not found.opcode & 1 else 2 if found.word else 4


def _repeat(cpu: Cpu, found: Instruction, index: str, base: int, element: Callable[[int], None]) -> None:
    """Do elements one after the other; then, whatever stopped that, count them in the registers."""
    mask = (1 << 32) - 1 if found.short_addresses else _M64
    step = -_size(found) if cpu.get("rflags") & _DF else _size(found)
    left = cpu.get("rcx") & mask if found.repeats else 1
    at, done = cpu.get(index) & mask, 0
    try:
        while done < min(left, _AT_ONCE):
            address = base + at & _M64
            if not is_guests(address):
                raise FaultError(GP)
            element(address)
            at, done = at + step & mask, done + 1
    finally:
        if found.repeats:
            cpu.set("rcx", left - done)
        if found.repeats or done:
            cpu.set(index, at)


def _each(at: int, size: int, error_code: int, access: Callable[[int, int], object]) -> None:
    """Access bytes, all at once or as far as it goes. Raises FaultError at the first that may not be."""
    try:
        access(0, size)
    except LookupError:
        for index in range(size):
            try:
                access(index, index + 1)
            except LookupError:
                raise FaultError(PF, error_code, at + index & _M64) from None
