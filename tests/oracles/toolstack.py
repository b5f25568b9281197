"""Real domains: Xen, a Linux dom0 with xl (scripts/xl.py), and the guests that a test describes.

All guests of a test module are created in one run, one after the other; with small guests it takes eight
seconds.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import monitors
from debian_kernels import Kernels
from oracle import Transcript, run_until

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.append(str(SCRIPTS))  # newc.py writes the initrd there too

OPTIONS = 'vcpus = 1\non_poweroff = "preserve"\non_reboot = "preserve"\non_crash = "preserve"\n'


@dataclass(frozen=True)
class Domain:
    """A guest to create, as xl.cfg(5) has it; memory in MiB.

    It is destroyed when it has shut down, when its console has a line with `until` in it, or after `seconds`.
    """

    kernel: Path
    type: str = "pvh"
    cmdline: str = ""
    ramdisk: Path | None = None
    memory: int = 128
    seconds: int = 10
    until: str = ""

    def config(self, name: str) -> str:
        """Its xl.cfg, with paths as dom0 sees them."""
        lines = [f'name = "{name}"', f'type = "{self.type}"', f'kernel = "/guests/{name}.kernel"']
        if self.cmdline:
            lines.append(f'cmdline = "{self.cmdline}"')
        if self.ramdisk:
            lines.append(f'ramdisk = "/guests/{name}.ramdisk"')
        return "\n".join([*lines, f"memory = {self.memory}", OPTIONS])


@dataclass(frozen=True)
class DomainRun:
    """What became of one guest.

    `state`: poweroff, reboot, crash (the shutdown reason that it gave, or Xen for it), gone, refused (by
    xl), or running when it was destroyed. `log`: xl's errors and notes. `console`: its PV console. `xen`:
    what it wrote to port 0xE9 or by console_io, as Xen printed it.
    """

    state: str
    log: tuple[str, ...]
    console: tuple[str, ...]
    xen: str


def initrd(kernels: Kernels, domains: Mapping[str, Domain]) -> bytes:
    """dom0's archive with init as it is now and the guests' files: the kernel unpacks one after the other."""
    from newc import Entry, archive

    files: dict[str, bytes] = {}
    for name, domain in domains.items():
        files[f"{name}.cfg"] = domain.config(name).encode()
        files[f"{name}.kernel"] = domain.kernel.read_bytes()
        files[f"{name}.seconds"] = f"{domain.seconds}\n".encode()
        if domain.until:
            files[f"{name}.until"] = f"{domain.until}\n".encode()
        if domain.ramdisk:
            files[f"{name}.ramdisk"] = domain.ramdisk.read_bytes()
    entries = [Entry(f"guests/{name}", 0o100644, data) for name, data in sorted(files.items())]
    init = Entry("init", 0o100755, (SCRIPTS / "xl" / "init").read_bytes())
    return (kernels.root / "dom0.cpio").read_bytes() + archive([init, Entry("guests", 0o40755), *entries])


def _run_of(name: str, number: int, text: str) -> DomainRun:
    """Sort the lines of one transcript; xl numbers domains from 1 in the order of their creation."""

    def lines(kind: str) -> tuple[str, ...]:
        return tuple(re.findall(rf"^xl: {kind} {re.escape(name)} (.*)$", text, re.MULTILINE))

    state = re.search(rf"^xl: {re.escape(name)} (\S+)$", text, re.MULTILINE)
    return DomainRun(
        state=state[1] if state else "never tried",
        log=lines("log"),
        console=lines("console"),
        xen="\n".join(re.findall(rf"^\(d{number}\) (.*)$", text, re.MULTILINE)),
    )


def create(
    qemu: Path, kernels: Kernels, domains: Mapping[str, Domain], folder: Path, options: Sequence[str] = ()
) -> tuple[Transcript, dict[str, DomainRun]]:
    """Boot Xen and dom0, have xl create each of `domains` in the order of their names.

    `options` are further ones of QEMU.
    """
    image = folder / "dom0-and-guests.cpio"
    image.write_bytes(initrd(kernels, domains))
    command = monitors.xen_dom0(
        qemu,
        kernels.xen,
        kernels.generic.vmlinux,
        pvh=False,
        cmdline="console=hvc0 panic=-1 quiet loglevel=3",
        modules=[image],
        memory=2048,
        dom0_memory=768,
    )
    limit = 120 + sum(domain.seconds for domain in domains.values())
    transcript = run_until(
        [*command, *options], ["^xl: ready", "^xl: done"], fail=monitors.XEN_FAILS, timeout=limit
    )
    runs: dict[str, DomainRun] = {}
    for number, name in enumerate(sorted(domains), 1):
        runs[name] = _run_of(name, number, transcript.text)
    return transcript, runs
