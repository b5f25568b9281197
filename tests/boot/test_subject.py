"""What a boot has to reach: named by a symbol, an address, the image itself; BB-E080 to BB-E083 if not."""

from __future__ import annotations

import re
import struct
import time
from dataclasses import replace
from pathlib import Path

import pytest

import tiny_guest
from bootbuild.boot.subject import RULES, find_startup, request_subject
from bootbuild.errors import InputError
from bootbuild.host import Host
from bootbuild.model.payload import ElfImage, Payload, Segment, Startup
from bootbuild.model.request import BootRequest
from bootbuild.pipeline import build, read_payloads
from bootbuild.recipe.overrides import Overrides
from bootbuild.recipe.read import read

KERNEL = 0xFFFFFFFF80000000  #: where code is linked that is loaded at 1 MiB


@pytest.fixture
def image() -> ElfImage:
    """Code linked high and loaded low, data that is not executable, a note segment."""
    guest = tiny_guest.image_of(tiny_guest.guest())
    code = Segment(1, 5, 0x1000, KERNEL + 0x100000, 0x100000, 0x1000, 0x2000, 0x1000)
    data = Segment(1, 6, 0x2000, KERNEL + 0x200000, 0x200000, 0x1000, 0x1000, 0x1000)
    symbols = {"startup_64": KERNEL + 0x100010, "table": KERNEL + 0x200000, "absent": 0x5}
    return replace(guest, name="vmlinux", segments=(code, data), symbols=symbols)


@pytest.mark.parametrize(
    ("asked", "width", "startup"),
    [
        ("startup_64", None, Startup("startup_64", KERNEL + 0x100010, 0x100010, 64)),
        ("startup_64", 32, Startup("startup_64", KERNEL + 0x100010, 0x100010, 32)),
        (KERNEL + 0x101FFF, None, Startup("0xffffffff80101fff", KERNEL + 0x101FFF, 0x101FFF, 64)),
        (0x100020, None, Startup("0x100020", KERNEL + 0x100020, 0x100020, 64)),
    ],
    ids=["symbol", "width", "linked", "physical"],
)
def test_a_startup_path_is_found(
    image: ElfImage, asked: str | int, width: int | None, startup: Startup
) -> None:
    assert find_startup(image, asked, width) == startup


@pytest.mark.parametrize(
    ("asked", "rule", "message"),
    [
        (None, "BB-E080", "nothing says where the startup path is"),
        ("startup", "BB-E080", "there is no symbol 'startup'"),
        ("absent", "BB-E081", "absent (0x5) is in no executable PT_LOAD segment"),
        ("table", "BB-E081", "table (0xffffffff80200000) is in no executable PT_LOAD segment"),
        (0x200000, "BB-E081", "0x200000 (0xffffffff80200000) is in no executable PT_LOAD segment"),
        (0x102000, "BB-E081", "0x102000 is in no executable PT_LOAD segment"),
        (0, "BB-E081", "0x0 is in no executable PT_LOAD segment"),
        ((1 << 64) - 1, "BB-E081", "0xffffffffffffffff is in no executable PT_LOAD"),
    ],
    ids=["nothing", "no symbol", "a constant", "data", "data by address", "past the end", "0", "2^64-1"],
)
def test_a_startup_path_that_is_not_there(
    image: ElfImage, asked: str | int | None, rule: str, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        find_startup(image, asked, None)
    (problem,) = caught.value.problems
    assert (problem.rule.id, problem.where) == (rule, "vmlinux")
    assert problem.message.startswith(message)


@pytest.mark.parametrize(
    ("guest", "said"),
    [("native", "startup path is"), ("pvh", "startup path is: the file has no entry of guest pvh either")],
)
def test_where_it_was_looked_for_is_told(image: ElfImage, guest: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"{said} (BB-E080)")):
        find_startup(image, None, None, Host.discover().guest(guest))


def test_the_nearest_symbol_is_suggested_and_the_recipes_place_named(image: ElfImage) -> None:
    many = replace(image, symbols={**image.symbols, **{f"sys_{n}": n for n in range(100_000)}})
    began = time.process_time()
    for asked, remedy in (("startup_46", "did you mean 'startup_64'?"), ("xstartup", ""), ("sys_x", "")):
        with pytest.raises(InputError) as caught:
            find_startup(many, asked, None, where="r.toml:5: payload.startup")
        (problem,) = caught.value.problems
        assert problem.where == "r.toml:5: payload.startup"
        assert problem.remedy == remedy or (asked == "sys_x" and "'sys_" in problem.remedy)
    assert time.process_time() - began < 3


