"""Under Secure Boot LoadImage asks EFI_SECURITY2_ARCH_PROTOCOL about every image: PI 1.8, volume 2, 12."""

from __future__ import annotations

from bootbuild.model.content import Content, MemoryContent
from bootbuild.platform.uefi import guids, status
from bootbuild.platform.uefi.call import Call
from bootbuild.platform.uefi.firmware import Firmware
from bootbuild.platform.uefi.pages import Refused
from bootbuild.platform.uefi.pe_image import NotAnImage, read_pe


class Authentication:
    """A certificate counts as good. Programs may put their own function in place, as systemd's stub does.

    That is not called: what such a program loads counts as what it allows.
    """

    def __init__(self, firmware: Firmware) -> None:
        self._function = firmware.functions([self], "Security2", ["FileAuthentication"])
        self._interface = firmware.lend(self._function)
        firmware.handles.install(firmware.keep(bytes(64)), {guids.SECURITY2: self._interface})

    def allows(self, call: Call, image: Content) -> bool:
        """Whether LoadImage may go on."""
        return call.read(self._interface, len(self._function)) != self._function or _signed(image)

    def file_authentication(self, call: Call) -> int:
        buffer, size = call[2], call[3]
        if not buffer or not _signed(MemoryContent(call.read(buffer, size))):
            raise Refused(status.ACCESS_DENIED)
        return status.SUCCESS


def _signed(image: Content) -> bool:
    try:
        return bool(read_pe(image).certificates.size)
    except NotAnImage:
        return False
