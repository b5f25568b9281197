"""LoadFile2 on the initrd medium: how firmware hands over an initial ramdisk. UEFI 2.10 §13.2."""

from __future__ import annotations

from bootbuild.model.content import Content
from bootbuild.platform.uefi import device_path, guids, status
from bootbuild.platform.uefi.call import Call
from bootbuild.platform.uefi.firmware import Firmware
from bootbuild.platform.uefi.pages import Refused


class InitrdMedia:
    """The handle whose device path is LINUX_EFI_INITRD_MEDIA_GUID; the path of the file itself is empty."""

    def __init__(self, firmware: Firmware, initrd: Content) -> None:
        self._initrd = initrd
        interface = firmware.keep(firmware.functions([self], "LoadFile2", ["LoadFile"]))
        path = firmware.keep(device_path.vendor_media(guids.INITRD_MEDIA) + device_path.END)
        handle = firmware.keep(bytes(64))
        firmware.handles.install(handle, {guids.DEVICE_PATH: path, guids.LOAD_FILE2: interface})

    def load_file(self, call: Call) -> int:
        """OvmfPkg/QemuKernelLoaderFsDxe: InitrdLoadFile2."""
        path, boot_policy, size, buffer = call[1], call[2] & 0xFF, call[3], call[4]
        if boot_policy:
            raise Refused(status.UNSUPPORTED)
        if not size or not path:
            raise Refused(status.INVALID_PARAMETER)
        if next(device_path.nodes(call.read, path))[:4] != device_path.END:
            raise Refused(status.NOT_FOUND)
        room = call.read64(size)
        call.write64(size, self._initrd.size)
        if not buffer or room < self._initrd.size:
            raise Refused(status.BUFFER_TOO_SMALL)
        call.write(buffer, self._initrd.read(0, self._initrd.size))
        return status.SUCCESS
