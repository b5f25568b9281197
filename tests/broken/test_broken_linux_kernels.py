"""What a kernel started by the Linux boot protocol may not rely on: the smallest change of one that boots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bootbuild.abi import boot_params
from bootbuild.api import (
    Content,
    FileContent,
    Filling,
    Given,
    InputError,
    MemoryContent,
    Offer,
    Profile,
    Span,
)
from bootbuild.boot.prove import prove
from bootbuild.boot.run import Subject
from bootbuild.formats.elf_read import read_elf
from bootbuild.formats.payload import sealed
from bootbuild.host import Host
from bootbuild.model.payload import ElfImage, Startup
from bootbuild.model.verdict import Outcome, ProfileVerdict
from bootbuild_baremetal.environments.linux_grub import Grub
from bootbuild_baremetal.environments.linux_kexec import Kexec
from bootbuild_baremetal.environments.linux_qemu import Qemu
from bootbuild_baremetal.environments.linux_vmm import CloudHypervisor, Firecracker
from bootbuild_linux.guests import Linux
from bootbuild_linux.judge import efi
from tiny_file import Load, elf_file
from tiny_linux import CODE_OFFSET, tiny_linux

PROFILES: dict[str, Callable[[], Profile]] = {
    "qemu-16bit": Qemu,
    "grub-32bit": Grub,
    "cloud-hypervisor-32bit": CloudHypervisor,
    "kexec-64bit": Kexec,
    "firecracker-64bit": Firecracker,
}
WIDTHS = {name: int(name[-5:-3]) for name in PROFILES}
MiB = 1 << 20

SAY_16 = b"\xba\xf8\x03\xb0o\xee\xb0k\xee\xf4\xeb\xfd"  # mov $0x3f8, %dx; out "ok"; hlt, and again
SAY = b"\x66" + SAY_16  # the same at widths 32 and 64
HALT = b"\xf4\xeb\xfd"
ELF_BASE = 0x200000


def unless(test: bytes) -> bytes:
    """Test; jz over a halt."""
    return test + b"\x74" + bytes([len(HALT)]) + HALT


def bzimage(setup: bytes = b"", low: bytes = b"", long: bytes = b"") -> ElfImage:
    """One that says `ok` at each entry, after this code there."""
    kernel = (low + SAY).ljust(0x200, b"\xf4") + long + SAY
    return sealed(MemoryContent(tiny_linux(b"\0" * 16, setup + SAY_16, kernel)), "tiny")


def vmlinux(long: bytes = b"", bss: int = 0) -> ElfImage:
    """An ELF file that says it, with `bss` bytes of zeros behind its code."""
    code = long + SAY
    load = Load(ELF_BASE, ELF_BASE, code, len(code) + bss, 0x1000)
    return read_elf(MemoryContent(elf_file(64, ELF_BASE, load, b"")), "tiny.elf")


def image(profile: str, code: bytes = b"") -> ElfImage:
    """With `code` at the entry that this profile takes."""
    if profile == "firecracker-64bit":
        return vmlinux(code)
    return bzimage(**{{16: "setup", 32: "low", 64: "long"}[WIDTHS[profile]]: code})


def boot(
    profile: str,
    found: ElfImage,
    cmdline: bytes = b"",
    modules: tuple[tuple[str, Content, bytes], ...] = (),
    memory: int = 128 * MiB,
) -> ProfileVerdict:
    """Up to its text."""
    subject = Subject(
        image=found,
        startup=Startup("entry", 0, 0, 0),
        guest=None,
        offer=Offer(cmdline, modules, memory),
        stub=None,
        symbols={},
        expect=b"ok",
        budget=1_000_000,
        timeout=30.0,
        code=b"",
        untouched=False,
        from_entry=True,
    )
    made = PROFILES[profile]()
    return prove(subject, made, Host.discover(plugins=False).loader(made.loader))


def rules(verdict: ProfileVerdict) -> list[str]:
    return [finding.rule for finding in verdict.findings]


@pytest.mark.parametrize("profile", PROFILES)
def test_it_boots(profile: str) -> None:
    verdict = boot(profile, image(profile), b"a=b", (("rd", MemoryContent(b"x" * 5000), b""),))
    assert (verdict.outcome, rules(verdict)) == (Outcome.BOOTED, [])


IS_CS_10 = unless(b"\x66\x8c\xc8\x66\x83\xf8\x10")  # mov %cs, %ax; cmp $0x10, %ax
FAR_TO_10 = (
    b"\x8d\xa6\x00\x10\x00\x00"  # lea 0x1000(%esi), %esp
    b"\xe8\x00\x00\x00\x00\x58\x83\xc0\x08"  # call; pop %eax; add $8, %eax
    b"\x6a\x10\x50\xcb"  # push $0x10; push %eax; lret
)


@pytest.mark.parametrize(("code", "rule"), [(IS_CS_10, "BB-B023"), (FAR_TO_10, "BB-B001")])
def test_a_kernel_that_needs_cs_10(code: bytes, rule: str) -> None:
    """boot.rst promises it, GRUB keeps that, Cloud Hypervisor enters with selector 8."""
    assert boot("grub-32bit", image("grub-32bit", code)).outcome is Outcome.BOOTED
    verdict = boot("cloud-hypervisor-32bit", image("cloud-hypervisor-32bit", code))
    assert (verdict.outcome, rules(verdict)) == (Outcome.FAILED, [rule])


# test of each register that is 0 in the exact run; of a control register; a push; a read at 1
EAX, RBX, R9 = unless(b"\x85\xc0"), unless(b"\x48\x85\xdb"), unless(b"\x4d\x85\xc9")
AX_16, BX_16 = unless(b"\x3d\x20\x10"), unless(b"\x85\xdb")  # cmp $0x1020, %ax; test %bx, %bx
RELIANCE = [
    ("qemu-16bit", AX_16, "BB-U001", "EAX"),
    ("qemu-16bit", BX_16, "BB-U001", "EBX"),
    ("qemu-16bit", unless(b"\x0f\x01\x06\x00\x03\x83\x3e\x02\x03\x00"), "BB-U003", "GDTR"),  # sgdt 0x300
    ("grub-32bit", EAX, "BB-U001", "EAX"),
    ("grub-32bit", b"\x50", "BB-U002", "ESP"),
    ("grub-32bit", unless(b"\x0f\x20\xe0\x85\xc0"), "BB-B050", "CR4"),
    ("grub-32bit", unless(b"\x66\x8c\xe0\x66\x83\xf8\x18"), "BB-U004", "FS and GS"),
    ("grub-32bit", unless(b"\x83\x3d\x00\x00\x00\x02\x00"), "BB-U006", "free memory"),  # at 32 MiB
    ("cloud-hypervisor-32bit", EAX, "BB-U001", "EAX"),
    ("cloud-hypervisor-32bit", b"\x50", "BB-U002", "ESP"),
    ("kexec-64bit", RBX, "BB-U001", "EBX"),
    ("kexec-64bit", R9, "BB-U001", "R9"),
    ("kexec-64bit", unless(b"\x0f\x20\xe0\x83\xf8\x20"), "BB-B050", "CR4"),
    ("kexec-64bit", b"\x8a\x04\x25\x00\x00\x00\x02", "BB-L442", "identity map"),  # mov 0x2000000, %al
    ("firecracker-64bit", RBX, "BB-U001", "EBX"),
    ("firecracker-64bit", b"\x8a\x04\x25\x00\x00\x00\x02", "BB-L442", "identity map"),
]


@pytest.mark.parametrize(("profile", "code", "rule", "what"), RELIANCE)
def test_reliance(profile: str, code: bytes, rule: str, what: str) -> None:
    verdict = boot(profile, image(profile, code))
    assert verdict.outcome is Outcome.FAILED
    assert rules(verdict) == [rule]
    assert verdict.findings[0].message.startswith(f"relies on {what}, which linux leaves undefined: ")


def test_a_stack_where_nothing_is_promised_to_be_mapped() -> None:
    """kexec's own is in its purgatory: neither RSP nor memory there is promised."""
    verdict = boot("kexec-64bit", image("kexec-64bit", b"\x50"))
    assert rules(verdict) == ["BB-U002", "BB-L442"]


