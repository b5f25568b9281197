/* A kernel that tells UEFI, by the post stub, where its runtime services will be mapped: where they are. Linked alone. */
#include <bootbuild/handover.h>

#define RUNTIME (1ull << 63) /* EFI_MEMORY_RUNTIME */
#define UNSUPPORTED (1ull << 63 | 3)
#define INVALID_PARAMETER (1ull << 63 | 2)
#define ROOM 0x4000

static char map[ROOM] __attribute__((aligned(8)));
static const struct bb_handover *record;

static uint64_t post(uint32_t operation, void *argument)
{
    return ((bb_post_stub *)record->post_stub)(record, operation, argument);
}

static void say(const char *text)
{
    struct bb_post_text argument = {(uint64_t)text, 0};

    while (text[argument.size])
        argument.size++;
    post(BB_POST_CONSOLE_WRITE, &argument);
}

static void check(int right, const char *what)
{
    if (right)
        return;
    say("virtual map: wrong: ");
    say(what);
    say("\n");
    post(BB_POST_SHUTDOWN, 0);
}

/* The descriptors of what the runtime services keep, each with its physical address as the virtual one. Bytes. */
static uint64_t make_map(void)
{
    const char *from = (const char *)record->efi_memmap;
    uint64_t stride = record->efi_memmap_descriptor_size, size = 0;

    for (uint64_t at = 0; at < record->efi_memmap_size; at += stride) {
        const uint64_t *descriptor = (const uint64_t *)(from + at); /* type, physical, virtual, pages, attribute */

        if (!(descriptor[4] & RUNTIME) || size + stride > ROOM)
            continue;
        for (uint64_t i = 0; i < stride / 8; i++)
            ((uint64_t *)(map + size))[i] = descriptor[i == 2 ? 1 : i];
        size += stride;
    }
    return size;
}

/* The startup path is entered as a function is, by the ABI that the post stub has. */
void startup_64(uint32_t boot_type, const struct bb_handover *handed)
{
    struct bb_post_virtual_map argument = {0, 0, 0, 0, 0};
    uint64_t size;

    (void)boot_type;
    record = handed;
    check(post(BB_POST_QUERY, 0) & 1 << BB_POST_VIRTUAL_MAP, "the operation is not known");
    check(post(BB_POST_VIRTUAL_MAP, 0) == BB_POST_EINVAL, "no argument is taken for one");
    check(post(BB_POST_VIRTUAL_MAP, &argument) == BB_POST_EINVAL, "no map is taken for one");

    size = make_map();
    check(size > 0, "no memory of the runtime services");
    argument.address = (uint64_t)map;
    argument.size = size;
    argument.descriptor_size = record->efi_memmap_descriptor_size;
    argument.descriptor_version = record->efi_memmap_descriptor_version + 1;
    check(post(BB_POST_VIRTUAL_MAP, &argument) == INVALID_PARAMETER, "descriptors of another version are taken");
    argument.descriptor_version--;
    argument.descriptor_size = 8;
    check(post(BB_POST_VIRTUAL_MAP, &argument) == INVALID_PARAMETER, "descriptors of 8 bytes are taken");
    argument.descriptor_size = record->efi_memmap_descriptor_size;
    check(post(BB_POST_VIRTUAL_MAP, &argument) == 0, "the map is refused");
    check(post(BB_POST_VIRTUAL_MAP, &argument) == UNSUPPORTED, "the map is set twice");
    say("virtual map: done\n");
    post(BB_POST_SHUTDOWN, 0);
}
