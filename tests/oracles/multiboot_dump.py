"""What a Multiboot loader handed over, as guest/dump_multiboot.c said it: the entry state, and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import entry_dump
from entry_dump import Segment
from oracle import Transcript, run_until


@dataclass(frozen=True)
class Block:
    """Some bytes of memory, at a physical address."""

    address: int
    bytes: bytes


@dataclass(frozen=True)
class Module:
    """A module, by its physical addresses and the CRC-32 of its first MiB."""

    start: int
    end: int
    crc32: int


@dataclass(frozen=True)
class MultibootDump:
    """The entry state as an `EntryDump` has it, and everything that EBX leads to.

    `blocks`: "gdt" and "information"; by Multiboot 1 also "cmdline", "memory_map", "loader_name", "sections",
    "modules" and, for each module, "module_cmdline".
    """

    cpu: Mapping[str, int]
    hidden: Mapping[str, Segment]
    blocks: Mapping[str, tuple[Block, ...]]
    modules: tuple[Module, ...]
    a20: bool

    def block(self, name: str) -> Block:
        """The one block of a name."""
        (block,) = self.blocks[name]
        return block


def observe(
    command: Sequence[str], folder: Path, fail: Sequence[str] = (), entry: int | None = entry_dump.ENTRY
) -> tuple[MultibootDump, Transcript]:
    """Run a loader with the guest to its end. What was seen at the entry, and all that was printed.

    `entry`: where nothing else executes, so that QEMU's log of it tells the hidden parts; None for none.
    """
    log = folder / "cpu.log"
    log.write_text("")
    done = [*command, *(entry_dump.log_options(log, entry) if entry else ())]
    transcript = run_until(done, [entry_dump.DONE], fail=fail, timeout=60, wait=True)
    assert transcript.reached, str(transcript)
    return parse(transcript.text, log.read_text()), transcript


def parse(console: str, log: str = "") -> MultibootDump:
    """Read one complete dump. ValueError when it is not all there."""
    said = [(kind, record, entry_dump.numbers(record)) for kind, record in entry_dump.records(console)]
    kinds = [kind for kind, _, _ in said]
    if kinds[:1] != ["begin"] or kinds[-1:] != ["end"]:
        raise ValueError(f"no complete dump: {kinds}")
    blocks: dict[str, tuple[Block, ...]] = {}
    modules = []
    for kind, record, fields in said:
        if kind == "module":
            modules.append(Module(fields["start"], fields["end"], fields["crc32"]))
        elif isinstance(data := record.get("bytes"), bytes):
            if len(data) != fields["size"]:
                raise ValueError(f"{kind}: {len(data)} bytes of {fields['size']}")
            blocks[kind] = (*blocks.get(kind, ()), Block(fields["address"], data))
    state = next(fields for kind, _, fields in said if kind == "cpu")
    (a20,) = [fields["on"] for kind, _, fields in said if kind == "a20"]
    return MultibootDump(state, entry_dump.hidden_parts(log), blocks, tuple(modules), bool(a20))
