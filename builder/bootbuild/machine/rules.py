"""The rules that the emulated core itself judges by."""

from __future__ import annotations

from bootbuild.model.rule import Rule
from bootbuild.model.trace import StopKind

_SDM = "Intel SDM volume 3A"

TRIPLE_FAULT = Rule(
    "BB-B001",
    "Triple fault",
    "An exception could not be delivered, nor the double fault that followed: the processor shuts down "
    f"({_SDM}, 6.15).",
    "look at the first exception named in the report: its address and error code say what went wrong",
)
OUTSIDE = Rule(
    "BB-B002",
    "Access to memory that the environment did not give",
    "A physical address was used at which there is no RAM, ROM or device in this environment.",
    "use only the ranges that the memory map or the boot protocol hands over",
)
RESERVED_WRITE = Rule(
    "BB-B003",
    "Write to reserved memory",
    "The memory map calls the range reserved: firmware or the hypervisor owns its contents. A "
    "machine without VGA (Firecracker, Cloud Hypervisor) has no screen in 0xa0000 to 0xbffff.",
    "take memory from ranges of type 1 (RAM) only, and print on COM1 where there may be no VGA",
)
NOT_ALLOCATED = Rule(
    "BB-B077",
    "memory written that was not allocated",
    "Until UEFI's boot services end a program has its image, its stack, and what it has allocated; "
    "everything else is the firmware's, and what is free may be anybody's at the next call (UEFI 2.10 §7.2).",
    "allocate memory by AllocatePages or AllocatePool before it is written",
)
STATE_REPEATS = Rule(
    "BB-B004",
    "Machine state repeats",
    "Registers and all memory that the loop writes came back to an earlier state, and nothing outside was "
    "asked: the guest will never go on.",
    "the loop is usually the guest's own way to stop on an error; look at what leads to it",
)
HALTED = Rule(
    "BB-B005",
    "Halted with interrupts off",
    f"After HLT with RFLAGS.IF = 0 only an NMI or a reset goes on ({_SDM}, 6.8.1).",
    "the guest stopped on purpose: look at what leads to the HLT",
)
BUDGET = Rule(
    "BB-B006",
    "Instruction budget used up",
    "The run was given a number of instructions that is ample for this level, and has executed them all.",
    "look for a wait on a device or clock that this environment does not have, or raise the budget",
)
IDLE = Rule(
    "BB-B007",
    "Waits for an interrupt that nothing delivers",
    "HLT with interrupts on, in an environment without a timer or any other source of interrupts.",
    "the startup path must be reached without interrupts",
)
BAD_POINTERS = Rule(
    "BB-B008",
    "Reserved bits in a page-directory-pointer-table entry",
    "With PAE paging the processor loads four entries when CR3 is loaded and when paging is switched on; "
    f"bits 2:1 and 8:5 of a present one, and those beyond the address width, raise #GP(0) ({_SDM}, 4.4.1).",
    "an entry of this table is an address and P = 1: it has neither R/W nor U/S, unlike all others",
)
RESERVED_REGISTER_BITS = Rule(
    "BB-B009",
    "Reserved bits in CR8, DR6 or DR7",
    "MOV raises #GP(0) for bits 63:4 of CR8 and, in 64-bit mode, bits 63:32 of DR6 and DR7 "
    f"({_SDM}, 2.5 and 18.2; volume 2, MOV).",
    "write zero to the reserved bits",
)
BAD_CR0 = Rule(
    "BB-B010",
    "Invalid value for CR0",
    "MOV to CR0 raises #GP(0) for PG without PE, NW without CD, PG with EFER.LME but without CR4.PAE or from "
    f"64-bit code, PG cleared in 64-bit code, or bits 63:32 ({_SDM}, 2.5 and 4.1.2; volume 2, MOV to CR).",
    "set CR0 bit by bit in the order that the SDM gives for the mode switch",
)
BAD_CR3 = Rule(
    "BB-B011",
    "Reserved bits in CR3",
    "In 64-bit mode MOV to CR3 raises #GP(0) for an address beyond the physical address width "
    f"({_SDM}, 4.5).",
    "CR3 takes the physical address of the top-level table",
)
BAD_CR4 = Rule(
    "BB-B012",
    "Invalid value for CR4",
    f"MOV to CR4 raises #GP(0) for a feature that CPUID does not report, and for PAE cleared in long mode "
    f"({_SDM}, 2.5).",
    "ask CPUID before a feature is switched on",
)
BAD_EFER = Rule(
    "BB-B013",
    "Invalid value for IA32_EFER",
    f"WRMSR raises #GP(0) for reserved bits, and for LME changed while paging is on ({_SDM}, 4.1.1).",
    "change EFER.LME only while CR0.PG is 0; keep the reserved bits",
)
NON_CANONICAL = Rule(
    "BB-B014",
    "Non-canonical address loaded",
    "Bits 63:47 of a base address or entry point must be equal; loading another one raises #GP(0) "
    f"({_SDM}, 3.3.7.1).",
    "sign-extend the address from bit 47",
)
MISALIGNED = Rule(
    "BB-B015",
    "Misaligned 16-byte memory operand",
    "MOVAPS and every other SSE instruction that takes 16 bytes from memory, but for MOVUPS and its like, "
    "raise #GP(0) for an operand that is not aligned to 16 bytes (Intel SDM volume 2, table 2-21).",
    "align the stack (RSP must be 16-byte aligned at a call) and the data, or use MOVUPS",
)
UNKNOWN_MSR = Rule(
    "BB-B016",
    "Access to an MSR that is not there",
    "RDMSR and WRMSR raise #GP(0) for an MSR that the processor and this environment do not have "
    "(Intel SDM volume 2).",
    "ask CPUID before a model-specific register is touched, or be ready for the #GP",
)
BAD_CODE_SEGMENT = Rule(
    "BB-B017",
    "Code segment with both L and D set",
    "In long mode a code segment descriptor with L = 1 and D = 1 is reserved; loading it raises #GP "
    f"({_SDM}, 5.2.1).",
    "clear D in the descriptor of a 64-bit code segment",
)
RDPMC = Rule(
    "BB-B018",
    "Performance counter that is not there",
    "RDPMC raises #GP(0) for a counter that the processor does not have (Intel SDM volume 2).",
    "ask CPUID leaf 0AH first",
)
BAD_MSR_VALUE = Rule(
    "BB-B019",
    "Invalid value for an MSR",
    "WRMSR raises #GP(0) for reserved bits and for memory types that there are not: types 2 and 3, and in an "
    f"MTRR also 7 ({_SDM}, 11.4.4, 12.11.2 and 12.12.2; volume 4, table 2-2).",
    "read the MSR, change what you mean to change, and write it back",
)
SELF_TEST = Rule(
    "BB-B090",
    "The emulated core is not the one this version was made for",
    "Before the first run bootbuild calibrates the engine and executes small programs whose result is known. "
    "One of them came out differently, so nothing that it runs can be trusted.",
    "install the version of unicorn that constraints.txt pins",
)

RULES: tuple[Rule, ...] = (
    TRIPLE_FAULT,
    OUTSIDE,
    RESERVED_WRITE,
    NOT_ALLOCATED,
    STATE_REPEATS,
    HALTED,
    BUDGET,
    IDLE,
    BAD_POINTERS,
    RESERVED_REGISTER_BITS,
    BAD_CR0,
    BAD_CR3,
    BAD_CR4,
    BAD_EFER,
    NON_CANONICAL,
    MISALIGNED,
    UNKNOWN_MSR,
    BAD_CODE_SEGMENT,
    RDPMC,
    BAD_MSR_VALUE,
    SELF_TEST,
)

STOP_RULE = {
    StopKind.TRIPLE_FAULT: TRIPLE_FAULT.id,
    StopKind.OUTSIDE: OUTSIDE.id,
    StopKind.RESERVED_WRITE: RESERVED_WRITE.id,
    StopKind.NOT_ALLOCATED: NOT_ALLOCATED.id,
    StopKind.LOOP: STATE_REPEATS.id,
    StopKind.HALTED: HALTED.id,
    StopKind.BUDGET: BUDGET.id,
    StopKind.IDLE: IDLE.id,
}
"""Which rule each proof of failure breaks; the other kinds of stop break none by themselves."""
