"""The profiles: which firmware, how much memory, and how command line and initrd are handed over."""

from __future__ import annotations

from bootbuild.abi.application import CMDLINE, KERNEL, MODULE
from bootbuild.abi.handover import BootType, HypervisorType
from bootbuild.api import (
    Content,
    ElfImage,
    Evidence,
    Filling,
    Given,
    GivenModule,
    InputError,
    MemoryContent,
    Offer,
    Problem,
    Rule,
    Scene,
    Span,
    Undefined,
    align_up,
    content_digest,
    grain_of,
)
from bootbuild.platform.flat32 import poison_of
from bootbuild.platform.loading import OTHER_MEMORY, GiB, MiB, ramdisk
from bootbuild.platform.rules import DOES_NOT_FIT, MODULES
from bootbuild.platform.uefi import ovmf, rules
from bootbuild.platform.uefi.graphics import Display
from bootbuild.platform.uefi.pages import Refused
from bootbuild.platform.uefi.pe_image import NotAnImage, PeImage, read_pe
from bootbuild.platform.uefi.start import UNDEFINED, Traits, start

_MODULES = (MODULE, ".initrd")  #: the latter of a unified kernel image


def options_of(cmdline: bytes, initrd: bool) -> bytes:
    """LoadOptions as OVMF 2022.11 has them from QEMU's -append and -initrd, before they become UCS-2.

    OvmfPkg/Library/X86QemuLoadImageLib: one character for each byte.
    """
    return cmdline + (b" initrd=initrd" if initrd else b"")


class EfiProfile:
    """Firmware that starts a PE. Subclasses are data."""

    target = "efi"
    name: str
    summary: str
    version = "2022.11"
    evidence = Evidence.ORACLE
    source = "EDK2; dumped in OVMF 2022.11 as QEMU's -kernel starts it (tests/oracles)"
    loader = "edk2"
    undefined: tuple[Undefined, ...] = UNDEFINED
    rules: tuple[Rule, ...] = (*rules.RULES, DOES_NOT_FIT, MODULES)
    levels = True
    memory = 512 * MiB
    traits = Traits()

    def scene(
        self, image: ElfImage, offer: Offer, filling: Filling, only: frozenset[str] | None = None
    ) -> Scene:
        poison = poison_of(filling, only, self.undefined)
        pe = _pe(image)
        machine = ovmf.Ovmf(_memory(offer, self.memory))
        brought = any(pe.section(name) for name in _MODULES)
        initrd = None if brought or not self.traits.initrd else ramdisk(image, offer)
        options = b"" if pe.section(CMDLINE) else options_of(offer.cmdline, initrd is not None)
        if not options.isascii():
            at = next(at for at, byte in enumerate(options) if byte > 0x7F)
            text = f"byte {at} of the command line is {options[at]:#x}"
            raise InputError(Problem(rules.NOT_ASCII, image.name, text))
        try:
            started = start(
                pe,
                machine,
                poison,
                self.traits,
                options=(options.decode("latin-1") + "\0").encode("utf-16-le") if options else b"",
                initrd=initrd,
                files=_files(image, offer.cmdline, initrd),
                above=_kernel_end(image) if pe.section(KERNEL) else 0,
            )
        except NotAnImage as reason:
            raise InputError(Problem(rules.NO_PE, image.name, str(reason))) from None
        except Refused as reason:
            text = f"the firmware has no room for the image: {reason}"
            raise InputError(Problem(DOES_NOT_FIT, image.name, text)) from None
        given = Given(
            boot_type=BootType.EFI,
            hypervisor_type=HypervisorType.TCG,
            data=machine.system_table,
            cmdline=offer.cmdline if pe.section(CMDLINE) else options,
            modules=tuple(
                GivenModule(Span(0, content.size), content_digest(content), text)
                for _, content, text in (offer.modules if brought or initrd is not None else ())
            ),
            memory_map=(),
            rsdp=machine.rsdp_address,
            efi_system_table=machine.system_table,
            firmware=started.state,
            secure_boot=self.traits.secure_boot,
        )
        return Scene(
            regions=started.regions,
            loads=started.loads,
            state=started.state,
            given=given,
            platform=started.firmware,
            poisoned=poison.names,
            garbage=poison.memory,
            grain=grain_of(image) if pe.section(KERNEL) else 0,
        )


