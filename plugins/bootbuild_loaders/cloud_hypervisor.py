"""Cloud Hypervisor: linux-loader's ELF loader, its bzImage loader for whatever that refuses, and PVH alone.

Follows load_kernel in vmm/src/vm.rs of Cloud Hypervisor 53.0. What the ELF loader said is never told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bootbuild.api import Content, Evidence, LoaderVerdict
from bootbuild_loaders import rules
from bootbuild_loaders.catalogue import only
from bootbuild_loaders.linux_loader import (
    BZIMAGE_RULES,
    LinuxLoader,
    LoadError,
    load_bzimage,
    load_elf,
    refusal,
)


class CloudHypervisor:
    """`--kernel` on x86-64."""

    name = "cloud-hypervisor"
    version = "53.0"
    evidence = Evidence.SOURCE
    source = "cloud-hypervisor vmm/src/vm.rs, with linux-loader 0.13.2"
    rules = (*dict.fromkeys((*LinuxLoader.rules, *BZIMAGE_RULES)), *only(rules.OTHER_PROTOCOL))

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        """By PVH; and by the Linux protocol where the file is a bzImage."""
        try:
            loaded = load_elf(content)
        except LoadError as first:
            try:
                loaded = load_bzimage(content)
            except LoadError as second:
                found = refusal("pvh", second, "Cannot load the kernel into memory: ")
                if first.magic:
                    return [found]
                return [replace(found, rule=first.rule, verdict=refusal("pvh", first).verdict)]
        if loaded.setup:
            text = f"bzImage kernel loaded: entry_addr = {loaded.entry:#x}"
            return [
                LoaderVerdict("pvh", "ignore", None, rules.OTHER_PROTOCOL, text),
                LoaderVerdict("linux", "accept", loaded.entry, "", text),
            ]
        if loaded.pvh is None:
            return [LoaderVerdict("pvh", "refuse", None, rules.NO_NOTES, "Kernel lacks PVH header")]
        return [LoaderVerdict("pvh", "accept", loaded.pvh)]
