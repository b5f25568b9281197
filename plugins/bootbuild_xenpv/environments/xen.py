"""A PV domain that xl built: libxenguest's layout, its start_info, rings for store and console."""

from __future__ import annotations

from bootbuild.api import ElfImage, Evidence, MapEntry, Offer
from bootbuild_xenpv.environments import layout
from bootbuild_xenpv.environments.frames import PAGE, Frames
from bootbuild_xenpv.environments.profile import _SHARED_INFO, Setting, XenPvProfile, one_module
from bootbuild_xenpv.environments.start_info import SIF_MOD_START_PFN, StartInfo
from bootbuild_xenpv.notes import PvNotes

RAM = 1


class XenDomU(XenPvProfile):
    """`xl create` of a `type = "pv"` domain."""

    name = "domu"
    loader = "xen-xl"
    evidence = Evidence.SOURCE
    source = "tools/libs/guest/xg_dom_{core,x86}.c, xen/arch/x86/pv of Xen 4.17"
    summary = "Xen, unprivileged PV domain built by xl"
    _STORE_PORT, _CONSOLE_PORT = 1, 2

    def setting(self, image: ElfImage, notes: PvNotes, offer: Offer, frames: Frames) -> Setting:
        module = one_module(image, offer)
        size = 0 if module is None else module.size
        built = layout.domu(image, notes, size, frames.count)
        assert built.store is not None
        assert built.console is not None
        mod_start, mod_len, flags = 0, 0, 0
        if built.module is not None:
            mod_len = built.module.pages * PAGE  # xl tells whole pages
            mod_start = built.module.pfn if notes.mod_start_pfn else built.virtual(built.module)
            flags = SIF_MOD_START_PFN if notes.mod_start_pfn else 0
        outside = built.p2m_base != built.virtual(built.p2m)
        return Setting(
            layout=built,
            info=StartInfo(
                magic=b"xen-3.0-x86_64",
                nr_pages=frames.count,
                shared_info=_SHARED_INFO,
                flags=flags,
                pt_base=built.virtual(built.tables),
                nr_pt_frames=built.tables.pages,
                mfn_list=built.p2m_base,
                store_mfn=frames.p2m[built.store.pfn],
                store_evtchn=self._STORE_PORT,
                console=(frames.p2m[built.console.pfn], self._CONSOLE_PORT),
                mod_start=mod_start,
                mod_len=mod_len,
                cmd_line=offer.cmdline,
                first_p2m_pfn=built.p2m.pfn if outside else 0,
                nr_p2m_frames=built.p2m.pages if outside else 0,
            ),
            module=None if module is None else (module, mod_len),
            memory_map=(MapEntry(0, frames.count * PAGE, RAM),),
            domid=1,
            ports=(self._STORE_PORT, self._CONSOLE_PORT),
        )
