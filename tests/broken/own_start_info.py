"""A monitor that hands over what a test wants: pvh@qemu with another memory map, or more modules."""

from __future__ import annotations

import struct
from dataclasses import replace

from bootbuild.abi.hvm_start_info import HvmModule, HvmStartInfo, pack_memory_map, pack_modules
from bootbuild.api import Scene
from bootbuild.model.content import MemoryContent
from bootbuild.model.machine import Filling, Load, MapEntry, Offer
from bootbuild.model.payload import ElfImage
from bootbuild.model.span import Span
from bootbuild_pvh.environments import Qemu

TABLES = 0x3000  #: free low memory of pvh@qemu


class OwnStartInfo(Qemu):
    """pvh@qemu; without arguments, as it is. `modules`: how often the one module is listed."""

    def __init__(self, memory_map: tuple[MapEntry, ...] = (), modules: int = 0) -> None:
        self._map, self._modules = memory_map, modules

    def scene(
        self, image: ElfImage, offer: Offer, filling: Filling, only: frozenset[str] | None = None
    ) -> Scene:
        scene = super().scene(image, offer, filling, only)
        given = scene.given
        own = next(load for load in scene.loads if load.address == given.data)
        info = HvmStartInfo(*struct.unpack("<4xIIIQQQQI4x", own.content.read(own.offset, own.size)))
        put = []
        if self._map:
            put.append(_load(TABLES, pack_memory_map(self._map)))
            info = replace(info, memmap_paddr=TABLES, memmap_entries=len(self._map))
            given = replace(given, memory_map=self._map, native_map=Span(TABLES, put[-1].size))
        if self._modules:
            given = replace(given, modules=given.modules * self._modules)
            listed = [HvmModule(m.span.start, m.span.size) for m in given.modules]
            put.append(_load(TABLES, pack_modules(listed)))
            info = replace(info, modlist_paddr=TABLES, nr_modules=self._modules)
        put.append(_load(given.data, info.pack()))
        kept = tuple(load for load in given.structures if load.address != given.data)
        given = replace(given, structures=(*put, *kept))
        return replace(scene, loads=(*scene.loads, *put), given=given)


def _load(address: int, data: bytes) -> Load:
    return Load(address, MemoryContent(data), 0, len(data), len(data))
