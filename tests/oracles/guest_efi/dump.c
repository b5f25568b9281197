// SPDX-License-Identifier: 0BSD
// What a UEFI application finds at its first instruction: registers, tables, the memory map, itself as an image,
// every handle with its protocols; then the answers of many calls. As text on COM1, a word at a time.

#include "efi.h"

extern u64 registers[];
extern u8 gdtr[], idtr[];

static void put(char c)
{
    u8 status;

    do
        __asm__ volatile("inb %1, %0" : "=a"(status) : "Nd"((u16)0x3fd));
    while (!(status & 0x20));
    __asm__ volatile("outb %0, %1" : : "a"(c), "Nd"((u16)0x3f8));
}

#define WORDS
#include "../guest/words.h"

void text16(const char *name, const u16 *from)
{
    puts("dump: ");
    puts(name);
    puts("=x");
    for (int i = 0; i < 400 && from && from[i]; i++)
        put_hex(from[i] < 256 ? from[i] : '?', 2);
    put('\n');
}

void bytes(const char *name, const void *from, u64 size)
{
    puts("dump: ");
    puts(name);
    puts("=x");
    for (u64 i = 0; i < size && i < 512; i++)
        put_hex(((const u8 *)from)[i], 2);
    put('\n');
}

static void dump_cpu(void)
{
    static const char names[][7] = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp",    "r8",  "r9",
                                    "r10", "r11", "r12", "r13", "r14", "r15", "rflags", "cr0", "cr3", "cr4",
                                    "cs",  "ds",  "es",  "ss",  "fs",  "gs",  "tr",  "ldtr",   "efer", "fcw", "mxcsr"};

    begin("cpu");
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        field(names[i], registers[i]);
    field("gdtr_limit", *(u16 *)gdtr);
    field("gdtr_base", *(u64 *)(gdtr + 2));
    bytes("gdt", *(void **)(gdtr + 2), *(u16 *)gdtr + 1);
    field("idtr_limit", *(u16 *)idtr);
    field("idtr_base", *(u64 *)(idtr + 2));
    field("return", *(u64 *)registers[7]);
}

static void dump_header(const char *name, struct table_header *header)
{
    begin(name);
    field("at", (u64)header);
    field("signature", header->signature);
    field("revision", header->revision);
    field("size", header->header_size);
    field("reserved", header->reserved);
}

static void dump_tables(struct system_table *system)
{
    dump_header("system", &system->header);
    text16("vendor", system->vendor);
    field("vendor_at", (u64)system->vendor);
    field("firmware", system->revision);
    field("in_handle", system->in_handle);
    field("in", (u64)system->in);
    field("out_handle", system->out_handle);
    field("out", (u64)system->out);
    field("err_handle", system->err_handle);
    field("err", (u64)system->err);
    field("tables_at", (u64)system->table);
    dump_header("boot", &system->bs->header);
    for (int i = 0; i < BOOT_SERVICES; i++)
        field("service", (u64)system->bs->call[i]);
    dump_header("runtime", &system->rt->header);
    for (int i = 0; i < RUNTIME_SERVICES; i++)
        field("service", (u64)system->rt->call[i]);
    for (u64 i = 0; i < system->tables; i++) {
        begin("table");
        bytes("guid", &system->table[i].vendor, 16);
        field("at", system->table[i].table);
        bytes("data", (void *)system->table[i].table, 36);
        const u8 *entry = (void *)system->table[i].table;

        if (entry[0] == '_' && entry[1] == 'S' && entry[2] == 'M' && entry[3] == '_') // SMBIOS 2
            bytes("structures", (void *)(u64) * (u32 *)(entry + 24), *(u16 *)(entry + 22));
    }
}

static u8 map[16384];

static void dump_map(struct system_table *system)
{
    u64 size = sizeof map, key = 0, stride = 0;
    u32 version = 0;

    begin("map");
    field("status", system->bs->call[GetMemoryMap](&size, map, &key, &stride, &version));
    field("size", size);
    field("stride", stride);
    field("version", version);
    for (u64 at = 0; at < size; at += stride) {
        struct descriptor *d = (void *)(map + at);

        begin("memory");
        field("type", d->type);
        field("addr", d->physical);
        field("pages", d->pages);
        field("attribute", d->attribute);
    }
}

static const struct guid LOADED_IMAGE = {0x5b1b31a1, 0x9562, 0x11d2, {0x8e, 0x3f, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
static const struct guid FILE_SYSTEM = {0x964e5b22, 0x6459, 0x11d2, {0x8e, 0x39, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
static const struct guid DEVICE_PATH = {0x9576e91, 0x6d3f, 0x11d2, {0x8e, 0x39, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};

void path(const char *name, const u8 *at)
{
    const u8 *end = at;

    while (end && end[0] != 0x7f)
        end += end[2] | end[3] << 8;
    bytes(name, at, end ? end - at + 4 : 0);
}

static void dump_image(u64 handle, struct system_table *system)
{
    struct loaded_image *image = 0;
    const u8 *device = 0;

    begin("image");
    field("handle", handle);
    field("status", system->bs->call[HandleProtocol](handle, &LOADED_IMAGE, &image));
    field("at", (u64)image);
    field("revision", image->revision);
    field("parent", image->parent);
    field("system", (u64)image->system);
    field("device", image->device);
    field("path_at", (u64)image->file_path);
    path("file_path", image->file_path);
    field("reserved", image->reserved);
    field("options_size", image->options_size);
    text16("options", image->options);
    field("options_at", (u64)image->options);
    field("base", image->base);
    field("size", image->size);
    field("code", image->code_type);
    field("data", image->data_type);
    field("unload", image->unload);
    if (image->device) {
        field("device_path_status", system->bs->call[HandleProtocol](image->device, &DEVICE_PATH, &device));
        path("device_path", device);
        field("file_system", system->bs->call[HandleProtocol](image->device, &FILE_SYSTEM, &device));
    }
}

static void dump_handles(struct system_table *system)
{
    u64 count = 0, *handles = 0;

    begin("handles");
    field("status", system->bs->call[LocateHandleBuffer](0ull, 0ull, 0ull, &count, &handles));
    field("count", count);
    for (u64 i = 0; i < count; i++) {
        struct guid **guids = 0;
        u64 many = 0;
        const u8 *at = 0;

        begin("handle");
        field("handle", handles[i]);
        system->bs->call[ProtocolsPerHandle](handles[i], &guids, &many);
        for (u64 j = 0; j < many; j++)
            bytes("protocol", guids[j], 16);
        if (!system->bs->call[HandleProtocol](handles[i], &DEVICE_PATH, &at))
            path("path", at);
        system->bs->call[FreePool](guids);
    }
    system->bs->call[FreePool](handles);
}

void calls(u64 handle, struct system_table *system);

MS u64 dump(u64 handle, struct system_table *system)
{
    begin("begin");
    dump_cpu();
    dump_map(system);
    dump_tables(system);
    dump_image(handle, system);
#ifndef ONLY_ENTRY
    dump_handles(system);
    calls(handle, system);
#endif
    begin("end");
    return 0;
}
