"""The example is held to its README: hammer boots everywhere, and each rule has an image that breaks it."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bootbuild.api import load_blob
from bootbuild.testing import Boots, Refuses, SameBytes
from bootbuild_freebsd.expected import HOWTO

HERE = Path(__file__).parents[1]
RECIPE = HERE / "recipes/hammer.toml"
KERNEL = HERE / "kernel/hammer.elf"
MONITORS = {
    "multiboot2@grub-bios",
    "pvh@cloud-hypervisor",
    "pvh@firecracker",
    "pvh@qemu",
    "pvh@qemu-microvm",
    "pvh@xen-dom0",
    "pvh@xen-domu",
}
UEFI = {"multiboot2@grub-efi64"}  # whose memory map is the firmware's
CMDLINE = b"-v boot_single=YES hw.physmem=512M"


@pytest.fixture
def image(boots: Boots) -> Path:
    """What the recipe makes."""
    return Path(boots(RECIPE).images[0].path)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Where a test writes a recipe of its own."""
    return tmp_path / "own.toml"


def payload(more: str, path: Path = KERNEL) -> str:
    return f'api = 1\n[payload]\npath = "{path}"\nguest = "freebsd"\n{more}'


def told(boots: Boots, recipe: Path, cmdline: str, profile: str = "qemu") -> list[str]:
    """What hammer prints of itself, given this command line."""
    recipe.write_text(
        payload(
            f'startup = "btext"\ncmdline = "{cmdline}"\n[targets.pvh]\nprofiles = ["{profile}"]\n'
            '[expect]\nconsole = "hammer: done"\n'
        )
    )
    ((verdict,),) = [image.verdicts for image in boots(recipe).images]
    return [line.removeprefix("hammer: ") for line in verdict.runs[0].console.decode().splitlines()]


def test_one_image_is_started_by_pvh_monitors_and_grub(boots: Boots) -> None:
    (image,) = boots(RECIPE).images
    assert {verdict.name for verdict in image.verdicts} >= MONITORS | UEFI


def test_multiboot_1_starts_it(boots: Boots, recipe: Path) -> None:
    recipe.write_text(payload('startup = "btext"\n[targets.multiboot1]\n[expect]\nreached = "mi_startup"\n'))
    boots(recipe)


def test_a_build_is_the_same_everywhere(same_bytes: SameBytes) -> None:
    assert [path.name for path in same_bytes(RECIPE)] == ["hammer-pvh+multiboot2.elf"]


def test_under_xen_pv_it_cannot_be_started(boots: Boots, recipe: Path) -> None:
    recipe.write_text(payload('startup = "btext"\n[targets.xen-pv]\n'))
    with pytest.raises(pytest.fail.Exception, match="guest freebsd cannot be entered in ring 3"):
        boots(recipe)


def test_what_hammer_finds_is_what_was_given(boots: Boots, recipe: Path) -> None:
    said = told(boots, recipe, "-v boot_single=YES hw.physmem=512M quiet")
    assert "howto 0x802" in said
    assert [line for line in said if line.startswith("env ")] == [
        "env acpi.rsdp=0x00000000000f59d0",
        "env boot_single=YES",
        "env hw.physmem=512M",
        "env quiet=1",
    ]
    assert "memory 0x0, 0x9fc00 bytes, type 0x1" in said
    assert said[-1] == "done"


@pytest.mark.parametrize(("letter", "bit"), [(letter, bit) for (letter, _), bit in HOWTO.items()])
def test_every_flag_of_the_kernels_has_a_letter(boots: Boots, recipe: Path, letter: str, bit: int) -> None:
    assert f"howto {bit:#x}" in told(boots, recipe, f"-{letter}")


@pytest.mark.parametrize(("value", "counts"), [("", True), ("=YES", True), ("=no!", True), ("=nO", False)])
def test_and_a_variable_that_counts_unless_it_is_no(
    boots: Boots, recipe: Path, value: str, counts: bool
) -> None:
    said = told(boots, recipe, " ".join(f"{variable}{value}" for _, variable in HOWTO))
    assert f"howto {sum(HOWTO.values()) if counts else 0:#x}" in said


@pytest.mark.parametrize(
    ("cmdline", "variables"),
    [
        ("", []),
        ("  a=1\\t b=  ", ["a=1", "b="]),
        ("a=1 b=2 a=3", ["b=2", "a=3"]),
        ("ab=1 a=2", ["ab=1", "a=2"]),
        ("-hS9600v -S115200", ["comconsole_speed=115200"]),
        ("acpi.rsdp=0x1000", ["acpi.rsdp=0x1000"]),
        ("x=a=b", ["x=a=b"]),
    ],
)
def test_variables_are_those_of_the_command_line(
    boots: Boots, recipe: Path, cmdline: str, variables: list[str]
) -> None:
    said = told(boots, recipe, cmdline)
    found = [line.removeprefix("env ") for line in said if line.startswith("env ")]
    assert [text for text in found if text != "acpi.rsdp=0x00000000000f59d0"] == variables


