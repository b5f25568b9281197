"""A loader of the Linux boot protocol that puts everything wherever it is told, above 4 GiB as well."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bootbuild.abi import acpi
from bootbuild.abi.handover import BootType, HypervisorType
from bootbuild.api import (
    Content,
    Descriptor,
    ElfImage,
    EntryState,
    Evidence,
    Filling,
    Given,
    GivenModule,
    Load,
    MapEntry,
    MemoryContent,
    Offer,
    Region,
    RegionKind,
    Rule,
    Scene,
    Span,
    Undefined,
    content_digest,
)
from bootbuild.platform.pc import Pc

MiB, GiB = 1 << 20, 1 << 30
LOW, HIGH = Span(0, 128 * MiB), Span(4 * GiB, 128 * MiB)
RSDP = 0xF0000
MAP = (
    MapEntry(0, 0x9F000, 1),
    MapEntry(RSDP, 0x10000, 2),
    MapEntry(MiB, 127 * MiB, 1),
    MapEntry(4 * GiB, 128 * MiB, 1),
)
_FLAT, _LARGE = 0x3, 0x83


def put(address: int, data: bytes) -> Load:
    return Load(address, MemoryContent(data), 0, len(data), len(data))


def tables(at: int, spans: Iterable[Span]) -> Load:
    """Page tables at `at` that map the 2 MiB pages of these spans to themselves, and nothing else."""
    pages = [bytearray(4096)]

    def below(table: int, index: int) -> int:
        entry = int.from_bytes(pages[table][8 * index : 8 * index + 8], "little")
        if not entry:
            pages.append(bytearray(4096))
            entry = at + 4096 * (len(pages) - 1) | _FLAT
            struct.pack_into("<Q", pages[table], 8 * index, entry)
        return (entry - at) // 4096

    for span in spans:
        for address in range(span.start & -2 * MiB, span.end, 2 * MiB):
            table = below(below(0, address >> 39), address >> 30 & 511)
            struct.pack_into("<Q", pages[table], 8 * (address >> 21 & 511), address | _LARGE)
    return put(at, b"".join(map(bytes, pages)))


@dataclass(frozen=True)
class Places:
    """Where the loader puts things, and what it says. Physical addresses."""

    width: int = 32  #: of the entry
    kernel: int = 0x140000  #: below where it goes, above where the kernel does
    params: int = 0x10000
    cmdline: int = 0x20000
    ramdisk: int = 64 * MiB
    fields: Mapping[int, bytes] = field(default_factory=dict)  #: over boot_params, by offset
    nodes: Sequence[tuple[int, int, int, bytes]] = ()  #: of setup_data: address, next, type, contents
    firmware: Sequence[tuple[int, bytes]] = ()  #: what else lies somewhere: address, contents
    memory_map: Sequence[MapEntry] = MAP  #: in e820_table, but for what nodes of type 1 have
    registers: Mapping[str, int] = field(default_factory=dict)


class Anywhere:
    """A profile by `places`. It promises what boot.rst does, and maps no more than that."""

    target = "linux"
    name = "anywhere"
    version = "0"
    evidence = Evidence.INFERRED
    source = summary = loader = ""
    undefined: tuple[Undefined, ...] = ()
    rules: tuple[Rule, ...] = ()

    def __init__(self, places: Places, **given: object) -> None:
        self._places = places
        self._given = given  #: what of the scene's Given is otherwise

    def scene(
        self, image: ElfImage, offer: Offer, filling: Filling, only: frozenset[str] | None = None
    ) -> Scene:
        places, file = self._places, image.file
        head = file.read(0, 0x26C)
        setup = (head[0x1F1] + 1) * 512
        kernel = Load(places.kernel, file, setup, file.size - setup, file.size - setup)
        init_size = int.from_bytes(head[0x260:0x264], "little")
        modules = [Load(places.ramdisk, c, 0, c.size, c.size) for _, c, _ in offer.modules]
        params = put(places.params, self._page(head, modules))
        cmdline = put(places.cmdline, offer.cmdline + b"\0")
        nodes = [
            put(at, struct.pack("<QII", after, kind, len(data)) + data)
            for at, after, kind, data in places.nodes
        ]
        firmware = [put(at, data) for at, data in places.firmware]
        mapped = (
            Span(kernel.address, init_size),
            Span(params.address, 4096),
            Span(cmdline.address, cmdline.size),
        )
        root = LOW.end - 64 * 4096
        given = {
            "boot_type": BootType.LINUX_64 if places.width == 64 else BootType.LINUX_32,
            "hypervisor_type": HypervisorType.TCG,
            "data": params.address,
            "cmdline": offer.cmdline,
            "modules": tuple(_given(load.address, load.content) for load in modules),
            "memory_map": tuple(places.memory_map),
            "rsdp": RSDP,
            "native_map": Span(places.params + 0x2D0, 20 * len(places.memory_map)),
            "structures": (params, cmdline, *nodes, *firmware),
        }
        return Scene(
            regions=(
                Region(Span(0, 0xA0000), RegionKind.RAM),
                Region(Span(0xE0000, 0x20000), RegionKind.ROM),
                Region(Span(MiB, 127 * MiB), RegionKind.RAM),
                Region(HIGH, RegionKind.RAM),
            ),
            loads=(
                kernel,
                params,
                cmdline,
                *nodes,
                *firmware,
                *modules,
                put(RSDP, acpi.old_rsdp(RSDP + 0x30, b"TEST  ")),
            )
            + ((tables(root, mapped),) if places.width == 64 else ()),
            state=self._state(root),
            given=Given(**{**given, **self._given}),  # type: ignore[arg-type]
            platform=Pc(hypervisor=b"TCGTCGTCGTCG", vendor=b"AuthenticAMD"),
        )

    def _page(self, head: bytes, modules: Sequence[Load]) -> bytes:
        places = self._places
        page = bytearray(0x1F1) + head[0x1F1:].ljust(4096 - 0x1F1, b"\0")

        def split(low: int, high: int, value: int) -> None:
            struct.pack_into("<I", page, low, value & 0xFFFFFFFF)
            struct.pack_into("<I", page, high, value >> 32)

        split(0x228, 0x0C8, places.cmdline)
        for module in modules:
            split(0x218, 0x0C0, module.address)
            split(0x21C, 0x0C4, module.size)
        page[0x1E8] = len(places.memory_map)
        for index, entry in enumerate(places.memory_map):
            struct.pack_into("<QQI", page, 0x2D0 + 20 * index, entry.address, entry.size, entry.type)
        struct.pack_into("<Q", page, 0x250, places.nodes[0][0] if places.nodes else 0)
        for at, data in places.fields.items():
            page[at : at + len(data)] = data
        return bytes(page)

    def _state(self, root: int) -> EntryState:
        places = self._places
        registers = {"rsi": places.params, **places.registers}
        data = Descriptor(0x18, attributes=0xC093)
        if places.width == 32:
            code = Descriptor(0x10, attributes=0xC09B)
            return EntryState("protected32", places.kernel, registers, cs=code, ds=data, es=data, ss=data)
        return EntryState(
            mode="long64",
            ip=places.kernel + 0x200,
            registers=registers,
            cr0=0x80000033,
            cr3=root,
            cr4=0x20,
            efer=0xD01,
            cs=Descriptor(0x10, attributes=0xA09B),
            ds=data,
            es=data,
            ss=data,
        )


def _given(address: int, content: Content) -> GivenModule:
    return GivenModule(Span(address, content.size), content_digest(content), b"")
