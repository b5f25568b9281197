"""What the loaders of Linux say to each broken bzImage: the table is the fact."""

from __future__ import annotations

import gzip

from corner_case import BrokenCase, Said, read_cell
from corner_kernels import pv
from tiny_linux import BROKEN, tiny_linux

#: The loader model that each cell of a row is about, and where it enters a file that is as it should be;
#: None where that depends on the machine's memory.
COLUMNS = {
    "qemu-linux": 0x10200,
    "grub-linux": 0x1000000,
    "grub-linux16": 0x90200,
    "grub-linux-efi64": None,
    "linux-loader-bzimage": 0x100000,
    "kexec": None,
    "xen-bzimage": 0x100000,
}
#: The protocol that it is asked about.
BOOT = dict.fromkeys(COLUMNS, "linux") | {"xen-bzimage": "pvh"}
PAYLOAD = gzip.compress(pv(phys32=True), mtime=0)  #: a kernel that Xen takes
BASE = tiny_linux(PAYLOAD)

#: A cell is as in corner_cases; `.` is no verdict at all, `@?` an address that the loader chooses.
ROWS = {
    "as it is": "ok ok ok ok ok ok ok",
    "setup_sects 0, which is 4": "ok ok ok ok ok ok L130",
    "setup_sects one too large": "ok ok ok ok ok ok L130",
    "setup_sects one too small": "ok ok ok ok ok ok L130",
    "setup_sects 64": "L435 L435 L435 L435 L435 L435 L130",
    "setup_sects 65": "L435 L434 L434 L434 L435 L435 L130",
    "setup_sects 255": "L435 L434 L434 L434 L435 L435 L130",
    "setup_sects for all of the file": "ok ~L435 ok ~L435 ok ok L130",
    "no 0xAA55": "ok L433 L433 L433 ok L433 ok",
    "no HdrS": "~L430@0x90200 L430 ~L430 L430 L430 L430 .",
    "hdrs": "~L430@0x90200 L430 ~L430 L430 L430 L430 .",
    "protocol 1.ff": "~L431@0x90200 L431 ~L431 L431 L431 L431 L129",
    "protocol 2.00": "ok@0x90200 L431 ok L431 ok L431 L129",
    "protocol 2.01": "ok@0x90200 L431 ok L431 ok L431 L129",
    "protocol 2.02": "ok L431 ok L431 ok L431 L129",
    "protocol 2.03": "ok ok@0x100000 ok ok@0x100000 ok L431 L129",
    "protocol 2.04": "ok ok@0x100000 ok ok@0x100000 ok L431 L129",
    "protocol 2.05": "ok ok@0x100000 ok ok ok L431 L129",
    "protocol 2.07": "ok ok@0x100000 ok ok ok L431 L129",
    "protocol 2.08": "ok ok@0x100000 ok ok ok L431 ok",
    "protocol 2.09": "ok ok@0x100000 ok ok ok L431 ok",
    "protocol 2.11": "ok ok ok ok ok L431 ok",
    "protocol 3.00": "ok ok ok ok ok ok ok",
    "loadflags 0": "~L432@0x90200 L432 ~L432 L432 L432 L432 ok",
    "loadflags 0, a kernel of 1 MiB": "~L432@0x90200 L432 L447 L432 L432 L432 ok",
    "loadflags 0, code32_start 0x1000": "ok@0x90200 L432 ok L432 L432 L432 ok",
    "code32_start 0": "ok ~L437@0xf00000 ok ~L437 L120 ok ok",
    "code32_start 2 MiB": "ok ~L437@0x1100000 ok ~L437 ok@0x200000 ok ok",
    "code32_start 16 bytes further": "ok ok@0x1000010 ok ok ok@0x100010 ok ok",
    "code32_start in no RAM": "ok ~L437@0xf0f00000 ok ~L437 L115 ok ok",
    "init_size 0": "ok !L436 ok ok:L436 ok L436 ok",
    "init_size a page too small": "ok !L436 ok ok:L436 ok L436 ok",
    "init_size of a kernel of 1 MiB too small": "ok !L436 ok ok:L436 ok L436 ok",
    "init_size 100 MiB": "ok ok ok ok ok ok ok",
    "init_size 2 GiB": "ok L115 ok L115 ok L115 ok",
    "pref_address 1 MiB": "ok ok@0x100000 ok ok ok ok ok",
    "pref_address in no RAM": "ok ok@? ok ok ok ok ok",
    "pref_address above 4 GiB": "ok ~L448@0x0 ok ok ok ok ok",
    "pref_address in no RAM, min_alignment 25": "ok L115 ok L115 ok ok ok",
    "relocatable_kernel 0": "ok ok@0x100000 ok ok@0x100000 ok ok ok",
    "kernel_alignment odd": "ok ok@0x100000 ok ok@0x100000 ok L449 ok",
    "kernel_alignment 0": "ok ok@0x100000 ok ok@0x100000 ok ok ok",
    "relocatable_kernel 0, kernel_alignment odd": "ok ok@0x100000 ok ok@0x100000 ok L449 ok",
    "xloadflags without the 64-bit entry": "ok ok ok ok ok L439 ok",
    "xloadflags without memory above 4 GiB": "ok ok ok ok ok L444 ok",
    "xloadflags 0": "ok ok ok ok ok L439 ok",
    "cmdline_size 0": "ok ok !L445 ok ok L445 ok",
    "cmdline_size 16": "ok ok ok ok ok L445 ok",
    "cmdline_size 1 MiB": "ok L445 L445 L445 ok ok ok",
    "cmdline_size 1 GiB": "ok L445 L445 L445 ok ok ok",
    "initrd_addr_max 1 MiB": "ok ok ok ok ok ok ok",
    "payload_offset beyond the end": "ok ok ok ok ok ok L130",
    "payload_length past the end": "ok ok ok ok ok ok L130",
    "payload_length a byte short": "ok ok ok ok ok ok L130",
    "a damaged payload": "ok ok ok ok ok ok L130",
    "a wrong CRC": "ok ok ok ok ok ok ok",
    "syssize 0": "ok ok ok ok ok ok ok",
    "a header that ends before it begins": "ok !L438 ok !L438 ok !L438 ok",
    "a header that ends as it begins": "ok ok ok ok ok ok ok",
    "a header of 639 bytes": "ok ok ok ok ok ok ok",
    "handover_offset beyond the end": "ok ok ok ok ok ok ok",
    "no MZ": "ok ok ok ok ok ok ok",
    "no PE header": "ok ok ok ok ok ok ok",
    "as LIEF writes it": "~L430@0x90200 L433 L433 L433 L430 L430 .",
    "without its last sector": "ok ok ok ok ok ok ok",
    "the setup code alone": "ok ~L435 ok ~L435 ok ok L130",
    "a byte less than the setup code": "L435 L435 L435 L435 L435 L435 L130",
    "1024 bytes": "L435 L435 L435 L435 L435 L435 L130",
    "cut in the setup header": "L435 L446 L446 L446 L435 L446 L101",
    "cut before the setup header": "L435 L446 L446 L446 L430 L446 .",
}


class LinuxCase(BrokenCase):
    """A bzImage."""

    base = BASE

    def said(self, model: str) -> Said | None:
        """What that loader says; None if it has no verdict."""
        cell = self.row.split()[list(COLUMNS).index(model)]
        if cell == ".":
            return None
        verdict, rule, at = read_cell(cell)
        if at:
            return verdict, rule, None if at == "?" else int(at, 16)
        return verdict, rule, COLUMNS[model] if verdict in ("accept", "wild") else None


CASES = [LinuxCase(broken, ROWS[broken.name]) for broken in BROKEN]