def test_an_address_is_of_the_file_and_moves_with_it_a_symbol_is_of_the_image(image: ElfImage) -> None:
    for asked, name in ((KERNEL + 0xFF020, "0xffffffff800ff020"), (0xFF020, "0xff020")):
        moved = find_startup(image, asked, None, moved=0x1000)
        assert moved == Startup(name, KERNEL + 0x100020, 0x100020, 64, load_offset=0x1000)
    assert find_startup(image, "startup_64", None, moved=0x1000).paddr == 0x100010
    with pytest.raises(InputError, match=r"0x100000 \(0xff000\) is in no executable PT_LOAD segment"):
        find_startup(image, 0x100000, None, moved=-0x1000)


@pytest.mark.parametrize(
    "asked", ["startup_64", KERNEL + 0x100010, 0x100010], ids=["name", "linked", "loaded"]
)
def test_an_address_that_two_segments_share_is_no_startup_path(image: ElfImage, asked: str | int) -> None:
    code, data = image.segments
    other = replace(code, paddr=0x300000)
    said = r"in two PT_LOAD segments, loaded at 0x100000-0x102000 and 0x300000-0x302000 \(BB-E082\)"
    with pytest.raises(InputError, match=said):
        find_startup(replace(image, segments=(code, data, other)), asked, None)
    elsewhere = replace(data, paddr=0x300000)  # nobody asks where data is
    find_startup(replace(image, segments=(code, data, elsewhere)), asked, None)


def startup_of(
    path: Path, until: str | None, width: int | None = None, guest: str | None = None, target: str = "pvh"
) -> Startup:
    request = BootRequest(path, (f"{target}@qemu",), until, width, guest=guest)
    return request_subject(request, Host.discover(), 1, 1.0).startup


def linux(data: bytes, entry: int) -> bytes:
    """The tiny guest with the note of a Linux kernel behind Xen's, and another e_entry."""
    out = bytearray(data)
    note = struct.pack("<III8sI", 6, 4, 0x101, b"Linux\0\0\0", 0)
    at, size = (struct.unpack_from("<Q", out, 64 + 56 + field)[0] for field in (8, 32))
    out[at + size : at + size + len(note)] = note
    struct.pack_into("<QQ", out, 64 + 56 + 32, size + len(note), size + len(note))
    struct.pack_into("<Q", out, 24, entry)
    return bytes(out)


def test_an_image_of_bootbuilds_names_it_itself(tmp_path: Path, hello64: Path) -> None:
    recipe = read(hello64.parent / "hello.toml", Host.discover(), Overrides(output=str(tmp_path)))
    made = Path(build(recipe, Host.discover()).images[0].path)
    path = Startup("startup_64", KERNEL + 0x100000, 0x100000, 64)
    assert startup_of(made, None) == startup_of(made, "startup_64") == path


def test_a_records_width_is_that_of_its_startup_path_alone(tmp_path: Path, hello64: Path) -> None:
    recipe = read(hello64.parent / "hello32.toml", Host.discover(), Overrides(output=str(tmp_path)))
    made = Path(build(recipe, Host.discover()).images[0].path)
    path = startup_of(made, None)
    assert path.width == startup_of(made, hex(path.paddr)).width == 32
    assert startup_of(made, hex(path.paddr + 16)).width == 64


@pytest.mark.parametrize("until", [None, hex(tiny_guest.STARTUP), "console:x"])
def test_its_width_may_be_said(tmp_path: Path, until: str | None) -> None:
    (tmp_path / "vmlinux").write_bytes(linux(tiny_guest.guest(), tiny_guest.STARTUP))
    assert [startup_of(tmp_path / "vmlinux", until, width).width for width in (None, 32)] == [64, 32]


