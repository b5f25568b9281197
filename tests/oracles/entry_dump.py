"""The guest that says how it was entered: compiled, and what it said read back as data.

Two witnesses: the guest's own words (guest/dump.c, on port 0xE9), and QEMU's log of the CPU at the first
instruction (`-d cpu`), which also has the hidden parts of segment registers, even of a guest under Xen.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from oracle import Transcript, run_until

SOURCE = Path(__file__).parent / "guest"
ENTRY = 0x1A5E000  #: where guest.ld links it
DONE = r"dump: \[end\]"  #: the last line
FLAGS = (
    "-m32 -march=i686 -std=c11 -Os -Wall -Wextra -Werror -ffreestanding -fno-builtin -fno-pic"
    " -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables -mno-sse -mno-mmx"
    " -nostdlib -static -no-pie -Wl,--build-id=none,--no-warn-rwx-segments"
).split()


@dataclass(frozen=True)
class Segment:
    """A segment register with its hidden part.

    `attributes` as in a VMCS: bits 0–7 the access byte, bits 12–15 AVL, L, D and G.
    """

    selector: int
    base: int
    limit: int
    attributes: int


@dataclass(frozen=True)
class EntryDump:
    """What one monitor handed over. Addresses physical.

    `cpu`: eax … esp, eflags, cr0, cr3, cr4, efer, the selectors, tr, ldtr, gdtr_base, gdtr_limit, idtr_base,
    idtr_limit. `hidden`: cs ds es ss fs gs tr ldtr. `start_info` and each module and memmap entry: the
    structure's fields by name, and `address` of start_info, `crc32` of a module's bytes.
    """

    cpu: Mapping[str, int]
    hidden: Mapping[str, Segment]
    start_info: Mapping[str, int]
    cmdline: bytes | None
    modules: tuple[Mapping[str, int], ...]
    module_cmdlines: tuple[bytes | None, ...]
    memmap: tuple[tuple[int, int, int], ...]  #: (addr, size, type)
    hypervisors: Mapping[int, bytes]  #: CPUID leaf → its 12-byte signature


def compile_guest(
    gcc: Path,
    into: Path,
    *,
    multiboot: bool = False,
    efi64: bool = False,
    com1: bool = False,
    linked: int = ENTRY,
    bss: int = 0,
) -> Path:
    """Compile the guest that PVH enters, or the one that Multiboot does; no 32-bit libc is needed.

    `efi64`: the Multiboot2 one that is entered while UEFI's boot services are alive. `com1`: it speaks there.
    `linked`: its physical address. `bss`: bytes of .bss more than it needs.
    """
    elf = into / f"entry-dump{'-multiboot' * multiboot}.elf"
    entry = SOURCE / ("entry_efi64.S" if efi64 else "entry.S")
    sources = [entry, SOURCE / ("dump_multiboot.c" if multiboot else "dump.c")]
    defined = [f"-Wl,--defsym=linked={linked:#x}", f"-DROOM={bss:#x}", *["-DMULTIBOOT"] * multiboot]
    defined += ["-DEFI64"] * efi64 + ["-DCOM1"] * com1
    command: list[str | Path] = [gcc, *FLAGS, *defined, "-T", SOURCE / "guest.ld", *sources, "-o", elf]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return elf


def log_options(log: Path, entry: int = ENTRY) -> Sequence[str]:
    """QEMU options that write the CPU's state at the guest's first instruction to `log`."""
    return ["-d", "cpu", "-dfilter", f"{entry:#x}+1", "-D", str(log)]


def observe(command: Sequence[str], folder: Path, fail: Sequence[str] = ()) -> tuple[EntryDump, Transcript]:
    """Run a monitor with the guest to its end. What was seen at the entry, and all that was printed."""
    log = folder / "cpu.log"
    transcript = run_until([*command, *log_options(log)], [DONE], fail=fail, timeout=60, wait=True)
    assert transcript.reached, str(transcript)
    return parse(transcript.text, log.read_text()), transcript


def hidden_parts(log: str) -> dict[str, Segment]:
    """The segment registers of the first state that QEMU logged (target/i386/cpu-dump.c).

    Its fourth word is the descriptor's high half: bits 8–15 are attributes 0–7, bits 20–23 are 12–15.
    """
    first = log.partition("EFER=")[0]
    found = {}
    for name, *words in re.findall(r"^(\w\w\w?) *=(\w{4}) (\w{8,16}) (\w{8}) (\w{8})", first, re.MULTILINE):
        selector, base, limit, flags = (int(word, 16) for word in words)
        register = {"LDT": "ldtr"}.get(name, name.lower())
        found[register] = Segment(selector, base, limit, flags >> 8 & 0xF0FF)
    return found


def records(text: str) -> list[tuple[str, dict[str, int | bytes]]]:
    """The dump's records, in order, whatever a hypervisor put before each line."""
    found: list[tuple[str, dict[str, int | bytes]]] = []
    for kind, name, form, value in re.findall(r"dump: (?:\[(\w+)\]|(\w+)=(0x|x)([0-9a-f]*))", text):
        if kind:
            found.append((kind, {}))
        elif form == "x":
            before = found[-1][1].get(name, b"")
            assert isinstance(before, bytes)
            found[-1][1][name] = before + bytes.fromhex(value)
        else:
            found[-1][1][name] = int(value, 16)
    return found


def numbers(record: Mapping[str, int | bytes]) -> dict[str, int]:
    """Its fields that are numbers."""
    return {name: value for name, value in record.items() if isinstance(value, int)}


def _text(record: Mapping[str, int | bytes], name: str = "text") -> bytes | None:
    value = record.get(name)
    return value if isinstance(value, bytes) else None


def parse(console: str, log: str = "") -> EntryDump:
    """Read one complete dump. ValueError when it is not all there."""
    said = records(console)
    kinds = [kind for kind, _ in said]
    if kinds[:1] != ["begin"] or kinds[-1:] != ["end"] or kinds.count("cpu") != 1:
        raise ValueError(f"no complete dump: {kinds}")

    def all_of(kind: str) -> list[dict[str, int | bytes]]:
        return [record for name, record in said if name == kind]

    modules = all_of("module")
    return EntryDump(
        cpu=numbers(all_of("cpu")[0]),
        hidden=hidden_parts(log),
        start_info=numbers(all_of("start_info")[0]),
        cmdline=next((_text(record) for record in all_of("cmdline")), None),
        modules=tuple(numbers(module) for module in modules),
        module_cmdlines=tuple(_text(module) for module in modules),
        memmap=tuple(
            (entry["addr"], entry["size"], entry["type"]) for entry in map(numbers, all_of("memmap"))
        ),
        hypervisors={
            leaf: _text(record, "signature") or b""
            for record in all_of("hypervisor")
            if isinstance(leaf := record["leaf"], int)
        },
    )
