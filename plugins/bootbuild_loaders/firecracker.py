"""Firecracker: linux-loader's ELF loader, and without a PVH note silently the 64-bit Linux protocol.

Follows load_kernel in src/vmm/src/arch/x86_64/mod.rs of Firecracker 1.16.1, which takes no bzImage (1.17
does).
"""

from __future__ import annotations

from collections.abc import Sequence

from bootbuild.api import Content, Evidence, LoaderVerdict
from bootbuild_loaders import rules
from bootbuild_loaders.catalogue import only
from bootbuild_loaders.linux_loader import LinuxLoader, LoadError, load_elf, refusal
from bootbuild_loaders.window import Window

BEFORE = "Cannot load kernel due to invalid memory configuration or invalid kernel image: "


class Firecracker:
    """`kernel_image_path` of a microVM on x86."""

    name = "firecracker"
    version = "1.16.1"
    evidence = Evidence.SOURCE
    source = "firecracker src/vmm/src/arch/x86_64/mod.rs, with linux-loader 0.13.2"
    rules = (
        *(rule for rule in LinuxLoader.rules if rule.id != rules.NO_NOTES),
        *only(rules.BZIMAGE, rules.OTHER_PROTOCOL),
    )

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        """By PVH; and by the Linux protocol where the file has no PVH note."""
        try:
            loaded = load_elf(content)
        except LoadError as error:
            if error.magic and Window(content).get(0x202, 4) == b"HdrS":
                return [LoaderVerdict("pvh", "refuse", None, rules.BZIMAGE, f"{BEFORE}{error}")]
            return [refusal("pvh", error, BEFORE)]
        if loaded.pvh is None:
            text = "Kernel loaded using Linux 64-bit boot protocol"
            return [
                LoaderVerdict("pvh", "ignore", None, rules.OTHER_PROTOCOL, text),
                LoaderVerdict("linux", "accept", loaded.entry, "", text),
            ]
        return [LoaderVerdict("pvh", "accept", loaded.pvh)]
