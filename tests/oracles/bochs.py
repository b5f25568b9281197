"""Bochs as the machine: a PC whose processor and BIOS share no code with QEMU's, nor with the emulator's."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from oracle import Transcript, run_until

CYLINDER, SECTORS = 16 * 63 * 512, "heads=16, spt=63"  #: bytes; a disk is a whole number of them

# No screen is looked at, but one must be had: the terminal's is painted into a file. COM1 is descriptor 3.
CONFIG = """\
display_library: term
romimage: file={bios}
vgaromimage: file={video}
megs: {memory}
cpu: model=corei7_haswell_4770, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs=1
clock: sync=none
ata0-master: type=disk, path="{disk}", mode=flat, cylinders={cylinders}, {sectors}
boot: disk
com1: enabled=1, mode=file, dev=/dev/fd/3
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
log: {log}
"""
START = 'exec "$0" -q -f bochsrc -rc commands 3>&1 >screen 2>&1'


@dataclass(frozen=True)
class Bochs:
    """The program, its BIOS and that of the video card."""

    program: Path
    bios: Path
    video: Path

    def run(
        self,
        disk: Path,
        folder: Path,
        markers: Sequence[str],
        *,
        fail: Sequence[str] = (),
        memory: int = 128,
        wait: bool = False,
    ) -> Transcript:
        """`oracle.run_until` of what starts from `disk`: COM1 is the transcript. Memory in MiB."""
        size = disk.stat().st_size
        os.truncate(disk, size + -size % CYLINDER)
        config = CONFIG.format(
            bios=self.bios,
            video=self.video,
            memory=memory,
            disk=disk,
            cylinders=disk.stat().st_size // CYLINDER,
            sectors=SECTORS,
            log=folder / "bochs.log",
        )
        (folder / "bochsrc").write_text(config)
        (folder / "commands").write_text("c\n")  # Debian's Bochs begins in its debugger
        command = ["env", "TERM=linux", "sh", "-c", START, str(self.program)]
        # it catches SIGTERM and goes on
        ends = (signal.SIGKILL,)
        return run_until(command, markers, fail=fail, timeout=60, wait=wait, cwd=folder, ends=ends)
