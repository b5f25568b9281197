"""A UEFI application of bootbuild's: sections by which stub and readers find what it carries; how much."""

KERNEL = ".payload"  #: an ELF file, whole
RECORD = ".bbinfo"  #: what the image says of itself: notes of owner `bootbuild`
STUBS = ".stubs"  #: what will stand behind the kernel
CMDLINE = ".cmdline"  #: without a NUL
MODULE, MODULE_CMDLINE = ".module", ".modargs"  #: a module, and its own command line behind it
SBAT = ".sbat"  #: by which shim revokes

#: bytes of all command lines with the NUL of each, and modules: bootbuild_efi/stubs/application.h
MAX_STRINGS, MAX_MODULES = 0x2000, 32
