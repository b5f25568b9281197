/* SPDX-License-Identifier: 0BSD */
/*
 * The first half of the front: a UEFI application that has everything ready, ends the boot services, and is left for good.
 *
 * Payload and stubs come to their places at the very end: until then the firmware has some of that memory, and it may say
 * no. Up to that point whatever fails is told in one line and by an error status, and the firmware goes on as if nothing
 * had been.
 */
#include "application_state.h"
#include <bootbuild/page_tables.h>

#define EFI_MEMORY_XP 0x4000
#define EFI_MEMORY_RO 0x20000

#define CPUID_ENCRYPTION 0x8000001f
#define ENCRYPTION_SEV 2 /* of its EAX */
#define MSR_SEV_STATUS 0xc0010131

#define IMAGE_TABLES 4 /* an image above 4 GiB has its own, as LINKED_TABLES */
#define FIVE_LEVELS 1  /* and one above all of them, where the firmware has that */

/* All that outlives the firmware, and the payload's arrival: one piece of memory outside of what that takes up. */
struct yard {
    uint64_t tables[LOW_TABLES + IMAGE_TABLES + FIVE_LEVELS][ENTRIES];
    char copier[COPIER_ROOM];
    struct move moves[MAX_MOVES];
    char map[MAX_MAP] __attribute__((aligned(4096)));
    struct handoff handoff;
};

