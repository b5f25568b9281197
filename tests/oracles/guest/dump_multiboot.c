// SPDX-License-Identifier: 0BSD
// Says how a Multiboot loader entered us, and the bytes of all that it handed over.
//
// What the bytes mean is for the reader to find out: Multiboot 0.6.96 section 3.3, Multiboot2 2.0 section 3.6.

#include "say.h"

#include "block.h"

static void module(u32 start, u32 end)
{
    begin("module");
    field("start", start);
    field("end", end);
    field("crc32", crc32((const u8 *)start, end - start < MOST ? end - start : MOST));
}

static void dump_multiboot(u32 info)
{
    u32 flags = at(info), count = at(info + 20), list = at(info + 24);

    bytes("information", info, 116);
    if (flags & 4)
        bytes("cmdline", at(info + 16), length(at(info + 16)));
    if (flags & 0x40)
        bytes("memory_map", at(info + 48), at(info + 44));
    if (flags & 0x200)
        bytes("loader_name", at(info + 64), length(at(info + 64)));
    if (flags & 0x20)
        bytes("sections", at(info + 36), at(info + 28) * at(info + 32));
    if (!(flags & 8))
        return;
    bytes("modules", list, count * 16);
    for (u32 i = 0; i < count; i++) {
        bytes("module_cmdline", at(list + 16 * i + 8), length(at(list + 16 * i + 8)));
        module(at(list + 16 * i), at(list + 16 * i + 4));
    }
}

static void dump_multiboot2(u32 info)
{
    bytes("information", info, at(info));
    for (u32 tag = info + 8; at(tag); tag += (at(tag + 4) + 7) & ~7u)
        switch (at(tag)) {
        case 3:
            module(at(tag + 8), at(tag + 12));
            break;
        case 12: // the EFI system table, and the runtime services that it leads to
            bytes("system_table", at(tag + 8), 120);
            bytes("runtime_services", at(at(tag + 8) + 88), 24);
            bytes("configuration", at(at(tag + 8) + 112), 24 * at(at(tag + 8) + 104));
#ifdef EFI64
            bytes("boot_services", at(at(tag + 8) + 96), 24);
#endif
            break;
        }
}

void dump(u32 info)
{
    put('\n');
    begin("begin");
    dump_cpu();
    dump_hypervisor();
    bytes("gdt", *(u32 *)(gdtr + 2), (*(u16 *)gdtr + 1 < 0x40 ? *(u16 *)gdtr + 1 : 0x40) & ~7);
#ifdef EFI64
    bytes("top_table", (u32)registers[18] & ~0xfffu, 4096);
#endif
    if (registers[0] == 0x36d76289)
        dump_multiboot2(info);
    else
        dump_multiboot(info);
    dump_a20();
    begin("end");
}
