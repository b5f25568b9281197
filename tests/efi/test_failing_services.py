"""Every call that the application makes of firmware, failing once: it starts its kernel, or says why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bootbuild.api import FileContent, Filling, Offer
from bootbuild.formats.elf_read import read_elf
from bootbuild.machine import Machine
from bootbuild.platform.flat32 import poison_of
from bootbuild.platform.uefi import ovmf, status
from bootbuild.platform.uefi.call import Call
from bootbuild.platform.uefi.firmware import Firmware
from bootbuild.platform.uefi.pages import Refused
from bootbuild.platform.uefi.pe_image import read_pe
from bootbuild.platform.uefi.start import UNDEFINED, start
from bootbuild_efi.environments import Ovmf
from recipe_text import build_text

Answer = Callable[[Call], int | None]
SAID = "bootbuild: cannot start the kernel: "
#: whose failure is none of the application's: the shell's parameters, and a screen
SPARED = {"BootServices.HandleProtocol", "BootServices.LocateProtocol"}


class Failing:
    """Answers in place of the firmware; call number `number` fails with `code`."""

    def __init__(self, firmware: Firmware, number: int, code: int) -> None:
        self.calls: list[str] = []
        self._number, self._code = number, code
        for at, function in firmware._functions.items():
            if function.answer is not None and not function.name.startswith("Program."):
                firmware._functions[at] = replace(function, answer=self._wrap(function.name, function.answer))

    def _wrap(self, name: str, old: Answer) -> Answer:
        def answer(call: Call) -> int | None:
            self.calls.append(name)
            if len(self.calls) - 1 == self._number:
                raise Refused(self._code)
            return old(call)

        return answer


@pytest.mark.parametrize("code", [status.OUT_OF_RESOURCES, status.INVALID_PARAMETER])
def test_any_one_call_may_fail(hello64: Path, tmp_path: Path, code: int) -> None:
    (tmp_path / "module").write_bytes(b"x" * 5000)
    module = f'path = {json.dumps(str(tmp_path / "module"))}\ncmdline = "arguments"\n'
    payload = f'path = {json.dumps(str(hello64))}\nstartup = "startup_64"\ncmdline = "own"\n'
    text = f'api = 1\n[payload]\n{payload}[[payload.modules]]\n{module}[targets.efi]\nprofiles = ["ovmf"]\n'
    application = FileContent(Path(build_text(text, tmp_path).images[0].path))
    image = replace(read_elf(FileContent(hello64), "hello"), packing=application)
    poison = poison_of(Filling.EXACT, None, UNDEFINED)
    refused: set[str] = set()
    console = ""
    for number in range(100):
        started = start(read_pe(application), ovmf.Ovmf(512 << 20), poison)
        firmware = started.firmware
        before = list(firmware.pages)
        failing = Failing(firmware, number, code)
        scene = replace(
            Ovmf().scene(image, Offer(), Filling.EXACT),
            regions=started.regions,
            loads=started.loads,
            state=started.state,
            platform=firmware,
        )
        with Machine(scene) as machine:
            end = machine.run(checkpoints={}, budget=50_000_000, seconds=60)
        console = bytes(firmware.console).decode()
        if number >= len(failing.calls):
            break
        name = failing.calls[number]
        if "hello: done" in console:
            assert name in SPARED or (name.endswith("ExitBootServices") and code == status.INVALID_PARAMETER)
            continue
        assert console.startswith(SAID), name
        assert console.count("\n") == 1, name
        assert "the program returned EFI_" in end.detail, name
        assert list(firmware.pages) == before, name
        refused.add(name.removeprefix("BootServices."))
    assert "hello: done" in console
    assert {"HandleProtocol", "GetMemoryMap", "AllocatePages"} <= refused
