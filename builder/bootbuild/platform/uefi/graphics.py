"""EFI_GRAPHICS_OUTPUT_PROTOCOL: a screen whose pixels lie in a PCI device's memory. UEFI 2.10 §12.9.2."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from bootbuild.model.machine import Framebuffer, Region, RegionKind
from bootbuild.model.span import Span, align_up
from bootbuild.platform.loading import MiB
from bootbuild.platform.uefi import device_path, guids, status
from bootbuild.platform.uefi.call import Call
from bootbuild.platform.uefi.firmware import Firmware
from bootbuild.platform.uefi.ovmf import PAGE, MemoryType
from bootbuild.platform.uefi.pages import Refused

RGB, BGR, BIT_MASK, BLT_ONLY = range(4)  #: EFI_GRAPHICS_PIXEL_FORMAT
#: Width and height of what OVMF 2022.11 offers on QEMU's VGA with 16 MiB, the one that it sets first
MODES = (
    (1280, 800), (640, 480), (800, 480), (800, 600), (832, 624), (960, 640), (1024, 600), (1024, 768),
    (1152, 864), (1152, 870), (1280, 720), (1280, 760), (1280, 768), (1280, 960), (1280, 1024), (1360, 768),
    (1366, 768), (1400, 1050), (1440, 900), (1600, 900), (1600, 1200), (1680, 1050), (1920, 1080),
    (1920, 1200), (1920, 1440), (2000, 2000), (2048, 1536), (2048, 2048), (2560, 1440), (2560, 1600),
)  # fmt: skip
_FUNCTIONS = ["QueryMode", "SetMode", "Blt"]
_INFO = struct.Struct("<9I")  #: EFI_GRAPHICS_OUTPUT_MODE_INFORMATION
_MODE = struct.Struct("<2I4Q")  #: EFI_GRAPHICS_OUTPUT_PROTOCOL_MODE
_MEMORY = 16 * MiB  #: bytes of the device
_SHOWN_BY = {RGB: (0xFF, 0xFF00, 0xFF0000, 0xFF000000), BGR: (0xFF0000, 0xFF00, 0xFF, 0xFF000000)}
#: PciRoot(0)/Pci(1,0)/AcpiAdr(0x80010100): the first display on device 1
_PATH = bytes.fromhex("02010c00d041030a00000000 010106000001 0203080000010180")


@dataclass(frozen=True)
class Display:
    """How a device shows its pixels; as it stands, QEMU's VGA."""

    base: int = 0xC0000000  #: physical: where the device's memory is
    pixel_format: int = BGR
    masks: tuple[int, int, int, int] = (0, 0, 0, 0)  #: red, green, blue, reserved, for BIT_MASK
    padding: int = 0  #: pixels that follow each line, and are not seen

    @property
    def region(self) -> Region:
        """The device's memory."""
        return Region(Span(self.base, _MEMORY), RegionKind.RAM)

    def information(self, number: int) -> bytes:
        """EFI_GRAPHICS_OUTPUT_MODE_INFORMATION of a mode."""
        width, height = MODES[number]
        return _INFO.pack(0, width, height, self.pixel_format, *self.masks, width + self.padding)

    def size(self, number: int) -> int:
        """FrameBufferSize of a mode: bytes, whole pages."""
        width, height = MODES[number]
        return align_up((width + self.padding) * height * (self._bits // 8), PAGE)

    def framebuffer(self, number: int) -> Framebuffer | None:
        """What a kernel that reaches the first 4 GiB is to find of a mode."""
        if not self._bits or self.base + self.size(number) > 1 << 32:
            return None
        width, height = MODES[number]
        red, green, blue, _ = self._masks
        pitch = (width + self.padding) * (self._bits // 8)
        colours = (*_place(red), *_place(green), *_place(blue))
        return Framebuffer(self.base, width, height, pitch, self._bits, colours)

    @property
    def _masks(self) -> tuple[int, int, int, int]:
        return _SHOWN_BY.get(self.pixel_format, self.masks)

    @property
    def _bits(self) -> int:
        """Of a pixel: bytes up to the highest bit of a mask, in bits."""
        return (max(self._masks).bit_length() + 7) // 8 * 8


def _place(mask: int) -> tuple[int, int]:
    """Lowest bit and number of bits."""
    low = (mask & -mask).bit_length() - 1 if mask else 0
    return low, mask.bit_length() - low if mask else 0


class Graphics:
    """The protocol on two handles: the device's, and that of the console, which stands for all screens."""

    def __init__(self, firmware: Firmware, display: Display, console: int) -> None:
        self._firmware = firmware
        self._display = display
        self._number = 0
        self._info = firmware.reserve(_INFO.size)
        self._mode = firmware.reserve(_MODE.size)
        self._tell()
        pointers = firmware.functions([self], "GraphicsOutput", _FUNCTIONS)
        interface = firmware.keep(pointers + struct.pack("<Q", self._mode))
        path = firmware.keep(_PATH + device_path.END)
        device = {guids.DEVICE_PATH: path, guids.GRAPHICS_OUTPUT: interface}
        firmware.handles.install(firmware.keep(bytes(64)), device)
        firmware.handles.install(console, {guids.GRAPHICS_OUTPUT: interface})

    @property
    def framebuffer(self) -> Framebuffer | None:
        """The screen as it is now; None if a kernel cannot reach it."""
        return self._display.framebuffer(self._number)

    @property
    def region(self) -> Region:
        """The device's memory."""
        return self._display.region

    def _tell(self) -> None:
        """Write what the protocol points to."""
        number, display = self._number, self._display
        mode = _MODE.pack(len(MODES), number, self._info, _INFO.size, display.base, display.size(number))
        self._firmware.put(self._info, display.information(number))
        self._firmware.put(self._mode, mode)

    def query_mode(self, call: Call) -> int:
        """OvmfPkg/QemuVideoDxe/Gop.c: QemuVideoGraphicsOutputQueryMode."""
        number, size, info = call[1] & 0xFFFFFFFF, call[2], call[3]
        if not call[0] or not size or not info or number >= len(MODES):
            raise Refused(status.INVALID_PARAMETER)
        span = self._firmware.pool.allocate(MemoryType.BOOT_SERVICES_DATA, _INFO.size)
        self._firmware.put(span.start, self._display.information(number))
        call.write64(size, _INFO.size)
        call.write64(info, span.start)
        return status.SUCCESS

    def set_mode(self, call: Call) -> int:
        """The same file: QemuVideoGraphicsOutputSetMode."""
        number = call[1] & 0xFFFFFFFF
        if number >= len(MODES):
            raise Refused(status.UNSUPPORTED)
        self._number = number
        self._tell()
        return status.SUCCESS
