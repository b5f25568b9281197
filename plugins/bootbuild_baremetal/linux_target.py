"""Target `linux`: an image that every loader of the Linux/x86 boot protocol starts."""

from __future__ import annotations

from dataclasses import fields, replace

from bootbuild.api import (
    BzimageSpec,
    Contribution,
    ElfImage,
    Guest,
    Payload,
    Piece,
    Problem,
    RefusedError,
    Waist,
    chain_of,
    claims_target,
    load_blob,
    phys32_entry,
)
from bootbuild_baremetal.linux_options import LinuxOptions
from bootbuild_baremetal.linux_rules import (
    NO_BZIMAGE,
    NO_CHAIN,
    NO_ROUTE,
    PVH_FIRST,
    RULES,
    UNREAD,
    UNWRITTEN,
)

ENTRY, ENTRY_64 = "bb_linux_entry", "bb_linux_entry_64"
# XLF_KERNEL_64, XLF_CAN_BE_LOADED_ABOVE_4G, XLF_5LEVEL: asm/bootparam.h. The 64-bit entry leaves long mode.
_XLOADFLAGS = 0x01 | 0x02 | 0x20


class Linux:
    """Packs a kernel and a front stub into a bzImage; or adds the front to the ELF file, at e_entry."""

    name = "linux"
    summary = "Linux/x86 boot protocol (bzImage): GRUB, QEMU, kexec, VMMs"
    options = LinuxOptions
    rules = RULES
    packed = True  #: its loaders read the file that the kernel is packed in

    def contribute(self, payload: Payload, guest: Guest, options: LinuxOptions) -> Contribution:
        """One front for all three entries. Raises RefusedError (BB-L401, BB-L405, BB-L406)."""
        if options.header:
            names = ", ".join(options.header)
            text = f"header: {names}: an inserted header has keys of its own"
            raise RefusedError(Problem(UNREAD, payload.source, text))
        if options.container == "elf" and (own := phys32_entry(payload.elf, repaired=True)) is not None:
            text = f"the kernel's own PVH note leads to {own:#x}"
            raise RefusedError(Problem(PVH_FIRST, payload.source, text))
        width = payload.startup.width
        blob = load_blob("bootbuild_baremetal", "linux_front")
        elf = options.container == "elf"
        front = Piece(blob, ENTRY_64 if elf else ENTRY, None, Waist(32))
        made = Contribution(
            target=self.name,
            guest=guest.name,
            container=options.container,
            startup=payload.startup,
            chain=chain_of(front, guest.back(width), payload, guest, NO_ROUTE),
            companions=(load_blob("bootbuild_baremetal", f"baremetal_post_{width}"),),
        )
        if elf:
            return replace(made, entry_point=ENTRY_64, physical_entry=True)
        head = load_blob("bootbuild_baremetal", "linux_head")
        return replace(
            made,
            bzimage=BzimageSpec(
                setup=load_blob("bootbuild_baremetal", "linux_setup"),
                head=Piece(head, "bb_linux_head", None, Waist(32)),
                compress="" if options.compress == "none" else options.compress,
            ),
            setup_header=(
                ("xloadflags", _XLOADFLAGS),
                ("cmdline_size", options.cmdline_size),
                ("initrd_addr_max", options.initrd_addr_max),
            ),
        )

    def native(self, payload: Payload, guest: Guest, options: LinuxOptions) -> Contribution:
        """The bzImage, with other header fields if so asked. Raises RefusedError (BB-L402, BB-L404)."""
        default = LinuxOptions()
        said = [
            f.name
            for f in fields(options)
            if f.name != "header" and getattr(options, f.name) != getattr(default, f.name)
        ]
        if said:
            text = f"{', '.join(said)}: the bzImage is the kernel's own; only `header` is read"
            raise RefusedError(Problem(UNWRITTEN, payload.source, text))
        if not payload.format.startswith("bzimage"):
            raise RefusedError(
                Problem(NO_BZIMAGE, payload.source, f"the payload is no bzImage but {payload.format}")
            )
        return Contribution(
            target=self.name,
            guest=guest.name,
            container="bzimage",
            startup=payload.startup,
            setup_header=tuple(options.header.items()),
        )

    def chain(self, payload: Payload, guest: Guest, options: LinuxOptions) -> Contribution:
        """There is no such stub."""
        text = "a bzImage unpacks itself, and leaves a chained stub nothing to do"
        raise RefusedError(Problem(NO_CHAIN, payload.source, text))

    def entry_of(self, image: ElfImage) -> int | None:
        """The 32-bit entry where the header would have it; of an ELF file of ours the 64-bit one."""
        if image.packing is None:
            return image.entry if claims_target(image, self.name) else None
        head = image.file.read(0, 0x280)
        if head[0x202:0x206] != b"HdrS":
            return None
        relocatable, preferred = head[0x234], int.from_bytes(head[0x258:0x260], "little")
        return preferred if relocatable and preferred else int.from_bytes(head[0x214:0x218], "little")