static const struct efi_guid loaded_image = {
    0x5b1b31a1, 0x9562, 0x11d2, {0x8e, 0x3f, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
static const struct efi_guid memory_attribute = {
    0xf4560cf6, 0x40ec, 0x4b4a, {0xa1, 0x92, 0xbf, 0x1d, 0x57, 0xd0, 0xb1, 0x89}};

struct application application;

/* entry.S; of our own, so that their addresses are found without a table of such */
#pragma GCC visibility push(hidden)
extern const char bb_efi_copier[];
void bb_efi_leave(const struct departure *) __attribute__((noreturn));
void bb_efi_join(uint64_t landing, const struct handoff *) __attribute__((noreturn));
#pragma GCC visibility pop

/*
 * On the firmware's console; on those of a PC once it has been asked to end its boot services, when part of them may be
 * gone already, and none may be called but those of memory (UEFI 2.10, 7.4.6).
 */
static void say(const uint16_t *text)
{
    struct efi_text_output *console = application.system->console_out;

    if (!application.leaving) {
        if (console)
            console->output(console, text);
        return;
    }
    for (; *text; text++) {
        char c[2] = {(char)*text, 0};

        bb_say(c);
    }
}

efi_status refuse(const uint16_t *reason, efi_status status)
{
    say(u"bootbuild: cannot start the kernel: ");
    say(reason);
    say(application.leaving ? u"\n" : u"\r\n");
    return status;
}

static const struct move *planned_moves(void)
{
    return (const struct move *)(bb_efi_plan.ranges + bb_efi_plan.range_count);
}

static int five_levels(void)
{
    bb_address cr4;

    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    return cr4 & CR4_LA57 ? 1 : 0;
}

/* AMD's SEV, by which a page table says what of memory is encrypted (AMD64 manual, volume 2, 15.34): ours say nothing. */
static int encrypted(void)
{
    uint32_t status, high;

    if (bb_cpuid(0x80000000).eax < CPUID_ENCRYPTION || !(bb_cpuid(CPUID_ENCRYPTION).eax & ENCRYPTION_SEV))
        return 0;
    __asm__ volatile("rdmsr" : "=a"(status), "=d"(high) : "c"(MSR_SEV_STATUS));
    return status & 1;
}

/* Where the bytes of each move are: in our own image, or in a copy if that lies where the payload will. */
static efi_status set_moves(struct yard *yard)
{
    uint64_t base = application.loaded->image_base;
    const struct move *planned = planned_moves();

    for (uint32_t i = 0; i < bb_efi_plan.move_count; i++) {
        struct move *move = yard->moves + i;

        *move = planned[i];
        move->from += base;
        if (!must_move(move->from, move->size))
            continue;
        move->from = place(move->size);
        if (!move->from)
            return refuse_place(u"no memory in which the kernel can wait");
        bb_copy((void *)move->from, (const void *)(base + planned[i].from), move->size);
    }
    return EFI_SUCCESS;
}

/*
 * The first 4 GiB, and our own code wherever it runs. How many levels the tables have cannot be changed in long mode
 * (Intel SDM, volume 3, 4.1.2): the copier does it in the end.
 */
static void make_tables(struct yard *yard, struct departure *departure)
{
    uint64_t code = (uint64_t)bb_efi_leave & ~(uint64_t)(GRANULE - 1), *top;

    bb_clear(yard->tables, sizeof yard->tables);
    pool = yard->tables;
    used = 0;
    top = pool[used++];
    map_low(top);
    if (code >= FOUR_GIB)
        map(top, code, code, 2 * GRANULE);
    departure->tables = (uint64_t)top;
    departure->four_levels = 0;
    if (five_levels()) {
        departure->tables = (uint64_t)pool[used++];
        departure->four_levels = (uint64_t)top;
        *(uint64_t *)departure->tables = (uint64_t)top | PRESENT_WRITABLE;
    }
}

/* The moves end so far from where the payload is linked. */
static void move_by(struct yard *yard, uint64_t by)
{
    for (uint32_t i = 0; i < bb_efi_plan.move_count; i++)
        yard->moves[i].to = planned_moves()[i].to + by;
}

static efi_status refuse_target(const uint16_t *reason)
{
    return refuse_place(bb_efi_plan.grain ? u"the memory that it is linked for is taken, and none is free for it elsewhere"
                                          : reason);
}

/* Returns only if it has failed, with the boot services alive. */
static efi_status depart(struct yard *yard)
{
    struct handoff *handoff = application.handoff;
    struct departure departure = {
        .copier = (uint64_t)yard->copier, .moves = yard->moves, .count = bb_efi_plan.move_count, .handoff = handoff,
    };
    efi_status status = EFI_SUCCESS;

    make_tables(yard, &departure);
    bb_copy(yard->copier, bb_efi_copier, COPIER_ROOM);
    for (unsigned i = 0; i < TRIES; i++) {
        struct memory_map map;
        uint64_t by;

        if (get_map(&map, yard->map) != EFI_SUCCESS || !find_target(&map, FREE_AT_LAST, &by))
            return refuse_target(u"the memory that it is linked for is taken for good");
        move_by(yard, by);
        departure.landing = bb_efi_plan.landing + by;
        handoff->map = (uint64_t)yard->map;
        handoff->map_size = map.size;
        handoff->descriptor_size = (uint32_t)map.stride;
        handoff->descriptor_version = map.version;
        application.leaving = 1;
        status = application.boot->exit_boot_services(application.image, map.key);
        if (status == EFI_SUCCESS)
            bb_efi_leave(&departure);
        if (status != EFI_INVALID_PARAMETER)
            break;
    }
    return refuse(u"the firmware does not end its boot services", status);
}

/* Memory that was claimed, writable and executable; if the firmware has none such, with its attributes as they were. */
static int open_up(uint64_t by, uint64_t before[])
{
    const struct bb_range *ranges = bb_efi_plan.ranges;
    struct efi_memory_attribute *protocol;
    uint32_t i;
    int done = 1;

    if (application.boot->locate_protocol(&memory_attribute, 0, (void **)&protocol) != EFI_SUCCESS)
        return 1;
    for (i = 0; done && i < bb_efi_plan.range_count; i++) {
        uint64_t at = ranges[i].base + by, size = ranges[i].size;

        before[i] = 0;
        done = protocol->get(protocol, at, size, before + i) == EFI_SUCCESS &&
               protocol->clear(protocol, at, size, EFI_MEMORY_XP | EFI_MEMORY_RO) == EFI_SUCCESS;
        before[i] &= EFI_MEMORY_XP | EFI_MEMORY_RO;
    }
    while (!done && i--)
        if (before[i])
            protocol->set(protocol, ranges[i].base + by, ranges[i].size, before[i]);
    return done;
}

/* The same with the boot services alive: the memory must be had now, and be executable. */
static efi_status join(struct yard *yard)
{
    uint64_t by;

    if (!claim_target(&by))
        return refuse_target(u"the memory that it is linked for is taken, and boot services are to stay");
    if (!open_up(by, (uint64_t *)yard->map))
        return refuse(u"the firmware has no memory that is writable and executable, as it needs beside them",
                      EFI_UNSUPPORTED);
    move_by(yard, by);
    for (uint32_t i = 0; i < bb_efi_plan.move_count; i++)
        bb_copy((void *)yard->moves[i].to, (const void *)yard->moves[i].from, yard->moves[i].size);
    application.handoff->flags |= BB_FLAG_BOOT_SERVICES;
    bb_efi_join(bb_efi_plan.landing + by, application.handoff);
}

static efi_status start(void)
{
    struct yard *yard;
    efi_status status;
    int alive = bb_efi_plan.flags & PLAN_BOOT_SERVICES;

    if (application.boot->handle_protocol(application.image, &loaded_image, (void **)&application.loaded) != EFI_SUCCESS)
        return refuse(u"the firmware does not tell where it has loaded this", EFI_UNSUPPORTED);
    if (encrypted())
        return refuse(u"memory is encrypted (SEV), which its page tables do not allow for", EFI_UNSUPPORTED);
    yard = (struct yard *)place(sizeof *yard);
    if (!yard)
        return refuse_place(u"no memory");
    application.handoff = &yard->handoff;
    bb_clear(application.handoff, sizeof *application.handoff);
    status = take_all();
    if (status == EFI_SUCCESS)
        status = set_moves(yard);
    if (status != EFI_SUCCESS)
        return status;
    return alive ? join(yard) : depart(yard);
}

efi_status bb_efi_application(void *image, const struct efi_system_table *system)
{
    efi_status status;

    application.image = image;
    application.system = system;
    application.boot = system->boot;
    status = start();
    release();
    return status;
}
