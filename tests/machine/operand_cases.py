"""Addresses, alignment, MSRs and counters: each broken case, and what hardware permits beside it."""

from __future__ import annotations

from strictness import Case

BROKEN = {
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

PERMITTED = {
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
