"""Which SSE instructions want their 16 bytes of memory aligned, each in the form that names memory.

Source: Intel SDM volume 2, table 2-21 (exceptions by class: 1, 2, 4 with a legacy encoding are aligned, 3 and
5 take less than 16 bytes) and the instructions' own pages.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bootbuild.machine.run import Machine
from bootbuild.model.machine import Descriptor
from bootbuild.model.trace import StopKind
from machine_guests import CODE, HANDLERS, Guest, finish, long_guest, protected_guest

Make = Callable[[Guest | bytes], Machine]

ALIGNED = """
    movaps 0f28  movaps-store 0f29  movapd 660f28  movapd-store 660f29  movdqa 660f6f  movdqa-store 660f7f
    movntps 0f2b  movntpd 660f2b  movntdq 660fe7  movntdqa 660f382a  movsldup f30f12  movshdup f30f16
    unpcklps 0f14  unpckhpd 660f15  sqrtps 0f51  sqrtpd 660f51  rsqrtps 0f52  rcpps 0f53
    andps 0f54  andnpd 660f55  orps 0f56  xorps 0f57  xorpd 660f57  addps 0f58  addpd 660f58  mulps 0f59
    cvtpd2ps 660f5a  cvtdq2ps 0f5b  cvtps2dq 660f5b  cvttps2dq f30f5b  subps 0f5c  minpd 660f5d  divps 0f5e
    maxps 0f5f  cvttpd2pi 660f2c  cvtpd2pi 660f2d  cvttpd2dq 660fe6  cvtpd2dq f20fe6
    cmpps 0fc2/00  cmppd 660fc2/00  shufps 0fc6/00  shufpd 660fc6/00
    haddpd 660f7c  haddps f20f7c  hsubpd 660f7d  hsubps f20f7d  addsubpd 660fd0  addsubps f20fd0
    punpcklbw 660f60  pcmpgtd 660f66  packuswb 660f67  punpckhqdq 660f6d
    pshufd 660f70/00  pshuflw f20f70/00  pshufhw f30f70/00  pcmpeqb 660f74  pcmpeqd 660f76
    psrlw 660fd1  paddq 660fd4  pmullw 660fd5  psubusb 660fd8  pand 660fdb  paddusw 660fdd  pandn 660fdf
    pavgb 660fe0  pmulhw 660fe5  psubsb 660fe8  por 660feb  pxor 660fef  psllw 660ff1  pmuludq 660ff4
    psadbw 660ff6  psubb 660ff8  psubq 660ffb  paddd 660ffe
    pshufb 660f3800  pmaddubsw 660f3804  pmulhrsw 660f380b  pblendvb 660f3810  blendvpd 660f3815
    ptest 660f3817  pabsb 660f381c  pabsd 660f381e  pmuldq 660f3828  packusdw 660f382b  pcmpgtq 660f3837
    pmaxud 660f383f  pmulld 660f3840  phminposuw 660f3841  aesimc 660f38db  aesdeclast 660f38df
    roundps 660f3a08/00  roundpd 660f3a09/00  blendps 660f3a0c/00  pblendw 660f3a0e/00  palignr 660f3a0f/00
    dpps 660f3a40/00  dppd 660f3a41/00  mpsadbw 660f3a42/00  pclmulqdq 660f3a44/00
    aeskeygenassist 660f3adf/00
