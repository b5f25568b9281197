"""How each real monitor is started: QEMU's own PVH loader, and Xen with our kernel as its dom0.

Always TCG: /dev/kvm may exist and not work. The CPU model leaves out what QEMU 7.2's TCG gets wrong under
Xen: SMAP is checked on a user-mode IRET, and RDTSCP is reported to a nested hypervisor as RDTSC.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

QEMU_CPU = "max"
XEN_CPU = "max,-smap,-rdtscp"
XEN_FAILS = (r"Panic on CPU", r"Could not construct domain 0", r"Could not set up DOM0 guest OS")


def bare_machine(qemu: Path, machine: str, cpu: str, memory: int) -> list[str]:
    """Only what is asked for: no default devices, no display, an exit instead of a reboot. Memory in MiB."""
    bare = "-nodefaults -display none -no-reboot".split()
    return [str(qemu), "-accel", "tcg", "-cpu", cpu, "-machine", machine, "-m", str(memory), *bare]


def qemu_kernel(
    qemu: Path,
    kernel: Path,
    *,
    machine: str = "pc",
    memory: int = 128,
    cmdline: str = "",
    initrd: Path | None = None,
    debug_port: bool = False,
) -> list[str]:
    """`qemu -kernel`, the guest's COM1 (or with `debug_port` its port 0xE9) on standard output.

    COM1 is always there: microvm describes it in ACPI, and what lies below those tables moves with them.
    """
    command = [*bare_machine(qemu, machine, QEMU_CPU, memory), "-kernel", str(kernel)]
    if debug_port:
        command += "-chardev stdio,id=debug -device isa-debugcon,iobase=0xe9,chardev=debug".split()
        command += ["-serial", "null"]
    else:
        command += ["-serial", "stdio"]
    if cmdline:
        command += ["-append", cmdline]
    if initrd:
        command += ["-initrd", str(initrd)]
    return command


def _escaped(path: Path) -> str:
    """QEMU splits -initrd at commas; a doubled one stands for itself."""
    return str(path).replace(",", ",,")


def xen_dom0(
    qemu: Path,
    xen: Path,
    kernel: Path,
    *,
    pvh: bool,
    cmdline: str = "",
    modules: Sequence[Path] = (),
    memory: int = 512,
    dom0_memory: int = 64,
    xen_options: str = "",
) -> list[str]:
    """Xen as a Multiboot kernel, `kernel` as its dom0; everyone's output on COM1. Memory in MiB."""
    # A PVH dom0 needs an IOMMU; AMD's is the one that TCG and Xen agree about.
    machine = ["-device", "amd-iommu"] if pvh else []
    mode = "dom0=pvh " if pvh else ""
    options = (
        f"console=com1 com1=115200 loglvl=all guest_loglvl=all {mode}dom0_mem={dom0_memory}M {xen_options}"
    )
    first = f"{_escaped(kernel)} {cmdline.replace(',', ',,')}".strip()
    return [
        *bare_machine(qemu, "q35" if pvh else "pc", XEN_CPU, memory),
        *machine,
        *["-serial", "stdio", "-kernel", str(xen), "-append", options.strip()],
        *["-initrd", ",".join([first, *map(_escaped, modules)])],
    ]
