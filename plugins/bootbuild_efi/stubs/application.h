/* SPDX-License-Identifier: 0BSD */
/* Between the two halves of the front: what bootbuild writes for the application, and what that hands to the landing. */
#ifndef APPLICATION_H
#define APPLICATION_H

/* Offset in struct handoff, for assembly. */
#define HANDOFF_FLAGS 0x00

/* Offsets in struct departure. */
#define DEPARTURE_TABLES 0x00
#define DEPARTURE_FOUR_LEVELS 0x08
#define DEPARTURE_COPIER 0x10
#define DEPARTURE_MOVES 0x18
#define DEPARTURE_COUNT 0x20
#define DEPARTURE_LANDING 0x28
#define DEPARTURE_HANDOFF 0x30

#define COPIER_ROOM 256 /* bytes, of the page that the moves share with the copier */
#define CR4_LA57 0x1000

#ifndef __ASSEMBLER__

#include <bootbuild/waist.h>

#define MAX_MODULES 32     /* as BB_MAX_MODULES of front.h */
#define MAX_MAP 0x10000    /* bytes of EFI's memory map */
#define MAX_STRINGS 0x2000 /* bytes, as BB_MAX_STRINGS of front.h */

/* Bytes that are to be at a physical address; in `plan` `from` is relative to where the application is loaded. */
struct move {
    uint64_t to;
    uint64_t from;
    uint64_t size;
};

/* Written by bootbuild beside the application: containers/pe_plan.py. */
struct plan {
    uint64_t landing;      /* physical: where the chain of stubs is entered */
    uint32_t flags;        /* PLAN_* */
    uint32_t range_count;  /* of `ranges`, */
    uint32_t move_count;   /* and of the moves behind them */
    uint32_t grain;        /* the payload may lie a multiple of so many bytes from where it is linked; 0: it may not */
    struct bb_range ranges[]; /* what payload and stubs take up, in whole pages, ascending, none touching another */
};

#define PLAN_BOOT_SERVICES 1   /* do not call ExitBootServices */
#define PLAN_NO_LOAD_OPTIONS 2 /* the command line is what the image holds, always */
#define PLAN_NO_INITRD 4       /* modules are what the image holds */
#define PLAN_HIGH 8            /* where the payload is moved it goes as high as it can, not as low */

/* In memory outside of what the payload takes up. */
struct handoff {
    uint32_t flags; /* BB_FLAG_*, for the record */
    uint32_t module_count;
    uint64_t system_table;
    uint64_t rsdp;
    uint64_t cmdline; /* 0: none */
    uint64_t map;     /* 0 while the boot services live */
    uint64_t map_size;
    uint32_t descriptor_size;
    uint32_t descriptor_version;
    struct bb_framebuffer framebuffer; /* address 0: none */
    struct bb_module modules[MAX_MODULES];
};

/* How the application is left. */
struct departure {
    uint64_t tables;      /* of as many levels as the firmware's */
    uint64_t four_levels; /* the top one of four, if those have five; else 0 */
    uint64_t copier; /* a copy of it, which overwrites nothing that it needs */
    const struct move *moves;
    uint64_t count;
    uint64_t landing;
    const struct handoff *handoff;
};

_Static_assert(__builtin_offsetof(struct plan, ranges) == 0x18, "ranges");
_Static_assert(__builtin_offsetof(struct handoff, flags) == HANDOFF_FLAGS, "flags");
_Static_assert(__builtin_offsetof(struct departure, handoff) == DEPARTURE_HANDOFF, "handoff");

#endif
#endif
