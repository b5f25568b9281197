"""One Unicorn x86 core: registers, its saved image, exact counting. It knows nothing of booting.

Facts about the engine that the code relies on (layout of its state, what a hook may do) are checked
by `selftest` once per process; the sources named are those of Unicorn 2.1.4.
"""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from bootbuild.machine.binding import Uc, UcError, emulate, library, uc, x86
from bootbuild.machine.calibrate import GENERAL, OLD_EXCEPTION, Layout, calibrate, failure, registers

MSR_EFER = 0xC0000080
EFER_LMA = 1 << 10

SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr", "gdtr", "idtr")
"""Order of the descriptor caches in CPUX86State (qemu/target/i386/cpu.h)."""

_REGS, _EIP, _HFLAGS, _SEGS = 0, 128, 176, 184  #: in CPUX86State (qemu/target/i386/cpu.h)
_IS_INT = 4  #: from error_code: exception_is_int
_DEBUG = 16  #: from error_code: dr[8]
_SEGMENT = struct.Struct("<I4xQII")
_CAUSE_UNKNOWN = -1
#: Registers of more than 64 bits: tables, MSRs, x87 and vectors.
_WIDE = frozenset(
    number
    for name, number in registers().items()
    if name in ("gdtr", "idtr", "ldtr", "tr", "msr") or re.fullmatch(r"(st|fp|[xyz]mm)\d+", name)
)

# HF_* of qemu/target/i386/cpu.h: what the translator assumes about the mode.
_HF_CPL, _HF_CS32, _HF_SS32, _HF_ADDSEG, _HF_CS64 = 3, 1 << 4, 1 << 5, 1 << 6, 1 << 15


class Segment(NamedTuple):
    """A descriptor cache: `flags` is the descriptor's second doubleword without base and limit."""

    selector: int
    base: int
    limit: int
    flags: int

    @property
    def dpl(self) -> int:
        return self.flags >> 13 & 3

    @property
    def big(self) -> bool:
        """The D/B bit: 32-bit code, or a 32-bit stack pointer."""
        return bool(self.flags & 1 << 22)

    @property
    def long(self) -> bool:
        """The L bit: 64-bit code."""
        return bool(self.flags & 1 << 21)


class _Together:
    """Registers that are often wanted together, read at once: a call into the engine costs more than they."""

    def __init__(self, engine: Any, numbers: list[int], msr: int | None = None) -> None:
        """`numbers`: of registers of up to 64 bits; `msr`: an MSR that comes behind them."""
        self._engine = engine
        form = "Q8x" * len(numbers)  # 16 bytes each: those of an MSR hold its index, then its value
        if msr is not None:
            form, numbers = form + "8xQ", [*numbers, x86.UC_X86_REG_MSR]
        self._count = len(numbers)
        self._slots = ctypes.create_string_buffer(16 * self._count)
        if msr is not None:
            struct.pack_into("=I", self._slots, 16 * (self._count - 1), msr)
        self._unpack = struct.Struct("=" + form)
        at = ctypes.addressof(self._slots)
        self._numbers = (ctypes.c_int * self._count)(*numbers)
        self._places = (ctypes.c_void_p * self._count)(*range(at, at + 16 * self._count, 16))

    def read(self) -> tuple[int, ...]:
        """Their values, as they are now."""
        if library.uc_reg_read_batch(self._engine, self._numbers, self._places, self._count):
            raise UcError(uc.UC_ERR_ARG)
        return self._unpack.unpack(self._slots)


