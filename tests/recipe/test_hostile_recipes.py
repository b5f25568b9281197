"""Whatever is given as a recipe, the answer is one clear error, soon and in little memory."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootbuild.errors import RecipeError
from bootbuild.host import Host
from bootbuild.recipe.read import read

Problems = Callable[..., Sequence[str]]

HEAD = b'api = 1\npayload.path = "kernel"\ntargets.tin = {}\n'
TOO_LARGE = "must be below 2^63"


@pytest.fixture
def soon() -> Iterator[None]:
    """Fails a test that takes more than ten seconds of a core or 64 MiB."""
    tracemalloc.start()
    began = time.process_time()
    yield
    took, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert took < 10, f"{took:.1f} s"  # tracing itself costs most of it
    assert peak < 64 << 20, f"{peak >> 20} MiB"


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"#" * (10 << 20), "r.toml: larger than 64 KiB (BB-R002)"),
        (b"\xef\xbb\xbf" + HEAD, "r.toml: begins with a byte-order mark (BB-R003)"),
        (HEAD + b"# \xff\n", "r.toml:4: byte 0xff is not UTF-8 (BB-R003)"),
        (HEAD.decode().encode("utf-16"), "r.toml:1: byte 0xff is not UTF-8 (BB-R003)"),
        (HEAD + b"#\0\n", "r.toml:4: a NUL character (BB-R003)"),
        (b"\x7fELF" + bytes(100), "r.toml: this is a kernel, not a recipe (BB-R003)"),
        (bytes(0x202) + b"HdrS" + bytes(1 << 20), "r.toml: this is a kernel, not a recipe (BB-R003)"),
        (b"\x93\x00\xff", "r.toml:1: byte 0x93 is not UTF-8 (BB-R003)"),
        (HEAD + b"x = " + b"[" * 60000, "r.toml:4: nested more than 32 deep (BB-R005)"),
        (HEAD + b"x = " + b"{a=" * 20000, "r.toml:4: nested more than 32 deep (BB-R005)"),
        (HEAD + b"a." * 30000 + b"a = 1", "r.toml:4: nested more than 32 deep (BB-R005)"),
        (HEAD + b"[" + b"a." * 30000 + b"a]", "r.toml:4: nested more than 32 deep (BB-R005)"),
        (HEAD + b"boot.budget = " + b"9" * 60000, "r.toml: an integer of thousands of digits (BB-R004)"),
        (
            HEAD + b"boot.budget = 0x" + b"f" * 60000,
            f"r.toml:4: boot.budget: a number of thousands of digits: {TOO_LARGE} (BB-R010)",
        ),
        (
            HEAD + b"boot.timeout = 1" + b"0" * 400,
            f"r.toml:4: boot.timeout: 1{'0' * 59}…: must be a finite number (BB-R010)",
        ),
        (HEAD + b'expect = "' + b"x" * 60000 + b'"', "r.toml:4: expect: must be a table, not text (BB-R009)"),
        (HEAD + b'"' + b"x" * 60000 + b'" = 1', f"r.toml:4: '{'x' * 59}…: unknown key (BB-R007)"),
        (HEAD + b'x = "' + b"\\" * 60001 + b'"', "r.toml:4: Unterminated string (end of the file) (BB-R004)"),
        (b"\r" + HEAD, "r.toml:1: Invalid statement (column 1) (BB-R004)"),
    ],
    ids=range(19),
)
def test_one_clear_error(problems: Problems, data: bytes, problem: str) -> None:
    assert problems(data) == [problem]


@pytest.mark.usefixtures("soon")
def test_thousands_of_problems_are_still_reported_soon(problems: Problems) -> None:
    keys = b"".join(b"key%d = 1\n" % number for number in range(4000))
    assert len(problems(HEAD + keys)) == 4000


@pytest.mark.usefixtures("soon")
def test_thousands_of_tables_are_read_soon(problems: Problems) -> None:
    assert len(problems(HEAD + b"[[payload.modules]]\n" * 3000)) == 3000


def refusal(path: Path, host: Host) -> str:
    with pytest.raises(RecipeError) as error:
        read(path, host)
    assert [problem.rule.id for problem in error.value.problems] == ["BB-R001"]
    return error.value.problems[0].message


def test_what_is_no_file_is_not_opened(folder: Path, host: Host) -> None:
    os.mkfifo("fifo")
    assert refusal(Path("fifo"), host) == "not a regular file"
    assert refusal(Path("/dev/zero"), host) == "not a regular file"
    assert refusal(folder, host) == "not a regular file"
    assert refusal(Path("nope"), host) == "No such file or directory"
    assert refusal(Path("kernel/r.toml"), host) == "Not a directory"
    assert refusal(Path("x" * 5000), host) == "File name too long"
    Path("loop").symlink_to("loop")
    assert refusal(Path("loop"), host) == "Too many levels of symbolic links"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.text(alphabet="api=1[]{}\".'#\\\n x", max_size=80).map(str.encode))
def test_no_bytes_lead_to_anything_but_problems(problems: Problems, data: bytes) -> None:
    assert problems(data)
    assert problems(HEAD + b"[boot]\nx = 1\n" + data)
