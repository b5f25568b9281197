"""Debian's own bzImage, broken in each way that its header or its bytes can be: it is never said to boot."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from bootbuild import pipeline
from bootbuild.errors import InputError
from bootbuild.host import Host
from bootbuild.model.request import BootRequest
from bootbuild.model.verdict import Outcome
from broken_file import Change
from debian_kernels import Kernels
from tiny_linux import BROKEN, SECTOR, changed, fields, get, has_crc

CHANGES: dict[str, Change] = {broken.name: broken.change for broken in BROKEN}
MiB = 1 << 20


@pytest.fixture(scope="module")
def plain(kernels: Kernels) -> bytes:
    """The cloud kernel without its signature, as it was built: its checksum is the end of the file."""
    data = bytearray(kernels.cloud.vmlinuz.read_bytes())
    (pe,) = struct.unpack_from("<I", data, 0x3C)
    data[pe + 24 + 64 : pe + 24 + 68] = bytes(4)  # CheckSum
    data[pe + 24 + 112 + 4 * 8 : pe + 24 + 112 + 5 * 8] = bytes(8)  # the table of certificates
    made = bytes(data)
    made = made[: (get(made, "setup_sects") + 1) * SECTOR + get(made, "syssize") * 16]
    assert has_crc(made)
    return made


def flipped(data: bytes) -> bytes:
    """One bit of the payload's middle the other way, and the checksum as it was."""
    start = (get(data, "setup_sects") + 1) * SECTOR + get(data, "payload_offset")
    at = start + get(data, "payload_length") // 2
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def past_the_end(data: bytes) -> bytes:
    return changed(data, payload_length=len(data))


INPUT: dict[str, tuple[Change, str]] = {
    "setup_sects one too large": (CHANGES["setup_sects one too large"], "BB-E022"),
    "setup_sects one too small": (CHANGES["setup_sects one too small"], "BB-E022"),
    "init_size without room for the kernel": (fields(init_size=16 * MiB), "BB-E026"),
    "payload_length past the end": (past_the_end, "BB-E021"),
    "payload_length a byte short": (CHANGES["payload_length a byte short"], "BB-E023"),
    "a corrupted payload": (flipped, "BB-E025"),
    "a wrong CRC": (CHANGES["a wrong CRC"], "BB-E025"),
    "as LIEF writes it": (CHANGES["as LIEF writes it"], "BB-E020"),
}


@pytest.mark.parametrize("name", INPUT)
def test_it_is_refused_before_a_boot(name: str, plain: bytes, tmp_path: Path) -> None:
    change, rule = INPUT[name]
    (tmp_path / "vmlinuz").write_bytes(change(plain))
    with pytest.raises(InputError) as caught:
        pipeline.boot(BootRequest(tmp_path / "vmlinuz", ("linux",)), Host.discover())
    assert [problem.rule.id for problem in caught.value.problems] == [rule]


@pytest.mark.parametrize(
    ("name", "profile", "rules"),
    [
        ("as it is", "linux@kexec-64bit", []),
        ("no 0xAA55", "linux@grub-32bit", ["BB-L433"]),
        ("no 0xAA55", "linux@kexec-64bit", ["BB-L433"]),
        ("no 0xAA55", "linux@qemu-16bit", []),
        ("xloadflags without the 64-bit entry", "linux@kexec-64bit", ["BB-L439"]),
        ("protocol 2.09", "linux@kexec-64bit", ["BB-L431"]),
    ],
)
def test_its_loader_decides(name: str, profile: str, rules: list[str], plain: bytes, tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(CHANGES[name](plain))
    (verdict,) = pipeline.boot(BootRequest(tmp_path / "vmlinuz", (profile,)), Host.discover())
    assert [finding.rule for finding in verdict.findings] == rules
    assert verdict.outcome is (Outcome.FAILED if rules else Outcome.BOOTED)
