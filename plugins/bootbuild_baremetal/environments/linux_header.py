"""The setup header of a bzImage as a loader of Linux reads it, on the side that boots."""

from __future__ import annotations

from dataclasses import dataclass, field

from bootbuild.api import Content, ElfImage, InputError, Load, Problem, Rule

# Documentation/arch/x86/boot.rst, "Details of Header Fields"
SECTOR = 512
HEADER_AT = 0x1F1  #: of the header, in the file and in boot_params
_JUMP_OFFSET = 0x201  #: a byte: how far behind 0x202 the header ends
ENTRY_64 = 0x200  #: bytes behind the start of the protected-mode code
LOADED_HIGH, CAN_USE_HEAP = 0x01, 0x80  #: of loadflags
XLF_CAN_BE_LOADED_ABOVE_4G = 1 << 1  #: of xloadflags
_LONGEST = 0x202 + 0xFF  #: offset of the end of the longest header

NOT_LINUX = Rule(
    "BB-L440",
    "no setup header of Linux",
    "A loader of Linux finds `HdrS` at 0x202 of the file, and there the setup header: how many sectors of "
    "real-mode code come first (setup_sects), and what follows them up to the end of the file is the "
    "protected-mode code.",
    "give the bzImage (arch/x86/boot/bzImage, /boot/vmlinuz-…), not the vmlinux inside it",
)


@dataclass(frozen=True)
class Bzimage:
    """What of a bzImage goes where. Sizes in bytes, addresses physical."""

    file: Content = field(repr=False)
    header: bytes = field(repr=False)  #: the file up to the end of its setup header
    setup_size: int  #: of the real-mode code, and so the offset of the protected-mode code
    version: int
    type_of_loader: int
    loadflags: int
    code32_start: int
    initrd_addr_max: int
    kernel_alignment: int
    relocatable: bool
    min_alignment: int  #: a power of two, its exponent
    xloadflags: int
    cmdline_size: int  #: without its NUL
    pref_address: int
    init_size: int

    @property
    def setup_header(self) -> bytes:
        """A zero page with the header and nothing else."""
        return bytes(HEADER_AT) + self.header[HEADER_AT:]

    @property
    def kernel_size(self) -> int:
        """Of the protected-mode code."""
        return self.file.size - self.setup_size

    def kernel(self, address: int) -> Load:
        """The protected-mode code in memory."""
        return Load(address, self.file, self.setup_size, self.kernel_size, self.kernel_size)

    def setup(self, address: int) -> Load:
        """The real-mode code in memory."""
        return Load(address, self.file, 0, self.setup_size, self.setup_size)


def bzimage(image: ElfImage) -> Bzimage:
    """The header of the image's file. Raises InputError (BB-L440)."""
    file = image.file
    head = file.read(0, _LONGEST)
    if file.size < 2 * SECTOR or head[0x202:0x206] != b"HdrS":
        raise InputError(Problem(NOT_LINUX, image.name, "`HdrS` is not at 0x202"))

    def number(offset: int, size: int) -> int:
        return int.from_bytes(header[offset : offset + size], "little")

    header = head[: 0x202 + head[_JUMP_OFFSET]]
    setup_size = ((head[HEADER_AT] or 4) + 1) * SECTOR  # 0 stands for 4
    if setup_size > file.size:
        text = f"setup_sects: {setup_size} bytes of real-mode code in a file of {file.size}"
        raise InputError(Problem(NOT_LINUX, image.name, text))
    return Bzimage(
        file=file,
        header=header,
        setup_size=setup_size,
        version=number(0x206, 2),
        type_of_loader=number(0x210, 1),
        loadflags=number(0x211, 1),
        code32_start=number(0x214, 4),
        initrd_addr_max=number(0x22C, 4),
        kernel_alignment=number(0x230, 4),
        relocatable=bool(number(0x234, 1)),
        min_alignment=number(0x235, 1),
        xloadflags=number(0x236, 2),
        cmdline_size=number(0x238, 4),
        pref_address=number(0x258, 8),
        init_size=number(0x260, 4),
    )
