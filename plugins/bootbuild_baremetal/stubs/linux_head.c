/* SPDX-License-Identifier: 0BSD */
/* The kernel packed in a bzImage, into its place: an ELF file, as it is or by LZ4. Runs where it is linked, above all of that. */
#include <bootbuild/waist.h>

#include "lz4.h"

/* Filled in by containers/bzimage.py, which knows what is packed and how large that is. Addresses are physical. */
struct bzimage {
    uint32_t place;        /* where this is linked */
    uint32_t size;         /* bytes of all that was loaded, and has been moved there */
    uint32_t low, high;    /* what is overwritten */
    uint32_t payload;      /* the packed kernel */
    uint32_t payload_size; /* bytes */
    uint32_t room;         /* where it is unpacked; … */
    uint32_t room_size;    /* … 0 bytes if it is not compressed */
};

extern const struct bzimage bb_bzimage;

#define ELF_MAGIC 0x464c457f
#define ELFCLASS64 2
#define PT_LOAD 1

/* System V gABI, chapters 4 and 5 */
struct elf_header_32 {
    uint8_t ident[16];
    uint16_t type, machine;
    uint32_t version, entry, phoff, shoff, flags;
    uint16_t ehsize, phentsize, phnum;
};

struct segment_32 {
    uint32_t type, offset, vaddr, paddr, filesz, memsz, flags, align;
};

struct elf_header_64 {
    uint8_t ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, phoff, shoff;
    uint32_t flags;
    uint16_t ehsize, phentsize, phnum;
};

struct segment_64 {
    uint32_t type, flags;
    uint64_t offset, vaddr, paddr, filesz, memsz, align;
};

static void __attribute__((noreturn)) die(const char *reason)
{
    bb_give_up("the kernel that is packed in this bzImage", reason);
}

static void place(const uint8_t *file, uint32_t size, uint64_t offset, uint64_t paddr, uint64_t filesz, uint64_t memsz)
{
    if (offset > size || filesz > size - offset || filesz > memsz)
        die("a segment of it is not in its file");
    if (paddr < bb_bzimage.low || paddr > bb_bzimage.place || memsz > bb_bzimage.place - paddr)
        die("a segment of it lies outside its memory");
    bb_copy((void *)(uint32_t)paddr, file + (uint32_t)offset, (uint32_t)filesz);
    bb_clear((void *)(uint32_t)(paddr + filesz), (uint32_t)(memsz - filesz));
}

/* `table`: bytes from the start of the file to the program headers. */
static const void *entry_of(const uint8_t *file, uint32_t size, uint64_t table, uint32_t each, uint32_t index)
{
    if (table > size || (index + 1) * each > size - table)
        die("its program headers are not in its file");
    return file + (uint32_t)table + index * each;
}

static void place_all(const uint8_t *file, uint32_t size)
{
    const struct elf_header_32 *narrow = (const void *)file;
    const struct elf_header_64 *wide = (const void *)file;

    if (size < sizeof *wide || *(const uint32_t *)file != ELF_MAGIC)
        die("it is no ELF file");
    if (file[4] == ELFCLASS64) {
        for (unsigned i = 0; i < wide->phnum; i++) {
            const struct segment_64 *s = entry_of(file, size, wide->phoff, sizeof *s, i);

            if (s->type == PT_LOAD)
                place(file, size, s->offset, s->paddr, s->filesz, s->memsz);
        }
        return;
    }
    for (unsigned i = 0; i < narrow->phnum; i++) {
        const struct segment_32 *s = entry_of(file, size, narrow->phoff, sizeof *s, i);

        if (s->type == PT_LOAD)
            place(file, size, s->offset, s->paddr, s->filesz, s->memsz);
    }
}

/* The kernel's front stub, where to go on. */
uint32_t bb_unpack(void)
{
    const uint8_t *packed = (const uint8_t *)bb_bzimage.payload;

    if (!bb_bzimage.room_size) {
        place_all(packed, bb_bzimage.payload_size);
    } else {
        uint8_t *room = (uint8_t *)bb_bzimage.room;

        if (lz4_legacy(packed, bb_bzimage.payload_size, room, bb_bzimage.room_size) != bb_bzimage.room_size)
            die("its LZ4 data is damaged");
        place_all(room, bb_bzimage.room_size);
    }
    return (uint32_t)bb_params.startup;
}
