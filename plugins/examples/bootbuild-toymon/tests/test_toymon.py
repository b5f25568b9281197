"""The example is held to its README: its recipe boots, and for every rule an input breaks it and no other."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from bootbuild.api import (
    ElfImage,
    Filling,
    MemoryContent,
    Note,
    Offer,
    Payload,
    RefusedError,
    Segment,
    Startup,
    Undefined,
)
from bootbuild.testing import Boots, Refuses, SameBytes
from bootbuild_toymon.environments import PvhToymon, ToymonV1
from bootbuild_toymon.guests import ToyOs
from bootbuild_toymon.targets import Options, Toymon

HERE = Path(__file__).parents[1]
RECIPE = HERE / "recipes/toyos.toml"
KERNEL = HERE / "kernel/toyos.elf"

ENTRY_NOTE = struct.pack("<III", 7, 4, 1) + b"Toymon\0\0"
NEEDS_NOTE = struct.pack("<III", 7, 8, 2) + b"Toymon\0\0"
FIRST_SEGMENT = struct.pack("<4I", 1, 0x1000, 0x100000, 0x100000)  # PT_LOAD: p_offset, p_vaddr, p_paddr


@pytest.fixture
def image(boots: Boots) -> Path:
    """What the recipe makes."""
    return Path(boots(RECIPE).images[0].path)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Where a test writes a recipe of its own."""
    return tmp_path / "own.toml"


def payload(path: Path, more: str = "") -> str:
    return f'api = 1\n[payload]\npath = "{path}"\nguest = "toyos"\nstartup = "startup_32"\n{more}'


def replace(image: Path, pattern: bytes, new: bytes) -> Path:
    """The image with every place that matches `pattern` changed."""
    data, count = re.subn(pattern, lambda _: new, image.read_bytes(), flags=re.DOTALL)
    assert count, f"{pattern!r} is not there"
    broken = image.with_name("broken.elf")
    broken.write_bytes(data)
    return broken


def test_one_image_is_started_by_two_protocols(boots: Boots) -> None:
    (image,) = boots(RECIPE).images
    assert image.targets == ("toymon", "pvh")
    assert image.entries["toymon"] != image.entries["pvh"]
    assert {"toymon@v1", "pvh@toymon", "pvh@qemu"} <= {verdict.name for verdict in image.verdicts}


def test_a_build_is_the_same_everywhere(same_bytes: SameBytes) -> None:
    assert [path.name for path in same_bytes(RECIPE)] == ["toyos-toymon+pvh.elf"]


def test_an_entry_that_is_there_already_is_proved_as_it_is(boots: Boots, image: Path, recipe: Path) -> None:
    kernel = image.rename(image.with_name("made.elf"))
    recipe.write_text(payload(kernel, '[targets.toymon]\nentry = "native"\n'))
    (again,) = boots(recipe).images
    assert Path(again.path).read_bytes() == kernel.read_bytes()


# What the build side refuses.


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('[targets.toymon]\nentry = "native"\n', "TOYMON-001"),
        ("width = 64\n[targets.toymon]\n", "TOYMON-006"),
        ("[targets.toymon]\nmemory = 0\n", "targets.toymon.memory: is 0 MiB, not between 1 and 4095"),
        ("[targets.toymon]\nmemroy = 8\n", "did you mean 'memory'?"),
    ],
)
def test_a_recipe_that_cannot_be_built_says_why(boots: Boots, recipe: Path, more: str, said: str) -> None:
    recipe.write_text(payload(KERNEL, more))
    with pytest.raises(pytest.fail.Exception, match=re.escape(said)):
        boots(recipe)


def test_there_is_no_stub_before_an_entry_of_the_payloads_own() -> None:
    startup = Startup("startup_32", 0x100000, 0x100000, 32)
    payload = Payload(_minimal(), "minimal.elf", "elf", "", "toyos", startup)
    with pytest.raises(RefusedError, match="TOYMON-006"):
        Toymon().chain(payload, ToyOs(), Options())


# What the loader and the profiles refuse.


@pytest.mark.parametrize(
    ("pattern", "new", "finding"),
    [
        (re.escape(ENTRY_NOTE), ENTRY_NOTE.replace(b"T", b"t"), "TOYMON-001"),
        (re.escape(NEEDS_NOTE) + b"\x01\0", NEEDS_NOTE + b"\x02\0", "TOYMON-002"),
        (re.escape(FIRST_SEGMENT), struct.pack("<4I", 1, 0x1000, 0x100000, 0x80000), "TOYMON-003"),
        (re.escape(NEEDS_NOTE) + b"\x01\0\0\0\x08\0", NEEDS_NOTE + b"\x01\0\0\0\xff\0", "TOYMON-004"),
    ],
)
def test_a_file_that_toymon_does_not_start(
    refuses: Refuses, image: Path, pattern: bytes, new: bytes, finding: str
) -> None:
    (verdict,) = refuses(replace(image, pattern, new), finding, profile="toymon")
    assert verdict.runs == (), "it was not booted"


def test_by_pvh_it_refuses_what_it_cannot_start(refuses: Refuses, image: Path) -> None:
    low = replace(image, re.escape(FIRST_SEGMENT), struct.pack("<4I", 1, 0x1000, 0x100000, 0x80000))
    refuses(low, "TOYMON-003", profile="pvh@toymon")
    refuses(KERNEL, "TOYMON-001", profile="pvh@toymon", until="startup_32")


