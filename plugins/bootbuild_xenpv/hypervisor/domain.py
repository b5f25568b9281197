"""What the hypervisor is told of the domain that it runs: where the builder put things."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bootbuild.api import MapEntry, Span
from bootbuild_xenpv.environments.frames import PAGE, Frames

M2P_BASE, M2P_END = 0xFFFF800000000000, 0xFFFF804000000000  #: MACH2PHYS_VIRT_START, _END: xen-x86_64.h
XEN_START, XEN_END = 0xFFFF800000000000, 0xFFFF880000000000  #: HYPERVISOR_VIRT_START, _END
LOW_END = 1 << 47

_RAM = 1  #: E820 type


def is_guests(address: int) -> bool:
    """Whether a virtual address may be a guest's: __addr_ok, asm-x86/x86_64/uaccess.h."""
    return not LOW_END <= address < XEN_END


@dataclass(frozen=True)
class PvDomain:
    """One domain and its machine. Addresses are machine addresses unless they say virtual."""

    domid: int
    frames: Frames = field(repr=False)
    root: int  #: frame of the page table root
    kernel_stack: int  #: virtual: where the boot stack begins
    shared_info: int
    m2p: int  #: Xen's table of all machine frames
    m2p_entries: int
    gdt: int  #: virtual: where Xen maps the descriptor table of the vCPU
    gdt_table: int  #: the page table that maps the guest's fourteen pages of it
    zero_page: int  #: what stands where the guest has no page of descriptors
    grant_frames: range  #: frames that Xen has for the grant table
    status_frames: range  #: and, in its second version, for the states of grants
    own_slots: Mapping[int, int]  #: entries of Xen's slots in every root
    memory_map: tuple[MapEntry, ...]
    machine_map: tuple[MapEntry, ...]  #: the machine's, which only the control domain is told
    console_frame: int = 0
    console_port: int = 0
    store_frame: int = 0
    store_port: int = 0
    io_memory: tuple[Span, ...] = ()  #: machine ranges that are no RAM and that the domain may map
    extended_cr3: bool = False  #: VMASST_TYPE_pae_extended_cr3 is on

    def is_memory(self, frame: int) -> bool:
        """Whether the machine has RAM there, the domain's own or not."""
        at = frame * PAGE
        return any(e.type == _RAM and e.address <= at < e.address + e.size for e in self.machine_map)

    @property
    def privileged(self) -> bool:
        """Whether it is the control domain."""
        return self.domid == 0