"""

UNALIGNED = """
    movups 0f10  movups-store 0f11  movupd 660f10  movss f30f10  movsd f20f10  movdqu f30f6f
    movdqu-store f30f7f  lddqu f20ff0  movlps 0f12  movlpd 660f12  movddup f20f12  movhps 0f16
    movhps-store 0f17  cvtpi2ps 0f2a  cvtsi2ss f30f2a  cvttps2pi 0f2c  cvtss2si f30f2d  ucomiss 0f2e
    comisd 660f2f  sqrtss f30f51  rsqrtss f30f52  rcpss f30f53  addss f30f58  addsd f20f58  cvtps2pd 0f5a
    cvtss2sd f30f5a  cvtsd2ss f20f5a  mulsd f20f59  cmpss f30fc2/00  cmpsd f20fc2/00  movd 660f6e
    movd-store 660f7e  movq f30f7e  movq-store 660fd6  movq-mmx 0f6f  pshufw-mmx 0f70/00  paddb-mmx 0ffc
    pxor-mmx 0fef  movntq-mmx 0fe7  pshufb-mmx 0f3800  palignr-mmx 0f3a0f/00  pinsrw 660fc4/00
    cvtdq2pd f30fe6  movnti 0fc3  pmovsxbw 660f3820  pmovzxdq 660f3835  crc32 f20f38f1  movbe 0f38f0
    roundss 660f3a0a/00  roundsd 660f3a0b/00  pextrb 660f3a14/00  pextrd 660f3a16/00  extractps 660f3a17/00
    pinsrb 660f3a20/00  insertps 660f3a21/00  pinsrd 660f3a22/00
    pcmpestrm 660f3a60/00  pcmpestri 660f3a61/00  pcmpistrm 660f3a62/00  pcmpistri 660f3a63/00
