"""The PVH front and post stub in real domains that xl made: hypercalls, console ring, ways to end."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import toolstack
from toolstack import Domain, DomainRun

LONG = b"x" * 4999  # more than twice the console ring


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("module") / "module"
    path.write_bytes(bytes(range(256)) * 9)
    return path


@pytest.fixture(scope="module")
def runs(
    qemu: Path,
    toolstack_kernels: Any,
    module: Path,
    tmp_path_factory: pytest.TempPathFactory,
    image_writer: Callable[..., Any],
    prepare: Any,
) -> Mapping[str, DomainRun]:
    folder = tmp_path_factory.mktemp("domains")
    images = {
        "hello32": image_writer(folder / "32", 32),
        "hello64": image_writer(folder / "64", 64),
        "long": image_writer(folder / "long", 64, prepared=prepare(cmdline=LONG)),
        "magic": image_writer(folder / "magic", 64, prepared=prepare(magic=0)),
        "nomap": image_writer(folder / "nomap", 32, prepared=prepare(version=0)),
    }
    domains = {
        name: Domain(image.path, "pvh", "a b", module if name.startswith("hello") else None)
        for name, image in images.items()
    }
    transcript, found = toolstack.create(qemu, toolstack_kernels, domains, folder)
    assert transcript.reached, str(transcript)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hello64", "hello32"])
def test_hello_speaks_through_the_ring_and_powers_off(
    name: str, runs: Mapping[str, DomainRun], module: Path
) -> None:
    run = runs[name]
    assert run.state == "poweroff"
    lines = run.console
    assert lines[0] == "hello from pvh on xen"
    assert lines[1] == "cmdline a b"
    assert "flags 0x0" in lines, "a domU is not privileged"
    assert any(line.endswith(f"crc32 {zlib.crc32(module.read_bytes()):#x}") for line in lines)
    assert lines[-1] == "hello: done"


@pytest.mark.slow
def test_a_text_longer_than_the_ring_arrives_whole(runs: Mapping[str, DomainRun]) -> None:
    assert runs["long"].state == "poweroff"
    assert f"cmdline {LONG.decode()}" in runs["long"].console


@pytest.mark.slow
def test_a_front_that_cannot_go_on_says_why_and_crashes_the_domain(runs: Mapping[str, DomainRun]) -> None:
    assert runs["magic"].state == "crash"
    assert runs["magic"].console == (
        "bootbuild: cannot start from PVH: EBX does not point to an hvm_start_info",
    )


@pytest.mark.slow
def test_a_map_that_start_info_lacks_is_asked_for(runs: Mapping[str, DomainRun]) -> None:
    """A domU's own map too, though xl hands one over: version 0 hides it."""
    run = runs["nomap"]
    assert run.state == "poweroff"
    assert any(re.fullmatch(r"memory 0x0 \w+ ram", line) for line in run.console)
