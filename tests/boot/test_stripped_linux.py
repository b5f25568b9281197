"""A Linux without a symbol table is booted until a symbol of its kallsyms, whatever it is packed in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import pytest

from bootbuild import pipeline
from bootbuild.boot.subject import request_subject
from bootbuild.formats.kallsyms import KallsymsSymbols
from bootbuild.formats.symbols import origin
from bootbuild.host import Host
from bootbuild.model.request import BootRequest
from bootbuild.model.verdict import Outcome
from bootbuild.report.inspection import inspect
from debian_kernels import Kernels, LinuxKernel

FORMS = ["vmlinux", "vmlinuz"]


@pytest.fixture(scope="session", params=["cloud", "generic", "newer"])
def kernel(request: pytest.FixtureRequest, kernels: Kernels) -> LinuxKernel:
    found: LinuxKernel = getattr(kernels, request.param)
    return found


@pytest.mark.parametrize("form", FORMS)
def test_it_is_booted_until_start_kernel(kernel: LinuxKernel, form: str) -> None:
    request = BootRequest(getattr(kernel, form), ("pvh@qemu",), until="start_kernel", guest="linux")
    (verdict,) = pipeline.boot(request, Host.discover())
    assert verdict.outcome is Outcome.BOOTED, verdict.findings
    assert verdict.reached == "start_kernel"
    assert {run.stop.ip for run in verdict.runs} == {kernel.symbol("start_kernel")}


@pytest.mark.parametrize("form", FORMS)
def test_it_is_inspected_with_its_symbols(kernel: LinuxKernel, form: str) -> None:
    found = inspect(getattr(kernel, form), Host.discover())
    names = {line.split(" ", 2)[2] for line in kernel.system_map.read_text().splitlines()}
    assert (found.symbols_from, found.symbols) == ("kallsyms", len(names))
    assert found.elf.symbols["start_kernel"] == kernel.symbol("start_kernel")


@pytest.mark.parametrize("form", FORMS)
def test_kallsyms_are_searched_for_a_symbol_alone(
    kernel: LinuxKernel, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def searched(_: KallsymsSymbols, wanted: bytes | None) -> NoReturn:
        pytest.fail("kallsyms were searched")

    def subject(until: str | None, symbols: bool = False) -> Mapping[str, int]:
        given = kernel.system_map if symbols else None
        request = BootRequest(getattr(kernel, form), ("pvh@qemu",), until=until, symbols=given)
        return request_subject(request, Host.discover(), 1, 1.0).symbols

    assert origin(subject("start_kernel")) == "kallsyms"
    monkeypatch.setattr(KallsymsSymbols, "symbols", searched)
    assert isinstance(subject(None), KallsymsSymbols)  # e_entry
    assert isinstance(subject(hex(kernel.symbol("start_kernel"))), KallsymsSymbols)
    assert subject("start_kernel", symbols=True)["start_kernel"] == kernel.symbol("start_kernel")