PROMISED = [
    ("qemu-16bit", b"\x9c\x58\xf6\xc4\x02\x74\x01\xf4"),  # a stack; IF is clear
    ("grub-32bit", unless(b"\x09\xeb\x09\xef")),  # EBX, EBP, EDI: 0
    ("grub-32bit", unless(b"\x81\xbe\x02\x02\x00\x00HdrS")),  # cmpl $"HdrS", 0x202(%esi)
    ("cloud-hypervisor-32bit", unless(b"\x09\xeb\x09\xef")),
    ("kexec-64bit", unless(b"\x81\xbe\x02\x02\x00\x00HdrS")),
    ("kexec-64bit", b"\x8a\x86\x00\x10\x00\x00"),  # mov 0x1000(%rsi), %al: the command line
    ("firecracker-64bit", unless(b"\x81\xbe\x02\x02\x00\x00HdrS")),
]


@pytest.mark.parametrize(("profile", "code"), PROMISED)
def test_what_is_promised_may_be_relied_on(profile: str, code: bytes) -> None:
    verdict = boot(profile, image(profile, code))
    assert (verdict.outcome, rules(verdict)) == (Outcome.BOOTED, [])


def test_firecracker_does_not_clear_bss() -> None:
    at = (ELF_BASE + 0x100).to_bytes(4, "little")
    code = unless(b"\x80\x3c\x25" + at + b"\0")  # cmpb $0, 0x200100
    verdict = boot("firecracker-64bit", vmlinux(code, 0x1000))
    assert rules(verdict) == ["BB-U007"]


