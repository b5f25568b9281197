/* SPDX-License-Identifier: 0BSD */
/* What the parts of the application share while the boot services live. */
#ifndef APPLICATION_STATE_H
#define APPLICATION_STATE_H

#include "application.h"
#include "efi.h"

#define FOUR_GIB (1ull << 32)
#define MAX_MOVES ((EFI_PAGE - COPIER_ROOM) / 24) /* BB-W061 refuses a payload of more */
#define TRIES 4 /* of what fails because the map has changed, as a timer may change it, and must be asked for again */
#define FREE_NOW (1u << EFI_CONVENTIONAL)
/* What is nobody's once the boot services have ended (UEFI 2.10, table 7.10); loader memory is ours. */
#define FREE_AT_LAST                                                                                                   \
    (FREE_NOW | 1u << EFI_LOADER_CODE | 1u << EFI_LOADER_DATA | 1u << EFI_BOOT_SERVICES_CODE |                         \
     1u << EFI_BOOT_SERVICES_DATA)

extern const struct plan bb_efi_plan;

/* As GetMemoryMap gives it. */
struct memory_map {
    const struct efi_memory *entries; /* `stride` bytes apart */
    uint64_t size;
    uint64_t stride;
    uint64_t key;
    uint32_t version;
};

struct application {
    void *image;
    const struct efi_system_table *system;
    struct efi_boot_services *boot;
    const struct efi_loaded_image *loaded;
    struct handoff *handoff;
    int leaving; /* ExitBootServices was called */
};

/* application.c */
extern struct application application;
/* Tells why in one line, and answers with `status`. */
efi_status refuse(const uint16_t *reason, efi_status status);

/* place.c */
/* The memory map, in `buffer` of MAX_MAP bytes; EFI_BUFFER_TOO_SMALL also if it has more entries than are passed on. */
efi_status get_map(struct memory_map *map, char *buffer);
/* Memory of this many bytes, in whole pages, below 4 GiB and outside of what the payload takes up; 0 without. */
uint64_t place(uint64_t size);
/* Where there is no memory: that is `reason`, unless the map could not be had. */
efi_status refuse_place(const uint16_t *reason);
/*
 * Whether the payload can have memory, by this map and where its own is of `types` (a set of bits): how far from where it
 * is linked. That is elsewhere only if it must be, in memory that is free already, so that nothing of ours is there.
 */
int find_target(const struct memory_map *map, uint32_t types, uint64_t *by);
/* The same now, with the memory itself, so that nobody else gets it. */
int claim_target(uint64_t *by);
/* Whether bytes lie where the payload will, or where a 32-bit kernel cannot reach them. */
int must_move(uint64_t address, uint64_t size);
/* Gives back all that was placed and claimed. */
void release(void);

/* take.c */
/* Fills the handoff but for the memory map. */
efi_status take_all(void);

#endif
