"""xl, that is libxenguest: its four loaders in their order, and libelf under two of them.

Follows tools/libs/guest/xg_dom_{core,binloader,hvmloader,bzimageloader,elfloader,boot}.c of Xen 4.17.7 as
Debian builds it, up to the end of xc_dom_parse_image: what depends on the domain's memory comes later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bootbuild.api import Content, Evidence, LoaderVerdict, MemoryContent, decompress
from bootbuild_loaders import libelf, libelf_dominfo, libelf_parms, rules
from bootbuild_loaders.catalogue import only
from bootbuild_loaders.libelf import Binary, Refused
from bootbuild_loaders.window import Window, packed

BASE = 0x7F0000000000  #: where mmap puts a file, about
CAPABILITIES = ("xen-3.0-x86_64", "hvm-3.0-x86_32", "hvm-3.0-x86_32p", "hvm-3.0-x86_64")  #: Debian's Xen
DECOMPRESS_MAX = 1 << 30  #: XC_DOM_DECOMPRESS_MAX: xg_private.h
TABLE_MAGIC = (0x336EC578).to_bytes(4, "little")  #: XEN_MULTIBOOT_MAGIC3: xg_dom_binloader.c
NO_LOADER = "xc_dom_find_loader: no loader found"


@dataclass(frozen=True)
class Compression:
    """One branch of xc_dom_probe_bzimage_kernel: `message` when it fails, `built` into Debian's library."""

    name: str
    magic: bytes
    message: str
    built: bool = True


_PROBE = "xc_dom_probe_bzimage_kernel"
COMPRESSIONS = (
    Compression("gzip", b"\x1f\x8b", f"{_PROBE}: unable to gzip decompress kernel"),
    Compression("bzip2", b"BZh", "xc_try_bzip2_decode: BZIP2 decompress support unavailable", built=False),
    Compression("xz", b"\xfd7zXZ\0", f"{_PROBE} unable to XZ decompress kernel"),
    Compression("zstd", b"\x28\xb5\x2f\xfd", f"{_PROBE} unable to ZSTD decompress kernel"),
    Compression("lzma", b"\x5d\0", f"{_PROBE} unable to LZMA decompress kernel"),
    Compression(
        "lzo", b"\x89LZO\0", "xc_try_lzo1x_decode: LZO1x decompress support unavailable", built=False
    ),
    Compression("lz4", b"\x02\x21", f"{_PROBE} unable to LZ4 decompress kernel"),
)


class XenXl:
    """A kernel that `xl create` is given, with type "pvh" and with type "pv"."""

    name = "xen-xl"
    version = "4.17.7"
    evidence = Evidence.ORACLE
    source = "tools/libs/guest; held to Debian's libxenguest (tests/oracles)"
    rules = only(
        rules.NOT_A_KERNEL,
        rules.HEADERS_OUTSIDE,
        rules.MACHINE,
        rules.NO_NOTES,
        rules.LOADER_NOTE,
        rules.XEN_VERSION,
        rules.VIRT_BASE_UNSET,
        rules.OUT_OF_BOUNDS,
        rules.P2M_BOUNDS,
        rules.UNKNOWN_FEATURE,
        rules.NO_PHYS32_ENTRY,
        rules.DOMAIN_KIND,
        rules.PV32,
        rules.HVM_GENERIC,
        rules.BZIMAGE,
        rules.PAYLOAD,
        rules.MULTIBOOT_ADDRESSES,
    )

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        """Both types; of the domain's capabilities those of Debian's Xen on any processor with HVM."""
        image = Image(content)
        return [image.judge("pvh"), image.judge("xen-pv")]