def test_real_mode_code_that_waits_for_a_key() -> None:
    verdict = boot("qemu-16bit", bzimage(setup=b"\x31\xc0\xcd\x16"))  # xor %ax, %ax; int $0x16
    assert rules(verdict) == ["BB-B023"]
    assert "nobody presses one" in verdict.findings[0].message


def test_a_vector_of_the_bios_may_be_hooked_and_called() -> None:
    """The handler goes on at the old vector, whose code is in ROM."""
    at = CODE_OFFSET - 0x200  # of the code, from CS on
    old, handler = (at + 0x40).to_bytes(2, "little"), (at + 0x48).to_bytes(2, "little")
    code = (
        b"\x31\xc0\x8e\xc0\x26\x66\xa1\x54\x00\x2e\x66\xa3" + old  # mov %es:0x54, %eax; mov %eax, %cs:old
        + b"\x26\xc7\x06\x54\x00" + handler + b"\x26\x8c\x0e\x56\x00"  # the handler's offset and segment
        + b"\xb8\x01\xe8\xcd\x15\x72\x03\x93\x85\xc0\x75\x01\xf4\x90"  # int $0x15 with AX=E801: CF clear, BX
        + SAY_16
    ).ljust(0x48, b"\0") + b"\x2e\xff\x2e" + old  # ljmp *%cs:old  # fmt: skip
    verdict = boot("qemu-16bit", bzimage(setup=code))
    assert (verdict.outcome, rules(verdict)) == (Outcome.BOOTED, [])


MODULE = ("rd", MemoryContent(b"x"), b"")
LARGE = ("rd", MemoryContent(bytes(5 * MiB)), b"")


@pytest.mark.parametrize("profile", PROFILES)
def test_more_than_one_ramdisk(profile: str) -> None:
    assert rules(boot(profile, image(profile), modules=(MODULE, MODULE))) == ["BB-L004"]
    assert rules(boot(profile, image(profile), modules=(("rd", MODULE[1], b"a"),))) == ["BB-L004"]


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "firecracker-64bit"])
def test_a_command_line_beyond_cmdline_size(profile: str) -> None:
    long = b"a" * 2048
    assert rules(boot(profile, image(profile), long)) == ["BB-L441"]
    if profile != "grub-32bit":
        assert boot(profile, image(profile), long[1:]).outcome is Outcome.BOOTED


def test_grubs_own_words_count() -> None:
    """BOOT_IMAGE=/tiny and a blank come before."""
    assert rules(boot("grub-32bit", image("grub-32bit"), b"a" * 2031)) == ["BB-L441"]
    assert boot("grub-32bit", image("grub-32bit"), b"a" * 2030).outcome is Outcome.BOOTED


def test_a_command_line_that_is_no_words_to_grub() -> None:
    assert rules(boot("grub-32bit", image("grub-32bit"), b"a; b")) == ["BB-L333"]


def test_firecrackers_own_limit() -> None:
    assert rules(boot("firecracker-64bit", vmlinux(), b"a" * 2048)) == ["BB-L006"]


@pytest.mark.parametrize("profile", ["kexec-64bit", "grub-32bit"])
def test_a_ramdisk_that_does_not_fit(profile: str) -> None:
    verdict = boot(profile, image(profile), modules=(LARGE,), memory=20 * MiB)
    assert rules(verdict) == ["BB-L003"]


def sparse(folder: Path, size: int) -> tuple[str, Content, bytes]:
    """A ramdisk that takes no room on the disk."""
    path = folder / "rd"
    with path.open("wb") as file:
        file.truncate(size)
    return "rd", FileContent(path), b""


@pytest.mark.parametrize("profile", PROFILES)
def test_a_ramdisk_larger_than_the_machine(profile: str, tmp_path: Path) -> None:
    verdict = boot(profile, image(profile), modules=(sparse(tmp_path, 300 * MiB),))
    assert rules(verdict) == ["BB-L003"]


def test_the_largest_ramdisk_that_qemu_takes(tmp_path: Path) -> None:
    """As the real one: `initrd is too large, cannot support.(max: 134053887, need 134053887)`."""
    (finding,) = boot("qemu-16bit", bzimage(), modules=(sparse(tmp_path, 134053887),)).findings
    assert finding.message.endswith("(max: 134053887, need 134053887)")
    (finding,) = boot("qemu-16bit", bzimage(), modules=(sparse(tmp_path, 134053886),)).findings
    assert finding.message.startswith("the ramdisk goes to 0x8000-0x7fdfffe, over ")


