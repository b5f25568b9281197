"""Every call that the application makes of firmware, failing once: it starts its kernel, or says why not."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

import pytest

from bootbuild.platform.uefi import status
from bootbuild.platform.uefi.call import Call
from bootbuild.platform.uefi.pages import Refused
from started_application import Answer, Application

#: whose failure does not end the application: the shell's parameters, a screen, a variable, memory
SPARED = {
    "RuntimeServices.GetVariable",
    *(
        f"BootServices.{name}"
        for name in ("HandleProtocol", "LocateProtocol", "LocateHandleBuffer", "FreePool", "AllocatePages")
    ),
}


@pytest.mark.parametrize("code", [status.OUT_OF_RESOURCES, status.INVALID_PARAMETER])
def test_any_one_call_may_fail(hello64: Path, tmp_path: Path, code: int) -> None:
    (tmp_path / "module").write_bytes(b"x" * 5000)
    module = f'path = {json.dumps(str(tmp_path / "module"))}\ncmdline = "arguments"\n'
    payload = f'path = {json.dumps(str(hello64))}\nstartup = "startup_64"\ncmdline = "own"\n'
    text = f'api = 1\n[payload]\n{payload}[[payload.modules]]\n{module}[targets.efi]\nprofiles = ["ovmf"]\n'
    application = Application.build(text, tmp_path, hello64)
    refused: set[str] = set()
    for failing, name in enumerate(application.run(application.started()).calls):
        started = application.started()
        before = list(started.firmware.pages)
        numbers = count()

        def fail(
            _: str, answer: Answer, call: Call, at: int = failing, numbers: count[int] = numbers
        ) -> int | None:
            if next(numbers) == at:
                raise Refused(code)
            return answer(call)

        run = application.run(started, fail)
        assert run.calls[failing] == name
        if run.record is not None:
            assert name in SPARED or (name.endswith("ExitBootServices") and code == status.INVALID_PARAMETER)
            assert run.console.endswith("hello: done\n")
            continue
        assert run.refused, name
        assert list(started.firmware.pages) == before, name
        refused.add(name.removeprefix("BootServices."))
    assert {"HandleProtocol", "GetMemoryMap"} <= refused
