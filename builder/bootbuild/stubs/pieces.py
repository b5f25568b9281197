"""The core's own pieces: the switches between widths, and the back for the native guest."""

from __future__ import annotations

from bootbuild.model.waist import Piece, Waist
from bootbuild.stubs.load import load

_PACKAGE = "bootbuild"


def switches() -> tuple[Piece, ...]:
    """Every switch that can stand between a front and a back. Raises PluginError as `load` does."""
    return (
        Piece(load(_PACKAGE, "switch_32_64"), "bb_switch_32_64", takes=Waist(32), leaves=Waist(64)),
        Piece(load(_PACKAGE, "switch_64_32"), "bb_switch_64_32", takes=Waist(64), leaves=Waist(32)),
    )


def native_ring3() -> Piece:
    """The back that enters a native guest's startup path in ring 3, on the hypervisor's page tables."""
    takes = Waist(64, privilege=3, owns_paging=False)
    return Piece(load(_PACKAGE, "native_64_ring3"), "bb_native_64_ring3", takes=takes, leaves=None)


def native_boot_services() -> Piece:
    """The back that enters a native guest's startup path on the tables of firmware that is alive."""
    takes = Waist(64, owns_paging=False, boot_services=True)
    return Piece(load(_PACKAGE, "native_64_efi"), "bb_native_64_efi", takes=takes, leaves=None)


def native(width: int) -> Piece:
    """The back that enters a native guest's startup path of `width` 32 or 64 (docs/handover.md)."""
    return Piece(load(_PACKAGE, f"native_{width}"), f"bb_native_{width}", takes=Waist(width), leaves=None)