class Image:
    """One file, unpacked and parsed at most once for both types."""

    def __init__(self, content: Content) -> None:
        self.refused: Refused | None = None
        self.elf: Binary | None = None
        self.inner: Binary | None = None
        self.inner_refused = Refused(rules.NOT_A_KERNEL, NO_LOADER)
        try:
            if not content.size:
                raise Refused(rules.NOT_A_KERNEL, "zero length file")
            self.content = self._gunzip(content)
        except Refused as refused:
            self.content, self.refused = content, refused
            return
        try:
            self.elf = Binary(self.content, BASE)
        except Refused as refused:
            self.inner_refused = refused
        self._open_bzimage()

    @staticmethod
    def _gunzip(content: Content) -> Content:
        """xc_dom_try_gunzip: a packed file is unpacked first, with 16 zeros behind it."""
        if content.size < 6 or content.read(0, 2) != b"\x1f\x8b":
            return content
        size = int.from_bytes(content.read(content.size - 4, 4), "little")
        if size > DECOMPRESS_MAX:
            return content
        try:
            return decompress("gzip", packed(content, 0, content.size), room=16)
        except ValueError:
            raise Refused(rules.PAYLOAD, "xc_dom_do_gunzip: inflate failed") from None

    def _open_bzimage(self) -> None:
        """xc_dom_probe_bzimage_kernel: even if it fails, the next loader finds the payload."""
        window = Window(self.content)
        if window.size < 0x250 or window.get(0x202, 4) != b"HdrS":
            self.inner = self.elf
            return
        version = window.u16(0x206)
        start = (window.get(0x1F1, 1)[0] + 1) * 512 + window.u32(0x248)
        size = window.u32(0x24C)
        text = ""
        if version < 0x208:
            text = f"{_PROBE}: boot protocol too old ({version:04x})"
        elif start >= window.size:
            text = f"{_PROBE}: payload offset overflow"
        elif start + size > window.size:
            text = f"{_PROBE}: payload length overflow"
        if text:
            rule = rules.BZIMAGE if version < 0x208 else rules.PAYLOAD
            self.inner, self.inner_refused = self.elf, Refused(rule, text)
            return
        found = next((c for c in COMPRESSIONS if window.get(start, len(c.magic)) == c.magic), None)
        refused: Refused | None = Refused(rules.PAYLOAD, f"{_PROBE}: unknown compression format")
        payload: Content = MemoryContent(b"")
        try:
            data = packed(self.content, start, size)
            payload = MemoryContent(data)
            if found is not None:
                refused = Refused(rules.PAYLOAD, found.message)
            if found is not None and found.built:
                payload = decompress(found.name, data, room=16 if found.name == "gzip" else 0)
                refused = None
        except ValueError:
            pass
        try:
            self.inner = Binary(payload, BASE)
        except Refused as inner:
            self.inner_refused = refused or inner

    def judge(self, boot: str) -> LoaderVerdict:
        """xc_dom_parse_image."""
        try:
            if self.refused is not None:
                raise self.refused
            table = find_table(self.content)
            if table is not None:
                return _judge_table(self.content, table, boot)
            if boot == "pvh" and self.elf is not None:
                verdict = self._hvm_generic(self.elf)
                if verdict is not None:
                    return verdict
            return self._elf_generic(boot)
        except Refused as refused:
            return LoaderVerdict(boot, "refuse", rule=refused.rule, message=refused.message or NO_LOADER)

    def _hvm_generic(self, elf: Binary) -> LoaderVerdict | None:
        """The loader for HVM firmware takes every ELF that libelf refuses; None leaves it to the next."""
        try:
            libelf_dominfo.parse(elf, hvm=True)
        except Refused as refused:
            if not elf.is_32:
                text = "xc_dom_parse_hvm_kernel: ELF image is not 32bit"
                raise Refused(refused.rule, text) from None
            entry = elf.ehdr["e_entry"]
            meant = phys32_entry(elf)
            if meant in (None, entry):
                return LoaderVerdict("pvh", "accept", entry, rules.HVM_GENERIC)
            return LoaderVerdict("pvh", "wild", entry, rules.HVM_GENERIC)
        return None

    def _elf_generic(self, boot: str) -> LoaderVerdict:
        """xc_dom_probe_elf_kernel, where libelf has no voice yet, and xc_dom_parse_elf_kernel."""
        if self.inner is None:
            own = self.inner_refused.message.startswith("xc_")
            raise Refused(self.inner_refused.rule, self.inner_refused.message if own else NO_LOADER)
        hvm = boot == "pvh"
        try:
            parms = libelf_dominfo.parse(self.inner, hvm)
        except Refused as refused:
            raise Refused(refused.rule, NO_LOADER) from None
        if parms.required & 1 << libelf_parms.XENFEAT_DOM0:
            text = "xc_dom_parse_elf_kernel: Kernel does not support unprivileged (DomU) operation"
            raise Refused(rules.DOMAIN_KIND, text)
        if hvm and parms.phys_entry == libelf.UNSET32:
            text = "xc_dom_guest_type: image not capable of booting inside a HVM container"
            raise Refused(rules.NO_PHYS32_ENTRY, text)
        if hvm:
            return LoaderVerdict(boot, "accept", parms.phys_entry)
        _check_type(_guest_type(self.inner, parms.pae))
        return LoaderVerdict(boot, "accept", parms.virt_entry)


