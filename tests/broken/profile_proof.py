"""Pieces of tiny guests, and the verdict of a PVH profile on one."""

from __future__ import annotations

from collections.abc import Callable

from bootbuild.api import Profile
from bootbuild.boot.prove import prove
from bootbuild.boot.run import Subject
from bootbuild.host import Host
from bootbuild.model.verdict import ProfileVerdict
from bootbuild_pvh.environments import CloudHypervisor, Firecracker, Qemu, QemuMicrovm, XenDom0, XenDomU
from tiny_guest import BSS, u32

PROFILES: dict[str, Callable[[], Profile]] = {
    "qemu": Qemu,
    "qemu-microvm": QemuMicrovm,
    "xen-domu": XenDomU,
    "xen-dom0": XenDom0,
    "firecracker": Firecracker,
    "cloud-hypervisor": CloudHypervisor,
}


def proved(what: Subject, name: str, disabled: frozenset[str] = frozenset()) -> ProfileVerdict:
    """The verdict of a profile whose loader model is asked first, as in every boot."""
    profile = PROFILES[name]()
    return prove(what, profile, Host.discover().loader(profile.loader), disabled=disabled)


def branch(test: bytes, taken: bytes = b"\x90" * 4) -> bytes:
    """Test; jz over `taken`: two different blocks whichever way the flags go."""
    return test + b"\x74" + bytes([len(taken)]) + taken


def out_byte(port: int, value: int) -> bytes:
    """mov $port, %dx; mov $value, %al; out %al, %dx."""
    return b"\x66\xba" + port.to_bytes(2, "little") + b"\xb0" + bytes([value]) + b"\xee"


BSS_IS_ZERO = branch(b"\x83\x3d" + u32(BSS) + b"\x00")  # cmpl $0, BSS
