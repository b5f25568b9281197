/* SPDX-License-Identifier: 0BSD */
/* From the record to what FreeBSD's loader leaves: page tables here, the rest in the files beside this one. */
#include "freebsd.h"

#define PRESENT_WRITABLE 0x3
#define LARGE 0x80
#define GRANULE 0x200000ull
#define ENTRIES 512

uint32_t freebsd_modulep, freebsd_kernend;

static uint64_t top[ENTRIES] __attribute__((aligned(4096)));
static uint64_t low[ENTRIES] __attribute__((aligned(4096)));   /* the first 512 GiB */
static uint64_t alias[ENTRIES] __attribute__((aligned(4096))); /* every other 512 GiB */
static uint64_t pages[4 * ENTRIES] __attribute__((aligned(4096)));
static struct file files[MAX_FILES];

static void say(const char *text)
{
    bb_com1_write(text, bb_length(text));
    bb_e9_write(text, bb_length(text));
}

void die(const char *reason)
{
    say("bootbuild: cannot start FreeBSD: ");
    say(reason);
    say("\n");
    bb_stop();
}

static uint64_t entry(const void *table)
{
    return (uint64_t)table | PRESENT_WRITABLE;
}

/*
 * FreeBSD's loader has every GiB of virtual memory stand for the first of physical memory
 * (stand/i386/libi386/elf64_freebsd.c): so does this, but for the first four, which are one to one.
 */
static uint64_t *build_page_tables(void)
{
    for (unsigned i = 0; i < 4 * ENTRIES; i++)
        pages[i] = i * GRANULE | LARGE | PRESENT_WRITABLE;
    for (unsigned i = 0; i < ENTRIES; i++) {
        low[i] = entry(i < 4 ? pages + i * ENTRIES : pages);
        alias[i] = entry(pages);
        top[i] = entry(i ? alias : low);
    }
    return top;
}

uint64_t *freebsd_prepare(const struct bb_handover *record)
{
    if (!bb_params.map_size || bb_params.map_vaddr - bb_params.map_paddr != KERNBASE)
        die("it is not linked at KERNBASE plus where it is loaded");
    if (bb_params.stub_base + bb_params.stub_size > GIB)
        die("the stubs are above the first GiB, where it does not reach them");
    freebsd_kernend = place_files(record, files);
    freebsd_modulep = build_metadata(record, files, build_environment(record), freebsd_kernend);
    return build_page_tables();
}
