"""EFI_STATUS: UEFI 2.10, appendix D."""

from __future__ import annotations

ERROR = 1 << 63
SUCCESS = 0
LOAD_ERROR, INVALID_PARAMETER, UNSUPPORTED, BAD_BUFFER_SIZE, BUFFER_TOO_SMALL, NOT_READY = (
    ERROR | code for code in range(1, 7)
)
DEVICE_ERROR, WRITE_PROTECTED, OUT_OF_RESOURCES = (ERROR | code for code in range(7, 10))
NOT_FOUND, ACCESS_DENIED = ERROR | 14, ERROR | 15
NO_MAPPING = ERROR | 17
ALREADY_STARTED, ABORTED = ERROR | 20, ERROR | 21
SECURITY_VIOLATION = ERROR | 26
WARN_UNKNOWN_GLYPH = 1

_NAMES = {value: f"EFI_{name}" for name, value in list(globals().items()) if isinstance(value, int)}


def status_name(status: int) -> str:
    """EFI_NOT_FOUND; a number where it is none of those that firmware here returns."""
    return "EFI_SUCCESS" if status == 0 else _NAMES.get(status, f"{status:#x}")
