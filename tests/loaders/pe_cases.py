"""What loaders of UEFI applications say to each broken PE: the table is the fact."""

from __future__ import annotations

from dataclasses import dataclass, field

from broken_pe import BROKEN, Broken, tiny

#: The loader model that each cell of a row is about.
COLUMNS = ("edk2", "edk2-protected", "grub-chainloader", "systemd-stub", "shim", "shim-strict")
BASE = tiny()
_KINDS = {"": "refuse", "ok": "accept", "~": "wild", "-": "ignore"}

#: A rule alone is a refusal; `ok:` and a rule: taken all the same; `~`: it goes wild;
#: `-`: it was not meant for it.
ROWS = {
    "as it is": "ok ok ok ok ok ok",
    "text": "-L520 -L520 -L520 -L520 -L520 -L520",
    "an empty file": "-L520 -L520 -L520 -L520 -L520 -L520",
    "one byte": "-L520 -L520 -L520 -L520 -L520 -L520",
    "an ELF": "-L520 -L520 -L520 -L520 -L520 -L520",
    "no MZ": "-L520 -L520 -L520 -L520 -L520 -L520",
    "e_lfanew beyond the file": "L520 L520 L520 L520 L520 L520",
    "e_lfanew -1": "L520 L520 L520 L520 L520 L520",
    "no PE signature": "L520 L520 L520 L520 L520 L520",
    "half a PE signature": "L520 L520 L520 L520 ok ok",
    "for 64-bit ARM": "L521 L521 L521 L521 L521 L521",
    "for 32-bit x86": "L521 L521 L521 L521 L521 L521",
    "for RISC-V": "L521 L521 L521 L521 L521 L521",
    "magic of PE32": "L522 L522 L522 L522 L522 L522",
    "magic of a ROM image": "L522 L522 L522 L522 L522 L522",
    "subsystem Windows console": "L526 L526 L526 L526 ok ok",
    "subsystem boot service driver": "L526 L526 ok ok ok ok",
    "subsystem runtime driver": "L526 L526 ok ok ok ok",
    "subsystem EFI ROM": "L526 L526 ok ok ok ok",
    "subsystem 14": "L526 L526 L526 L526 ok ok",
    "17 directories": "L522 L522 L522 L522 L522 L522",
    "15 directories of 16": "L522 L522 L522 L522 L522 L522",
    "10 directories": "ok ok ok ok ok ok",
    "6 directories": "ok ok ok ok ok ok",
    "5 directories": "L530 L530 L530 L530 L540 L540",
    "no directories": "ok ok ok ok L540 L540",
    "SizeOfOptionalHeader 8 too small": "L522 L522 L522 L522 L522 L522",
    "SizeOfOptionalHeader 8 too large": "L522 L522 L522 L522 L522 L522",
    "SizeOfOptionalHeader 0": "L522 L522 L522 L522 L522 L522",
    "no sections": "L530 L530 L530 L544 L538 L542",
    "16 sections": "L523 L523 L523 L523 L523 L523",
    "97 sections": "L523 L523 L523 L523 L523 L523",
    "SizeOfHeaders in the table": "L523 L523 L523 L523 L523 L523",
    "SizeOfHeaders before the table": "L523 L523 L523 L523 L523 L523",
    "SizeOfHeaders exact": "ok ok ok ok ok ok",
    "SizeOfHeaders beyond the file": "L524 L524 L524 L524 L524 L524",
    "SizeOfHeaders as SizeOfImage": "L523 L523 L523 L523 L524 L524",
    "SizeOfHeaders over the first section": "L525 L525 L525 L525 L525 L525",
    "cut in the DOS header": "L520 L520 L520 L520 L520 L520",
    "cut in the PE header": "L524 L524 L524 L524 L524 L524",
    "cut in the section headers": "L524 L524 L524 L524 L524 L524",
    "cut behind the headers": "L524 L524 L524 L524 L541 L542",
    "cut by a byte": "L524 L524 L524 L524 L541 L541",
    "data beyond the file": "L524 L524 L524 L524 L541 L541",
    "data at 4 GiB": "L524 L524 L524 L524 L524 L524",
    "a certificate table": "ok ok ok ok ok ok",
    "a certificate table beyond the file": "L524 L524 L524 L524 L524 L524",
    "a certificate table at 4 GiB": "L524 L524 L524 L524 L524 L524",
    "a certificate table in the middle": "ok ok ok ok ok ok",
    "more at the end": "ok ok ok ok ok ok",
    "data in the headers of the file": "L525 L525 L525 L525 L525 L525",
    "data in the headers in memory": "L525 L525 L525 L525 L525 L525",
    "SizeOfImage a page too small": "L527 L527 L527 L527 L540 L540",
    "SizeOfImage to the byte": "ok ok ok ok ok ok",
    "SizeOfImage a byte too small": "ok ok ok ok ok ok",
    "SizeOfImage 1 GiB": "L535 L535 L535 L535 L535 L535",
    "SizeOfImage 100 MiB": "ok ok ok ok ok ok",
    "SizeOfImage 0": "L523 L523 L523 L523 L523 L523",
    "a section behind the image": "L527 L527 L527 L527 L537 L537",
    "a section whose end wraps": "~L527 ~L527 ~L527 ~L527 L537 L537",
    "zeros behind the image": "~L527 ~L527 ~L527 ~L527 L537 L537",
    "zeros that end behind the image": "~L527 ~L527 ~L527 ~L527 L537 L537",
    "a VirtualSize of 0": "ok ok ok ok L537 L537",
    "code with a VirtualSize of 0": "ok ok ok ok L537 L537",
    "more data than VirtualSize": "ok ok ok ok ok ok",
    "an empty section": "ok ok ok ok L537 L537",
    "data overlaps code": "~L532 ~L532 ~L532 ~L532 L538 L538",
    "data overlaps code's last bytes": "~L532 ~L532 ~L532 ~L532 ~L532 ~L532",
    "code overlaps data": "~L532 ~L532 ~L532 ~L532 ~L532 ~L532",
    "zeros over code": "~L532 ~L532 ~L532 ~L532 L525 L525",
    "a section in no order": "ok ok ok ok ok ok",
    "SectionAlignment 0": "L528 L528 L528 L528 ok:L528 ok:L528",
    "SectionAlignment 0x200": "ok ok ok ok ok ok",
    "SectionAlignment 1": "ok ok ok ok ok ok",
    "SectionAlignment 0x1800": "ok:L528 ok:L528 ok:L528 ok:L528 ok:L528 ok:L528",
    "SectionAlignment 0x2000": "ok:L528 ~L528 ok:L528 ok:L528 ok:L528 ok:L528",
    "SectionAlignment 2 MiB": "ok:L528 ok:L528 ok:L528 ok:L528 ok:L528 ok:L528",
    "SectionAlignment 2 GiB": "L535 L535 L535 L535 L535 L535",
    "a section at an odd address": "ok:L528 ~L528 ok:L528 ok:L528 ok:L528 ok:L528",
    "FileAlignment 0x1000": "ok ok ok ok ok ok",
    "FileAlignment odd": "ok ok ok ok L545 L545",
    "FileAlignment 0": "ok ok ok ok ok ok",
    "writable code": "ok ok ok ok ok L546",
    "no executable section": "ok ok ok ok ok ok",
    "unreadable code": "ok ok ok ok L538 L538",
    "discardable code": "ok ok ok ok ~L539 ~L539",
    "discardable data": "ok ok ok ok ok ok",
    "a discardable empty section": "ok ok ok ok L525 L525",
    "uninitialized data": "ok ok ok ok ok ok",
    "sections share their data": "ok ok ok ok ok ok",
    "NX_COMPAT is not set": "ok ok ok ok ok L546",
    "ImageBase 1 MiB": "ok ok ok ok ok ok",
    "ImageBase 32 MiB": "ok ok ok ok ok ok",
    "ImageBase in no RAM": "ok ok ok ok ok ok",
    "ImageBase odd": "ok ok ok ok ok ok",
    "stripped, ImageBase 0": "L529 L529 L529 L529 L529 L529",
    "stripped, ImageBase 64 KiB": "ok ok ok ok L529 L529",
    "stripped, ImageBase 1 MiB": "ok ok ok ok L529 L529",
    "stripped, ImageBase 32 MiB": "ok ok ok ok L529 L529",
    "stripped, ImageBase 10 MiB": "L529 L529 L529 L529 L529 L529",
    "stripped, ImageBase in no RAM": "L529 L529 L529 L529 L529 L529",
    "stripped, ImageBase odd": "L529 L529 L529 L529 L529 L529",
    "stripped, ImageBase unaligned": "L529 L529 L529 L529 L529 L529",
    "no relocations": "ok ok ok ok L540 L540",
    "relocations behind the image": "L530 L530 L530 L530 L540 L540",
    "relocations behind the image, ImageBase 32 MiB": "L530 L530 L530 L530 L540 L540",
    "relocations that end behind the image": "L530 L530 L530 L530 L540 L540",
    "relocations whose end wraps": "-L133 -L133 -L133 -L133 ok ok",
    "a block of size 0": "L530 L530 L530 L530 L530 L530",
    "a block larger than the table": "L530 L530 L530 L530 L530 L530",
    "a block of 6 bytes": "L530 L530 L530 L530 L530 L530",
    "a table with a byte more": "ok ok ok ok L540 L540",
    "a relocation behind the image": "L530 L530 L530 L530 L530 L530",
    "a relocation of type 9": "L530 L530 L530 L530 L530 L530",
    "a relocation of type 3": "ok ok ok ok ok ok",
    "a relocation of type 9, ImageBase 32 MiB": "ok ok ok ok L530 L530",
    "a relocation section that is not the directory's": "L530 L530 L530 L530 L540 L540",
    "two relocation sections": "ok ok ok ok L540 L540",
    "no relocation section": "ok ok ok ok ok ok",
    "entry at the next letter": "ok ok ok ok ok ok",
    "entry in data": "ok ~L534 ok ok ok ok",
    "entry 0": "~L531 ~L531 ~L531 ~L531 L538 L538",
    "entry in the headers": "~L531 ~L531 ~L531 ~L531 L538 L538",
    "entry between sections": "~L531 ~L531 ~L531 ~L531 L538 L538",
    "entry behind the image": "~L531 ~L531 ~L531 ~L531 L531 L531",
    "entry at the last byte": "ok ok ok ok L538 L538",
    "a debug directory": "ok ok ok ok ok ok",
    "a debug directory without an RVA": "ok ok ok ok ok ok",
    "a debug entry behind the image": "L533 L533 L533 L533 ok ok",
    "a debug entry too short": "L533 L533 L533 L533 ok ok",
    "a debug entry of another kind": "ok ok ok ok ok ok",
    "a debug directory that ends behind the file": "L533 L533 L533 L533 ok ok",
    "a debug directory in no section": "ok ok ok ok ok ok",
    "resources": "ok ok ok ok ok ok",
    "resources of no size": "L536 L536 L536 L536 ok ok",
    "a resource's name outside": "L536 L536 L536 L536 ok ok",
    "MajorImageVersion 0": "ok ok ok L543 ok ok",
    "no .sbat": "ok ok ok ok ok L542",
    "two .sbat": "ok ok ok ok ok L542",
    ".sbat with relocations": "ok ok ok ok ok L542",
    ".sbat of zeros": "ok ok ok ok ok L542",
    "a NUL in .sbat": "ok ok ok ok ok L542",
    ".sbat with a row of five fields": "ok ok ok ok ok L542",
}


@dataclass(frozen=True)
class PeCase:
    """One broken application, and what every loader says to it."""

    broken: Broken
    row: str = field(repr=False)

    def __str__(self) -> str:
        return self.broken.name

    def data(self, base: bytes = BASE) -> bytes:
        """The file, made of that one."""
        return self.broken.change(base)

    def said(self, model: str) -> tuple[str, str]:
        """Verdict and rule."""
        cell = self.row.split()[COLUMNS.index(model)]
        kind = cell.rstrip("0123456789").removesuffix("L").removesuffix(":")
        rule = cell.removeprefix(kind).removeprefix(":")
        return _KINDS[kind], f"BB-{rule}" if rule else ""


CASES = [PeCase(broken, ROWS[broken.name]) for broken in BROKEN]
