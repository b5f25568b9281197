"""For every rule of a loader model an image that breaks it, and a model that says exactly this of it."""

from __future__ import annotations

import sys

import pytest

from bootbuild.api import MemoryContent
from bootbuild.host import Host
from bootbuild_loaders import multiboot_rules, rules
from corner_cases import CASES
from multiboot_cases import CASES as MULTIBOOT

#: rule: the case, the loader that holds this rule against it, and the protocol that it is asked about
BROKEN = {
    "BB-L101": ("text", "xen-libelf", "pvh"),
    "BB-L102": ("PVH, cut", "xen-libelf", "pvh"),
    "BB-L103": ("PV for ARM", "xen-libelf", "xen-pv"),
    "BB-L104": ("a PT_NOTE of no size", "qemu", "pvh"),
    "BB-L105": ("PV, LOADER bogus", "xen-libelf", "xen-pv"),
    "BB-L106": ("PV, XEN_VERSION xen-2.0", "xen-libelf", "xen-pv"),
    "BB-L107": ("PV, PADDR_OFFSET without VIRT_BASE", "xen-libelf", "pvh"),
    "BB-L108": ("descsz 12", "xen-libelf", "pvh"),
    "BB-L109": ("PV, INIT_P2M in the kernel", "xen-libelf", "xen-pv"),
    "BB-L110": ("an unknown required feature", "xen-libelf", "pvh"),
    "BB-L111": ("PV", "xen-libelf", "pvh"),
    "BB-L112": ("PV, SUPPORTED_FEATURES without dom0", "xen-libelf", "xen-pv"),
    "BB-L113": ("PV in ELF32", "xen-libelf", "xen-pv"),
    "BB-L114": ("PV, HYPERCALL_PAGE outside", "xen-libelf", "xen-pv"),
    "BB-L115": ("PVH, p_memsz too large", "xen-libelf", "pvh"),
    "BB-L116": ("ELF32, a wrong note type", "xen-xl", "pvh"),
    "BB-L117": ("Xen alone, p_align 8", "qemu", "pvh"),
    "BB-L118": ("p_align 0", "qemu", "pvh"),
    "BB-L119": ("PHYS32_ENTRY behind the PT_NOTE", "qemu", "pvh"),
    "BB-L120": ("e_entry 0", "linux-loader", "pvh"),
    "BB-L121": ("ELF32", "linux-loader", "pvh"),
    "BB-L122": ("descsz 0", "linux-loader", "pvh"),
    "BB-L123": ("p_offset beyond the file", "linux-loader", "pvh"),
    "BB-L124": ("segments that overlap", "qemu", "pvh"),
    "BB-L125": ("Multiboot in an ELF64", "qemu", "pvh"),
    "BB-L126": ("Multiboot in an ELF64", "qemu", "multiboot1"),
    "BB-L127": ("Multiboot with wrong addresses", "qemu", "multiboot1"),
    "BB-L128": ("PV without notes", "firecracker", "pvh"),
    "BB-L129": ("a bzImage of protocol 2.07", "xen-libelf", "pvh"),
    "BB-L130": ("a bzImage with a damaged payload", "xen-xl", "pvh"),
    "BB-L131": ("e_flags 4", "qemu", "pvh"),
    "BB-L132": ("a symbol table of 2 TiB", "qemu", "pvh"),
    "BB-L133": ("300000 notes before PHYS32_ENTRY", "qemu", "pvh"),
    "BB-L134": ("p_filesz larger than p_memsz", "qemu", "pvh"),
    "BB-L135": ("Multiboot 2, aligned to 4", "grub-multiboot2", "multiboot2"),
    "BB-L136": ("SMBIOS tables wanted", "grub-multiboot2", "multiboot2"),
    "BB-L137": ("addresses and no entry", "grub-multiboot2", "multiboot2"),
    "BB-L138": ("Multiboot 1, ET_REL", "grub-multiboot1", "multiboot1"),
    "BB-L139": ("e_phoff 32 KiB", "grub-multiboot2", "multiboot2"),
    "BB-L140": ("Multiboot 1, linked high, e_entry physical", "grub-multiboot1", "multiboot1"),
    "BB-L141": ("relocations", "grub-multiboot2", "multiboot2"),
    "BB-L142": ("relocatable, max_addr too low", "grub-multiboot2", "multiboot2"),
    "BB-L143": ("a console required", "grub-multiboot2-efi64", "multiboot2"),
    "BB-L144": ("Multiboot 1, 65535 section headers", "grub-multiboot1", "multiboot1"),
    "BB-L145": ("boot services and a 32-bit entry", "grub-multiboot2-efi64", "multiboot2"),
}
BY_NAME = {case.name: case.data for case in CASES} | {case.name: case.data for case in MULTIBOOT}


def test_every_rule_has_its_image() -> None:
    assert list(BROKEN) == [rule.id for rule in (*rules.RULES, *multiboot_rules.RULES)]


@pytest.mark.parametrize("rule", BROKEN)
def test_this_rule_and_no_other_is_broken(rule: str) -> None:
    name, model, boot = BROKEN[rule]
    found = Host.discover().loader(model).judge(MemoryContent(BY_NAME[name]))
    assert [one.rule for one in found if one.boot == boot] == [rule]


def test_lzo_is_not_judged_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lzallright", None)
    content = MemoryContent(BY_NAME["a bzImage packed by lzo"])
    found = Host.discover().loader("xen-libelf").judge(content)
    assert {(one.boot, one.verdict, one.rule) for one in found} == {
        ("pvh", "ignore", "BB-L133"),
        ("xen-pv", "ignore", "BB-L133"),
    }
