"""What shim wants of section `.sbat`: verify_buffer_sbat (pe.c), parse_sbat_section, parse_csv_data."""

from __future__ import annotations

import re

from bootbuild_loaders import pe_rules
from bootbuild_loaders.pe_headers import Headers, Section
from bootbuild_loaders.stopped import Stopped

COLUMNS = 6
BOM = b"\xef\xbb\xbf"
UNREAD = "Could not parse .sbat section data: Invalid Parameter"
SIZE_MAX = 1 << 20  #: bytes of it that are read


def check_sbat(headers: Headers) -> None:
    """Raises Stopped. Whether the generations are still allowed, the machine's variables say."""
    found: Section | None = None
    for section in headers.sections:
        if section.name != b".sbat\0\0\0":
            continue
        if found is not None:
            raise Stopped(pe_rules.SBAT, "Image has multiple SBAT sections")
        if section.relocations or section.relocation_count:
            raise Stopped(pe_rules.SBAT, "SBAT section has relocations")
        if section.raw_size and section.raw_size >= section.size:
            if section.raw + section.raw_size > headers.window.size:
                raise Stopped(pe_rules.SBAT, "Section exceeds bounds of image")
            found = section
    if found is None:
        raise Stopped(pe_rules.SBAT, "Verification failed: Security Violation")
    text = headers.window.get(found.raw, min(found.raw_size, SIZE_MAX)).split(b"\0")[0].removeprefix(BOM)
    for row in filter(None, re.split(b"[\r\n]", text)):
        columns = row.split(b",", COLUMNS - 1)
        if len(columns) < COLUMNS or not all(columns[:-1]) or columns[-1][:1] in (b"", b","):
            raise Stopped(pe_rules.SBAT, UNREAD)
