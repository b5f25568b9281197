"""hello in every form that a kernel comes in: built here from its own sources, by gcc, ld and objcopy."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from bootbuild.stubs.sources import include_directory

FLAGS = (
    "-Os -std=gnu11 -ffreestanding -mgeneral-regs-only -mno-red-zone -fno-stack-protector "
    "-fcf-protection=none -fno-asynchronous-unwind-tables -fno-strict-aliasing -fno-ident "
    "-fno-tree-loop-distribute-patterns -Wa,--noexecstack,-mx86-used-note=no"
).split()
CODE = {64: ["-m64", "-fno-pic", "-fno-pie", "-mcmodel=kernel"], 32: ["-m32", "-fno-pic", "-fno-pie"]}
PIE = {64: ["-m64", "-fPIE"], 32: ["-m32", "-fPIE"]}
EMULATION = {64: "elf_x86_64", 32: "elf_i386"}
HIGH = 0xFFFFFFFF80000000

#: The startup path of the static PIE reaches hello through a pointer, which only a relocation makes right.
PIE_START = """
    .section .text.start, "ax"
#ifdef __x86_64__
    .globl startup_64
startup_64:
    mov %rsp, %rdx
    pushfq
    popq %rcx
    call *pointer(%rip)
#else
    .globl startup_32
startup_32:
    mov %esp, %eax
    pushfl
    popl %edx
    pushl %edx
    pushl %eax
    pushl 8(%eax)
    pushl 4(%eax)
    call 1f
1:  popl %ecx
    call *(pointer - 1b)(%ecx)
#endif
2:  cli
    hlt
    jmp 2b
    .section .data.rel.ro, "aw"
    .balign 8
#ifdef __x86_64__
pointer: .quad hello
#else
pointer: .long hello
#endif
"""

SCRIPT = """
ENTRY(hello_entry)
PHDRS { TABLE_ITSELF text PT_LOAD FIRST FLAGS(5); data PT_LOAD FLAGS(6); DYNAMIC }
SECTIONS {
  . = OFFSET + START;
  .text : LMA(.text) { KEEP(*(.text.start)) *(.text .text.*) *(.rodata .rodata.*) } :text
  .rel.dyn : LMA(.rel.dyn) { *(.rel.*) } :text
  .rela.dyn : LMA(.rela.dyn) { *(.rela.*) } :text
  .relr.dyn : LMA(.relr.dyn) { *(.relr.*) } :text
  . = ALIGN(0x1000);
  .dynamic : LMA(.dynamic) { *(.dynamic) } :data TABLE
  .data : LMA(.data) { *(.data .data.*) *(.got*) } :data
  .bss : LMA(.bss) { *(.bss .bss.* COMMON) } :data
  .tables : { *(.dynsym) *(.dynstr) *(.hash) *(.gnu.hash) } :data
  /DISCARD/ : { *(.comment) *(.note .note.*) *(.eh_frame) *(.interp) }
}
hello_entry = ADDR(.text) - OFFSET;
"""
PIE_PARTS = {"DYNAMIC": "dynamic PT_DYNAMIC;", "TABLE": ":dynamic"}


@dataclass(frozen=True)
class Workshop:
    """Makes kernels in one folder."""

    folder: Path

    def run(self, *command: str | Path) -> None:
        """A tool; its words are shown when it fails."""
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder)
        assert done.returncode == 0, done.stderr

    def objects(self, flags: Sequence[str], start: str | None = None) -> list[Path]:
        """hello and its startup path, compiled; `start` replaces the latter's source."""
        sources = Path(str(resources.files("bootbuild") / "guests" / "hello"))
        begin = sources / "start.S"
        if start is not None:
            begin = self.folder / "start.S"
            begin.write_text(start)
        made = []
        for source in (begin, sources / "hello.c"):
            out = self.folder / f"{source.stem}{'-'.join(flags)}.o"
            self.run("gcc", *flags, *FLAGS, f"-I{include_directory()}", "-c", "-o", out, source)
            made.append(out)
        return made

    def link(self, name: str, width: int, objects: Sequence[Path], *options: str, **parts: str) -> Path:
        """Link by SCRIPT; `parts` replace its words in capitals."""
        defaults = dict.fromkeys(("TABLE_ITSELF", "FIRST", "DYNAMIC", "TABLE"), "")
        words = {"OFFSET": "0", "START": "0x100000", "LMA": r"AT(ADDR(\1) - OFFSET)", **defaults, **parts}
        text = re.sub(r"LMA\((.*?)\)", words.pop("LMA"), SCRIPT)
        for word, value in words.items():
            text = text.replace(word, value)
        script = self.folder / f"{name}.ld"
        script.write_text(text)
        out = self.folder / name
        fixed = ["--build-id=none", "-z", "noexecstack", "-T", str(script)]
        self.run("ld", "-m", EMULATION[width], *fixed, *options, "-o", out, *objects)
        return out

    def plain(self, name: str, width: int, **parts: str) -> Path:
        """An ET_EXEC, high-half at width 64, where it is loaded at width 32."""
        offset = f"{HIGH:#x}" if width == 64 else "0"
        return self.link(name, width, self.objects(CODE[width]), **{"OFFSET": offset, **parts})

    def textbook(self, name: str, width: int) -> Path:
        """By ld's own script, which has the headers in a segment of their own, here below 1 MiB."""
        where = ("-Ttext", "0x100000", "-e", f"startup_{width}", "-z", "noexecstack")
        self.run("ld", "-m", EMULATION[width], *where, "-o", name, *self.objects(CODE[width]))
        return self.folder / name

    def pie(self, name: str, width: int, *options: str, **parts: str) -> Path:
        """A static PIE, linked at 0."""
        objects = self.objects(PIE[width], PIE_START)
        fixed = ("-pie", "--no-dynamic-linker", "-z", "text", *options)
        return self.link(name, width, objects, *fixed, **{"START": "0", **PIE_PARTS, **parts})

    def copy(self, name: str, source: Path, *options: str) -> Path:
        """What objcopy makes of a kernel."""
        self.run("objcopy", *options, source, self.folder / name)
        return self.folder / name