@pytest.mark.parametrize(
    ("profile", "size"),
    [("qemu-16bit", 0x7FE0000 - 0x101000), ("cloud-hypervisor-32bit", 128 * MiB - 0x101000)],
)
def test_a_ramdisk_over_the_kernel(profile: str, size: int, tmp_path: Path) -> None:
    """Neither program looks whether it begins above the kernel, here by the last page of two."""
    (finding,) = boot(profile, bzimage(), modules=(sparse(tmp_path, size),)).findings
    assert finding.rule == "BB-L003"
    assert "over the kernel's bytes at 0x100000" in finding.message
    assert boot(profile, bzimage(), modules=(sparse(tmp_path, size - 0x1000),)).outcome is Outcome.BOOTED


@pytest.mark.parametrize("profile", PROFILES)
def test_the_other_kind_of_file(profile: str) -> None:
    other = bzimage() if profile == "firecracker-64bit" else vmlinux()
    with pytest.raises(InputError) as caught:
        PROFILES[profile]().scene(other, Offer(memory=128 * MiB), Filling.EXACT)
    rule = "BB-L443" if profile == "firecracker-64bit" else "BB-L440"
    assert [problem.rule.id for problem in caught.value.problems] == [rule]


def judged(profile: str, code: bytes, memory: int = 128 * MiB) -> list[str]:
    """The findings of guest `linux` behind `code`, which runs at the 64-bit entry."""
    made, found = PROFILES[profile](), image(profile, code)
    offer = Offer(b"a=b", (MODULE,), memory)
    start = made.scene(found, offer, Filling.EXACT).state.entry + len(code)
    subject = Subject(
        image=found,
        startup=Startup("startup_64", start, start, 64),
        guest=Linux(),
        offer=offer,
        stub=None,
        symbols={},
        expect=b"",
        budget=1_000_000,
        timeout=30.0,
        code=SAY,
        untouched=False,
    )
    return rules(prove(subject, made))


def store(offset: int, value: bytes) -> bytes:
    """movl $value, offset(%rsi)."""
    return b"\xc7\x86" + offset.to_bytes(4, "little") + value.ljust(4, b"\0")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (b"", []),
        (store(0x202, b"hdrs"), ["BB-H027"]),
        (store(0x210, b""), ["BB-H027"]),  # type_of_loader
        (store(0x1C0, b"EL64"), ["BB-H029"]),
        (store(0x228, b""), ["BB-H021"]),  # cmd_line_ptr
        (store(0x21C, b""), ["BB-H022"]),  # ramdisk_size
        (store(0x2D0, b"\1"), ["BB-H023"]),  # the first entry of e820
        (store(0x070, b"\1"), ["BB-H024"]),  # acpi_rsdp_addr
    ],
)
@pytest.mark.parametrize("profile", ["kexec-64bit", "firecracker-64bit"])
def test_boot_params_of_a_kernel_that_its_own_entry_starts(
    profile: str, code: bytes, expected: list[str]
) -> None:
    assert judged(profile, code) == expected


def test_boot_params_where_nothing_is_mapped() -> None:
    """Firecracker maps one GiB, whatever the memory."""
    moved = b"\xbe" + (0x50000000).to_bytes(4, "little")  # mov $…, %esi
    assert "BB-H026" in judged("firecracker-64bit", moved, 2048 * MiB)
    assert "BB-H026" not in judged("firecracker-64bit", moved.replace(b"\x50", b"\x30"), 2048 * MiB)


def test_efi_that_a_loader_of_linux_tells() -> None:
    page = bytearray(boot_params.pack(b"", {"efi_loader_signature": b"EL64", "efi_systab": 0x1000}))
    given = Given(8, 0, 0, b"", (), (), efi_system_table=0x1000, efi_memmap=Span(0x2000, 480))
    given = replace(given, efi_memmap_descriptor_size=48, efi_memmap_descriptor_version=1)
    fields = {"efi_memmap": 0x2000, "efi_memmap_size": 480, "efi_memdesc_size": 48, "efi_memdesc_version": 1}

    def found(**changes: int | bytes) -> list[str]:
        made = boot_params.parse(boot_params.pack(bytes(page), {**fields, **changes}))
        return [finding.message for finding in efi(made, given)]

    assert found() == []
    assert found(efi_systab_hi=1) == ["efi_systab is 0x100001000, the system table is at 0x1000"]
    assert found(efi_memmap_size=48) == ["efi_memmap is 0x2000-0x2030, the environment gave 0x2000-0x21e0"]
    said = "its descriptors are of 40 bytes and version 1, the environment's of 48 and 1"
    assert found(efi_memdesc_size=40) == [said]
    assert "neither EL64 nor EL32" in found(efi_loader_signature=b"\0\0\0\0")[0]
