// SPDX-License-Identifier: 0BSD
// The words of what a guest says: records and their fields. Who includes it has u8, u64 and `put`, which puts a letter.

#ifndef WORDS
#define WORDS static // or nothing, where other files of the guest use them too
#endif

static void puts(const char *text)
{
    while (*text)
        put(*text++);
}

static void put_hex(u64 value, int digits)
{
    for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4)
        put("0123456789abcdef"[value >> shift & 15]);
}

WORDS void begin(const char *kind)
{
    puts("dump: [");
    puts(kind);
    puts("]\n");
}

// One field a line, and short: Xen breaks a line after 80 characters (HVM_PBUF_SIZE).
WORDS void field(const char *name, u64 value)
{
    puts("dump: ");
    puts(name);
    puts("=0x");
    put_hex(value, value >> 32 ? 16 : 8);
    put('\n');
}

// Up to its NUL, or to so many bytes, in as many lines as it takes; the reader joins what has one name.
static void put_text(const char *name, const char *from, int most)
{
    for (int i = 0; i < most && (i == 0 || from[i]); i++) {
        if (i % 24 == 0) {
            puts(i ? "\ndump: " : "dump: ");
            puts(name);
            puts("=x");
        }
        if (from[i])
            put_hex((u8)from[i], 2);
    }
    put('\n');
}
