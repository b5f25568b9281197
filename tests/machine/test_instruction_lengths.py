"""Instructions are as long as the opcode maps say: each row is one whole instruction.

Source: Intel SDM volume 2, appendix A; where processors differ (66 before a near CALL), what the engine does.
"""

from __future__ import annotations

import pytest

from bootbuild.machine.operand import decode

EVERYWHERE = """
    90 nop | f4 hlt | c3 ret | c20800 ret | ca0800 retf | c8100001 enter | cc int3 | cd80 int | 00d8 add |
    0402 add | 6a01 push | 6b0703 imul | eb05 jmp | e2fe loop | e460 in | 7402 je | 8a07 mov | c00702 shl |
    d10f ror |
    d9ee fldz | dd07 fld | f60701 test | f617 not | fec0 inc | ff37 push | b001 mov | c60701 mov | a801 test |
    0fa2 cpuid | 0f0b ud2 | 0f05 syscall | 0f30 wrmsr | 0f31 rdtsc | 0fc8 bswap | 0f77 emms | 0fb6c0 movzx |
    0fba2701 bt | 0fa4c305 shld | 0fc20700 cmpps | 0f70c100 pshufw | 0f71d001 psrlw | 0fc4c000 pinsrw |
    0fae07 fxsave | 0f01d0 xgetbv | 0f0117 lgdt | 0f18 07 prefetch | 0f1f00 nop | 0f20c0 mov | 0f2207 mov |
    0f2307 mov | 0f3800c1 pshufb | 660f3a0fc108 palignr | 660f38dbc1 aesimc | f30f6f07 movdqu |
    f00fc70f cmpxchg8b | 2e3e26646590 nop | f3a4 movsb | 0f9407 sete | 0fc7f0 rdrand | 0fb9c0 ud1
"""
OF_32_BITS = """
    40 inc | 05 01000000 add | 6605 0100 add | 68 01000000 push | 6668 0100 push | 69c0 01000000 imul |
    6669c0 0100 imul | b8 01000000 mov | 66b8 0100 mov | c707 01000000 mov | 66c707 0100 mov |
    a1 00000000 mov | 67a1 0000 mov | e8 00000000 call | 66e8 0000 call | ea 000000000800 ljmp |
    66ea 00000800 ljmp | 0f84 00000000 je | 660f84 0000 je | f707 01000000 test | 8b4508 mov |
    8b8500000000 mov | 8b0500000000 mov | 8b0424 mov | 8b042500000000 mov | 8b442408 mov | 678b4702 mov |
    678b8700 00 mov | 678b07 mov | 678b0600 00 mov | c507 lds | c5f877 vzeroupper | c4e27af7c1 sarx |
    c4e37bf0c101 rorx | 62 07 bound | d40a aam
"""
OF_16_BITS = """
    40 inc | 05 0100 add | 6605 01000000 add | b8 0100 mov | 66b8 01000000 mov | a1 0000 mov |
    67a1 00000000 mov | ea 00000800 ljmp | 66ea 000000000800 ljmp | e8 0000 call | 0f84 0000 je |
    8b07 mov | 8b060000 mov | 8b4702 mov | 8b870000 mov | 678b4508 mov | 678b0424 mov | 678b0500000000 mov
"""
OF_64_BITS = """
    4890 nop | 48b8 0100000000000000 mov | b8 01000000 mov | 4905 01000000 add | 6605 0100 add |
    664805 01000000 add | 48a1 0000000000000000 mov | 67a1 00000000 mov | e8 00000000 call |
    66e8 0000 call | 480f22c0 mov | 440f22c0 mov | 8b0500000000 mov | 8b042500000000 mov |
    418b0424 mov | 418b042500000000 mov | 43 8b4405 00 mov |
    678b07 mov | c5f877 vzeroupper | c4e2fbf7c1 shrx | c4e3fbf0c101 rorx | f348 0faed0 wrfsbase |
    48f7c7 01000000 test | 66f7c7 0100 test | 48c7c0 01000000 mov | 0f84 00000000 je
"""


def rows(table: str) -> list[str]:
    """The bytes of each row, without its last word, which names it."""
    return ["".join(row.split()[:-1]) for row in table.split("|")]


CASES = [
    *((bits, row) for bits in (16, 32, 64) for row in rows(EVERYWHERE)),
    *((16, row) for row in rows(OF_16_BITS)),
    *((32, row) for row in rows(OF_32_BITS)),
    *((64, row) for row in rows(OF_64_BITS)),
]


@pytest.mark.parametrize(("bits", "row"), CASES)
def test_an_instruction_ends_where_it_ends(bits: int, row: str) -> None:
    code = bytes.fromhex(row)
    for start in (0, 3):
        found = decode(b"\x24" * start + code + b"\x24" * 15, bits, start)
        assert found is not None
        assert found.length == len(code)
    assert decode(code[:-1], bits) is None  # cut off
