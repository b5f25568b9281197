"""What Xen says when it ends a PV guest is what our finding quotes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import monitors
from debian_kernels import Kernels
from oracle import run_until
from tiny_pv_guest import DATA, SET_TRAP_TABLE, STARTUP, call, guest, iret, run, traps, u64

UD2 = b"\x0f\x0b"
CRASHES = {  # what a guest does, and what is quoted of Xen
    "ud2": (UD2, "Unhandled: vec 6, #UD[ffffffff]"),
    "hlt": (b"\xf4", "Unhandled: vec 13, #GP[0000]"),
    "a write to nowhere": (b"\x48\xa3" + u64(0x1234), "Unhandled: vec 14, #PF[0002]"),
    "an FPU instruction after fpu_taskswitch": (call(5, 1) + b"\xd9\xd0", "Unhandled: vec 7, #NM[ffffffff]"),
    "an exception without a stack": (
        call(SET_TRAP_TABLE, DATA) + b"\x31\xe4" + UD2,  # xor %esp, %esp
        "domain_crash_sync called from entry.S",
    ),
    "iret without a frame": (
        b"\x31\xe4\xb8\x17\0\0\0\x0f\x05",
        "Fault while reading IRET context from guest stack",
    ),
    "iret to user mode": (iret(0xE033), "Guest switching to user mode with no user page tables"),
    "iret to no segment": (iret(0x10), "Unhandled: vec 13, #GP[0010]"),
}


@pytest.mark.parametrize("name", CRASHES)
def test_xen_says_what_the_finding_quotes(qemu: Path, kernels: Kernels, name: str, tmp_path: Path) -> None:
    code, said = CRASHES[name]
    table = traps({6: STARTUP})
    (finding,) = run(code, table, dom0=True).findings
    assert re.findall("Xen says `(.*?)`", finding.message) == [said]
    path = tmp_path / "guest.elf"
    path.write_bytes(guest(first=code, data=table))
    command = monitors.xen_dom0(qemu, kernels.xen, path, pvh=False, cmdline="", modules=[], dom0_memory=64)
    done = run_until(command, ["Dom0 crashed"], fail=monitors.XEN_FAILS, timeout=60)
    assert said in done.text, str(done)
