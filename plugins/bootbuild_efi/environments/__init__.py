"""Profiles of target `efi`: OVMF as it is, and firmware that is stricter, poorer or fuller than that."""

from bootbuild_efi.environments.profiles import (
    LowMemory,
    NoInitrd,
    NoMemattr,
    Ovmf,
    SecureBoot,
    Taken,
    Vga,
    WxStrict,
)

__all__ = ["LowMemory", "NoInitrd", "NoMemattr", "Ovmf", "SecureBoot", "Taken", "Vga", "WxStrict"]
