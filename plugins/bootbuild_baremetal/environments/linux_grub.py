"""GRUB 2.06 on a PC's BIOS, command linux: the 32-bit entry."""

from __future__ import annotations

from pathlib import PurePath

from bootbuild.abi import boot_params
from bootbuild.abi.handover import BootType, HypervisorType
from bootbuild.api import (
    ElfImage,
    EntryState,
    Evidence,
    Given,
    InputError,
    Load,
    Offer,
    Problem,
    Span,
    align_up,
)
from bootbuild.platform import pcbios
from bootbuild.platform.flat32 import Poison
from bootbuild.platform.loading import check_memory, put, ramdisk
from bootbuild.platform.rules import DOES_NOT_FIT
from bootbuild.platform.seabios import RSDP, SeabiosPc
from bootbuild_baremetal.environments.grub_bios import CODE_SIZE, GDT_OFFSET, LEFT
from bootbuild_baremetal.environments.grub_words import WORDS, as_passed, words
from bootbuild_baremetal.environments.linux_header import CAN_USE_HEAP, Bzimage
from bootbuild_baremetal.environments.linux_profile import (
    CMDLINE,
    UNDEFINED_32,
    LinuxProfile,
    Setting,
    given_modules,
    poisoned_32,
)
from bootbuild_baremetal.environments.profile import CONTROL_BITS
from bootbuild_baremetal.environments.relocator import Relocator, entered

# include/grub/i386/linux.h, grub-core/loader/i386/linux.c
_BZIMAGE = 0x100000  #: GRUB_LINUX_BZIMAGE_ADDR
_INITRD_MAX, _BELOW_MAX = 0x37FFFFFF, 0x10000
_GRUB = 0x72  #: type_of_loader
_CL_MAGIC, _CL_OFFSET = 0xA33F, 0x1000
_QUIET = 0x20  #: of loadflags
_HEAP_END = 0x9000 - 0x200
_MEMORY = 32 << 10  #: KiB, whatever there is
_STRUCTURE = 0x3FC  #: bytes of boot_params that GRUB's own structure has; the rest it does not clear
_REAL_MODE = Span(0x10000, 0x80000)  #: where boot_params go, at the end of what is free there
_PAGE = 4096
_INIT_SIZE_SINCE = 0x020A
# GRUB's own code and data are at the end of RAM, and leave a hole: bytes below the end, and of the hole,
# with the modules of tests/oracles
_FREE_BELOW, _HOLE, _HOLE_SIZE = 0x94000, 0x7B000, 0x7000


