// SPDX-License-Identifier: 0BSD
// How a guest says what lies in memory: blocks of bytes, strings, and whether A20 is on. It comes behind say.h.

#define MOST (1 << 20) // bytes of a module that are looked at

static u32 at(u32 address)
{
    return *(const volatile u32 *)address;
}

static void bytes(const char *kind, u32 address, u32 size)
{
    begin(kind);
    field("address", address);
    field("size", size);
    for (u32 i = 0; i < size && i < 65536; i++) {
        if (i % 32 == 0)
            puts(i ? "\ndump: bytes=x" : "dump: bytes=x");
        put_hex(*(const volatile u8 *)(address + i), 2);
    }
    put('\n');
}

static u32 length(u32 string)
{
    u32 i = 0;

    while (*(const volatile u8 *)(string + i))
        i++;
    return i + 1;
}

// Whether addresses that differ in bit 20 alone are the same memory.
static void dump_a20(void)
{
    static volatile u32 mark;
    volatile u32 *other = (volatile u32 *)((u32)&mark ^ 1 << 20);

    mark = 0x600d;
    *other = 0xbad;
    begin("a20");
    field("on", mark == 0x600d);
}
