// SPDX-License-Identifier: 0BSD
// A UEFI application that loads and starts files 000, 001 … of the disk that it came from, and says how each ended.
// The firmware does it, or shim if that started this program.
#include "efi.h"

static const struct guid LOADED_IMAGE = {0x5b1b31a1, 0x9562, 0x11d2, {0x8e, 0x3f, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
static const struct guid FILE_SYSTEM = {0x964e5b22, 0x6459, 0x11d2, {0x8e, 0x39, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};

static const struct guid SHIM_IMAGE_LOADER = {
    0x1f492041, 0xfadb, 0x4e59, {0x9e, 0x57, 0x7c, 0xaf, 0xe7, 0x3a, 0x55, 0xab}};

enum { LOADER_DATA = 2 };

struct loader { // shim's, include/loader-proto.h
    service *load, *start, *exit, *unload;
};

struct file {
    u64 revision;
    service *open, *close, *delete, *read, *write;
};

struct file_system {
    u64 revision;
    service *open_volume;
};

static void say(const char *text)
{
    for (; *text; text++)
        asm volatile("outb %0, $0xe9" : : "a"(*text));
}

static void say_number(u64 value)
{
    char text[17] = {0};
    for (int at = 15; at >= 0; at--, value >>= 4)
        text[at] = "0123456789abcdef"[value & 15];
    say(text);
}

static void say_name(const u16 *name)
{
    for (; *name; name++)
        say((char[]){(char)*name, 0});
}

static void name_of(u16 *name, u32 number)
{
    name[0] = (u16)('0' + number / 100);
    name[1] = (u16)('0' + number / 10 % 10);
    name[2] = (u16)('0' + number % 10);
    name[3] = 0;
}

static u64 read_all(struct services *bs, struct file *file, u8 **data, u64 *size)
{
    u64 room = 1 << 22;
    u64 status = bs->call[AllocatePool]((u64)LOADER_DATA, room, data);
    if (!status)
        status = file->read(file, &room, *data);
    *size = room;
    return status;
}

static u64 MS at_once(void)
{
    return 0;
}

u64 MS ask(u64 handle, struct system_table *system)
{
    struct services *bs = system->bs;
    bs->call[Stall] = (service *)at_once; // some loaders let a human read what they say
    struct loaded_image *self = 0;
    struct file_system *disk = 0;
    struct file *root = 0, *file = 0;
    struct loader loader = {
        .load = bs->call[LoadImage], .start = bs->call[StartImage], .unload = bs->call[UnloadImage]};
    struct loader *shim = 0;
    if (!bs->call[LocateProtocol](&SHIM_IMAGE_LOADER, 0ULL, &shim))
        loader = *shim;
    bs->call[HandleProtocol](handle, &LOADED_IMAGE, &self);
    bs->call[HandleProtocol](self->device, &FILE_SYSTEM, &disk);
    disk->open_volume(disk, &root);
    for (u32 number = 0;; number++) {
        u16 name[4];
        name_of(name, number);
        if (root->open(root, &file, name, 1ULL, 0ULL))
            break;
        say("\nCASE ");
        say_name(name);
        u8 *data = 0;
        u64 size = 0, image = 0;
        u64 status = read_all(bs, file, &data, &size);
        file->close(file);
        if (status)
            say(" unread ");
        status = loader.load(0ULL, handle, 0ULL, data, size, &image);
        say("\nLOADED ");
        say_number(status);
        if (!status) {
            say("\nSTARTING\n");
            status = loader.start(image, 0ULL, 0ULL);
            say("\nENDED ");
            say_number(status);
            if (status >> 63) // it may have been for another machine, and is still there
                loader.unload(image);
        }
        bs->call[FreePool](data);
    }
    say("\nALL-DONE\n");
    system->rt->call[ResetSystem](2ULL, 0ULL, 0ULL, 0ULL);
    return 0;
}