def phys32_entry(elf: Binary) -> int | None:
    """What the last PHYS32_ENTRY note of any PT_NOTE says; None without one."""
    values = [
        elf.number(note) & libelf.UNSET32
        for ph in elf.phdrs
        if ph["p_type"] == libelf.PT_NOTE and ph["p_offset"]
        for _, note in elf.notes(elf.base + ph["p_offset"] & libelf.M64, _end(elf, ph)).xen
        if note.type == libelf_parms.PHYS32_ENTRY
    ]
    return values[-1] if values else None


def _end(elf: Binary, ph: dict[str, int]) -> int:
    return elf.base + ph["p_offset"] + ph["p_filesz"] & libelf.M64


def _guest_type(elf: Binary, pae: str) -> str:
    """xc_dom_guest_type of a PV domain."""
    machine = elf.ehdr["e_machine"]
    if machine == libelf.EM_X86_64:
        return "xen-3.0-x86_64"
    if machine == libelf.EM_386:
        return "xen-3.0-x86_32p" if pae in ("extended-cr3", "yes") else "xen-3.0-x86_32"
    raise Refused(rules.MACHINE, f"xc_dom_guest_type: unknown image type {machine}")


def _check_type(guest: str) -> None:
    """xc_dom_compat_check."""
    if guest not in CAPABILITIES:
        text = f"xc_dom_compat_check: guest type {guest} not supported by xen kernel, sorry"
        raise Refused(rules.PV32, text)


def find_table(content: Content) -> int | None:
    """Offset of a xen_bin_image_table, whose checksum is right, in the first 8 KiB (find_table)."""
    size = content.size
    if size < 32:
        return None
    end = 8192 if size > 8192 + 32 else size - 32
    head = content.read(0, end + 32)
    at = head.find(TABLE_MAGIC)
    while 0 <= at < end:
        words = [int.from_bytes(head[at + i : at + i + 4], "little") for i in (0, 4, 8)]
        if at % 4 == 0 and not sum(words) & 0xFFFFFFFF:
            return at
        at = head.find(TABLE_MAGIC, at + 1)
    return None


def _judge_table(content: Content, at: int, boot: str) -> LoaderVerdict:
    """xc_dom_parse_bin_kernel."""
    raw = content.read(at, 32)
    flags, _, header, load, load_end, bss_end, entry = (
        int.from_bytes(raw[i : i + 4], "little") for i in range(4, 32, 4)
    )
    masked = flags & ~0x1 & ~0xC000 & 0xFFFFFFFF
    if masked != 0x10000:
        text = f"xen_bin_image_table flags required 0x00010000 found 0x{masked:08x}"
        raise Refused(rules.MULTIBOOT_ADDRESSES, f"xc_dom_parse_bin_kernel: {text}")
    if header < load or at < header - load:
        raise Refused(rules.MULTIBOOT_ADDRESSES, "xc_dom_parse_bin_kernel: Invalid header_addr.")
    start = header - at & 0xFFFFFFFF
    load_end = load_end or start + content.size & 0xFFFFFFFF
    if start + content.size < load_end:
        raise Refused(rules.MULTIBOOT_ADDRESSES, "xc_dom_parse_bin_kernel: Invalid load_end_addr.")
    if (bss_end or load_end) < load_end:
        raise Refused(rules.MULTIBOOT_ADDRESSES, "xc_dom_parse_bin_kernel: Invalid bss_end_addr.")
    _check_type(("xen-3.0-x86_32", "xen-3.0-x86_32p", "xen-3.0-x86_64", "xen-3.0-x86_32")[flags >> 14 & 3])
    return LoaderVerdict(boot, "accept", entry)