class Core:
    """A core in the engine's 64-bit mode, from which every x86 mode is entered. One per machine."""

    def __init__(self, layout: Layout | None = None) -> None:
        self.uc: Any = Uc(uc.UC_ARCH_X86, uc.UC_MODE_64, x86.UC_CPU_X86_HASWELL)
        # With an (empty) set of exits the engine neither treats address 0 as the end of the program nor
        # translates an `until` address afterwards, which would overwrite CR2 (softmmu/cpus.c).
        self.uc.ctl_exits_enabled(True)
        self._number = registers()
        self._layout = layout or calibrate()
        self._context = self.uc.context_save()
        address = ctypes.cast(self._context.context, ctypes.c_void_p).value
        assert address is not None
        self._image = memoryview((ctypes.c_ubyte * self._context.size).from_address(address)).cast("B")
        handle = self.uc._uch.value
        self._counter = ctypes.c_size_t.from_address(handle + self._layout.counter)
        self._word = ctypes.c_uint64()
        self._at_word = ctypes.byref(self._word)
        self._keep: list[Any] = []
        self._error: BaseException | None = None
        control = [self._number[name] for name in ("cr0", "cr3", "cr4")]
        self.paging = _Together(self.uc._uch, control, MSR_EFER).read
        """CR0, CR3, CR4 and EFER."""
        self.general_now = _Together(self.uc._uch, [self._number[name] for name in GENERAL]).read
        """The sixteen general registers, in the order of their encoding."""

    def close(self) -> None:
        """Give the engine's memory back now. The core must not be used any more."""
        self._image.release()
        self.uc._Uc__finalizer()
        self._keep.clear()

    # -- registers -----------------------------------------------------------------------------------

    def get(self, name: str) -> int:
        """A register; `cs` and its like give the selector, `gdtr` and `idtr` the base."""
        if name == "efer":
            return self.paging()[3]
        number = self._number[name]
        if number in _WIDE:
            value = self.uc.reg_read(number)
            return int(value[1]) if isinstance(value, tuple) else int(value)
        # the binding chooses a type for each read, which takes it five times as long as to read
        self._word.value = 0
        if library.uc_reg_read(self.uc._uch, number, self._at_word):
            raise UcError(uc.UC_ERR_ARG)
        return self._word.value

    def set(self, name: str, value: int) -> None:
        """Write a general, control or flags register."""
        self.uc.reg_write(self._number[name], value)

    def msr_read(self, index: int) -> int:
        return int(self.uc.msr_read(index))

    def msr_write(self, index: int, value: int) -> None:
        self.uc.msr_write(index, value)

    # -- the saved image -----------------------------------------------------------------------------

    def save(self) -> None:
        """Copy the core's state into the image that `segment`, `error_code` … read."""
        self.uc.context_update(self._context)

    def restore(self) -> None:
        """Make the image the core's state."""
        self.uc.context_restore(self._context)

    def general(self) -> tuple[int, ...]:
        """The sixteen general registers and the instruction pointer, as saved."""
        return struct.unpack_from("<17Q", self._image, self._layout.state + _REGS)

    def put_general(self, index: int, value: int) -> None:
        struct.pack_into("<Q", self._image, self._layout.state + _REGS + 8 * index, value)

    def put_ip(self, value: int) -> None:
        struct.pack_into("<Q", self._image, self._layout.state + _EIP, value)

    def segment(self, name: str) -> Segment:
        """A descriptor cache, as saved."""
        at = self._layout.state + _SEGS + _SEGMENT.size * SEGMENTS.index(name)
        return Segment(*_SEGMENT.unpack_from(self._image, at))

    def put_segment(self, name: str, segment: Segment) -> None:
        at = self._layout.state + _SEGS + _SEGMENT.size * SEGMENTS.index(name)
        _SEGMENT.pack_into(self._image, at, segment.selector, segment.base, segment.limit, segment.flags)

    def put_mode(self, cpl: int, long: bool, protected: bool) -> None:
        """Bring the translator's flags in line with the segments, as cpu_x86_load_seg_cache does."""
        at = self._layout.state + _HFLAGS
        flags = struct.unpack_from("<I", self._image, at)[0]
        flags &= ~(_HF_CPL | _HF_CS32 | _HF_SS32 | _HF_ADDSEG | _HF_CS64)
        flags |= cpl
        code, stack = self.segment("cs"), self.segment("ss")
        if long and code.long:
            flags |= _HF_CS32 | _HF_SS32 | _HF_CS64
        else:
            flags |= _HF_CS32 * code.big | _HF_SS32 * stack.big
            based = any(self.segment(name).base for name in ("ds", "es", "ss"))
            flags |= _HF_ADDSEG * (not protected or not code.big or based)
        struct.pack_into("<I", self._image, at, flags)

    @property
    def cpl(self) -> int:
        """Current privilege level, as saved."""
        return int(self._image[self._layout.state + _HFLAGS] & _HF_CPL)

    @property
    def code64(self) -> bool:
        """Whether 64-bit code runs, as saved."""
        return bool(self._image[self._layout.state + _HFLAGS + 1] & _HF_CS64 >> 8)

    @property
    def error_code(self) -> int:
        """Error code of the exception that was raised last, as saved."""
        return int(struct.unpack_from("<I", self._image, self._layout.error_code)[0])

    @property
    def from_software(self) -> bool:
        """Whether an instruction (INT n, INT3, INTO) asked for the exception raised last, as saved."""
        return bool(struct.unpack_from("<i", self._image, self._layout.error_code + _IS_INT)[0])

    def forget_exception(self) -> None:
        """In the image: no exception is in flight.

        The engine never learns that ours was delivered and would make the next one a double fault
        (unicorn issue 1883).
        """
        struct.pack_into("<i", self._image, self._layout.error_code + OLD_EXCEPTION, _CAUSE_UNKNOWN)

    def fingerprint(self) -> bytes:
        """All that the guest can see of the core's state, as saved, without scratch fields.

        The lazy flags are left out: compare RFLAGS beside it.
        """
        base, error_code = self._layout.state, self._layout.error_code
        image = self._image
        return b"".join(
            (
                image[base : base + _EIP + 8],
                image[base + _HFLAGS : error_code],
                image[error_code + _DEBUG : error_code + _DEBUG + 64],
            )
        )

    # -- translations --------------------------------------------------------------------------------

    def flush_tlb(self) -> None:
        """Forget address translations: page tables were written by the host."""
        self.uc.ctl(uc.UC_CTL_TLB_FLUSH, uc.UC_CTL_IO_WRITE)

    def forget_code(self, start: int, size: int) -> None:
        """Forget translated code that overlaps a linear range.

        Where that is no longer mapped the engine overwrites CR2 and leaves an exception in flight: both
        are put back.
        """
        self.save()
        self.uc.ctl_remove_cache(start, start + size)
        self.restore()

    def forget_all_code(self) -> None:
        """Forget all translated code; only between two runs."""
        self.uc.ctl_flush_tb()

    def redo(self) -> None:
        """From a hook: leave the block that is about to run and look it up again."""
        number = self._number["rip"]
        self.uc.reg_write(number, self.uc.reg_read(number))

    # -- running -------------------------------------------------------------------------------------

    @property
    def counter(self) -> int:
        """Instructions begun since `start` was called, the present one included."""
        return self._counter.value

    def count(self, more: int) -> None:
        """From a hook: so many instructions were done without the engine."""
        self._counter.value += more

    def start(self, ip: int, count: int) -> None:
        """Execute up to `count` instructions from `ip` (an offset in CS). Raises UcError."""
        emulate(self.uc, ip, count=count)

    def stop(self) -> None:
        self.uc.emu_stop()

    def guard(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        """`callback` for the engine: no exception passes through its C frames, which would lose it.

        The first one is kept and raised by `surface`; the engine is stopped.
        """

        def guarded(*arguments: Any) -> Any:
            try:
                return callback(*arguments)
            except BaseException as error:  # noqa: BLE001 (it is raised again, later)
                self._error = self._error or error
                self.uc.emu_stop()
                return 0

        return guarded

    def surface(self) -> None:
        """Raise what a hook raised."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def hook(self, kind: int, callback: Callable[..., Any], instruction: int = 0) -> int:
        """A hook on everything of a kind; exceptions in it end the run and surface from `start`."""
        return int(self.uc.hook_add(kind, self.guard(callback), None, 1, 0, instruction))

    def hook_address(self, address: int, callback: Callable[..., Any]) -> int:
        """A hook on the instruction at one linear address."""
        return int(self.uc.hook_add(uc.UC_HOOK_CODE, self.guard(callback), None, address, address))

    def unhook(self, handle: int) -> None:
        """Remove a hook between two runs.

        The engine then translates the addresses that it touched, which can overwrite CR2 and leave an
        exception in flight (unicorn, hook_invalidate_region): both are put back.
        """
        self.save()
        self.uc.hook_del(handle)
        self.restore()

    def hook_tsc(self, callback: Callable[[bool], None]) -> None:
        """RDTSC and RDTSCP, which the Python binding does not know: `callback(is_rdtscp)`."""
        function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        for instruction, both in ((x86.UC_X86_INS_RDTSC, False), (x86.UC_X86_INS_RDTSCP, True)):
            guarded = self.guard(callback)

            def called(
                _uc: int, _data: int, guarded: Callable[[bool], None] = guarded, both: bool = both
            ) -> int:
                guarded(both)
                return 1

            pointer = function(called)
            handle = ctypes.c_size_t()
            status = library.uc_hook_add(
                self.uc._uch,
                ctypes.byref(handle),
                uc.UC_HOOK_INSN,
                ctypes.cast(pointer, ctypes.c_void_p),
                None,
                ctypes.c_uint64(1),
                ctypes.c_uint64(0),
                ctypes.c_int(instruction),
            )
            if status:
                raise failure(f"RDTSC cannot be intercepted (error {status})")
            self._keep.append(pointer)
