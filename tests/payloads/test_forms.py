"""A kernel in whatever form: made into an image that says the same in the emulator and in QEMU."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import monitors
from bootbuild.boot.subject import request_subject
from bootbuild.host import Host
from bootbuild.model.payload import Startup
from bootbuild.model.request import BootRequest
from bootbuild.model.verdict import Outcome
from bootbuild.pipeline import boot, read_payloads
from bootbuild.recipe.read import read
from oracle import run_until
from recipe_text import build_text
from workshop import HIGH, Workshop

CMDLINE = "greeting=whatever-form"
Make = Callable[[Workshop], Path]

#: name → how it is made, keys of [payload], what the record says was done to it
FORMS: dict[str, tuple[Make, Sequence[str], str]] = {
    "elf64": (lambda w: w.plain("elf64", 64), (), ""),
    "elf32": (lambda w: w.plain("elf32", 32), (), ""),
    "elf32 as elf64": (
        lambda w: w.plain("elf32-64", 32),
        ("elf_class = 64",),
        "ELF32 wrapped as ELF64",
    ),
    "stripped": (
        lambda w: w.copy("stripped", w.plain("whole", 64), "--strip-all"),
        (f"startup = '{HIGH + 0x100000:#x}'",),
        "",
    ),
    "headers below 1 MiB": (lambda w: w.textbook("textbook", 64), (), ""),
    "with PT_PHDR": (
        lambda w: w.plain(
            "phdr",
            64,
            TABLE_ITSELF="headers PT_PHDR PHDRS; ",
            START="0x100000 + SIZEOF_HEADERS",
            FIRST="FILEHDR PHDRS",
        ),
        (),
        "",
    ),
    "LMA = VMA": (
        lambda w: w.plain("lma", 64, LMA=""),
        (f"paddr_offset = '{HIGH:#x}'",),
        f"p_paddr of 2 segments set to p_vaddr - {HIGH:#x}",
    ),
    "static PIE, 64-bit, RELA": (
        lambda w: w.pie("pie64", 64),
        (),
        "moved from 0x0 to 0x200000, N relative relocations applied",
    ),
    "static PIE, 32-bit, REL": (
        lambda w: w.pie("pie32", 32),
        (),
        "moved from 0x0 to 0x200000, N relative relocations applied",
    ),
    "static PIE, RELR": (
        lambda w: w.pie("relr", 64, "-z", "pack-relative-relocs"),
        (),
        "moved from 0x0 to 0x200000, N relative relocations applied",
    ),
    "static PIE where it is told": (
        lambda w: w.pie("told", 64),
        ("load = '16M'",),
        "moved from 0x0 to 0x1000000, N relative relocations applied",
    ),
    "static PIE, stripped, by its address in the file": (
        lambda w: w.copy("pie-bare", w.pie("pie-whole", 64, START="0x1000"), "--strip-all"),
        ("startup = '0x1000'",),
        "moved from 0x1000 to 0x201000, N relative relocations applied",
    ),
    "static PIE linked where it is loaded": (
        lambda w: w.pie("dyn", 64, START="0x100000"),
        (),
        "N relative relocations applied",
    ),
    "raw, 32-bit": (
        lambda w: w.copy("raw32", w.plain("to-raw32", 32), "-O", "binary"),
        ("load = '1M'", "bss = '64K'", "width = 32", "startup = '1M'"),
        "",
    ),
}


ELFCLASS32 = b"\x7fELF\x01"
REFUSED_BY = {"headers below 1 MiB": ("xen-dom0",)}  # no RAM in Xen's map of the host
REFUSE_ELF32 = ("firecracker", "cloud-hypervisor")


def width_of(name: str) -> int:
    return 32 if "32" in name else 64


def recipe(path: Path, keys: Sequence[str], width: int, entry: str = "insert") -> str:
    named = any(key.startswith("startup") for key in keys)
    lines = [
        "api = 1",
        "[payload]",
        f"path = {json.dumps(str(path))}",
        f"cmdline = '{CMDLINE}'",
        *keys,
        *([] if named else [f"startup = 'startup_{width}'"]),
        "[targets.pvh]",
        f"entry = '{entry}'",
        "[expect]",
        "console = 'hello: done'",
    ]
    return "\n".join(lines)


#: Says "hello: done" if its ELF header in memory leads to a table that begins with a PT_LOAD of this kernel.
SELF_READER = """
    .section .text.start, "ax"
    .globl startup_64
startup_64:
    lea __ehdr_start(%rip), %rbx
    lea wrong(%rip), %rsi
    movzwl 56(%rbx), %ecx       # e_phnum
    cmp $2, %ecx
    jne 1f
    mov 32(%rbx), %rax          # e_phoff
    cmpl $1, (%rbx, %rax)       # p_type
    jne 1f
    cmp %rbx, 16(%rbx, %rax)    # p_vaddr
    jne 1f
    lea right(%rip), %rsi
1:  mov $0x3f8, %edx
2:  lodsb
    test %al, %al
    jz 3f
    out %al, %dx
    jmp 2b
3:  cli
    hlt
    jmp 3b
right: .asciz "hello: done\\n"
wrong: .asciz "FAILED: no program headers\\n"
    .data
    .quad 0
