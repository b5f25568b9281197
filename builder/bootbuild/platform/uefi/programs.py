"""Programs: a PE in memory as LoadedImage, entered, and come back from. UEFI 2.10 §7.4, §9."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from bootbuild.model.content import Content, MemoryContent
from bootbuild.model.span import Span, align_up
from bootbuild.platform.uefi import device_path, guids, rules, status
from bootbuild.platform.uefi.call import Call
from bootbuild.platform.uefi.firmware import Firmware
from bootbuild.platform.uefi.ovmf import PAGE, MemoryType
from bootbuild.platform.uefi.pages import ADDRESS, ANY, Refused
from bootbuild.platform.uefi.pe_image import SUBSYSTEM_APPLICATION, NotAnImage, PeImage, read_pe

_LOWEST_WISH = 0x100000  #: an ImageBase from here on is tried first: CoreLoadPeImage
_LOADED_IMAGE = struct.Struct("<I4x5QI4x3QIIQ")
_REVISION = 0x1000
_KEPT = ("rbx", "rbp", "rdi", "rsi", "r12", "r13", "r14", "r15")  #: a function gives them back, §2.3.4.2
_FRAME = 0x200  #: bytes of stack between a program that starts another and that


@dataclass
class Program:
    """A PE that was loaded."""

    handle: int
    image: PeImage
    span: Span  #: pages that it was given
    base: int  #: where in them it begins
    file_path: bytes
    started_with: dict[str, int] = field(default_factory=dict)  #: registers of who started it
    exit_size: int = 0  #: where that wants the size of what it says at its end
    exit_data: int = 0  #: and where that is


class Programs:
    """Every program, and who started whom."""

    def __init__(self, firmware: Firmware) -> None:
        self._firmware = firmware
        self._programs: dict[int, Program] = {}
        self._running: list[Program] = []
        (self._back,) = struct.unpack("<Q", firmware.functions([self], "Program", ["ProgramReturn"]))

    def load(
        self,
        image: PeImage,
        parent: int,
        device: int,
        file_path: bytes,
        *,
        whole_path: bytes = b"",
        options: bytes = b"",
        low: bool = False,
        above: int = 0,
    ) -> Program:
        """Put a PE where EDK2 would; if `low`, at another place `above`. Raises NotAnImage, Refused."""
        firmware = self._firmware
        kind = MemoryType.LOADER_CODE
        span = self._place(image, kind)
        if low:
            firmware.pages.free(span.start, span.size // PAGE)
            span = self._lower(span, above)
            firmware.pages.convert(span, kind)
        base = image.aligned(span.start)
        try:
            loads = image.load(base)
        except NotAnImage:
            firmware.pages.free(span.start, span.size // PAGE)
            raise
        for load in loads:
            firmware.load(load)
        firmware.gave(Span(base & -PAGE, span.end - (base & -PAGE)), kind)
        if firmware.protection is not None:
            firmware.protection.image(image, Span(base, align_up(image.size, PAGE)))
        path = firmware.keep(file_path) if file_path else 0
        told = firmware.keep(options) if options else 0
        loaded = firmware.lend(  # who loaded it gives it options
            _LOADED_IMAGE.pack(
                _REVISION, parent, firmware.system_table, device, path, 0, len(options), told,
                base, image.size, kind, MemoryType.LOADER_DATA, 0,
            )
        )  # fmt: skip
        handle = firmware.keep(bytes(64))
        protocols = {guids.LOADED_IMAGE: loaded}
        protocols[guids.LOADED_IMAGE_DEVICE_PATH] = firmware.keep(whole_path) if whole_path else 0
        firmware.handles.install(handle, protocols)
        program = Program(handle, image, span, base, file_path)
        self._programs[handle] = program
        return program

    def _place(self, image: PeImage, kind: int) -> Span:
        """Pages at the ImageBase, if there may be some, or anywhere: CoreLoadPeImage."""
        pages = self._firmware.pages
        if image.base >= _LOWEST_WISH or not image.relocatable:
            try:
                return pages.allocate(ADDRESS, kind, image.pages, image.base)
            except Refused:
                if not image.relocatable:
                    raise
        return pages.allocate(ANY, kind, image.pages, 0)

    def _lower(self, span: Span, above: int) -> Span:
        """The other end of the hole that a program was at the top of: the map has as many pieces as before.

        Where it would have filled the hole, or lain low, it gets the start of the largest one. What has to be
        `above` an address is, if there is room.
        """
        free = [hole for hole, kind in self._firmware.pages if kind == MemoryType.CONVENTIONAL]
        hole = next(hole for hole in free if hole.covers(span))
        if span.end != hole.end or span.start == hole.start:
            hole = max(free, key=lambda hole: hole.size)
        start = max(hole.start, above)
        return Span(start if start + span.size <= hole.end and start != span.start else hole.start, span.size)

    def first(self, program: Program, stack: int) -> dict[str, int]:
        """Registers with which the firmware enters its first program, whose stack ends at `stack`."""
        self._running.append(program)
        self._firmware.put(stack, struct.pack("<Q", self._back))
        return {"rcx": program.handle, "rdx": self._firmware.system_table, "rsp": stack}

    # -- services --------------------------------------------------------------------------------------

    def load_image(self, call: Call) -> int:
        parent, path, source, size, pointer = (call[index] for index in range(1, 6))
        if parent not in self._programs or not pointer or (not source and not path):
            raise Refused(status.INVALID_PARAMETER)
        whole = tuple(device_path.nodes(call.read, path)) if path else ()
        found = self._firmware.handles.nearest(call.read, guids.DEVICE_PATH, path) if path else None
        device, rest = found or (0, whole)
        if source and not size:
            raise Refused(status.LOAD_ERROR)
        content: Content | None = MemoryContent(call.read(source, size)) if source else None
        if content is None:
            boot_policy = bool(call[0] & 0xFF)
            if device in self._firmware.files:
                content = self._firmware.files[device](rest, boot_policy)
            elif device_path.in_volume(whole) or self._offers_files(device):
                return self._firmware.unmodelled(call, "an image of a device that is no file of QEMU's")
            if content is None:
                raise Refused(status.NOT_FOUND)
        authentication = self._firmware.authentication
        if authentication is not None and not authentication.allows(call, content):
            call.cpu.record("boot service", "LoadImage: it is not signed, and Secure Boot is on")
            call.write64(pointer, 0)
            raise Refused(status.ACCESS_DENIED)
        try:
            image = read_pe(content)
            if image.subsystem != SUBSYSTEM_APPLICATION:
                return self._firmware.unmodelled(call, f"an image of subsystem {image.subsystem}")
            program = self.load(image, parent, device, b"".join(rest), whole_path=b"".join(whole))
        except NotAnImage as reason:
            call.cpu.record("boot service", f"LoadImage: {reason}")
            raise Refused(reason.code) from None
        call.write64(pointer, program.handle)
        return status.SUCCESS

    def _offers_files(self, handle: int) -> bool:
        """Whether a program has installed a protocol on this handle by which an image could be read."""
        return handle in self._firmware.handles and not guids.BY_FILE.isdisjoint(
            self._firmware.handles.protocols(handle)
        )

    def start_image(self, call: Call) -> None:
        program = self._programs.get(call[0])
        if program is None or program in self._running:
            raise Refused(status.INVALID_PARAMETER)
        cpu = call.cpu
        stack = cpu.get("rsp")
        program.started_with = {name: cpu.get(name) for name in _KEPT} | {"rsp": stack}
        program.exit_size, program.exit_data = call[1], call[2]
        self._running.append(program)
        stack = (stack & -16) - _FRAME - 8
        call.write64(stack, self._back)
        for name, value in (("rsp", stack), ("rcx", program.handle), ("rdx", self._firmware.system_table)):
            cpu.set(name, value)
        cpu.set("rip", program.base + program.image.entry)

    def exit(self, call: Call) -> None:
        program = self._programs.get(call[0])
        if program is not None and program not in self._running:
            self._forget(program)
            call.cpu.set("rax", status.SUCCESS)
            return
        if program is None or program is not self._running[-1]:
            raise Refused(status.INVALID_PARAMETER)
        size, data = call[2], call[3]
        if data:  # who started it may free this copy
            copy = self._firmware.pool.allocate(MemoryType.BOOT_SERVICES_DATA, size).start
            call.write(copy, call.read(data, size))
            data = copy
        self._end(call, call[1], size, data)

    def unload_image(self, call: Call) -> int:
        program = self._programs.get(call[0])
        if program is None:
            raise Refused(status.INVALID_PARAMETER)
        if program in self._running:  # it has no function for that
            raise Refused(status.UNSUPPORTED)
        self._forget(program)
        return status.SUCCESS

    def program_return(self, call: Call) -> None:
        self._end(call, call.cpu.get("rax"))

    def _end(self, call: Call, code: int, size: int = 0, data: int = 0) -> None:
        """The program that runs is over: on in the one that started it; behind the first there is nothing."""
        cpu = call.cpu
        program = self._running.pop()
        if not self._running or self._firmware.exited:
            failed = bool(code & status.ERROR)
            rule = rules.FAILED if failed else rules.RETURNED
            text = f"the program returned {status.status_name(code)} to the firmware"
            if self._firmware.exited:
                text += ", whose boot services it has ended"
            elif self._firmware.exits_refused:
                rule = rules.MAP_KEY
                text += ", which had refused ExitBootServices"
            cpu.stop("crash", text, rule.id)
            return
        if program.exit_size and program.exit_data:
            call.write64(program.exit_size, size)
            call.write64(program.exit_data, data)
        for name, value in program.started_with.items():
            cpu.set(name, value)
        (back,) = struct.unpack("<Q", cpu.read(program.started_with["rsp"], 8))
        cpu.set("rsp", program.started_with["rsp"] + 8)
        cpu.set("rip", back)
        cpu.set("rax", code)
        self._forget(program)

    def _forget(self, program: Program) -> None:
        self._firmware.took(self._firmware.pages.free(program.span.start, program.span.size // PAGE))
        self._firmware.handles.uninstall(
            program.handle, dict(self._firmware.handles.protocols(program.handle))
        )
        del self._programs[program.handle]
