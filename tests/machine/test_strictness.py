"""What hardware faults on and the engine lets pass: one guest breaks each rule, and its neighbour none."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from bootbuild.machine.run import Machine
from bootbuild.machine.scan import Judged, sites
from bootbuild.model.machine import Descriptor, TableRegister
from bootbuild.model.trace import StopKind
from machine_guests import (
    CODE,
    GDT,
    HANDLERS,
    MEMORY,
    Guest,
    finish,
    gate64,
    identity,
    long,
    long_guest,
    protected,
    tables,
)

Make = Callable[[Guest | bytes], Machine]


@dataclass(frozen=True)
class Case:
    """`code` in 32- or 64-bit mode; where it breaks the rule, and how that is said."""

    rule: str
    code: bytes = field(repr=False)
    at: int = 0
    detail: str = ""
    bits: int = 64
    state: dict[str, Any] = field(default_factory=dict)


POINTER = "PDPTE[0x10000] = 0x4000e3000000e3 (reserved: 0x400000000000e2)"

BROKEN = {
    # -- CR0
    "PG without PE": Case(
        "BB-B010",
        (
            b"\xb8\x10\x00\x00\x80"  # mov eax,0x80000010
            b"\x0f\x22\xc0"  # mov cr0,eax
        ),
        5,
        "MOV of 0x80000010 to CR0: paging without protected mode",
        32,
    ),
    "NW without CD": Case(
        "BB-B010",
        (
            b"\xb8\x11\x00\x00\x20"  # mov eax,0x20000011
            b"\x0f\x22\xc0"  # mov cr0,eax
        ),
        5,
        "MOV of 0x20000011 to CR0: NW without CD",
        32,
    ),
    "PG with LME and without PAE": Case(
        "BB-B010",
        (
            b"\xb8\x11\x00\x00\x80"  # mov eax,0x80000011
            b"\x0f\x22\xc0"  # mov cr0,eax
        ),
        5,
        "MOV of 0x80000011 to CR0: paging with EFER.LME but without CR4.PAE",
        32,
        {"efer": 0x100},
    ),
    "bits above 31 of CR0": Case(
        "BB-B010",
        (
            b"\x48\xb8\x31\x00\x00\x80\x01\x00\x00\x00"  # mov rax,0x180000031
            b"\x0f\x22\xc0"  # mov cr0,rax
        ),
        10,
        "MOV of 0x180000031 to CR0: bits 63:32 are reserved",
    ),
    "paging off in 64-bit code": Case(
        "BB-B010",
        (
            b"\xb8\x31\x00\x00\x00"  # mov eax,0x31
            b"\x0f\x22\xc0"  # mov cr0,rax
        ),
        5,
        "MOV of 0x31 to CR0: paging switched off in 64-bit code",
    ),
    "long mode entered from a code segment with L": Case(
        "BB-B010",
        (
            b"\x6a\x38"  # push 0x38
            b"\x68\x08\x00\x10\x00"  # push 0x100008
            b"\xcb"  # retf
            b"\xb8\x11\x00\x00\x80"  # mov eax,0x80000011
            b"\x0f\x22\xc0"  # mov cr0,eax
        ),
        13,
        "MOV of 0x80000011 to CR0: long mode entered while CS.L is set",
        32,
        {"efer": 0x100, "cr4": 0x20},
    ),
    # -- PAE's page-directory-pointer table: at 0x10000 there are entries of another kind
    "PAE switched on by CR0": Case(
        "BB-B008",
        (
            b"\xb8\x11\x00\x00\x80"  # mov eax,0x80000011
            b"\x0f\x22\xc0"  # mov cr0,eax
        ),
        5,
        f"MOV of 0x80000011 to CR0: {POINTER}",
        32,
        {"cr3": 0x10000, "cr4": 0x20},
    ),
    "PAE switched on by CR4": Case(
        "BB-B008",
        (
            b"\xb8\x30\x00\x00\x00"  # mov eax,0x30
            b"\x0f\x22\xe0"  # mov cr4,eax
        ),
        5,
        f"MOV of 0x30 to CR4: {POINTER}",
        32,
        {"cr0": 0x80000011, "cr3": 0x10000, "cr4": 0x10},
    ),
    "another table": Case(
        "BB-B008",
        (
            b"\xb8\x00\x00\x01\x00"  # mov eax,0x10000
            b"\x0f\x22\xd8"  # mov cr3,eax
        ),
        5,
        f"MOV of 0x10000 to CR3: {POINTER}",
        32,
        {"cr0": 0x80000011, "cr3": 0x11000, "cr4": 0x20},
    ),
    "R/W in the last of the four": Case(
        "BB-B008",
        (
            b"\xc7\x05\x18\x10\x01\x00\x03\x20\x01\x00"  # mov dword ptr [0x11018],0x12003
            b"\xb8\x00\x10\x01\x00"  # mov eax,0x11000
            b"\x0f\x22\xd8"  # mov cr3,eax
        ),
        15,
        "MOV of 0x11000 to CR3: PDPTE[0x11018] = 0x12003 (reserved: 0x2)",
        32,
        {"cr0": 0x80000011, "cr3": 0x11000, "cr4": 0x20},
    ),
    # -- CR8 and the debug registers
    "CR8 of five bits": Case(
        "BB-B009",
        (
            b"\xb8\x10\x00\x00\x00"  # mov eax,0x10
            b"\x44\x0f\x22\xc0"  # mov cr8,rax
        ),
        5,
        "MOV of 0x10 to CR8: bits 63:4 are reserved",
    ),
    "DR7 beyond 32 bits": Case(
        "BB-B009",
        (
            b"\x48\xb8\x00\x04\x00\x00\x01\x00\x00\x00"  # mov rax,0x100000400
            b"\x0f\x23\xf8"  # mov dr7,rax
        ),
        10,
        "MOV of 0x100000400 to DR7: bits 63:32 are reserved",
    ),
    "DR6 by its other name": Case(
        "BB-B009",
        (
            b"\x48\xb8\xf0\x0f\xff\xff\x00\x00\x00\x80"  # mov rax,0x80000000ffff0ff0
            b"\x0f\x23\xe0"  # mov dr4,rax
        ),
        10,
        "MOV of 0x80000000ffff0ff0 to DR6: bits 63:32 are reserved",
    ),
    # -- CR3
    "CR3 beyond the address width": Case(
        "BB-B011",
        (
            b"\x48\xb8\x00\x00\x01\x00\x00\x01\x00\x00"  # mov rax,0x10000010000
            b"\x0f\x22\xd8"  # mov cr3,rax
        ),
        10,
        "MOV of 0x10000010000 to CR3: bits from 40 on are reserved",
    ),
    "CR3 with bit 63": Case(
        "BB-B011",
        (
            b"\x48\xb8\x00\x00\x01\x00\x00\x00\x00\x80"  # mov rax,0x8000000000010000
            b"\x0f\x22\xd8"  # mov cr3,rax
        ),
        10,
        "MOV of 0x8000000000010000 to CR3: bits from 40 on are reserved",
    ),
    # -- CR4
    "PAE cleared in long mode": Case(
        "BB-B012",
        (
            b"\xb8\x00\x06\x00\x00"  # mov eax,0x600
            b"\x0f\x22\xe0"  # mov cr4,rax
        ),
        5,
        "MOV of 0x600 to CR4: PAE cleared in long mode",
    ),
    "SMAP, which CPUID lacks": Case(
        "BB-B012",
        (
            b"\xb8\x20\x06\x20\x00"  # mov eax,0x200620
            b"\x0f\x22\xe0"  # mov cr4,rax
        ),
        5,
        "MOV of 0x200620 to CR4: bits 0x200000 are reserved",
    ),
    "a bit of CR4 that means nothing": Case(
        "BB-B012",
        (
            b"\xb8\x00\x00\x00\x80"  # mov eax,0x80000000
            b"\x0f\x22\xe0"  # mov cr4,eax
        ),
        5,
        "MOV of 0x80000000 to CR4: bits 0x80000000 are reserved",
        32,
    ),
    "CR4 from a high register": Case(
        "BB-B012",
        (
            b"\x41\xb9\x20\x16\x00\x00"  # mov r9d,0x1620
            b"\x41\x0f\x22\xe1"  # mov cr4,r9
        ),
        6,
        "MOV of 0x1620 to CR4: bits 0x1000 are reserved",
    ),
    # -- EFER
    "a reserved bit of EFER": Case(
        "BB-B013",
        (
            b"\xb9\x80\x00\x00\xc0"  # mov ecx,0xc0000080
            b"\xb8\x01\x1d\x00\x00"  # mov eax,0x1d01
            b"\x31\xd2"  # xor edx,edx
            b"\x0f\x30"  # wrmsr
        ),
        12,
        "WRMSR of 0x1d01 to EFER: reserved bits",
    ),
    "LME cleared while paging is on": Case(
        "BB-B013",
        (
            b"\xb9\x80\x00\x00\xc0"  # mov ecx,0xc0000080
            b"\xb8\x01\x04\x00\x00"  # mov eax,0x401
            b"\x31\xd2"  # xor edx,edx
            b"\x0f\x30"  # wrmsr
        ),
        12,
        "WRMSR of 0x401 to EFER: LME changed while paging is on",
    ),
    # -- canonical addresses
    "LSTAR": Case(
        "BB-B014",
        (
            b"\xb9\x82\x00\x00\xc0"  # mov ecx,0xc0000082
            b"\x31\xc0"  # xor eax,eax
            b"\xba\x00\x80\x00\x00"  # mov edx,0x8000
            b"\x0f\x30"  # wrmsr
        ),
        12,
        "WRMSR of 0x800000000000 to 0xc0000082: not a canonical address",
    ),
    "FS base": Case(
        "BB-B014",
        (
            b"\xb9\x00\x01\x00\xc0"  # mov ecx,0xc0000100
            b"\x31\xc0"  # xor eax,eax
            b"\xba\x00\x00\x00\xff"  # mov edx,0xff000000
            b"\x0f\x30"  # wrmsr
        ),
        12,
        "WRMSR of 0xff00000000000000 to 0xc0000100: not a canonical address",
    ),
    "WRFSBASE": Case(
        "BB-B014",
        (
            b"\x48\xb8\x00\x00\x00\x00\x00\x80\x00\x00"  # mov rax,0x800000000000
            b"\xf3\x48\x0f\xae\xd0"  # wrfsbase rax
        ),
        10,
        "WRFSBASE of 0x800000000000",
        state={"cr4": 0x10620},
    ),
    "WRGSBASE from a high register": Case(
        "BB-B014",
        (
            b"\x49\xb9\x00\x00\x00\x00\x00\x00\xff\xff"  # mov r9,0xffff000000000000
            b"\xf3\x49\x0f\xae\xd9"  # wrgsbase r9
        ),
        10,
        "WRGSBASE of 0xffff000000000000",
        state={"cr4": 0x10620},
    ),
    "LGDT": Case(
        "BB-B014",
        (
            b"\x0f\x01\x14\x25\x00\x00\x09\x00"  # lgdt [0x90000]
        ),
        0,
        "LGDT with base 0x800000001000",
    ),
    "LIDT, by RIP": Case(
        "BB-B014",
        (
            b"\x0f\x01\x1d\xf9\xff\xf8\xff"  # lidt [rip + 0x90000 - 0x100007]
        ),
        0,
        "LIDT with base 0x800000001000",
    ),
    # -- alignment
    "movaps load": Case(
        "BB-B015",
        (
            b"\x0f\x28\x04\x25\x08\x00\x09\x00"  # movaps xmm0,[0x90008]
        ),
        0,
        "16-byte operand at 0x90008",
    ),
    "movaps store, off the stack": Case(
        "BB-B015",
        (
            b"\x0f\x29\x44\x24\x08"  # movaps [rsp+8],xmm0
        ),
        0,
        "16-byte operand at 0x90008",
    ),
    "movapd": Case(
        "BB-B015",
        (
            b"\x66\x44\x0f\x28\x0c\x25\x04\x00\x09\x00"  # movapd xmm9,[0x90004]
        ),
        0,
        "16-byte operand at 0x90004",
    ),
    "movdqa, by base, index and scale": Case(
        "BB-B015",
        (
            b"\xb8\x01\x00\x08\x00"  # mov eax,0x80001
            b"\xbb\x00\x40\x00\x00"  # mov ebx,0x4000
            b"\x66\x0f\x6f\x0c\x98"  # movdqa xmm1,[rax+rbx*4]
        ),
        10,
        "16-byte operand at 0x90001",
    ),
    "movdqa store, 32 bits": Case(
        "BB-B015",
        (
            b"\x66\x0f\x7f\x0d\x01\x00\x09\x00"  # movdqa [0x90001],xmm1
        ),
        0,
        "16-byte operand at 0x90001",
        32,
        {"cr4": 0x600},
    ),
    # -- MSRs
    "RDMSR": Case(
        "BB-B016",
        (
            b"\xb9\x45\x23\x01\x00"  # mov ecx,0x12345
            b"\x0f\x32"  # rdmsr
        ),
        5,
        "RDMSR of 0x12345, which does not exist",
    ),
    "WRMSR": Case(
        "BB-B016",
        (
            b"\xb9\x45\x23\x01\x00"  # mov ecx,0x12345
            b"\x0f\x30"  # wrmsr
        ),
        5,
        "WRMSR of 0x0 to 0x12345, which does not exist",
        32,
    ),
    "PAT with a memory type that there is not": Case(
        "BB-B019",
        (
            b"\xb9\x77\x02\x00\x00"  # mov ecx,0x277
            b"\xb8\x02\x00\x00\x00"  # mov eax,2
            b"\x31\xd2"  # xor edx,edx
            b"\x0f\x30"  # wrmsr
        ),
        12,
        "WRMSR of 0x2 to 0x277: there is no memory type 0x2",
        32,
    ),
    # -- performance counters
    "RDPMC": Case("BB-B018", b"\x31\xc9\x0f\x33", 2, "RDPMC"),  # xor ecx,ecx; rdpmc
}
L_AND_D = b"\x6a\x38\x68\x10\x00\x10\x00\x48\xcb"  # push 0x38; push 0x100010; lretq

PERMITTED = {
    "CR0 as it is": Case("BB-B010", b"\x0f\x20\xc0\x0f\x22\xc0"),  # mov rax,cr0; mov cr0,rax
    "NW with CD": Case("BB-B010", (
        b"\xb8\x11\x00\x00\x60"  # mov eax,0x60000011
        b"\x0f\x22\xc0"  # mov cr0,eax
    ), bits=32),
    "PG with neither LME nor PAE": Case("BB-B010", (
        b"\xb8\x11\x00\x00\x80"  # mov eax,0x80000011
        b"\x0f\x22\xc0"  # mov cr0,eax
    ), bits=32, state={"cr3": 0x10000, "cr4": 0x10}),
    "PAE with a table of its own kind": Case("BB-B008", (
        b"\xb8\x11\x00\x00\x80"  # mov eax,0x80000011
        b"\x0f\x22\xc0"  # mov cr0,eax
        b"\xb8\x00\x10\x01\x00"  # mov eax,0x11000
        b"\x0f\x22\xd8"  # mov cr3,eax
    ), bits=32, state={"cr3": 0x11000, "cr4": 0x20}),
    "a pointer that is not present": Case("BB-B008", (
        b"\xc6\x05\x18\x10\x01\x00\xfe"  # mov byte ptr [0x11018],0xfe
        b"\xb8\x00\x10\x01\x00"  # mov eax,0x11000
        b"\x0f\x22\xd8"  # mov cr3,eax
    ), bits=32, state={"cr0": 0x80000011, "cr3": 0x11000, "cr4": 0x20}),
    "a change of CR4 and of CR0 that loads no pointers": Case("BB-B008", (
        b"\x80\x0d\x00\x10\x01\x00\x02"  # or byte ptr [0x11000],2
        b"\xb8\x24\x00\x00\x00"  # mov eax,0x24
        b"\x0f\x22\xe0"  # mov cr4,eax
        b"\xb8\x19\x00\x00\x80"  # mov eax,0x80000019
        b"\x0f\x22\xc0"  # mov cr0,eax
    ), bits=32, state={"cr0": 0x80000011, "cr3": 0x11000, "cr4": 0x20}),
    "PAE without paging, or paging without PAE": Case("BB-B008", (
        b"\xb8\x00\x00\x01\x00"  # mov eax,0x10000
        b"\x0f\x22\xd8"  # mov cr3,eax
        b"\xb8\x20\x00\x00\x00"  # mov eax,0x20
        b"\x0f\x22\xe0"  # mov cr4,eax
        b"\xb8\x10\x00\x00\x00"  # mov eax,0x10
        b"\x0f\x22\xe0"  # mov cr4,eax
        b"\xb8\x11\x00\x00\x80"  # mov eax,0x80000011
        b"\x0f\x22\xc0"  # mov cr0,eax
    ), bits=32),
    "the highest CR8": Case("BB-B009", (
        b"\xb8\x0f\x00\x00\x00"  # mov eax,15
        b"\x44\x0f\x22\xc0"  # mov cr8,rax
    )),
    "DR7 as at reset, and all of DR0": Case("BB-B009", (
        b"\xb8\x00\x04\x00\x00"  # mov eax,0x400
        b"\x0f\x23\xf8"  # mov dr7,rax
        b"\x48\xc7\xc0\x00\x00\x00\x80"  # mov rax,0xffffffff80000000
        b"\x0f\x23\xc0"  # mov dr0,rax
        b"\x0f\x21\xc1"  # mov rcx,dr0
    )),
    "CR3 below the address width": Case("BB-B011", b"\x0f\x20\xd8\x0f\x22\xd8"),  # mov rax,cr3; mov cr3,rax
    "CR3 with PCD and PWT": Case("BB-B011", (
        b"\xb8\x18\x00\x01\x00"  # mov eax,0x10018
        b"\x0f\x22\xd8"  # mov cr3,rax
    )),
    "CR4 with all that CPUID reports": Case("BB-B012", (
        b"\xb8\xfc\x07\x15\x00"  # mov eax,0x1507fc
        b"\x0f\x22\xe0"  # mov cr4,rax
    )),
    "PAE cleared outside long mode": Case("BB-B012", (
        b"\xb8\x20\x00\x00\x00"  # mov eax,0x20
        b"\x0f\x22\xe0"  # mov cr4,eax
        b"\x31\xc0"  # xor eax,eax
        b"\x0f\x22\xe0"  # mov cr4,eax
    ), bits=32),
    "EFER as it is": Case("BB-B013", (
        b"\xb9\x80\x00\x00\xc0"  # mov ecx,0xc0000080
        b"\x0f\x32"  # rdmsr
        b"\x0f\x30"  # wrmsr
    )),
    "LME set while paging is off": Case("BB-B013", (
        b"\xb9\x80\x00\x00\xc0"  # mov ecx,0xc0000080
        b"\xb8\x00\x01\x00\x00"  # mov eax,0x100
        b"\x0f\x30"  # wrmsr
    ), bits=32),
    "the highest canonical LSTAR of the low half": Case("BB-B014", (
        b"\xb9\x82\x00\x00\xc0"  # mov ecx,0xc0000082
        b"\xb8\xff\xff\xff\xff"  # mov eax,-1
        b"\xba\xff\x7f\x00\x00"  # mov edx,0x7fff
        b"\x0f\x30"  # wrmsr
    )),
    "the lowest canonical one of the high half": Case("BB-B014", (
        b"\xb9\x00\x01\x00\xc0"  # mov ecx,0xc0000100
        b"\x31\xc0"  # xor eax,eax
        b"\xba\x00\x80\xff\xff"  # mov edx,0xffff8000
        b"\x0f\x30"  # wrmsr
    )),
    "WRFSBASE of a canonical one": Case("BB-B014", (
        b"\x48\xc7\xc0\x00\x00\x00\x80"  # mov rax,0xffffffff80000000
        b"\xf3\x48\x0f\xae\xd0"  # wrfsbase rax
    ), state={"cr4": 0x10620}),
    "WRFSBASE of 32 bits": Case("BB-B014", (
        b"\x48\xb8\x00\x00\x00\x00\x00\x80\x00\x00"  # mov rax,0x800000000000
        b"\xf3\x0f\xae\xd0"  # wrfsbase eax
    ), state={"cr4": 0x10620}),
    "LGDT with a canonical base": Case("BB-B014", b"\x0f\x01\x14\x25\x10\x00\x09\x00"),  # lgdt [0x90010]
    "LGDT of 32 bits, whatever follows": Case("BB-B014", (
        b"\x0f\x01\x15\x00\x00\x09\x00"  # lgdt [0x90000]
    ), bits=32),
    "aligned movaps": Case("BB-B015", (
        b"\x0f\x28\x04\x25\x10\x00\x09\x00"  # movaps xmm0,[0x90010]
        b"\x0f\x29\x04\x24"  # movaps [rsp],xmm0
    )),
    "movaps between registers": Case("BB-B015", b"\x0f\x28\xc1"),  # movaps xmm0,xmm1
    "movups": Case("BB-B015", b"\x0f\x10\x04\x25\x08\x00\x09\x00"),  # movups xmm0,[0x90008]
    "movdqu with a prefix to spare": Case("BB-B015", b"\x66\xf3\x0f\x6f\x04\x25\x01\x00\x09\x00"),
    "movdqu": Case("BB-B015", b"\xf3\x0f\x6f\x04\x25\x01\x00\x09\x00"),  # movdqu xmm0,[0x90001]
    "movq of MMX": Case("BB-B015", b"\x0f\x6f\x04\x25\x01\x00\x09\x00\x0f\x77"),  # movq mm0,[0x90001]; emms
    "an MSR that is there": Case("BB-B016", (
        b"\xb9\x1b\x00\x00\x00"  # mov ecx,0x1b
        b"\x0f\x32"  # rdmsr
        b"\x0f\x30"  # wrmsr
    )),
    "PAT as it is": Case("BB-B019", (
        b"\xb9\x77\x02\x00\x00"  # mov ecx,0x277
        b"\x0f\x32"  # rdmsr
        b"\x0f\x30"  # wrmsr
    )),
    "bytes that look like RDPMC": Case("BB-B018", b"\xb8\x0f\x33\x0f\x33"),  # mov eax,0x330f330f
}  # fmt: skip


def guest(case: Case) -> Guest:
    """With a HLT behind, and pseudo-descriptors at 0x90000 (not canonical) and 0x90010."""
    memory = {0x90000: struct.pack("<HQ", 0x47, 0x8000_0000_1000), 0x90010: struct.pack("<HQ", 0x47, 0x1000)}
    if case.bits == 64:
        return Guest(case.code + b"\xf4", "long64", long(**case.state), tables(True) | identity() | memory)
    pages = {0x10000: struct.pack("<2I", 0xE3, 0x4000E3)}  # without PAE
    pages |= {0x11000: struct.pack("<Q", 0x12E19), 0x12000: struct.pack("<Q", 0x83)}  # with it
    return Guest(case.code + b"\xf4", "protected32", protected(**case.state), tables(False) | pages | memory)


@pytest.mark.parametrize("name", BROKEN)
def test_a_guest_without_a_handler_ends_with_the_rule(name: str, machine: Make) -> None:
    case = BROKEN[name]
    broken = guest(case)
    broken.memory[0x2000 + 13 * (16 if case.bits == 64 else 8)] = bytes(16)  # no gate for #GP
    broken.memory[0x2000 + 8 * (16 if case.bits == 64 else 8)] = bytes(16)  # nor for #DF
    stop = finish(machine(broken))
    assert (stop.kind, stop.rule, stop.ip) == (StopKind.VIOLATION, case.rule, CODE + case.at)
    assert stop.detail.startswith(f"{case.detail}; #GP with error code 0x0 at {CODE + case.at:#x} could not")


@pytest.mark.parametrize("name", BROKEN)
def test_a_guest_with_a_handler_gets_the_fault_and_the_event_stays(name: str, machine: Make) -> None:
    case = BROKEN[name]
    one = machine(guest(case))
    stop = finish(one)
    assert (stop.kind, stop.ip) == (StopKind.HALTED, HANDLERS + 13 + 1)
    frame = struct.unpack("<QQ" if case.bits == 64 else "<II", one.read(one.get("rsp"), case.bits // 4))
    assert frame == (0, CODE + case.at)
    probe = case.rule == "BB-B016"  # a guest that is ready may look whether an MSR is there
    assert [(e.ip, e.detail, e.rule) for e in one.events] == [
        (CODE + case.at, f"{case.detail}: #GP(0)", "" if probe else case.rule)
    ]


@pytest.mark.parametrize("name", PERMITTED)
def test_what_hardware_permits_is_no_finding(name: str, machine: Make) -> None:
    case = PERMITTED[name]
    one = machine(guest(case))
    stop = finish(one)
    assert (stop.kind, stop.ip, one.events) == (StopKind.HALTED, CODE + len(case.code) + 1, ())


def test_every_rule_has_a_permitted_neighbour() -> None:
    assert {case.rule for case in PERMITTED.values()} == {case.rule for case in BROKEN.values()}


def test_a_code_segment_with_both_l_and_d_ends_the_run(machine: Make) -> None:
    stop = finish(machine(long_guest(L_AND_D)))
    assert (stop.kind, stop.rule, stop.ip) == (StopKind.VIOLATION, "BB-B017", CODE + 0x10)
    assert stop.detail == "CS holds selector 0x38, whose descriptor has both L and D set"


@pytest.mark.parametrize("selector", [0x08, 0x10], ids=["L alone", "D alone"])
def test_a_code_segment_with_one_of_them_is_fine(selector: int, machine: Make) -> None:
    one = machine(
        long_guest(L_AND_D.replace(b"\x6a\x38", bytes((0x6A, selector))), memory={CODE + 0x10: b"\xf4"})
    )
    assert (finish(one).kind, one.events) == (StopKind.HALTED, ())


def test_outside_long_mode_l_means_nothing(machine: Make) -> None:
    state = protected()
    code = (
        b"\x6a\x38"  # push 0x38
        b"\x68\x10\x00\x10\x00"  # push 0x100010
        b"\xcb"  # retf
    ).ljust(16, b"\x90") + b"\xf4"
    assert finish(machine(Guest(code, "protected32", state, tables(False)))).kind is StopKind.HALTED


@pytest.mark.parametrize("times", [1, 100, 1000, 5000])
def test_a_site_is_judged_however_often_it_was_right(times: int, machine: Make) -> None:
    code = (
        b"\xb8\x00\x00\x20\x00"  # mov eax,0x200000
        b"\xb9" + struct.pack("<I", times) +  # mov ecx,times
        b"\x0f\x28\x00"  # movaps xmm0,[rax]
        b"\x48\x83\xc0\x10"  # add rax,16
        b"\xff\xc9"  # dec ecx
        b"\x75\xf5"  # jnz to the movaps
        b"\xf4"  # hlt
    )  # fmt: skip
    one = machine(long_guest(code))
    assert (finish(one).kind, one.events) == (StopKind.HALTED, ())
    late = code.removesuffix(b"\xf4") + (
        b"\x48\xff\xc0"  # inc rax
        b"\xeb\xf0"  # jmp to the movaps
    )
    one = machine(long_guest(late))
    assert finish(one).ip == HANDLERS + 13 + 1
    assert [event.detail for event in one.events] == [
        f"16-byte operand at {0x200001 + 16 * times:#x}: #GP(0)"
    ]


def test_another_instruction_at_a_judged_address_is_judged_by_its_own_operand(machine: Make) -> None:
    code = (
        b"\xb8\x00\x00\x20\x00"  # mov eax,0x200000
        b"\xbb\x08\x00\x20\x00"  # mov ebx,0x200008
        b"\x0f\x28\x00"  # movaps xmm0,[rax]
        b"\xc6\x04\x25\x0c\x00\x10\x00\x03"  # mov byte ptr [0x10000c],3: it becomes movaps xmm0,[rbx]
        b"\xeb\xf3"  # jmp to the movaps
    )
    one = machine(long_guest(code))
    assert finish(one).ip == HANDLERS + 13 + 1
    assert [event.detail for event in one.events] == ["16-byte operand at 0x200008: #GP(0)"]


def test_an_instruction_whose_page_table_entry_is_gone_is_judged_all_the_same(machine: Make) -> None:
    """The core still knows the translation, as a processor may."""
    code = (
        b"\x66\xc7\x04\x25\x00\x20\x01\x00\x00\x00"  # mov word ptr [0x12000],0
        b"\xb9\x1b\x00\x00\x00"  # mov ecx,0x1b
        b"\x0f\x32"  # rdmsr
        b"\x66\xc7\x04\x25\x00\x20\x01\x00\x83\x00"  # mov word ptr [0x12000],0x83
        b"\xf4"  # hlt
    )
    one = machine(long_guest(code))
    assert (finish(one).kind, one.events) == (StopKind.HALTED, ())
    assert one.get("eax") == 0xFEE00900


def test_in_compatibility_mode_the_upper_half_of_a_register_does_not_count(machine: Make) -> None:
    code = (
        b"\x48\xb8\x00\x04\x00\x00\xff\xff\xff\xff"  # mov rax,0xffffffff00000400
        b"\x48\xbb\x00\x00\x01\x00\xff\xff\xff\xff"  # mov rbx,0xffffffff00010000
        b"\x6a\x10"  # push 0x10
        b"\x68\x1d\x00\x10\x00"  # push 0x10001d
        b"\x48\xcb"  # lretq
        b"\x0f\x23\xf8"  # mov dr7,eax
        b"\x0f\x22\xdb"  # mov cr3,ebx
        b"\xf4"  # hlt
    )
    one = machine(long_guest(code))
    assert (finish(one).ip, one.events) == (CODE + len(code), ())


def test_the_last_instruction_before_what_is_not_mapped_is_judged(machine: Make) -> None:
    """Its handler makes the MOV to CR8 there one to CR0, and has it executed again."""
    at = MEMORY - 4
    handler = b"\xc6\x04\x25" + struct.pack("<I", at) + b"\x40"  # mov byte ptr [at],0x40
    handler += b"\x48\x83\xc4\x08\x48\xcf"  # add rsp,8; iretq
    guest = long_guest(
        b"\xb8\x10\x00\x00\x00\xe9" + struct.pack("<i", at - CODE - 10),  # mov eax,0x10; jmp at
        gates={13: gate64(0x103000)},
        memory={0x103000: handler, at: b"\x44\x0f\x22\xc0"},
    )
    one = machine(guest)
    finish(one, budget=30)
    assert [event.detail for event in one.events[:2]] == [
        "MOV of 0x10 to CR8: bits 63:4 are reserved: #GP(0)",
        "MOV of 0x10 to CR0: paging switched off in 64-bit code: #GP(0)",
    ]


def test_a_block_that_was_taken_apart_in_another_way_is_judged_at_every_byte() -> None:
    wrmsr = b"\x90\x0f\x30"
    assert [(at, what) for at, _, what in sites(wrmsr, 64)] == [(1, Judged.WRMSR)]
    assert sites(wrmsr + b"\x0f", 64) == tuple((at, None, None) for at in range(4))
    assert sites(b"\x90\x90\x0f", 64) == ()  # there is nothing that may be wrong


ALIGNMENT_COMES_LAST = {
    # CR0, CR4, what is raised instead
    "CR0.EM": (0x8000_0035, 0x620, 6),
    "CR0.TS": (0x8000_0039, 0x620, 7),
    "no CR4.OSFXSR": (0x8000_0031, 0x20, 6),
}


@pytest.mark.parametrize("name", ALIGNMENT_COMES_LAST)
def test_where_sse_is_off_alignment_is_not_the_fault(name: str, machine: Make) -> None:
    cr0, cr4, vector = ALIGNMENT_COMES_LAST[name]
    one = machine(long_guest(BROKEN["movaps load"].code, cr0=cr0, cr4=cr4))
    assert finish(one).ip == HANDLERS + vector + 1
    assert one.events == ()


@pytest.mark.parametrize("access", [b"\x0f\x21\xf8", b"\x0f\x23\xc0"], ids=["read", "write"])
def test_with_dr7_gd_an_access_to_a_debug_register_is_a_debug_exception(access: bytes, machine: Make) -> None:
    code = b"\xb8\x00\x24\x00\x00\x0f\x23\xf8" + access  # mov eax,0x2400; mov dr7,rax
    one = machine(long_guest(code))
    assert finish(one).ip == HANDLERS + 1 + 1
    assert struct.unpack("<Q", one.read(one.get("rsp"), 8)) == (CODE + 8,)
    assert (one.get("dr6") & 1 << 13, one.get("dr7")) == (1 << 13, 0x400)  # so that the handler may look


def test_code_written_over_a_judged_site_is_not_judged_by_it(machine: Make) -> None:
    # rdmsr of an MSR that is there, overwritten by two NOPs and executed with another index
    code = (
        b"\xb9\x1b\x00\x00\x00"  # mov ecx,0x1b
        b"\x0f\x32"  # rdmsr
        b"\x66\xc7\x04\x25\x05\x00\x10\x00\x90\x90"  # mov word ptr [0x100005],0x9090
        b"\x83\xf9\x1b"  # cmp ecx,0x1b
        b"\xb9\x99\x99\x00\x00"  # mov ecx,0x9999
        b"\x74\xea"  # je again
        b"\xf4"  # hlt
    )
    one = machine(long_guest(code))
    assert (finish(one).kind, one.events) == (StopKind.HALTED, ())


def test_the_strictness_reaches_ring_3(machine: Make) -> None:
    code = BROKEN["movaps load"].code
    one = machine(Guest(code, "long64-user", long(True), tables(True) | identity(True)))
    assert finish(one).ip == HANDLERS + 13 + 1
    assert [event.rule for event in one.events] == ["BB-B015"]


def test_rdpmc_is_a_fault_in_ring_3_too(machine: Make) -> None:
    code = BROKEN["RDPMC"].code
    one = machine(Guest(code, "long64-user", long(True), tables(True) | identity(True)))
    assert finish(one).ip == HANDLERS + 13 + 1
    assert [event.rule for event in one.events] == ["BB-B018"]


LTR = {
    "of a null selector": (b"\x31\xc0\x0f\x00\xd8", 13),  # xor eax,eax; ltr ax
    "of a null selector with RPL": (b"\xb8\x03\x00\x00\x00\x0f\x00\xd8", 13),  # mov eax,3; ltr ax
    "of a null selector in memory": (b"\x0f\x00\x1e\x0f\x0b", 13),  # ltr [rsi]; ud2
    "of a code segment": (b"\xb8\x08\x00\x00\x00\x0f\x00\xd8", 13),  # mov eax,8; ltr ax
    "of a task": (b"\xb8\x48\x00\x00\x00\x0f\x00\xd8\x0f\x0b", 6),  # mov eax,0x48; ltr ax; ud2
    "LLDT of a null selector": (b"\x31\xc0\x0f\x00\xd0\x0f\x0b", 6),  # xor eax,eax; lldt ax; ud2
}


@pytest.mark.parametrize("name", LTR)
def test_a_null_selector_names_no_task(name: str, machine: Make) -> None:
    code, vector = LTR[name]
    made = long_guest(code, gdtr=TableRegister(GDT, 8 * 11 - 1), registers={"rsi": 0x200008})
    made.memory[GDT] += struct.pack("<QQ", 0x0000_8900_4000_0067, 0)  # 48: the TSS at 0x4000
    assert finish(machine(made)).ip == HANDLERS + vector + 1


def test_in_real_mode_there_is_no_ltr(machine: Make) -> None:
    state = {
        "ip": 0,
        "cr0": 0x10,
        "cs": Descriptor(0x2000, 0x20000, 0xFFFF, 0x9B),
        "idtr": TableRegister(0, 0x3FF),
        "registers": {"rsp": 0x8000},
    }
    vectors = b"".join(struct.pack("<HH", 0x10 if vector == 6 else 0x20, 0x2000) for vector in range(16))
    one = machine(
        Guest(
            b"",
            "real16",
            state,
            {0x20000: b"\x31\xc0\x0f\x00\xd8", 0x20010: b"\xf4" * 17, 0: vectors},
        )
    )
    assert finish(one).ip == 0x20011
