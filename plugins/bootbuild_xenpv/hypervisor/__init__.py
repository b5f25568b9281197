"""Xen as a 64-bit PV guest sees it: traps, hypercalls, page types, emulated instructions."""

from __future__ import annotations

from bootbuild_xenpv.hypervisor.domain import PvDomain
from bootbuild_xenpv.hypervisor.xen import XenPv

__all__ = ["PvDomain", "XenPv"]
