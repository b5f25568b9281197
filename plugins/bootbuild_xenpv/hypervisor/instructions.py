"""Instructions that a guest may not execute in ring 3, taken apart and named as the manuals do."""

from __future__ import annotations

from dataclasses import dataclass

GENERAL = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
_PREFIXES = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3))
FORCED_CPUID = b"\x0f\x0bxen\x0f\xa2"  #: XEN_CPUID, xen/include/public/arch-x86/xen.h


@dataclass(frozen=True)
class Instruction:
    """A decoded instruction: the opcode (0x0F00 + for two bytes), its REX prefix, size and operands."""

    opcode: int
    size: int
    rex: int
    modrm: int
    immediate: int
    prefixes: frozenset[int]

    @property
    def word(self) -> bool:
        """With the operand-size prefix."""
        return 0x66 in self.prefixes

    @property
    def short_addresses(self) -> bool:
        """With the address-size prefix, which makes them of 32 bits."""
        return 0x67 in self.prefixes

    @property
    def repeats(self) -> bool:
        """With REP or REPNE, which are the same for INS and OUTS."""
        return not self.prefixes.isdisjoint((0xF2, 0xF3))

    @property
    def reg(self) -> int:
        return self.modrm >> 3 & 7 | (self.rex & 4) << 1

    @property
    def rm(self) -> str:
        return GENERAL[self.modrm & 7 | (self.rex & 1) << 3]


def decode(code: bytes) -> Instruction | None:
    """The instruction at the start of `code`, as far as Xen emulates it; None if it does not."""
    at = rex = 0
    while at < len(code) and code[at] in _PREFIXES:
        at += 1
    before = frozenset(code[:at])
    if at < len(code) and code[at] & 0xF0 == 0x40:
        rex = code[at]
        at += 1
    rest = code[at:].ljust(3, b"\0")
    if rest[0] == 0x0F:
        has_modrm = rest[1] in (0x01, 0x20, 0x21, 0x22, 0x23)
        return Instruction(0x0F00 | rest[1], at + 2 + has_modrm, rex, rest[2] if has_modrm else 0, 0, before)
    has_immediate = rest[0] in (0xE4, 0xE5, 0xE6, 0xE7)
    return Instruction(rest[0], at + 1 + has_immediate, rex, 0, rest[1] if has_immediate else 0, before)


NAMES = {
    0x0F06: "CLTS", 0x0F07: "SYSRET", 0x0F08: "INVD", 0x0F09: "WBINVD", 0x0F20: "MOV from CR",
    0x0F21: "MOV from DR", 0x0F22: "MOV to CR", 0x0F23: "MOV to DR", 0x0F30: "WRMSR", 0x0F32: "RDMSR",
    0x0F35: "SYSEXIT", 0xCF: "IRET", 0xF4: "HLT", 0xFA: "CLI", 0xFB: "STI",
    **dict.fromkeys((0xE4, 0xE5, 0xEC, 0xED), "IN"), **dict.fromkeys((0xE6, 0xE7, 0xEE, 0xEF), "OUT"),
    **dict.fromkeys((0x6C, 0x6D), "INS"), **dict.fromkeys((0x6E, 0x6F), "OUTS"),
}  # fmt: skip
_GROUP7 = {
    0xC1: "VMCALL", 0xD1: "XSETBV", 0xD9: "VMMCALL", 0xF8: "SWAPGS", 0xF9: "RDTSCP",
}  # fmt: skip
_GROUP7_MEMORY = ("SGDT", "SIDT", "LGDT", "LIDT", "SMSW", "", "LMSW", "INVLPG")
_GROUP6 = ("SLDT", "STR", "LLDT", "LTR", "VERR", "VERW", "", "")


def name(code: bytes) -> str:
    """How the manuals call the instruction of ring 0 at the start of `code`; "" for any other."""
    found = decode(code)
    if found is None:
        return ""
    if found.opcode == 0x0F01:
        if found.modrm in _GROUP7:
            return _GROUP7[found.modrm]
        return _GROUP7_MEMORY[found.modrm >> 3 & 7]
    if found.opcode == 0x0F00:
        return _GROUP6[code[found.size] >> 3 & 7] if len(code) > found.size else ""
    return NAMES.get(found.opcode, "")
