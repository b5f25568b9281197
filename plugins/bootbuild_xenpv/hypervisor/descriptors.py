"""Which segment descriptors a guest may have: check_descriptor, xen/arch/x86/pv/descriptor-tables.c."""

from __future__ import annotations

from bootbuild_xenpv.hypervisor.hypercall import Refused

FIRST_XEN_DESCRIPTOR = 14 * 512  #: FIRST_RESERVED_GDT_ENTRY
_FLAT_KERNEL_CS = 0xE033
# Of the upper half
_PRESENT, _SYSTEM, _TYPE, _CALL_GATE, _DPL = 1 << 15, 1 << 12, 0xF00, 0xC00, 3 << 13
_GATE_RESERVED = 0xFF


def descriptor(value: int) -> int:
    """The descriptor as it comes into the table: code and data for ring 3. Raises Refused."""
    high = value >> 32
    if not high & _PRESENT:
        return value
    if high & _SYSTEM:
        return value | _DPL << 32
    if high & _TYPE == 0:
        return value  # of the second half of a call gate; harmless
    if high & _TYPE != _CALL_GATE:
        raise Refused(f"descriptor {value:#x} is neither code nor data nor a call gate")
    selector = value >> 16 & 0xFFFF
    if not (selector >> 3 < FIRST_XEN_DESCRIPTOR or selector == _FLAT_KERNEL_CS or selector & 4):
        raise Refused(f"call gate {value:#x} leads to {selector:#x}, a descriptor of Xen's")
    if high & _GATE_RESERVED:
        raise Refused(f"call gate {value:#x} has bits {high & _GATE_RESERVED:#x} set, which are reserved")
    # For ring 0, so that Xen sees each use; the selector's RPL tells for which ring it was meant
    return value & ~(_DPL << 32) | 3 << 16
