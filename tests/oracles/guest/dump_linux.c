// SPDX-License-Identifier: 0BSD
// Says how a loader of Linux entered us, in real mode or in 32-bit code, and the bytes of all that it handed over.
//
// struct layouts: Linux Documentation/arch/x86/{boot,zero-page}.rst.

#include "say.h"

#include "block.h"

extern u8 saved[], calls[], calls_end[]; // offsets in the real-mode code

static u64 at64(u32 address)
{
    return at(address) | (u64)at(address + 4) << 32;
}

// What the setup header at `params` leads to; `params` is boot_params, or a bzImage's first bytes.
static void dump_led_to(u32 params)
{
    u32 image = at(params + 0x218), size = at(params + 0x21c), node = at(params + 0x250);

    bytes("cmdline", at(params + 0x228), length(at(params + 0x228)));
    if (size) {
        begin("ramdisk");
        field("start", image);
        field("size", size);
        field("crc32", crc32((const u8 *)image, size < MOST ? size : MOST));
    }
    for (int i = 0; node && i < 16; i++, node = at64(node))
        bytes("setup_data", node, 16 + at(node + 12));
}

void dump(u32 params)
{
    put('\n');
    begin("begin");
    dump_cpu();
    dump_hypervisor();
    bytes("gdt", *(u32 *)(gdtr + 2), (*(u16 *)gdtr + 1 < 0x40 ? *(u16 *)gdtr + 1 : 0x40) & ~7);
    bytes("boot_params", params, 4096);
    dump_led_to(params);
    dump_a20();
    begin("end");
}

void dump_real(u32 setup)
{
    static const char names[][7] = {"eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp",
                                    "cs",  "ds",  "es",  "ss",  "fs",  "gs",  "cr0"};
    u32 real = setup + (u32)saved;

    put('\n');
    begin("begin");
    begin("cpu");
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        field(names[i], at(real + 4 * i));
    field("gdtr_limit", at(real + 60) & 0xffff);
    field("gdtr_base", at(real + 62));
    field("idtr_limit", at(real + 68) & 0xffff);
    field("idtr_base", at(real + 70));
    field("eflags", at(real + 76));
    dump_hypervisor();
    bytes("setup", setup, 0x280);
    dump_led_to(setup);
    for (u32 call = (u32)calls; call < (at(setup + (u32)calls_end) & 0xffff); call += 64)
        bytes("bios", setup + call, 64);
    dump_a20();
    begin("end");
}
