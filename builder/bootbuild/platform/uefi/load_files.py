"""What OVMF has of QEMU's -kernel, -append and -initrd: files by device path, and LoadFile2 of the initrd."""

from __future__ import annotations

from collections.abc import Mapping

from bootbuild.model.content import Content
from bootbuild.platform.uefi import device_path, guids, status
from bootbuild.platform.uefi.call import Call
from bootbuild.platform.uefi.firmware import Firmware
from bootbuild.platform.uefi.pages import Refused


class KernelFiles:
    """The handle that has QEMU's files, each by its bare name: OvmfPkg/QemuKernelLoaderFsDxe.

    Its file system is no protocol here: LoadImage alone reads from it.
    """

    def __init__(self, firmware: Firmware, files: Mapping[str, Content]) -> None:
        self._files = files
        self.path = device_path.vendor_media(guids.QEMU_KERNEL_LOADER)
        self.handle = firmware.keep(bytes(64))
        path = firmware.keep(self.path + device_path.END)
        firmware.handles.install(self.handle, {guids.DEVICE_PATH: path})
        firmware.files[self.handle] = self._file

    def _file(self, rest: tuple[bytes, ...], boot_policy: bool) -> Content | None:
        name = device_path.file_name(rest[0])
        return self._files.get(name) if name is not None and len(rest) == 2 else None


class InitrdMedia:
    """The handle whose device path is LINUX_EFI_INITRD_MEDIA_GUID; the path of the file itself is empty."""

    def __init__(self, firmware: Firmware, initrd: Content) -> None:
        self._initrd = initrd
        interface = firmware.keep(firmware.functions([self], "LoadFile2", ["LoadFile"]))
        path = firmware.keep(device_path.vendor_media(guids.INITRD_MEDIA) + device_path.END)
        handle = firmware.keep(bytes(64))
        firmware.handles.install(handle, {guids.DEVICE_PATH: path, guids.LOAD_FILE2: interface})
        firmware.files[handle] = self._whole

    def _whole(self, rest: tuple[bytes, ...], boot_policy: bool) -> Content | None:
        return None if boot_policy or rest != (device_path.END,) else self._initrd

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
