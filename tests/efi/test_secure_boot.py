"""Secure Boot: when the application takes it for on, what it says of it, and what LoadImage refuses then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import efi_dump
from bootbuild.abi.handover import HandoverFlag
from bootbuild.platform.uefi import guids, status
from bootbuild.platform.uefi.call import Call
from bootbuild.platform.uefi.pages import Refused
from bootbuild_efi.environments import SecureBoot
from pe_edits import certificate, tiny
from started_application import Answer, Application, instead, recipe

OPTIONS = "from=outside\0".encode("utf-16-le")
SHIM_LOCK = guids.guid("605dab50-e046-4300-abb6-3dd810dd8b23")
BOOT_SERVICE, RUNTIME = 2, 4

Variables = dict[str, tuple[int, bytes]]


@pytest.fixture(scope="module")
def hello(hello64: Path, tmp_path_factory: pytest.TempPathFactory) -> Application:
    text = recipe(hello64, more='cmdline = "what=is signed"')
    return Application.build(text, tmp_path_factory.mktemp("efi"), hello64)


def firmwares(secure_boot: bytes, setup_mode: bytes = b"\0") -> Variables:
    both = BOOT_SERVICE | RUNTIME
    return {"SecureBoot": (both, secure_boot), "SetupMode": (both, setup_mode)}


ON = firmwares(b"\1")


@pytest.mark.parametrize(
    ("variables", "on"),
    [
        (ON, True),
        (firmwares(b"\0"), False),
        (firmwares(b"\0", b"\1"), False),
        (firmwares(b"\1", b"\1"), False),
        (firmwares(b"\1\0"), False),  # UEFI 2.10, table 3.1: one byte
        ({"SecureBoot": ON["SecureBoot"]}, True),
        ({}, False),
        (ON | {"MokSBState": (BOOT_SERVICE, b"\1")}, False),
        (ON | {"MokSBState": (BOOT_SERVICE, b"\0")}, True),
        (ON | {"MokSBState": (BOOT_SERVICE | RUNTIME, b"\1")}, True),  # which anybody may have set
    ],
    ids=str,
)
def test_it_is_on_as_linux_has_it(hello: Application, variables: Variables, on: bool) -> None:
    """Linux, drivers/firmware/efi/libstub/secureboot.c: shim's user may have turned its checks off."""

    def read(_: Answer, call: Call) -> int:
        name = call.text(call[0])
        assert call.read(call[1], 16) == (SHIM_LOCK if name == "MokSBState" else guids.GLOBAL_VARIABLE)
        if name not in variables:
            raise Refused(status.NOT_FOUND)
        flags, value = variables[name]
        if call[2]:
            call.write32(call[2], flags)
        if call.read64(call[3]) < len(value):
            raise Refused(status.BUFFER_TOO_SMALL)
        call.write(call[4], value)
        return status.SUCCESS

    run = hello.run(hello.started(options=OPTIONS), instead("RuntimeServices.GetVariable", read))
    assert run.record is not None
    assert bool(run.record.flags & HandoverFlag.SECURE_BOOT) == on
    assert f"cmdline {'what=is signed' if on else 'from=outside'}\n" in run.console


def loads(image: bytes, gcc: Path, folder: Path) -> tuple[object, object]:
    """What LoadImage, and then StartImage (else None), say to an image in memory."""
    (folder / "image").write_bytes(image)
    paths = [f"-D{name}={json.dumps(str(folder / 'image'))}" for name in ("UNSIGNED", "SIGNED")]
    program = folder / "program.efi"
    program.write_bytes(efi_dump.compile_pe(gcc, [efi_dump.SOURCE / "secure.c"], folder, paths))
    said = efi_dump.one(efi_dump.emulated(program, "", b"", 512, SecureBoot()), "unsigned")
    return said["load"][0], said.get("start", [None])[0]


def test_load_image_takes_what_is_signed_only(gcc: Path, tmp_path: Path) -> None:
    assert loads(tiny(), gcc, tmp_path) == (status.ACCESS_DENIED, None)
    assert loads(certificate(tiny()), gcc, tmp_path) == (status.SUCCESS, status.SUCCESS)
