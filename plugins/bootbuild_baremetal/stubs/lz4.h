/* SPDX-License-Identifier: 0BSD */
/* LZ4 as Linux packs itself: legacy frames (lz4_Frame_format.md, "Legacy frame"), then the size of what is packed. */
#ifndef LZ4_H
#define LZ4_H

#include <stdint.h>

#define LZ4_LEGACY_MAGIC 0x184c2102
#define LZ4_LEAST_MATCH 4
#define LZ4_LONG 15 /* a length of four bits that goes on in bytes */

#define LZ4_SHORT 8  /* bytes of which a copy is made at once: most have no more */
#define LZ4_ROOMY 32 /* bytes that must be left on both sides for that */

/*
 * Forward: what overlaps repeats itself, which is how LZ4 says a run. By words where none is read before it is written.
 */
static __attribute__((noinline)) void lz4_copy(uint8_t *to, const uint8_t *from, uint32_t size)
{
    unsigned long words = (uint32_t)(to - from) < 4 ? 0 : size / 4, rest = size - 4 * words;

    __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(rest) : : "memory");
}

/* LZ4_SHORT bytes, of which those behind `size` are written over later; a kernel has millions, and an emulator counts. */
static inline void lz4_copy_short(uint8_t *to, const uint8_t *from)
{
    __builtin_memcpy(to, from, 4);
    __builtin_memcpy(to + 4, from + 4, 4);
}

static uint32_t lz4_word(const uint8_t *at)
{
    return at[0] | at[1] << 8 | at[2] << 16 | (uint32_t)at[3] << 24;
}

/* A length of four bits that goes on; `*at` moves on behind it. Too long a one runs into `end`. */
static __attribute__((noinline)) uint32_t lz4_length(const uint8_t **at, const uint8_t *end)
{
    uint32_t size = LZ4_LONG;
    uint8_t more = 255;

    while (more == 255 && *at < end && size < 1u << 30) {
        more = *(*at)++;
        size += more;
    }
    return size;
}

/* One block (lz4_Block_format.md), of `start` to `limit` at the most. Behind its last byte, or 0 if it is damaged. */
static uint8_t *lz4_block(const uint8_t *at, uint32_t size, uint8_t *start, uint8_t *limit)
{
    const uint8_t *end = at + size;
    uint8_t *to = start;

    while (at < end) {
        uint32_t token = *at++, length = token >> 4, back;
        int roomy = end - at >= LZ4_ROOMY && limit - to >= LZ4_ROOMY;

        if (roomy && length <= LZ4_SHORT) {
            lz4_copy_short(to, at);
        } else {
            if (length == LZ4_LONG)
                length = lz4_length(&at, end);
            if (length > (uint32_t)(end - at) || length > (uint32_t)(limit - to))
                return 0;
            lz4_copy(to, at, length);
            roomy = 0;
        }
        to += length;
        at += length;
        if (end - at < 2)
            return at == end ? to : 0; /* the last sequence has no match */
        back = at[0] | at[1] << 8;
        at += 2;
        if (!back || back > (uint32_t)(to - start))
            return 0;
        length = (token & 15) + LZ4_LEAST_MATCH;
        if (roomy && length <= LZ4_SHORT && back >= 4) {
            lz4_copy_short(to, to - back);
        } else {
            if (length == LZ4_LONG + LZ4_LEAST_MATCH)
                length = lz4_length(&at, end) + LZ4_LEAST_MATCH;
            if (length > (uint32_t)(limit - to))
                return 0;
            lz4_copy(to, to - back, length);
        }
        to += length;
    }
    return 0;
}

/* Bytes unpacked to `to`, which has room for `room`, and which it has to be; else another number. */
static uint32_t lz4_legacy(const uint8_t *from, uint32_t size, uint8_t *to, uint32_t room)
{
    const uint8_t *end = from + size - 4;
    uint8_t *start = to, *limit = to + room;

    if (size < 8 || lz4_word(from) != LZ4_LEGACY_MAGIC || lz4_word(end) != room)
        return ~room;
    for (from += 4; end - from >= 4;) {
        uint32_t block = lz4_word(from);

        from += 4;
        if (block == LZ4_LEGACY_MAGIC)
            continue;
        if (block > (uint32_t)(end - from))
            return ~room;
        to = lz4_block(from, block, to, limit);
        if (!to)
            return ~room;
        from += block;
    }
    return from == end ? (uint32_t)(to - start) : ~room;
}

#endif
