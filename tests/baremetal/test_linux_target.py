"""Target `linux`: what a recipe may ask of it, what it refuses, and what it says of an image."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest

from bootbuild.boot.subject import find_startup
from bootbuild.containers import container
from bootbuild.errors import RecipeError, RefusedError
from bootbuild.formats.elf_read import read_elf
from bootbuild.formats.payload import open_payload, read_payload
from bootbuild.guests.native import Native
from bootbuild.host import Host
from bootbuild.model.content import MemoryContent
from bootbuild.model.contribution import Contribution
from bootbuild.model.payload import ElfImage, Payload
from bootbuild.recipe.overrides import Overrides
from bootbuild.recipe.read import read
from bootbuild_baremetal.linux_options import LinuxOptions
from bootbuild_baremetal.linux_target import Linux
from bootbuild_baremetal.options import Options2
from bootbuild_baremetal.targets import Multiboot2
from bootbuild_pvh.guests import PvhGuest
from bootbuild_pvh.targets import Pvh
from tiny_bzimage import bzimage
from tiny_guest import ENTRY, STARTUP, guest

PAGE = Path(__file__).resolve().parents[2] / "docs/linux.md"
TARGET = Linux()


@pytest.fixture
def payload(hello64: Path) -> Payload:
    opened = open_payload(hello64)
    startup = find_startup(opened.elf, "startup_64", 64, Native())
    return Payload(opened.elf, str(hello64), "elf", opened.digest, "native", startup)


def refused(make: Callable[[], Contribution]) -> tuple[str, str]:
    with pytest.raises(RefusedError) as caught:
        make()
    (problem,) = caught.value.problems
    return problem.rule.id, problem.message


def test_a_guest_that_no_stub_can_enter_is_refused(payload: Payload) -> None:
    assert refused(lambda: TARGET.contribute(payload, PvhGuest(), LinuxOptions())) == (
        "BB-L401",
        "guest pvh cannot be entered by a stub at width 64",
    )


def test_an_elf_file_has_no_pvh_note_of_the_kernels(payload: Payload) -> None:
    """Firecracker takes that first; in a bzImage nobody looks at it."""
    raw = guest()
    own = replace(payload, elf=read_elf(MemoryContent(raw), "kernel.elf"))
    startup = find_startup(own.elf, STARTUP, 64, Native())
    own = replace(own, startup=startup)
    assert refused(lambda: TARGET.contribute(own, Native(), LinuxOptions(container="elf"))) == (
        "BB-L406",
        f"the kernel's own PVH note leads to {ENTRY:#x}",
    )
    assert TARGET.contribute(own, Native(), LinuxOptions()).hands_over


def test_native_wants_a_bzimage(payload: Payload) -> None:
    text = "the payload is no bzImage but elf"
    assert refused(lambda: TARGET.native(payload, Native(), LinuxOptions())) == ("BB-L402", text)


def test_there_is_nothing_to_chain(payload: Payload) -> None:
    rule, _ = refused(lambda: TARGET.chain(payload, Native(), LinuxOptions()))
    assert rule == "BB-L403"


@pytest.mark.parametrize(
    "options",
    [
        LinuxOptions(container="elf"),
        LinuxOptions(compress="lz4"),
        LinuxOptions(cmdline_size=100),
        LinuxOptions(initrd_addr_max=0x1FFFFFFF),
    ],
    ids=lambda options: next(k for k, v in vars(options).items() if v != vars(LinuxOptions())[k]),
)
def test_keys_of_an_inserted_bzimage_are_none_of_a_kernels_own(
    payload: Payload, options: LinuxOptions
) -> None:
    own = replace(payload, format="bzimage (xz)")
    rule, message = refused(lambda: TARGET.native(own, Native(), options))
    assert rule == "BB-L404"
    assert message.endswith("the bzImage is the kernel's own; only `header` is read")


def test_header_is_of_a_kernels_own(payload: Payload) -> None:
    options = LinuxOptions(header={"root_flags": 1})
    assert refused(lambda: TARGET.contribute(payload, Native(), options)) == (
        "BB-L405",
        "header: root_flags: an inserted header has keys of its own",
    )


WRONG = {
    "cmdline_size = 0": "cmdline_size: is 0, not between 1 and 8191",
    "cmdline_size = 8192": "cmdline_size: is 8192, not between 1 and 8191",
    "initrd_addr_max = 0": "initrd_addr_max: is 0x0, not between 1 MiB and 4 GiB",
    'container = "elf"\ncompress = "lz4"': "compress: is of a bzImage: an ELF file is loaded as it is",
    "header = { root_flags = -1 }": "header: has a negative root_flags",
}


@pytest.mark.parametrize(("text", "message"), WRONG.items(), ids=WRONG)
def test_a_wrong_value_is_told_with_its_key(hello64: Path, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f"""
        api = 1
        [payload]
        path = {json.dumps(str(hello64))}
        startup = "startup_64"
        [targets.linux]
        {text}
    """)
    with pytest.raises(RecipeError) as caught:
        read(path, Host.discover(), Overrides())
    (problem,) = caught.value.problems
    assert f"targets.linux.{message}" in str(problem)


def written(payload: Payload, options: LinuxOptions, path: Path, *others: Contribution) -> ElfImage:
    made = TARGET.contribute(payload, Native(), options)
    holder = container(made.container)
    content = holder.write(payload, holder.lay_out(payload, [made, *others]), path)
    return read_payload(content, str(path))[0]


def test_the_entry_of_a_bzimage_is_where_loaders_put_it(payload: Payload, tmp_path: Path) -> None:
    image = written(payload, LinuxOptions(), tmp_path / "image")
    assert image.packing is not None
    assert TARGET.entry_of(image) == 0x100000  # not relocatable: code32_start
    other = replace(image, packing=MemoryContent(bzimage(b"", None)))
    assert TARGET.entry_of(other) == 0x1000000  # relocatable: pref_address
    assert TARGET.entry_of(replace(image, packing=MemoryContent(bytes(0x1000)))) is None


def test_an_elf_file_has_its_64_bit_entry_at_a_physical_e_entry(payload: Payload, tmp_path: Path) -> None:
    image = written(payload, LinuxOptions(container="elf"), tmp_path / "image")
    assert image.packing is None
    assert TARGET.entry_of(image) == image.entry
    assert any(image.entry in segment.physical for segment in image.loads)
    assert TARGET.entry_of(payload.elf) is None  # nobody made it for this


def test_it_shares_an_elf_file_with_pvh(payload: Payload, tmp_path: Path) -> None:
    pvh = Pvh().contribute(payload, Native(), None)
    image = written(payload, LinuxOptions(container="elf"), tmp_path / "image", pvh)
    assert None not in (TARGET.entry_of(image), Pvh().entry_of(image))


def test_but_with_multiboot2_only_where_e_entry_is_linked_too(payload: Payload, tmp_path: Path) -> None:
    """GRUB wants e_entry in a PT_LOAD by p_vaddr; hello is linked in the upper half."""
    multiboot2 = Multiboot2().contribute(payload, Native(), Options2())
    made = TARGET.contribute(payload, Native(), LinuxOptions(container="elf"))
    with pytest.raises(RefusedError) as caught:
        container("elf").lay_out(payload, [made, multiboot2])
    assert [problem.rule.id for problem in caught.value.problems] == ["BB-W013"]


def test_and_where_it_is_linked_where_it_is_loaded(hello32: Path, tmp_path: Path) -> None:
    opened = open_payload(hello32)
    startup = find_startup(opened.elf, "startup_32", 32, Native())
    payload = Payload(opened.elf, str(hello32), "elf", opened.digest, "native", startup)
    if any(segment.vaddr != segment.paddr for segment in opened.elf.loads):
        pytest.fail("hello32 is not linked where it is loaded any more")
    multiboot2 = Multiboot2().contribute(payload, Native(), Options2())
    image = written(payload, LinuxOptions(container="elf"), tmp_path / "image", multiboot2)
    assert None not in (TARGET.entry_of(image), Multiboot2().entry_of(image))


def test_a_bzimage_is_not_shared(payload: Payload, tmp_path: Path) -> None:
    pvh = Pvh().contribute(payload, Native(), None)
    with pytest.raises(RefusedError) as caught:
        written(payload, LinuxOptions(), tmp_path / "image", pvh)
    assert [problem.rule.id for problem in caught.value.problems] == ["BB-W006"]


def test_every_key_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (?:table|text|integer) \| `?(.*?)`? \|", text, re.MULTILINE))
    said = {field.name: getattr(LinuxOptions(), field.name) for field in fields(LinuxOptions)}
    assert {name: value if value == "{}" else json.loads(value) for name, value in rows.items()} == {
        name: "{}" if value == {} else value for name, value in said.items()
    }
