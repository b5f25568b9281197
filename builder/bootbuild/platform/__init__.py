"""Behaviour that several environments share: devices and hypervisor interfaces. Knows no target."""

from __future__ import annotations

from bootbuild.platform.pc import Pc, ReducedAcpi
from bootbuild.platform.xen import Xen, XenDomain
from bootbuild.platform.xen_hvm import XenHvm

__all__ = ["Pc", "ReducedAcpi", "Xen", "XenDomain", "XenHvm"]