@pytest.mark.parametrize("profile", ["toymon@v1", "pvh@toymon"])
def test_a_command_line_that_is_too_long_is_refused(refuses: Refuses, image: Path, profile: str) -> None:
    refuses(image, "TOYMON-005", profile=profile, cmdline=b"x" * 1024)


# What a broken stub does, and who notices.


@pytest.mark.parametrize(
    ("pattern", "new", "finding"),
    [
        (b"\xb8SOYT", b"\xb8soyt", "TOYOS-001"),  # mov $TOYOS_MAGIC, %eax
        (rb"\x8b\x5e\x28", b"\x8b\x5e\x20", "TOYOS-002"),  # mov 0x28(%esi), %ebx: `data` for `cmdline`
        (rb"\x8b\x96\xa0\0\0\0", b"\x8b\x96\x20\0\0\0", "TOYOS-003"),  # mov 0xa0(%esi), %edx
    ],
)
def test_a_broken_back_stub_is_found_in_every_profile(
    refuses: Refuses, image: Path, pattern: bytes, new: bytes, finding: str
) -> None:
    verdicts = refuses(replace(image, pattern, new), finding, cmdline=b"greeting=hello")
    assert {"toymon@v1", "pvh@toymon", "pvh@qemu"} <= {verdict.name for verdict in verdicts}
    assert all(verdict.findings for verdict in verdicts)


def test_a_front_without_a_stack_of_its_own_relies_on_the_monitors(refuses: Refuses, image: Path) -> None:
    rest = b"\x6a\0\x9d\x83\xec\x0c\x56"  # pushl $0; popfl; subl $12, %esp; pushl %esi
    broken = replace(image, rb"\xbc.{4}" + re.escape(rest), b"\x90" * 5 + rest)  # mov $stack, %esp
    refuses(broken, "BB-U002", profile="toymon")


def test_a_front_that_is_given_something_else_says_so(refuses: Refuses, image: Path) -> None:
    (verdict,) = refuses(replace(image, b"TOYM", b"toym"), "BB-B022", profile="toymon")
    assert b"ESI does not point to a toymon_info" in verdict.runs[0].console
    (finding,) = verdict.findings
    assert finding.message.endswith(": 0x1 was written to toymon's power port"), "a crash, for the monitor"


def test_what_the_console_cannot_show_is_found_by_the_hook(refuses: Refuses, image: Path) -> None:
    text = "grüße".encode()
    refuses(image, "TOYMON-007", profile="toymon", until="console:done", cmdline=text)


def test_the_hook_minds_its_own_target_only(boots: Boots, recipe: Path) -> None:
    more = 'cmdline = "grüße"\n[targets.pvh]\n[expect]\nconsole = "toyos: grüße"\n'
    recipe.write_text(payload(KERNEL, more), encoding="utf-8")
    boots(recipe)


def test_the_kernel_ends_by_powering_off(refuses: Refuses, image: Path) -> None:
    """Waiting for words that never come shows how a run ends."""
    (verdict,) = refuses(image, "BB-B023", profile="toymon", until="console:no such words")
    assert verdict.findings[0].message == "'no such words' was not printed: toymon was told to power off"
    assert verdict.runs[0].console.replace(b"\r", b"") == b"toyos: \ntoyos: done\n"


# The environments themselves.


def _minimal() -> ElfImage:
    """A file of one page at 1 MiB that both profiles take."""
    notes = (
        Note("Toymon", 1, struct.pack("<I", 0x100000)),
        Note("Toymon", 2, struct.pack("<HHI", 1, 0, 4)),
        Note("Xen", 18, struct.pack("<I", 0x100000)),
    )
    segment = Segment(1, 5, 0, 0x100000, 0x100000, 16, 0x1000, 0x1000)
    return ElfImage("minimal", 32, 3, 2, 0x100000, (segment,), notes, MemoryContent(b"\xf4" * 16))


CASES = [(profile, one) for profile in (ToymonV1(), PvhToymon()) for one in profile.undefined]


@pytest.mark.parametrize(("profile", "one"), CASES, ids=[f"{p.target}-{one.name}" for p, one in CASES])
def test_each_undefined_thing_is_garbage_when_it_alone_is_asked_for(
    profile: ToymonV1 | PvhToymon, one: Undefined
) -> None:
    scenes = [profile.scene(_minimal(), Offer(), filling, frozenset({one.name})) for filling in Filling]
    assert [scene.poisoned for scene in scenes] == [frozenset(), {one.name}, {one.name}]
    assert len({repr((scene.state, scene.garbage)) for scene in scenes}) == 3


@pytest.mark.parametrize("modules", [['path = "one"', 'path = "two"'], ['path = "one"\ncmdline = "its own"']])
def test_two_modules_or_a_modules_command_line_are_more_than_toymon_passes_on(
    boots: Boots, recipe: Path, tmp_path: Path, modules: list[str]
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(name.encode())
    tables = "".join(f"[[payload.modules]]\n{keys}\n" for keys in modules)
    recipe.write_text(payload(KERNEL, tables + "[targets.toymon]\n"))
    with pytest.raises(pytest.fail.Exception, match="TOYMON-005"):
        boots(recipe)


def test_a_module_that_does_not_fit_is_refused(boots: Boots, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(8 << 20))
    modules = '[[payload.modules]]\npath = "large"\n'
    recipe.write_text(payload(KERNEL, modules + '[targets.toymon]\n[boot]\nmemory = "8M"\n'))
    with pytest.raises(pytest.fail.Exception, match="TOYMON-004"):
        boots(recipe)
