"""A PV domain that xl built, and a PV dom0 that the hypervisor built itself."""

from __future__ import annotations

from bootbuild.api import ElfImage, Evidence, InputError, MapEntry, Offer, Problem, Span
from bootbuild_xenpv.environments import layout, start_info
from bootbuild_xenpv.environments.frames import PAGE, Frames
from bootbuild_xenpv.environments.layout import Layout
from bootbuild_xenpv.environments.machine import RAM, SHARED_INFO
from bootbuild_xenpv.environments.profile import Setting, XenPvProfile, one_module
from bootbuild_xenpv.environments.start_info import (
    SIF_INITDOMAIN,
    SIF_MOD_START_PFN,
    SIF_PRIVILEGED,
    StartInfo,
)
from bootbuild_xenpv.notes import PvNotes
from bootbuild_xenpv.rules import TRANSLATED

MAGIC = b"xen-3.0-x86_64"
_PM_BITS = 3 << 8  #: XEN_PROCESSOR_PM_CX and _PX: Xen leaves power management to dom0


class XenDomU(XenPvProfile):
    """`xl create` of a `type = "pv"` domain: libxenguest's layout, rings for store and console."""

    name = "domu"
    loader = "xen-xl"
    evidence = Evidence.ORACLE
    source = "tools/libs/guest/xg_dom_{core,x86}.c; dumped in a real domU under Xen 4.17.7 (tests/oracles)"
    summary = "Xen, unprivileged PV domain built by xl"
    _STORE_PORT, _CONSOLE_PORT = 1, 2

    def setting(self, image: ElfImage, notes: PvNotes, offer: Offer, frames: Frames) -> Setting:
        if notes.translated:
            text = "FEATURES requires auto_translated_physmap"
            raise InputError(Problem(TRANSLATED, image.name, text))
        module = one_module(image, offer)
        built = layout.domu(image, notes, module.size if module else 0, frames.count)
        assert built.store is not None
        assert built.console is not None
        mod_len = module.size if module else 0
        if built.module and notes.mod_start_pfn:
            mod_len = built.module.pages * PAGE  # then xl tells whole pages
        outside = built.p2m_frames
        return Setting(
            layout=built,
            info=StartInfo(
                magic=MAGIC,
                nr_pages=frames.count,
                shared_info=SHARED_INFO,
                flags=_module_flag(notes, built),
                pt_base=built.virtual(built.tables),
                nr_pt_frames=built.tables.pages,
                mfn_list=built.p2m_base,
                store_mfn=frames.p2m[built.store.pfn],
                store_evtchn=self._STORE_PORT,
                console=(frames.p2m[built.console.pfn], self._CONSOLE_PORT),
                mod_start=_module_start(notes, built),
                mod_len=mod_len,
                cmd_line=offer.cmdline,
                first_p2m_pfn=outside.pfn if outside.pages else 0,
                nr_p2m_frames=outside.pages,
            ),
            module=None if module is None else (module, mod_len),
            memory_map=(MapEntry(0, frames.count * PAGE, RAM),),
            domid=1,
            ports=(self._STORE_PORT, self._CONSOLE_PORT),
        )


class XenDom0(XenPvProfile):
    """The kernel beside Xen in the boot loader's configuration: the control domain, on Xen's own console."""

    name = "dom0"
    loader = "xen-libelf"
    evidence = Evidence.ORACLE
    source = "xen/arch/x86/pv/dom0_build.c; dumped in a real dom0 under Xen 4.17.7 (tests/oracles)"
    summary = "Xen, PV dom0 built by the hypervisor"
    builds_in_place = True
    _LEGACY = Span(0x9F000, 0x61000)  #: EBDA, video memory and firmware, which dom0 may map
    _VIDEO = start_info.SIZE | 0x28 << 32  #: info_off and info_size: struct dom0_vga_console_info, all zero

    def setting(self, image: ElfImage, notes: PvNotes, offer: Offer, frames: Frames) -> Setting:
        module = one_module(image, offer)
        size = module.size if module else 0
        built = layout.dom0(image, notes, size, frames.count)
        return Setting(
            layout=built,
            info=StartInfo(
                magic=MAGIC + b"p" * notes.pae,
                nr_pages=frames.count,
                shared_info=SHARED_INFO,
                flags=SIF_PRIVILEGED | SIF_INITDOMAIN | _PM_BITS | _module_flag(notes, built),
                pt_base=built.virtual(built.tables),
                nr_pt_frames=built.tables.pages,
                mfn_list=built.p2m_base,
                console=(self._VIDEO, 0),
                mod_start=_module_start(notes, built),
                mod_len=size,
                cmd_line=offer.cmdline,
                first_p2m_pfn=built.p2m_frames.pfn,
                nr_p2m_frames=built.p2m_frames.pages,
            ),
            module=None if module is None else (module, size),
            memory_map=(MapEntry(0, frames.count * PAGE, RAM),),
            domid=0,
            io_memory=(self._LEGACY,),
            extended_cr3=notes.pae,
        )


def _module_flag(notes: PvNotes, built: Layout) -> int:
    return SIF_MOD_START_PFN if built.module and notes.mod_start_pfn else 0


def _module_start(notes: PvNotes, built: Layout) -> int:
    """Virtual, or the frame's number where the kernel does not want it mapped."""
    if built.module is None:
        return 0
    return built.module.pfn if notes.mod_start_pfn else built.virtual(built.module)