class Grub(LinuxProfile):
    """`linux /FILE …`, `initrd /FILE`, on the console of a serial port."""

    name, loader = "grub-32bit", "grub-linux"
    version = "2.06"
    evidence = Evidence.ORACLE
    source = "grub-core/loader/i386/linux.c; registers and boot_params dumped under GRUB 2.06 (tests/oracles)"
    summary = "GRUB 2.06 on a BIOS, command linux, into the 32-bit entry"
    hypervisor = HypervisorType.TCG
    undefined = UNDEFINED_32
    rules = (*LinuxProfile.rules, WORDS, CONTROL_BITS)

    def setting(self, image: ElfImage, offer: Offer) -> Setting:
        pc = SeabiosPc(self.memory(image, offer))
        header, initrd = self.header(image, offer), ramdisk(image, offer)
        cmdline = self._cmdline(image, header, offer)
        _, main = pc.ram
        heap = [Span(main.start, main.size - _FREE_BELOW), Span(pc.top - _HOLE, _HOLE_SIZE)]
        memory = Relocator(heap, pc.ram)
        at, alignment, size = _place(image, header, memory)
        kernel = header.kernel(at)
        check_memory(image, [Span(at, max(size, kernel.size))], pc.ram)
        modules: tuple[Load, ...] = ()
        if initrd is not None:
            room = align_up(initrd.size, _PAGE)
            highest = (min(header.initrd_addr_max, _INITRD_MAX) - _BELOW_MAX - room) & -_PAGE
            place = memory.place_high(room, _PAGE, at + align_up(size, _PAGE), highest - room)
            if place is None:
                raise _no_room(image, room)
            modules = (Load(place, initrd, 0, initrd.size, initrd.size),)
        map_room = align_up(len(pc.memory_map) * boot_params.E820_ENTRY_SIZE + _PAGE, _PAGE)
        behind = max(align_up(map_room + _STRUCTURE, _PAGE), align_up(header.setup_size - 512, _PAGE))
        params = _REAL_MODE.end - align_up(behind + header.cmdline_size + 1, _PAGE)
        if params < _REAL_MODE.start:
            raise _no_room(image, header.cmdline_size)
        values = self._values(header, at, alignment, params + behind, modules, offer)
        page = boot_params.pack(header.setup_header, values, pc.memory_map)
        entry = at + header.code32_start - _BZIMAGE
        registers = {"rsi": params, "rsp": params}
        state, gdt = entered(entry, registers, memory, LEFT, CODE_SIZE, GDT_OFFSET)
        return Setting(
            regions=pc.regions,
            kernel=(kernel,),
            given=Given(
                boot_type=BootType.LINUX_32,
                hypervisor_type=self.hypervisor,
                data=params,
                cmdline=cmdline,
                modules=given_modules(modules),
                memory_map=pc.memory_map,
                rsdp=RSDP,
                native_map=Span(
                    params + boot_params.E820_TABLE, boot_params.E820_ENTRY_SIZE * len(pc.memory_map)
                ),
                structures=(put(params, page[:_STRUCTURE]), put(params + behind, cmdline + b"\0")),
            ),
            modules=modules,
            state=state,
            platform=pc.platform(),
            extras=lambda _: (*pcbios.low_memory(), gdt, *pc.acpi),
        )

    @staticmethod
    def _cmdline(image: ElfImage, header: Bzimage, offer: Offer) -> bytes:
        """BOOT_IMAGE=, the file as the command names it, and the words. InputError (BB-L333, BB-L441)."""
        passed = as_passed(offer.cmdline, image.name)
        whole = (
            b"BOOT_IMAGE=/"
            + PurePath(image.name.removesuffix(" (vmlinux)")).name.encode()
            + (b" " + passed if passed else b"")
        )
        if len(whole) > header.cmdline_size:
            text = f"{len(whole)} bytes with BOOT_IMAGE=; this kernel takes {header.cmdline_size}"
            raise InputError(Problem(CMDLINE, image.name, text))
        return whole

    @staticmethod
    def _values(
        header: Bzimage, at: int, alignment: int, cmdline: int, modules: tuple[Load, ...], offer: Offer
    ) -> dict[str, int | bytes]:
        """boot_params but for the header and the map. GRUB zeroes boot_flag, and takes VGA for granted."""
        quiet = any(word.startswith(b"quiet") for word in words(offer.cmdline, ""))
        values: dict[str, int | bytes] = {
            "ext_mem_k": _MEMORY,
            "alt_mem_k": _MEMORY,
            "orig_video_mode": 3,
            "orig_video_cols": 80,
            "orig_video_lines": 25,
            "orig_video_isVGA": 1,
            "orig_video_points": 16,
            "cl_magic": _CL_MAGIC,
            "cl_offset": _CL_OFFSET,
            "boot_flag": 0,
            "type_of_loader": _GRUB,
            "loadflags": header.loadflags | CAN_USE_HEAP | _QUIET * quiet,
            "code32_start": at + header.code32_start - _BZIMAGE,
            "heap_end_ptr": _HEAP_END,
            "cmd_line_ptr": cmdline,
            "kernel_alignment": alignment,
            "ramdisk_image": 0,
            "ramdisk_size": 0,
        }
        for module in modules:
            values |= {"ramdisk_image": module.address, "ramdisk_size": module.size, "root_dev": 0x0100}
        return values

    def poisoned(self, exact: EntryState, poison: Poison) -> EntryState:
        return poisoned_32(exact, poison)


def _place(image: ElfImage, header: Bzimage, memory: Relocator) -> tuple[int, int, int]:
    """Address, alignment and size of the kernel, init_size and all. Raises InputError (BB-L003)."""
    size, least = header.kernel_size, header.kernel_alignment
    if header.version >= _INIT_SIZE_SINCE:
        size, least = header.init_size, 1 << header.min_alignment
    room, alignment = align_up(max(size, 1), _PAGE), header.kernel_alignment
    if not header.relocatable:
        memory.claim(Span(_BZIMAGE, room))
        return _BZIMAGE, alignment, size
    wanted = header.pref_address
    at = memory.place(room, 1, wanted, wanted + room)
    while at is None and alignment >= max(least, 1):
        at = memory.place(room, alignment, 0x1000000)
        alignment //= 1 if at is not None else 2
    if at is None:
        raise _no_room(image, room)
    return at, alignment, size


def _no_room(image: ElfImage, size: int) -> InputError:
    return InputError(
        Problem(DOES_NOT_FIT, image.name, f"GRUB finds no room for {size:#x} bytes: out of memory")
    )
