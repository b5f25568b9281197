// SPDX-License-Identifier: 0BSD
// Says, as text on port 0xE9, how a PVH monitor entered us and what it handed over.
//
// QEMU has that port as isa-debugcon, Xen prints a guest's lines from it in its own log: so one channel
// serves every monitor and needs no hypercall. Numbers are hex; strings are given as hex bytes.
// struct layouts: Xen xen/include/public/arch-x86/hvm/start_info.h.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

extern u32 registers[];
extern u8 gdtr[], idtr[];

struct start_info {
    u32 magic, version, flags, nr_modules;
    u64 modlist_paddr, cmdline_paddr, rsdp_paddr;
    u64 memmap_paddr; // from version 1
    u32 memmap_entries, reserved;
};

struct module {
    u64 paddr, size, cmdline_paddr, reserved;
};

struct memmap_entry {
    u64 addr, size;
    u32 type, reserved;
};

static void put(char c)
{
    __asm__ volatile("outb %0, %1" : : "a"(c), "Nd"((u16)0xe9));
}

static void puts(const char *text)
{
    while (*text)
        put(*text++);
}

static void put_hex(u64 value, int digits)
{
    for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4)
        put("0123456789abcdef"[(value >> shift) & 15]);
}

static void begin(const char *kind)
{
    puts("dump: [");
    puts(kind);
    puts("]\n");
}

// One field a line, and short: Xen breaks a line after 80 characters (HVM_PBUF_SIZE).
static void field(const char *name, u64 value)
{
    puts("dump: ");
    puts(name);
    puts("=0x");
    put_hex(value, value >> 32 ? 16 : 8);
    put('\n');
}

// As many lines as it takes; the reader joins what has one name.
static void field_text(const char *name, u64 address)
{
    const u8 *at = (const u8 *)(u32)address;

    if (!address || address >> 32)
        return;
    for (int i = 0; i < 4096 && (i == 0 || at[i]); i++) {
        if (i % 24 == 0) {
            puts(i ? "\ndump: " : "dump: ");
            puts(name);
            puts("=x");
        }
        if (at[i])
            put_hex(at[i], 2);
    }
    put('\n');
}

static u32 crc32(const u8 *data, u32 size)
{
    u32 crc = ~0u;

    for (u32 i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

static void dump_cpu(void)
{
    static const char names[20][7] = {"eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp", "eflags", "cr0",
                                      "cr3", "cr4", "cs",  "ds",  "es",  "ss",  "fs",  "gs",  "tr",     "ldtr"};

    begin("cpu");
    for (int i = 0; i < 20; i++)
        field(names[i], registers[i]);
    field("gdtr_limit", *(u16 *)gdtr);
    field("gdtr_base", *(u32 *)(gdtr + 2));
    field("idtr_limit", *(u16 *)idtr);
    field("idtr_base", *(u32 *)(idtr + 2));
}

static void dump_hypervisor(void)
{
    for (u32 leaf = 0x40000000; leaf < 0x40010000; leaf += 0x100) {
        u32 signature[4] = {0}, top;

        __asm__ volatile("cpuid"
                         : "=a"(top), "=b"(signature[0]), "=c"(signature[1]), "=d"(signature[2])
                         : "0"(leaf), "2"(0));
        if (top < leaf || top > leaf + 0xff)
            continue;
        begin("hypervisor");
        field("leaf", leaf);
        field("top", top);
        field_text("signature", (u32)signature);
    }
}

static void dump_start_info(const struct start_info *info)
{
    begin("start_info");
    field("address", (u32)info);
    field("magic", info->magic);
    if (info->magic != 0x336ec578)
        return;
    field("version", info->version);
    field("flags", info->flags);
    field("nr_modules", info->nr_modules);
    field("modlist_paddr", info->modlist_paddr);
    field("cmdline_paddr", info->cmdline_paddr);
    field("rsdp_paddr", info->rsdp_paddr);
    if (info->version >= 1) {
        field("memmap_paddr", info->memmap_paddr);
        field("memmap_entries", info->memmap_entries);
        field("reserved", info->reserved);
    }
    if (info->cmdline_paddr) {
        begin("cmdline");
        field_text("text", info->cmdline_paddr);
    }
    for (u32 i = 0; i < info->nr_modules && i < 8; i++) {
        const struct module *module = (const struct module *)(u32)info->modlist_paddr + i;

        begin("module");
        field("paddr", module->paddr);
        field("size", module->size);
        field("cmdline_paddr", module->cmdline_paddr);
        field("reserved", module->reserved);
        field("crc32", crc32((const u8 *)(u32)module->paddr, module->size));
        field_text("text", module->cmdline_paddr);
    }
    for (u32 i = 0; info->version >= 1 && i < info->memmap_entries && i < 64; i++) {
        const struct memmap_entry *entry = (const struct memmap_entry *)(u32)info->memmap_paddr + i;

        begin("memmap");
        field("addr", entry->addr);
        field("size", entry->size);
        field("type", entry->type);
        field("reserved", entry->reserved);
    }
}

void dump(const struct start_info *info)
{
    put('\n');
    begin("begin");
    dump_cpu();
    dump_hypervisor();
    dump_start_info(info);
    begin("end");
}
