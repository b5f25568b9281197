"""Writes to control and debug registers: each broken case, and what hardware permits beside it."""

from __future__ import annotations

from strictness import Case

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
}

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
}  # fmt: skip
