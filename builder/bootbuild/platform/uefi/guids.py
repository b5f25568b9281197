"""The GUIDs by which UEFI names protocols, tables and owners of variables, as they lie in memory."""

from __future__ import annotations

import uuid


def guid(text: str) -> bytes:
    """The 16 bytes of a GUID in its usual spelling; its first three parts are little-endian."""
    return uuid.UUID(text).bytes_le


# UEFI 2.10: §9.1, §10.2, §13.1, §13.2, §13.4, §12.3, §12.4, §12.9, §37.5, §37.6, §7.2
LOADED_IMAGE = guid("5b1b31a1-9562-11d2-8e3f-00a0c969723b")
LOADED_IMAGE_DEVICE_PATH = guid("bc62157e-3e33-4fec-9920-2d3b36d750df")
DEVICE_PATH = guid("09576e91-6d3f-11d2-8e39-00a0c969723b")
LOAD_FILE = guid("56ec3091-954c-11d2-8e3f-00a0c969723b")
LOAD_FILE2 = guid("4006c0c1-fcb3-403e-996d-4a6c8724e06d")
SIMPLE_FILE_SYSTEM = guid("964e5b22-6459-11d2-8e39-00a0c969723b")
SIMPLE_TEXT_INPUT = guid("387477c1-69c7-11d2-8e39-00a0c969723b")
SIMPLE_TEXT_INPUT_EX = guid("dd9e7534-7762-4698-8c14-f58517a625aa")
SIMPLE_TEXT_OUTPUT = guid("387477c2-69c7-11d2-8e39-00a0c969723b")
GRAPHICS_OUTPUT = guid("9042a9de-23dc-4a38-96fb-7aded080516a")
SECURITY2 = guid("94ab2f58-1438-4ef1-9152-18941a3a0e68")  # PI 1.8, volume 2, 12
RNG = guid("3152bca5-eade-433d-862e-c01cdc291f44")
RNG_ALGORITHM_RAW = guid("e43176d7-b6e8-4827-b784-7ffdc4b68561")
MEMORY_ATTRIBUTE = guid("f4560cf6-40ec-4b4a-a192-bf1d57d0b189")
GLOBAL_VARIABLE = guid("8be4df61-93ca-11d2-aa0d-00e098032b8c")
IMAGE_SECURITY_DATABASE = guid("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
ACPI_10, ACPI_20 = guid("eb9d2d30-2d88-11d3-9a16-0090273fc14d"), guid("8868e871-e4f1-11d3-bc22-0080c73c8881")
SMBIOS = guid("eb9d2d31-2d88-11d3-9a16-0090273fc14d")
# Linux: include/linux/efi.h
INITRD_MEDIA = guid("5568e427-68fc-4f3d-ac74-ca555231cc68")
# OvmfPkg/Include/Guid/QemuKernelLoaderFsMedia.h
QEMU_KERNEL_LOADER = guid("1428f772-b64a-441e-b8c3-9ebdd7f893c7")

#: protocols by which LoadImage reads what a device path names
BY_FILE = frozenset({LOAD_FILE, LOAD_FILE2, SIMPLE_FILE_SYSTEM})

_NAMES = {value: name for name, value in list(globals().items()) if isinstance(value, bytes)}


def guid_name(value: bytes) -> str:
    """What messages call it: its name, if it is one of these."""
    return _NAMES.get(value) or str(uuid.UUID(bytes_le=value))