# Modules: Xen's dom0 gets one with a command line, the others one without.


def module(recipe: Path, path: Path, cmdline: str, memory: str = "512M") -> None:
    recipe.write_text(
        payload(
            f'startup = "btext"\n[[payload.modules]]\npath = "{path}"\ncmdline = "{cmdline}"\n'
            f'[targets.pvh]\nprofiles = ["xen-dom0"]\n[expect]\nreached = "mi_startup"\n'
            f'[boot]\nmemory = "{memory}"\n'
        )
    )


@pytest.mark.parametrize(
    "cmdline", ["-t md_image /usr.uzip", "/a", "-t raw  /b  one two", " /c d", "-t cpu_microcode"]
)
def test_a_modules_command_line_says_what_it_is(boots: Boots, recipe: Path, cmdline: str) -> None:
    module(recipe, RECIPE.with_name("root.img"), cmdline)
    boots(recipe)


def test_a_module_of_type_symbols_is_the_kernels_symbol_tables(
    boots: Boots, recipe: Path, tmp_path: Path
) -> None:
    tables = tmp_path / "symbols"
    subprocess.run([sys.executable, "-m", "bootbuild_freebsd.symbols", KERNEL, tables], check=True, cwd=HERE)
    module(recipe, tables, "-t symbols")
    boots(recipe)


def test_of_several_modules_each_is_what_its_command_line_says(
    boots: Boots, recipe: Path, tmp_path: Path
) -> None:
    from bootbuild_freebsd.symbols import symbol_tables

    (tmp_path / "symbols").write_bytes(symbol_tables(KERNEL.read_bytes()))
    (tmp_path / "image").write_bytes(bytes(range(256)) * 33)
    lines = {
        RECIPE.with_name("root.img"): "",
        tmp_path / "symbols": "-t symbols",
        tmp_path / "image": "-t md_image /b c",
    }
    tables = "".join(
        f'[[payload.modules]]\npath = "{path}"\ncmdline = "{line}"\n' for path, line in lines.items()
    )
    recipe.write_text(
        payload(f'startup = "btext"\n{tables}[targets.multiboot2]\n[expect]\nconsole = "hammer: done"\n')
    )
    (image,) = boots(recipe).images
    for verdict in image.verdicts:
        said = verdict.runs[0].console.decode()
        files = re.findall(r"^hammer: (file .*), at", said, re.MULTILINE)
        assert files == ["file initrd, type mfs_root", "file /b, type md_image, arguments c"]
        assert re.search(r"^hammer: symbols 0xf$", said, re.MULTILINE)


def test_on_uefi_the_map_is_the_firmwares(boots: Boots, recipe: Path) -> None:
    recipe.write_text(
        payload(
            'startup = "btext"\n[targets.multiboot2]\nprofiles = ["grub-efi64"]\n'
            '[expect]\nconsole = "EFI memory map of version 0x1, descriptors of 0x30 bytes, rest 0x0"\n'
        )
    )
    boots(recipe)


@pytest.mark.parametrize("data", [b"", b"\x7fELF\x01" + bytes(100), b"\x7fELF\x02" + bytes(100)])
def test_a_file_without_symbols_is_refused(data: bytes) -> None:
    from bootbuild_freebsd.symbols import symbol_tables

    with pytest.raises(ValueError, match=r"not an ELF64 file|stripped"):
        symbol_tables(data)


# What the stub refuses.


def stops(refuses: Refuses, image: Path, profile: str, why: str, *modules: tuple[Path, bytes]) -> None:
    verdicts = refuses(image, "BB-B005", profile=profile, modules=modules)
    assert f"bootbuild: cannot start FreeBSD: {why}\r\n".encode() in verdicts[0].runs[0].console


def test_a_kernel_that_is_not_linked_at_kernbase_is_not_started(
    boots: Boots, recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "flat.bin").write_bytes(b"\xf4")
    recipe.write_text(payload('load = "2M"\n[targets.pvh]\nprofiles = ["qemu"]\n', tmp_path / "flat.bin"))
    with pytest.raises(pytest.fail.Exception, match="not linked at KERNBASE plus where it is loaded"):
        boots(recipe)


def test_a_module_that_must_be_linked_is_not_passed_on(boots: Boots, recipe: Path) -> None:
    module(recipe, KERNEL, "-t elf /boot/kernel/zfs.ko")
    with pytest.raises(pytest.fail.Exception, match=r"HLT with interrupts off \(BB-B005\)"):
        boots(recipe)


def test_a_module_that_does_not_fit_behind_the_stubs_is_not_moved(
    refuses: Refuses, image: Path, tmp_path: Path
) -> None:
    (tmp_path / "large").write_bytes(bytes(70 << 20))
    stops(
        refuses,
        image,
        "pvh@qemu",
        "there is no room for its modules in the first GiB",
        (tmp_path / "large", b""),
    )


# What a broken stub does, and who notices.


