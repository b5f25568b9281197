/* SPDX-License-Identifier: 0BSD */
/* Words of the test kernels, and sums of what they were given. */
#ifndef SAY_H
#define SAY_H

#include <stdint.h>

static inline void outb(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
    uint8_t value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

/* To COM1 where its scratch register says that there is one, else to the debug port, which Xen has. */
static void text(const char *words)
{
    outb(0x3ff, 0x5a);
    for (uint16_t port = inb(0x3ff) == 0x5a ? 0x3f8 : 0xe9; *words; words++)
        outb(port, (uint8_t)*words);
}

static void number(uint64_t value)
{
    char digits[19] = "0x0000000000000000";

    for (int i = 17; i > 1; i--, value >>= 4)
        digits[i] = "0123456789abcdef"[value & 15];
    for (int i = 2; i < 17 && digits[2] == '0'; i++)
        for (int j = 2; j < 17; j++)
            digits[j] = digits[j + 1], digits[j + 1] = 0;
    text(digits);
}

static void field(const char *name, uint64_t value)
{
    text(" ");
    text(name);
    text(" ");
    number(value);
}

/* Adler-32, as zlib has it. */
static uint32_t sum(const void *from, uint32_t size)
{
    const uint8_t *byte = from;
    uint32_t a = 1, b = 0;

    for (uint32_t i = 0; i < size; i++) {
        a = (a + byte[i]) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

static void line(const char *name, const char *words)
{
    text(name);
    text(words);
    text("\n");
}

static void module(uint32_t start, uint32_t size, const char *cmdline)
{
    text("module");
    field("size", size);
    field("sum", sum((const void *)start, size));
    line(" ", cmdline);
}

static void memory(uint64_t address, uint64_t size, uint32_t type)
{
    text("memory");
    field("at", address);
    field("size", size);
    field("type", type);
    text("\n");
}

static void root_pointer(const char *where)
{
    text("acpi ");
    for (int i = 0; i < 8; i++) {
        char letter[2] = {where[i], 0};

        text(letter);
    }
    field("revision", (uint8_t)where[15]);
    text("\n");
}

/* How the kernel was started, if somebody says it: struct bb_handover, by its documentation. */
static void pair(const uint32_t *record)
{
    if (record[0] != 0x4f484242)
        return;
    text("pair");
    field("boot", record[4]);
    field("hypervisor", record[5]);
    text("\n");
}

#endif
