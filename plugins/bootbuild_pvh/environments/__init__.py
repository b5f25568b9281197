"""Profiles of target `pvh`: the machine as each monitor leaves it at the PVH entry.

The contract is Xen's docs/misc/pvh.pandoc: EBX, flat segments, CR0.PE, paging off, and nothing else. A
profile is what one program does within that contract; garbage replaces whatever the contract leaves open.
"""

from __future__ import annotations

from bootbuild_pvh.environments.cloud_hypervisor import CloudHypervisor
from bootbuild_pvh.environments.firecracker import Firecracker
from bootbuild_pvh.environments.qemu import Qemu, QemuMicrovm
from bootbuild_pvh.environments.xen import XenDom0, XenDomU

__all__ = ["CloudHypervisor", "Firecracker", "Qemu", "QemuMicrovm", "XenDom0", "XenDomU"]
