"""Sections of a UEFI application of bootbuild's, by which stub and readers find what it carries."""

KERNEL = ".payload"  #: an ELF file, whole
RECORD = ".bbinfo"  #: what the image says of itself: notes of owner `bootbuild`
STUBS = ".stubs"  #: what will stand behind the kernel
CMDLINE = ".cmdline"  #: without a NUL
MODULE, MODULE_CMDLINE = ".module", ".modargs"  #: a module, and its own command line behind it
SBAT = ".sbat"  #: by which shim revokes