def broken_by(image: Path, pattern: bytes, new: bytes) -> Path:
    """The image with every place that matches `pattern` changed."""
    data, count = re.subn(pattern, lambda _: new, image.read_bytes(), flags=re.DOTALL)
    assert count, f"{pattern!r} is not there"
    broken = image.with_name("broken.elf")
    broken.write_bytes(data)
    return broken


@pytest.mark.parametrize(
    ("pattern", "new", "finding", "by"),
    [
        (rb"\x89\x44\x24\x04", b"\x90" * 4, "FREEBSD-001", MONITORS | UEFI),  # mov %eax, 4(%rsp): no modulep
        (rb"elf kernel\0", b"elf module\0", "FREEBSD-001", MONITORS | UEFI),
        (rb"\x0f\x22\xd8(?=\x0f\x01)", b"\x90" * 3, "FREEBSD-002", MONITORS | UEFI),  # mov %rax, %cr3
        (rb"/boot/kernel/kernel\0", bytes(20), "FREEBSD-003", MONITORS | UEFI),
        (rb"\xbf\x02\x80\0\0", b"\xbf\x0f\x80\0\0", "FREEBSD-003", MONITORS | UEFI),  # MODINFOMD_ELFHDR
        (rb"\xbf\x01\x90\0\0", b"\xbf\x02\x90\0\0", "FREEBSD-004", MONITORS),  # MODINFOMD_SMAP
        (rb"\xbf\x04\x90\0\0", b"\xbf\x14\x90\0\0", "FREEBSD-004", UEFI),  # MODINFOMD_EFI_MAP
        (rb"boot_single", b"boot_singel", "FREEBSD-005", MONITORS | UEFI),
        (rb"\x89\x44\x24\x08(?=\x31)", b"\x90" * 4, "FREEBSD-007", MONITORS | UEFI),  # mov %eax, 8(%rsp)
        (rb"\x48\x8b\x73\x60", b"\x48\x8b\x73\x20", "FREEBSD-008", MONITORS | UEFI),  # `data`
        (rb"\xbf\x0c\x80\0\0", b"\xbf\x1c\x80\0\0", "FREEBSD-008", UEFI),  # MODINFOMD_FW_HANDLE
    ],
)
def test_a_broken_back_stub_is_found_wherever_it_shows(
    refuses: Refuses, image: Path, pattern: bytes, new: bytes, finding: str, by: set[str]
) -> None:
    verdicts = refuses(broken_by(image, pattern, new), finding, cmdline=CMDLINE)
    assert {verdict.name for verdict in verdicts if verdict.findings} & (MONITORS | UEFI) == by


APPLICATION = payload(
    'startup = "btext"\n[targets.efi]\nprofiles = ["vga"]\n[expect]\nreached = "mi_startup"\n'
)


def test_a_screen_arrives_where_there_is_one(boots: Boots, recipe: Path) -> None:
    recipe.write_text(APPLICATION)
    boots(recipe)


def test_and_is_missed_where_the_stub_says_nothing_of_it(
    boots: Boots, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a UEFI application the stub is broken before it is packed."""
    whole = load_blob("bootbuild_freebsd", "freebsd_back")
    text = whole.text.replace(b"\xbf\x05\x90\0\0", b"\xbf\x15\x90\0\0")  # MODINFOMD_EFI_FB
    assert text != whole.text
    monkeypatch.setattr("bootbuild_freebsd.guest.load_blob", lambda *_: replace(whole, text=text))
    recipe.write_text(APPLICATION)
    with pytest.raises(pytest.fail.Exception, match="FREEBSD-009"):
        boots(recipe)


def test_a_root_pointer_of_another_name_is_found_where_there_is_one(refuses: Refuses, image: Path) -> None:
    verdicts = refuses(broken_by(image, rb"acpi\.rsdp", b"acpi.rsdq"), "FREEBSD-005")
    silent = {verdict.name for verdict in verdicts if not verdict.findings}
    assert silent & MONITORS == {"pvh@firecracker"}  # which gives none


@pytest.mark.parametrize(
    ("pattern", "new"),
    [
        (rb"mfs_root\0", b"mfs_toor\0"),
        (rb"initrd\0", b"initrx\0"),
    ],
)
def test_a_stub_that_says_something_else_of_a_module_is_found(
    refuses: Refuses, image: Path, pattern: bytes, new: bytes
) -> None:
    modules = [(RECIPE.with_name("root.img"), b"")]
    refuses(broken_by(image, pattern, new), "FREEBSD-006", profile="pvh", modules=modules)


def test_symbols_that_do_not_arrive_are_found(refuses: Refuses, image: Path) -> None:
    broken = broken_by(image, rb"\xbf\x03\x80\0\0", b"\xbf\x13\x80\0\0")  # MODINFOMD_SSYM
    modules = [(KERNEL, b"-t symbols")]
    refuses(broken, "FREEBSD-006", profile="pvh@xen-dom0", modules=modules)