def test_a_linux_kernel_has_it_at_its_entry(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(linux(tiny_guest.guest(), tiny_guest.STARTUP))
    assert startup_of(tmp_path / "vmlinux", None) == Startup(
        "startup_64", tiny_guest.STARTUP, tiny_guest.STARTUP, 64
    )


@pytest.mark.parametrize(
    ("target", "entry", "key", "name"),
    [
        ("pvh", "native", "", "startup_64"),
        ("pvh", "insert", "", "startup_64"),
        ("pvh", "native", "width = 32", "startup_32"),
        ("linux", "native", "", "startup_64"),
        ("xen-pv", "insert", "", "startup_64"),
    ],
)
def test_nor_need_its_recipe_name_it(tmp_path: Path, target: str, entry: str, key: str, name: str) -> None:
    (tmp_path / "vmlinux").write_bytes(linux(tiny_guest.guest(), tiny_guest.STARTUP))
    payload = payload_of(tmp_path, target, entry, key)
    width = int(name[-2:])
    assert payload.startup == Startup(name, tiny_guest.STARTUP, tiny_guest.STARTUP, width, "physical")


def test_but_where_its_entry_joins_the_others_by_a_symbol_that_it_has_not(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(linux(tiny_guest.guest(), tiny_guest.STARTUP))
    for entry in ("native", "chain"):
        with pytest.raises(InputError, match=r"nothing says where the startup path is \(BB-E080\)"):
            payload_of(tmp_path, "xen-pv", entry)


def test_a_linux_of_another_guest_does_not_say(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(linux(tiny_guest.guest(), tiny_guest.STARTUP))
    with pytest.raises(InputError, match="BB-E080"):
        payload_of(tmp_path, "pvh", "native", 'guest = "native"')


def payload_of(folder: Path, target: str, entry: str, key: str = "") -> Payload:
    """What a recipe for the kernel `vmlinux`, which names no startup path, makes of it."""
    recipe = folder / "recipe.toml"
    recipe.write_text(f"""
        api = 1
        [payload]
        path = "vmlinux"
        {key}
        [targets.{target}]
        entry = "{entry}"
    """)
    host = Host.discover()
    return read_payloads(read(recipe, host), host)[target]


def test_a_linux_kernel_whose_entry_is_in_no_segment(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(linux(tiny_guest.guest(), 5))
    with pytest.raises(InputError, match=r"0x5 is in no executable PT_LOAD segment \(BB-E081\)"):
        startup_of(tmp_path / "vmlinux", None)


def test_any_other_file_does_not_say(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(tiny_guest.guest())
    with pytest.raises(InputError, match=r"does not say where its startup path is \(BB-E080\)") as caught:
        startup_of(tmp_path / "kernel", None)
    assert "is entered where the file says: `--guest pvh`" in caught.value.problems[0].remedy


def test_its_entry_stands_for_it_when_the_console_is_all_that_is_asked(tmp_path: Path) -> None:
    data = tiny_guest.guest()
    (tmp_path / "kernel").write_bytes(data)
    entry = Startup("entry", tiny_guest.ENTRY, tiny_guest.ENTRY, 0)
    assert startup_of(tmp_path / "kernel", "console:x") == entry


@pytest.mark.parametrize("target", ["pvh", "multiboot1", "multiboot2"])
def test_without_an_entry_its_loaders_are_asked_and_say_why(tmp_path: Path, target: str) -> None:
    (tmp_path / "kernel").write_bytes(tiny_guest.guest().replace(b"Xen\0", b"Xem\0"))
    request = BootRequest(tmp_path / "kernel", (f"{target}@any",), "console:x")
    subject = request_subject(request, Host.discover(), 1, 1.0)
    assert (subject.startup, subject.from_entry) == (Startup("entry", 0, 0, 0), True)


@pytest.mark.parametrize("until", [None, "console:x"])
def test_a_guest_whose_kernels_describe_themselves_knows_it(tmp_path: Path, until: str | None) -> None:
    (tmp_path / "kernel").write_bytes(tiny_guest.guest())
    entry = Startup(f"{tiny_guest.ENTRY:#x}", tiny_guest.ENTRY, tiny_guest.ENTRY, 32, "physical")
    assert startup_of(tmp_path / "kernel", until, guest="pvh") == entry


@pytest.mark.parametrize(
    ("guest", "said"),
    [
        ("native", ", where guest native is judged (BB-E080)"),
        ("multiboot2", ", where guest multiboot2 is judged (BB-E080)"),
    ],
)
def test_why_the_entry_cannot_stand_for_it(tmp_path: Path, guest: str, said: str) -> None:
    (tmp_path / "kernel").write_bytes(tiny_guest.guest())
    with pytest.raises(InputError, match=re.escape(said)):
        startup_of(tmp_path / "kernel", "console:x", guest=guest)


def test_an_image_without_an_entry_has_one_made(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(tiny_guest.guest())
    with pytest.raises(InputError) as caught:
        startup_of(tmp_path / "kernel", None, target="linux")
    assert caught.value.problems[0].remedy == "have an entry made, by a recipe with [targets.linux]"


def test_these_are_all_the_rules_of_the_module() -> None:
    assert [rule.id for rule in RULES] == ["BB-E080", "BB-E081", "BB-E082", "BB-E083"]