def _files(image: ElfImage, cmdline: bytes, initrd: Content | None) -> dict[str, Content]:
    """What QEMU's loader has of -kernel, -append and -initrd, by OVMF's names: QemuKernelLoaderFsDxe."""
    initrd = initrd if initrd is not None else MemoryContent(b"")
    return {"kernel": image.file, "initrd": initrd, "cmdline": MemoryContent(cmdline + b"\0")}


def _kernel_end(image: ElfImage) -> int:
    """Up to where kernel and stubs will be: an address below means this place, and none in the program."""
    return align_up(image.physical_end + 4 * MiB, 2 * MiB)


def _pe(image: ElfImage) -> PeImage:
    try:
        return read_pe(image.file)
    except NotAnImage as reason:
        raise InputError(Problem(rules.NO_PE, image.name, f"not a PE that UEFI starts: {reason}")) from None


def _memory(offer: Offer, usual: int) -> int:
    memory = offer.memory or usual
    if memory not in range(128 * MiB, 2 * GiB + 1, 4096):
        text = f"{memory:#x} bytes of RAM; this machine has 128 MiB to 2 GiB, in whole pages"
        raise InputError(Problem(DOES_NOT_FIT, "memory", text, OTHER_MEMORY))
    return memory


class Ovmf(EfiProfile):
    """QEMU's q35 with Debian's OVMF, as `-kernel`, `-append` and `-initrd` give it a program."""

    name = "ovmf"
    summary = "OVMF 2022.11 on QEMU's q35, program, options and initrd as -kernel, -append, -initrd give them"


class _Derived(EfiProfile):
    """OVMF with one thing changed, as other firmware has it."""

    evidence = Evidence.SOURCE


class WxStrict(_Derived):
    """Firmware with memory protection: no page is writable and executable."""

    name = "wx-strict"
    summary = "firmware where no page is writable and executable, with EFI_MEMORY_ATTRIBUTE_PROTOCOL"
    loader = "edk2-protected"
    traits = Traits(memory_attribute=True, strict=True)
    may_give_up = (rules.FAILED.id,)  # UEFI promises nobody memory that is writable and executable


class NoMemattr(_Derived):
    """Firmware with memory protection, and no protocol to change it by."""

    name = "no-memattr"
    summary = "the same without EFI_MEMORY_ATTRIBUTE_PROTOCOL: memory that is allocated as data stays so"
    loader = "edk2-protected"
    traits = Traits(strict=True)


class SecureBoot(_Derived):
    """Firmware that has checked a signature, and has random numbers."""

    name = "secure-boot"
    summary = "Secure Boot is on: variable SecureBoot is 1, and nobody may change what is signed"
    traits = Traits(secure_boot=True, random=True)


class NoInitrd(_Derived):
    """Firmware that offers no initrd."""

    name = "no-initrd"
    summary = "no initrd is offered by LoadFile2"
    traits = Traits(initrd=False)


class LowMemory(_Derived):
    """A machine with hardly more memory than the firmware takes."""

    name = "low-memory"
    summary = "192 MiB of RAM, of which the firmware has a third"
    may_give_up = (rules.FAILED.id,)
    memory = 192 * MiB


class Taken(_Derived):
    """Firmware that keeps the memory for good for which kernels are linked."""

    name = "taken"
    summary = "the firmware keeps the memory from 1 to 64 MiB for good, as reserved and runtime memory"
    traits = Traits(taken=True)
    may_give_up = (rules.FAILED.id,)


class Vga(_Derived):
    """A machine with a screen."""

    name = "vga"
    summary = "a screen of 1280x800 pixels by EFI_GRAPHICS_OUTPUT_PROTOCOL, as OVMF has it of QEMU's VGA"
    traits = Traits(display=Display())