"""


def test_a_kernel_that_reads_its_own_program_headers_finds_those_that_it_was_linked_with(
    workshop: Workshop, qemu: Path, tmp_path: Path
) -> None:
    (workshop.folder / "self.S").write_text(SELF_READER)
    workshop.run("gcc", "-c", "-o", "self.o", "self.S")
    kernel = workshop.link(
        "self", 64, [workshop.folder / "self.o"], START="0x100000 + SIZEOF_HEADERS", FIRST="FILEHDR PHDRS"
    )
    text = recipe(kernel, ("guest = 'native'",), 64).replace("[expect]", "profiles = ['qemu']\n[expect]")
    (image,) = build_text(text, tmp_path).images
    assert [verdict.outcome for verdict in image.verdicts] == [Outcome.BOOTED], image.verdicts
    transcript = run_until(monitors.qemu_kernel(qemu, Path(image.path)), ["^hello: done"], fail=["FAILED"])
    assert transcript.reached, str(transcript)


def test_symbols_of_a_system_map_move_with_a_pie_but_absolute_ones_do_not(
    workshop: Workshop, tmp_path: Path
) -> None:
    kernel = workshop.pie("mapped", 64, "--defsym=in_the_way=0x1008", START="0x1000")
    done = subprocess.run(["nm", "-n", kernel], capture_output=True, text=True, check=True)
    assert "0000000000001008 A in_the_way\n" in done.stdout
    assert "0000000000001000 T startup_64\n" in done.stdout
    (tmp_path / "System.map").write_text(done.stdout)
    bare = workshop.copy("mapped-bare", kernel, "--strip-all")
    host = Host.discover()
    for path, keys in ((kernel, ()), (bare, ("symbols = 'System.map'",))):
        (tmp_path / "recipe.toml").write_text(recipe(path, keys, 64))
        payload = read_payloads(read(tmp_path / "recipe.toml", host), host)["pvh"]
        assert payload.startup == Startup("startup_64", 0x201000, 0x201000, 64, load_offset=0x200000)
        assert payload.elf.symbols["in_the_way"] == 0x1008
        assert dict(payload.elf.symbols)["startup_64"] == 0x201000
    # an image says by how much it was moved: what is asked of it later goes by the same map
    built = Path(build_text(recipe(path, keys, 64), tmp_path).images[0].path)
    request = BootRequest(built, ("pvh@qemu",), "startup_64", symbols=tmp_path / "System.map")
    assert request_subject(request, host, 1, 1.0).startup.paddr == 0x201000


@pytest.mark.parametrize("load", ["1M", "4M"], ids=["down", "up"])
def test_symbols_of_a_system_map_move_with_the_image_of_a_pie(
    load: str, workshop: Workshop, tmp_path: Path
) -> None:
    kernel = workshop.pie(f"image-{load}", 64, START="0x200000")
    done = subprocess.run(["nm", "-n", kernel], capture_output=True, text=True, check=True)
    (tmp_path / "System.map").write_text(done.stdout)
    text = recipe(kernel, (f"load = '{load}'",), 64)
    (image,) = build_text(text.replace("[expect]", "profiles = ['qemu']\n[expect]"), tmp_path).images
    place = {"1M": "0x100000", "4M": "0x400000"}[load]
    for until in ("startup_64", place, None):
        request = BootRequest(Path(image.path), ("pvh@qemu",), until, symbols=tmp_path / "System.map")
        (verdict,) = boot(request, Host.discover())
        reached = until or "startup_64"
        assert (verdict.outcome, verdict.reached, verdict.findings) == (Outcome.BOOTED, reached, ())


@pytest.mark.parametrize("name", FORMS)
def test_every_form_boots_and_says_the_same_in_qemu(
    name: str, workshop: Workshop, qemu: Path, tmp_path: Path
) -> None:
    make, keys, changes = FORMS[name]
    record = build_text(recipe(make(workshop), keys, width_of(name)), tmp_path)
    assert re.sub(r"\b[1-9][0-9]* relative", "N relative", ", ".join(record.payload_changes)) == changes
    (image,) = record.images
    assert image.verdicts
    elf32 = Path(image.path).read_bytes()[:5] == ELFCLASS32
    refused = REFUSE_ELF32 if elf32 else REFUSED_BY.get(name, ())
    for verdict in image.verdicts:
        if verdict.profile in refused:
            assert verdict.outcome is Outcome.REFUSED
            continue
        assert verdict.outcome is Outcome.BOOTED, (verdict.name, verdict.findings)
    emulated = next(v for v in image.verdicts if v.profile == "qemu").runs[0].console.decode()
    assert f"cmdline {CMDLINE}" in emulated
    transcript = run_until(
        monitors.qemu_kernel(qemu, Path(image.path), cmdline=CMDLINE), ["^hello: done"], fail=["FAILED"]
    )
    assert transcript.reached, str(transcript)
    assert emulated.replace("\r", "").strip() in transcript.text


@pytest.mark.parametrize("width", [64, 32])
def test_a_structure_in_the_kernels_bss_is_copied_before_that_is_cleared(
    width: int, workshop: Workshop, tmp_path: Path
) -> None:
    """Both monitors put start_info at 0x6000, the map at 0x7000: in the .bss of a kernel at 4 KiB."""
    kernel = workshop.plain(f"low{width}", width, START="0x1000")
    text = recipe(kernel, ("elf_class = 64",), width)
    profiles = "profiles = ['firecracker', 'cloud-hypervisor']\n[expect]"
    (image,) = build_text(text.replace("[expect]", profiles), tmp_path).images
    for verdict in image.verdicts:
        assert (verdict.outcome, verdict.findings) == (Outcome.BOOTED, ())
        assert verdict.handover is not None
        stub = verdict.handover["stub"]
        base, size = int(stub["base"], 16), int(stub["size"], 16)
        assert int(verdict.handover["data"], 16) in range(base, base + size)
