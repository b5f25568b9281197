"""A bzImage that a writer of PE files has written anew: firmware starts it, and no loader of Linux does."""

from __future__ import annotations

from pathlib import Path

import lief
import pytest

from bootbuild import pipeline
from bootbuild.errors import InputError
from bootbuild.host import Host
from bootbuild.model.request import BootRequest
from bootbuild.model.verdict import Outcome
from debian_kernels import Kernels

RULES = {
    "linux@cloud-hypervisor-32bit": "BB-L430",
    "linux@firecracker-64bit": "BB-L101",
    "linux@grub-32bit": "BB-L433",
    "linux@kexec-64bit": "BB-L430",
    "linux@qemu-16bit": "BB-L430",
}


@pytest.fixture(scope="module")
def rewritten(kernels: Kernels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian's cloud kernel, read by LIEF and written by it."""
    path = tmp_path_factory.mktemp("lief") / "vmlinuz"
    binary = lief.PE.parse(str(kernels.cloud.vmlinuz))
    assert isinstance(binary, lief.PE.Binary)
    binary.write(str(path))
    return path


@pytest.mark.parametrize("target", ["linux", "efi", "pvh"])
def test_what_became_of_it_is_told(rewritten: Path, target: str) -> None:
    with pytest.raises(InputError) as caught:
        pipeline.boot(BootRequest(rewritten, (target,)), Host.discover())
    (problem,) = caught.value.problems
    assert (problem.rule.id, problem.where) == ("BB-E020", f"{rewritten}@0x202")
    assert "in a PE file that was Linux's (.setup): a PE writer, as LIEF, made it anew" in problem.message


def test_no_loader_of_linux_starts_it(rewritten: Path) -> None:
    request = BootRequest(rewritten, ("linux",), until="console:Linux version")
    verdicts = pipeline.boot(request, Host.discover())
    assert {v.name: [f.rule for f in v.findings] for v in verdicts} == {n: [r] for n, r in RULES.items()}
    assert {v.outcome for v in verdicts} == {Outcome.FAILED}


@pytest.mark.slow
def test_its_pe_entry_works(rewritten: Path) -> None:
    request = BootRequest(
        rewritten, ("efi@ovmf",), until="console:Linux version", cmdline=b"earlyprintk=ttyS0 nokaslr"
    )
    (verdict,) = pipeline.boot(request, Host.discover())
    assert (verdict.outcome, verdict.findings) == (Outcome.BOOTED, ())
