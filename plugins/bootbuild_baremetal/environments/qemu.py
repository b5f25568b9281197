"""QEMU's own Multiboot loader on machine pc: SeaBIOS and the option ROM multiboot_dma.bin."""

from __future__ import annotations

import struct

from bootbuild.abi import multiboot
from bootbuild.abi.handover import BootType
from bootbuild.abi.multiboot import MultibootInfo, MultibootModule
from bootbuild.api import (
    ElfImage,
    Evidence,
    Given,
    GivenModule,
    InputError,
    Load,
    Offer,
    Problem,
    Span,
    TableRegister,
    align_up,
    content_digest,
)
from bootbuild.platform.flat32 import flat_state
from bootbuild.platform.loading import RESET_TR, MiB, Overwritten, check_memory, memory_size, put
from bootbuild.platform.rules import DOES_NOT_FIT
from bootbuild.platform.seabios import RSDP, SHADOW, SeabiosPc
from bootbuild_baremetal.environments import kernel as read
from bootbuild_baremetal.environments.kernel import Kernel
from bootbuild_baremetal.environments.profile import MultibootProfile, Setting

_PAGE = 4096
_MEMORY_MAP, _INFO = 0x9000, 0x9500  #: ADDR_E820_MAP, ADDR_MBI
_HANDED = Span(_MEMORY_MAP, _INFO + multiboot.SIZE_WITHOUT_FRAMEBUFFER - _MEMORY_MAP)
_FLAGS = 0x24F  #: memory, boot device, command line, modules, memory map and loader name, always
_BOOT_DEVICE = 0x8000FFFF
_NAME = b"qemu"
# the option ROM's own: null, 32-bit code, 32-bit data, 16-bit code, 16-bit data
_GDT_AT = 0xC02B8
_GDT = struct.pack("<5Q", 0, 0x00CF9A000000FFFF, 0x00CF93000000FFFF, 0x00009E000000FFFF, 0x000092000000FFFF)
_STACK = Overwritten(Span(0x6E00, 0x200), "multiboot_dma.bin has its stack there")


class Multiboot1(MultibootProfile):
    """`qemu-system-x86_64 -M pc -cpu max -nodefaults -kernel FILE -append … -initrd "FILE words,…"`.

    The command line begins with the kernel's file name, that of a module with the module's. Kernel, strings
    and modules are one block of memory.
    """

    target, name, loader = "multiboot1", "qemu", "qemu"
    version = "7.2"
    evidence = Evidence.ORACLE
    boot_type = BootType.MULTIBOOT1
    source = "hw/i386/multiboot.c; registers and memory dumped under QEMU 7.2.22 (tests/oracles)"
    summary = "QEMU, machine pc (SeaBIOS and multiboot_dma.bin)"

    def kernel(self, image: ElfImage) -> Kernel:
        return read.multiboot1(image, read.qemu_entry)

    def setting(self, image: ElfImage, kernel: Kernel, offer: Offer) -> Setting:
        pc = SeabiosPc(memory_size(image, offer))
        upper = (pc.top - MiB) // 1024  # KiB
        check_memory(image, (part.span for part in kernel.parts), pc.ram)  # so that addresses have 32 bits
        given, modules, block = self._handed(image, kernel, offer, pc, upper)
        check_memory(image, [block], pc.ram)
        if block.overlaps(_HANDED):
            text = f"QEMU copies {block} as one block, over the information at {_HANDED}"
            raise InputError(Problem(DOES_NOT_FIT, image.name, text))
        registers = {
            "rax": multiboot.MAGIC,
            "rbx": _INFO,
            "rcx": kernel.entry,
            "rdx": upper & ~0xFFFF | 0x511,  # the data port of fw_cfg, in what mem_upper was in
            "rdi": int.from_bytes(kernel.entry.to_bytes(4, "little"), "big"),  # as fw_cfg's DMA has it
            "rsp": 0x6F08,
            "rflags": 0x6,
        }
        state = flat_state(
            kernel.entry,
            registers,
            code=0x08,
            data=0x10,
            tr=RESET_TR,
            gdtr=TableRegister(_GDT_AT, len(_GDT) - 1),
            idtr=TableRegister(0, 0x3FF),
        )
        return Setting(
            regions=pc.regions,
            image=tuple(kernel.loads(image.content)),
            given=given,
            modules=modules,
            state=state,
            platform=pc.platform(),
            extras=(put(_GDT_AT, _GDT), *pc.acpi),
            overwritten=(_STACK, SHADOW),
        )

    def _handed(
        self, image: ElfImage, kernel: Kernel, offer: Offer, pc: SeabiosPc, upper: int
    ) -> tuple[Given, tuple[Load, ...], Span]:
        """What is handed over, the modules, and the block that all but the structure itself lies in."""
        first = min(part.address for part in kernel.parts)
        listing = first + align_up(max(part.span.end for part in kernel.parts) - first, _PAGE)
        cmdline = b" ".join((image.name.encode(), offer.cmdline))
        texts = [
            b" ".join((name.encode(), text)) if text else name.encode() for name, _, text in offer.modules
        ]
        string = listing + multiboot.MODULE_SIZE * len(texts)
        value = b",".join(text.replace(b",", b",,") for text in texts)  # of -initrd, as one writes it
        room = len(cmdline) + 1 + (len(value) + 1 if texts else 0)
        name = string + room
        at = align_up(name + len(_NAME) + 1 - first, _PAGE) + first
        strings, listed, modules, found = [], [], [], []
        for (_, content, _), text in zip(offer.modules, texts, strict=True):
            listed.append(MultibootModule(at, at + content.size, string))
            modules.append(Load(at, content, 0, content.size, content.size))
            found.append(GivenModule(Span(at, content.size), content_digest(content), text))
            strings.append(put(string, text + b"\0"))
            string += len(text) + 1
            at = align_up(at + content.size - first, _PAGE) + first
        entries = pc.memory_map
        mapped = multiboot.pack_memory_map(entries)
        structure = MultibootInfo(
            flags=_FLAGS,
            mem_lower=entries[0].size // 1024,
            mem_upper=upper,
            boot_device=_BOOT_DEVICE,
            cmdline=string,
            mods_count=len(listed),
            mods_addr=listing,
            mmap_length=len(mapped),
            mmap_addr=_MEMORY_MAP,
            boot_loader_name=name,
        )
        given = Given(
            boot_type=self.boot_type,
            hypervisor_type=self.hypervisor,
            data=_INFO,
            cmdline=cmdline,
            modules=tuple(found),
            memory_map=entries,
            rsdp=RSDP,  # nobody hands it over: a kernel looks for it
            native_map=Span(_MEMORY_MAP, len(mapped)),
            structures=(
                put(_INFO, structure.pack(multiboot.SIZE_WITHOUT_FRAMEBUFFER)),
                put(_MEMORY_MAP, mapped),
                put(string, cmdline + b"\0"),
                put(name, _NAME + b"\0"),
                *strings,
                *([put(listing, multiboot.pack_modules(listed))] if listed else []),
            ),
        )
        return given, tuple(load for load in modules if load.size), Span(first, at - first)