"""


def forms(table: str) -> dict[str, tuple[bytes, bytes]]:
    """Name → the bytes before ModRM, and the immediate."""
    words = table.split()
    pairs = zip(words[::2], words[1::2], strict=True)
    return {
        name: (bytes.fromhex(code.partition("/")[0]), bytes.fromhex(code.partition("/")[2]))
        for name, code in pairs
    }


BITS = {"32": protected_guest, "64": long_guest}


def run(form: tuple[bytes, bytes], make: Callable[..., Guest], address: int, machine: Make) -> Machine:
    """One execution with [rsi] for its operand."""
    head, immediate = form
    state = {"cr4": 0x620} if make is long_guest else {"cr4": 0x600}
    return machine(make(head + b"\x06" + immediate + b"\xf4", registers={"rsi": address}, **state))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", forms(ALIGNED))
def test_its_operand_must_be_aligned(name: str, bits: str, machine: Make) -> None:
    form = forms(ALIGNED)[name]
    one = run(form, BITS[bits], 0x200008, machine)
    assert finish(one).ip == HANDLERS + 13 + 1
    assert [(event.rule, event.ip) for event in one.events] == [("BB-B015", CODE)]
    one = run(form, BITS[bits], 0x200010, machine)
    assert (finish(one).kind, one.events) == (StopKind.HALTED, ())
    assert one.instructions == 2


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", forms(UNALIGNED))
def test_its_operand_may_lie_anywhere(name: str, bits: str, machine: Make) -> None:
    one = run(forms(UNALIGNED)[name], BITS[bits], 0x200001, machine)
    assert (finish(one).kind, one.events) == (StopKind.HALTED, ())
    assert one.instructions == 2


SELF_CHECKING = {"fxsave": b"\x0f\xae\x06", "xsave": b"\x0f\xae\x26", "cmpxchg16b": b"\x48\x0f\xc7\x0e"}


@pytest.mark.parametrize("name", SELF_CHECKING)
def test_what_the_engine_checks_itself(name: str, machine: Make) -> None:
    one = machine(long_guest(SELF_CHECKING[name] + b"\xf4", registers={"rsi": 0x200008}, cr4=0x40620))
    assert finish(one).ip == HANDLERS + 13 + 1


ADDRESSES = {
    # code with the operand of PXOR misaligned by its addressing alone; where it lies
    "behind an immediate, by RIP": (b"\x66\x0f\x70\x05\x02\x00\x10\x00\x00\xf4", 0x20000B),
    "by RIP": (b"\x66\x0f\xef\x05\x00\x00\x10\x00\xf4", 0x200008),
    "base, index and scale": (b"\x66\x0f\xef\x84\xd6\x00\x00\x10\x00\xf4", 0x200001 + 8 * 0x2001 + 0x100000),
    "FS": (b"\x64\x66\x0f\xef\x06\xf4", 0x200001 + 0x1004),
    "with high registers": (b"\x66\x43\x0f\xef\x04\x08\xf4", 0x300000 + 0x21),
    "an offset of 32 bits": (b"\x67\x66\x0f\xef\x06\xf4", 0x200001),
}


@pytest.mark.parametrize("name", ADDRESSES)
def test_every_way_to_address_it(name: str, machine: Make) -> None:
    code, where = ADDRESSES[name]
    general = {"rsi": 0x200001, "rdx": 0x2001, "r8": 0x300000, "r9": 0x21}
    if name == "an offset of 32 bits":
        general["rsi"] |= 5 << 32
    base = (
        b"\xb9\x00\x01\x00\xc0\xb8\x04\x10\x00\x00\x31\xd2\x0f\x30" if name == "FS" else b""
    )  # WRMSR of FS_BASE
    one = machine(long_guest(base + code, registers=general))
    assert finish(one).ip == HANDLERS + 13 + 1
    assert [event.detail for event in one.events] == [f"16-byte operand at {where:#x}: #GP(0)"]


SEGMENTED = {
    # code of 32 bits; where its operand lies with SS based at 4 and all else at 0
    "EBP": (b"\x66\x0f\xef\x45\x00", 0x200014),
    "EBP, by DS": (b"\x3e\x66\x0f\xef\x45\x01", 0x200011),
    "ESP": (b"\x66\x0f\xef\x04\x24", 0x300004),
    "ESP and an index": (b"\x66\x0f\xef\x04\x34", 0x300004 + 0x20),
    "ESI, by SS": (b"\x36\x66\x0f\xef\x06", 0x24),
    "EBP as an index, and no base": (b"\x66\x0f\xef\x04\x2d\x01\x00\x00\x00", 0x200011),
    "EBP as an index of ESI": (b"\x66\x0f\xef\x44\x2e\x03", 0x200033),
    "no register": (b"\x66\x0f\xef\x05\x01\x00\x20\x00", 0x200001),
    "BP and SI": (b"\x67\x66\x0f\xef\x02", 0x34),
    "BX and SI, cut to 16 bits": (b"\x67\x66\x0f\xef\x80\x01\x00", 0x11),
    "SI": (b"\x67\x66\x0f\xef\x44\x01", 0x21),
    "BP": (b"\x67\x66\x0f\xef\x46\x00", 0x14),
    "an offset of 16 bits": (b"\x67\x66\x0f\xef\x06\x08\x20", 0x2008),
}


@pytest.mark.parametrize("name", SEGMENTED)
def test_segments_and_short_addresses_of_32_bit_code(name: str, machine: Make) -> None:
    code, where = SEGMENTED[name]
    general = {"rbp": 0x200010, "rsp": 0x300000, "rsi": 0x20, "rbx": 0xFFFF0}
    stack = Descriptor(0x18, base=4, attributes=0xC093)
    one = machine(protected_guest(code + b"\xf4", cr4=0x600, ss=stack, registers=general))
    finish(one)
    assert [event.detail for event in one.events] == [f"16-byte operand at {where:#x}: #GP(0)"]


def test_in_real_mode(machine: Make) -> None:
    state = {"ip": 0, "cr0": 0x10, "cr4": 0x600, "registers": {"rsi": 0x18}}
    state |= {
        "cs": Descriptor(0x2000, 0x20000, 0xFFFF, 0x9B),
        "ds": Descriptor(0x3000, 0x30000, 0xFFFF, 0x93),
    }
    one = machine(Guest(b"", "real16", state, {0x20000: b"\x66\x0f\xef\x04\xf4"}))  # pxor xmm0,[si]; hlt
    finish(one)
    assert [event.detail for event in one.events] == ["16-byte operand at 0x30018: #GP(0)"]
