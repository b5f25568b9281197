"""GRUB 2.06, whatever firmware it runs on: its command line, its modules, and the state that it leaves."""

from __future__ import annotations

from dataclasses import dataclass

from bootbuild.api import (
    ElfImage,
    EntryState,
    Evidence,
    GivenModule,
    InputError,
    Load,
    Offer,
    Problem,
    Rule,
    Span,
    content_digest,
)
from bootbuild.platform.rules import DOES_NOT_FIT
from bootbuild_baremetal.environments.grub_words import WORDS, as_passed
from bootbuild_baremetal.environments.kernel import Kernel
from bootbuild_baremetal.environments.profile import MultibootProfile
from bootbuild_baremetal.environments.relocator import Relocator, entered

VERSION = b"GRUB 2.06-13+deb12u2"  #: PACKAGE_STRING of Debian 12
MODULE_ALIGN = 4096  #: MULTIBOOT_MOD_ALIGN: modules are page-aligned, asked for or not
MOVED = Rule(
    "BB-L335",
    "a relocatable kernel that GRUB would move",
    "A kernel with the relocatable tag (Multiboot2 §3.1.12) is not loaded where it is linked but at the "
    "lowest place between the tag's bounds that is free, or at the highest. There is none: GRUB says "
    "`couldn't find suitable memory target`. Or the alignment is no power of two, and so not kept.",
    "widen the tag's bounds, correct its alignment, or give the machine more memory; or leave the tag out",
)
_ESP = 0x7FF00  #: "some random location in low memory" (include/grub/i386/multiboot.h)


@dataclass(frozen=True)
class Placed:
    """The kernel and the modules in memory, as GRUB has put them by the command `boot`."""

    kernel: Kernel
    cmdline: bytes
    image: tuple[Load, ...]
    sections: bytes  #: the kernel's section headers, with addresses
    homeless: tuple[Load, ...]  #: the sections that got memory
    modules: tuple[Load, ...]
    given: tuple[GivenModule, ...]


class GrubProfile(MultibootProfile):
    """What GRUB does the same on every firmware."""

    version = "2.06"
    evidence = Evidence.ORACLE
    rules = (*MultibootProfile.rules, WORDS, MOVED)
    lowest_module: int  #: physical address below which no module is put
    code_size: int  #: bytes of grub_relocator32
    gdt_offset: int  #: of the GDT in that

    def placed(self, image: ElfImage, kernel: Kernel, offer: Offer, memory: Relocator) -> Placed:
        """Put kernel, sections and modules into `memory`, in GRUB's order.

        Raises InputError (BB-L003, BB-L335).
        """
        kernel = self._loaded(image, kernel, memory)
        addresses = {
            index: self._room(image, memory, size, align)
            for index, (_, size, align) in kernel.sections.homeless.items()
        }
        homeless = (
            Load(addresses[index], image.content, offset, size, size)
            for index, (offset, size, _) in kernel.sections.homeless.items()
        )
        modules = []
        for _, content, text in offer.modules:
            at = 0
            if content.size:
                at = self._room(image, memory, content.size, MODULE_ALIGN, self.lowest_module)
            modules.append((Load(at, content, 0, content.size, content.size), as_passed(text, image.name)))
        return Placed(
            kernel=kernel,
            cmdline=as_passed(offer.cmdline, image.name),
            image=tuple(kernel.loads(image.content)),
            sections=kernel.sections.placed(addresses),
            homeless=tuple(homeless),
            modules=tuple(load for load, _ in modules if load.size),
            given=tuple(
                GivenModule(Span(load.address, load.size), content_digest(load.content), text)
                for load, text in modules
            ),
        )

    @staticmethod
    def _loaded(image: ElfImage, kernel: Kernel, memory: Relocator) -> Kernel:
        """The kernel where it lies: segment by segment where it is linked, or as one piece elsewhere."""
        bounds = kernel.relocatable
        if bounds is None:
            for part in kernel.parts:
                memory.claim(part.span)
            return kernel
        if bounds.align & bounds.align - 1:
            text = f"its alignment {bounds.align:#x} is no power of two, and GRUB keeps to no other"
            raise InputError(Problem(MOVED, image.name, text))
        base = memory.put(kernel.linked.size, bounds)
        if base is None:
            limits = f"{bounds.least:#x}-{bounds.most:#x}, at multiples of {max(bounds.align, 1):#x}"
            text = f"GRUB finds no place for its {kernel.linked.size:#x} bytes in {limits}"
            raise InputError(Problem(MOVED, image.name, text))
        return kernel.at(base)

    @staticmethod
    def _room(image: ElfImage, memory: Relocator, size: int, align: int, least: int = 0) -> int:
        at = memory.place(size, align, least)
        if at is None:
            text = f"GRUB finds no room for {size:#x} bytes of it, or of its modules: out of memory"
            raise InputError(Problem(DOES_NOT_FIT, image.name, text))
        return at

    def entered(
        self, kernel: Kernel, magic: int, info: int, memory: Relocator, left: EntryState
    ) -> tuple[EntryState, Load]:
        """The state after grub_relocator32, and its GDT. `left`: what the firmware had and GRUB keeps."""
        registers = {"rax": magic, "rbx": info, "rsp": _ESP}
        return entered(kernel.entry, registers, memory, left, self.code_size, self.gdt_offset)
