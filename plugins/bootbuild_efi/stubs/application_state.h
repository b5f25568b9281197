/* SPDX-License-Identifier: 0BSD */
/* What the parts of the application share while the boot services live. */
#ifndef APPLICATION_STATE_H
#define APPLICATION_STATE_H

#include "application.h"
#include "efi.h"

#define FOUR_GIB (1ull << 32)

extern const struct plan bb_efi_plan;

struct application {
    void *image;
    const struct efi_system_table *system;
    struct efi_boot_services *boot;
    const struct efi_loaded_image *loaded;
    struct handoff *handoff;
};

/* application.c */
extern struct application application;
/* Tells why on the firmware's console, in one line, and answers with `status`. */
efi_status refuse(const uint16_t *reason, efi_status status);

/* place.c */
/* Memory of this many bytes, in whole pages, below 4 GiB and outside of what the payload takes up; 0 without. */
uint64_t place(uint64_t size);
/* The memory itself, so that nobody else gets it; 0 if somebody has some of it. */
int claim_target(void);
/* Whether the payload can have its memory once the boot services have ended, by this map. */
int target_is_free(const struct efi_memory *map, uint64_t size, uint64_t stride);
/* Whether bytes lie where the payload will, or where a 32-bit kernel cannot reach them. */
int must_move(uint64_t address, uint64_t size);
/* Gives back all that was placed and claimed. */
void release(void);

/* take.c */
/* Fills the handoff but for the memory map. */
efi_status take_all(void);

#endif
