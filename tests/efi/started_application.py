"""An application in emulated firmware that a test makes odd: its calls, its words, what its kernel finds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bootbuild.abi.handover import Handover, ModuleEntry
from bootbuild.api import Content, FileContent, Filling, Framebuffer, Offer, Scene
from bootbuild.formats.elf_read import read_elf
from bootbuild.machine import Machine
from bootbuild.model.span import Span
from bootbuild.model.trace import StopKind
from bootbuild.platform.flat32 import poison_of
from bootbuild.platform.uefi import ovmf
from bootbuild.platform.uefi.call import Call
from bootbuild.platform.uefi.firmware import Firmware
from bootbuild.platform.uefi.pe_image import read_pe
from bootbuild.platform.uefi.start import UNDEFINED, Started, start
from bootbuild_efi.environments import Ovmf
from recipe_text import build_text

MiB, PAGE = 1 << 20, 4096
SAID = "bootbuild: cannot start the kernel: "
Answer = Callable[[Call], int | None]
Around = Callable[[str, Answer, Call], int | None]
"""What answers instead of a service, by its name; it may ask the service itself."""


@dataclass(frozen=True)
class Run:
    """What came of it."""

    console: str
    detail: str  #: of how it ended
    rule: str  #: that was broken, or ""
    record: Handover | None  #: at the startup path; None if that was not reached
    modules: tuple[ModuleEntry, ...] = ()
    contents: tuple[bytes, ...] = ()  #: of the modules
    framebuffer: Framebuffer | None = None
    calls: tuple[str, ...] = ()

    @property
    def refused(self) -> str:
        """Why the kernel was not started: the one line that says so."""
        assert self.record is None
        assert "the program returned EFI_" in self.detail
        assert self.console.startswith(SAID)
        assert self.console.count("\n") == 1
        return self.console.removeprefix(SAID).strip()


@dataclass
class Application:
    """A kernel's, and the file in which it is."""

    kernel: Path
    content: Content

    @classmethod
    def build(cls, text: str, folder: Path, kernel: Path) -> Application:
        """By a recipe."""
        return cls(kernel, FileContent(Path(build_text(text, folder).images[0].path)))

    def started(self, base: int = 0, **how: Any) -> Started:
        """Entered, where it was loaded at `base` if that is free; `how` as `start` has it."""
        image = replace(read_pe(self.content), base=base)
        return start(image, ovmf.Ovmf(512 << 20), poison_of(Filling.EXACT, None, UNDEFINED), **how)

    def scene(self, started: Started) -> Scene:
        """What stands when it is entered."""
        elf = read_elf(FileContent(self.kernel), "kernel")
        return replace(
            Ovmf().scene(replace(elf, packing=self.content), Offer(), Filling.EXACT),
            regions=started.regions,
            loads=started.loads,
            state=started.state,
            platform=started.firmware,
        )

    def run(self, started: Started, around: Around | None = None) -> Run:
        """To the kernel's startup path and on to its end, or to wherever it comes."""
        firmware = started.firmware
        calls: list[str] = []
        _surround(firmware, around or (lambda _, answer, call: answer(call)), calls)
        elf = read_elf(FileContent(self.kernel), "kernel")
        with Machine(self.scene(started)) as machine:
            found: dict[str, Any] = {"record": None}
            shift = elf.loads[0].vaddr - elf.loads[0].paddr
            startup = {elf.entry: "startup", elf.entry + shift: "startup"}
            end = machine.run(checkpoints=startup, budget=50_000_000, seconds=60)
            if end.kind is StopKind.CHECKPOINT:
                record = Handover.parse(machine.read, machine.get("rsi"))
                modules = record.read_modules(machine.read)
                found = {
                    "record": record,
                    "modules": modules,
                    "contents": tuple(machine.read(module.address, module.size) for module in modules),
                    "framebuffer": record.read_framebuffer(machine.read),
                }
                end = machine.run(checkpoints={}, budget=50_000_000, seconds=60)
        console = bytes(firmware.console).decode().replace("\r", "")
        return Run(console=console, detail=end.detail, rule=end.rule or "", calls=tuple(calls), **found)


def _surround(firmware: Firmware, around: Around, calls: list[str]) -> None:
    def surrounded(name: str, old: Answer) -> Answer:
        def answer(call: Call) -> int | None:
            calls.append(name)
            return around(name, old, call)

        return answer

    for at, function in firmware._functions.items():
        if function.answer is not None and not function.name.startswith("Program."):
            firmware._functions[at] = replace(function, answer=surrounded(function.name, function.answer))


def recipe(kernel: Path, target: str = "", more: str = "", startup: str = '"startup_64"') -> str:
    """For one application: keys of its target, and of the payload."""
    return f"""
        api = 1
        [payload]
        path = {json.dumps(str(kernel))}
        startup = {startup}
        {more}
        [targets.efi]
        profiles = ["ovmf"]
        {target}
    """


def at_first(do: Callable[[Call], None]) -> Around:
    """Before the first service is answered."""
    done: list[bool] = []

    def around(_: str, answer: Answer, call: Call) -> int | None:
        if not done:
            done.append(True)
            do(call)
        return answer(call)

    return around


def instead(name: str, do: Callable[[Answer, Call], int | None]) -> Around:
    """For one service."""
    return lambda called, answer, call: do(answer, call) if called == name else answer(call)


def booted(run: Run) -> Run:
    """A run of hello that came to its end."""
    assert run.console.endswith("hello: done\n"), (run.console, run.detail)
    assert run.record is not None
    return run


def split(started: Started, pieces: int) -> None:
    """Give every other page of some memory another type, so that the map has so many pieces more."""
    pages = started.firmware.pages
    at = next(
        span.start for span, kind in pages if kind == ovmf.MemoryType.CONVENTIONAL and span.size > 32 * MiB
    )
    for number in range(pieces // 2):
        pages.convert(Span(at + (2 * number + 1) * PAGE, PAGE), ovmf.MemoryType.RUNTIME_DATA)
