"""What a loader of Linux handed over, as guest/dump_linux.c said it: the entry state, and bytes."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import entry_dump
import modelled
from bootbuild.api import Filling, MemoryContent, Offer, Profile
from bootbuild.machine import Machine
from bootbuild.model.payload import ElfImage
from bootbuild.model.trace import StopKind
from entry_dump import Segment
from oracle import run_until

SECTORS = 9  #: of real-mode code


@dataclass(frozen=True)
class LinuxDump:
    """The entry state, and every block of bytes by its kind and number: boot_params, setup, cmdline, bios …

    A block is its address and its bytes; a ramdisk its address, size and the CRC-32 of its first MiB.
    """

    cpu: Mapping[str, int]
    hidden: Mapping[str, Segment]
    blocks: Mapping[str, tuple[int, bytes]]
    ramdisk: Mapping[str, int]
    a20: bool

    def bytes_of(self, name: str) -> bytes:
        """A block's bytes."""
        return self.blocks[name][1]


def compile_guest(
    gcc: Path, into: Path, *, linked: int = 0x100000, relocatable: bool = False, xloadflags: int = 0
) -> Path:
    """A bzImage for `linked`: its pref_address where it is relocatable, else 1 MiB."""
    image = into / "linux-dump.bz"
    defined = [f"-Wl,--defsym=linked={linked:#x}", f"-DRELOCATABLE={int(relocatable)}"]
    defined += [f"-DSECTORS={SECTORS}", f"-DXLOADFLAGS={xloadflags}", "-Wl,--oformat=binary"]
    sources = [entry_dump.SOURCE / name for name in ("linux_setup.S", "linux_entry.S", "dump_linux.c")]
    command: list[str | Path] = [gcc, *entry_dump.FLAGS, *defined, "-T", entry_dump.SOURCE / "linux.ld"]
    subprocess.run([*command, *sources, "-o", image], check=True, capture_output=True, text=True)
    return image


def observe(command: Sequence[str], folder: Path, fail: Sequence[str], entry: int) -> LinuxDump:
    """Run a loader with the guest to its end; `entry`: its linear address, for the hidden parts."""
    log = folder / "cpu.log"
    log.write_text("")
    options = entry_dump.log_options(log, entry)
    transcript = run_until([*command, *options], [entry_dump.DONE], fail=fail, timeout=60, wait=True)
    assert transcript.reached, str(transcript)
    states = log.read_text().split("EAX=")
    return parse(transcript.text, states[-1])


def parse(console: str, log: str = "") -> LinuxDump:
    """Read one complete dump. ValueError when it is not all there."""
    said = entry_dump.records(console)
    kinds = [kind for kind, _ in said]
    if kinds[:1] != ["begin"] or kinds[-1:] != ["end"]:
        raise ValueError(f"no complete dump: {kinds}")
    numbers = {kind: entry_dump.numbers(record) for kind, record in said}
    blocks: dict[str, tuple[int, bytes]] = {}
    for kind, record in said:
        data, address = record.get("bytes"), record.get("address")
        if isinstance(data, bytes) and isinstance(address, int):
            count = sum(name.split()[0] == kind for name in blocks)
            blocks[f"{kind} {count}" if kind in ("bios", "setup_data") else kind] = (address, data)
    return LinuxDump(
        cpu=numbers["cpu"],
        hidden=entry_dump.hidden_parts(log),
        blocks=blocks,
        ramdisk=numbers.get("ramdisk", {}),
        a20=bool(numbers["a20"]["on"]),
    )


def emulated(
    profile: Profile, image: ElfImage, cmdline: str, modules: Sequence[Path] = (), memory: int = 128
) -> LinuxDump:
    """What the guest says when it runs in a profile, and the hidden parts that the profile sets."""
    offered = tuple((str(path), MemoryContent(path.read_bytes()), b"") for path in modules)
    scene = profile.scene(image, Offer(cmdline.encode(), offered, memory << 20), Filling.EXACT)
    platform = modelled.DebugPort(scene.platform)
    with Machine(replace(scene, platform=platform)) as machine:
        stop = machine.run(checkpoints={}, budget=200_000_000, seconds=60)
    assert stop.kind is StopKind.TRIPLE_FAULT, stop
    hidden = {name: modelled.segment(getattr(scene.state, name)) for name in modelled.SELECTORS}
    return replace(parse(bytes(platform.console).decode()), hidden=hidden)
