/* SPDX-License-Identifier: 0BSD */
/* LZ4 as Linux packs itself: legacy frames (lz4_Frame_format.md, "Legacy frame"), then the size of what is packed. */
#ifndef LZ4_H
#define LZ4_H

#include <stdint.h>

#define LZ4_LEGACY_MAGIC 0x184c2102
#define LZ4_LEAST_MATCH 4
#define LZ4_LONG 15 /* a length of four bits that goes on in bytes */

/* Byte by byte and forward: what overlaps repeats itself, which is how LZ4 says a run. */
static inline void lz4_copy(uint8_t *to, const uint8_t *from, uint32_t size)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}

static uint32_t lz4_word(const uint8_t *at)
{
    return at[0] | at[1] << 8 | at[2] << 16 | (uint32_t)at[3] << 24;
}

/* A length whose first four bits are `size`; `*at` moves on behind it. Too long a one runs into `end`. */
static uint32_t lz4_length(uint32_t size, const uint8_t **at, const uint8_t *end)
{
    uint8_t more = 255;

    if (size < LZ4_LONG)
        return size;
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
        uint8_t token = *at++;
        uint32_t length = lz4_length(token >> 4, &at, end);
        uint32_t back;

        if (length > (uint32_t)(end - at) || length > (uint32_t)(limit - to))
            return 0;
        lz4_copy(to, at, length);
        to += length;
        at += length;
        if (at == end)
            return to; /* the last sequence has no match */
        if (end - at < 2)
            return 0;
        back = at[0] | at[1] << 8;
        at += 2;
        length = lz4_length(token & 15, &at, end) + LZ4_LEAST_MATCH;
        if (!back || back > (uint32_t)(to - start) || length > (uint32_t)(limit - to))
            return 0;
        lz4_copy(to, to - back, length);
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
