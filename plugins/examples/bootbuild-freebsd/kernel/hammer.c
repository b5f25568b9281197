/* SPDX-License-Identifier: 0BSD */
/*
 * A kernel that looks for its metadata as FreeBSD's hammer_time does and prints what it finds, on COM1.
 * From FreeBSD's documents of the format, not from the stub that writes it.
 */
#include <stdint.h>

#define KERNBASE 0xffffffff80000000
#define KERNSTART (KERNBASE + 0x200000)
#define FRAME 0x000ffffffffff000

enum { END, NAME, TYPE, ADDR, SIZE, EMPTY, ARGS, METADATA = 0x8000 };
enum { ELFHDR = 2, SSYM = 3, ESYM = 4, ENVP = 6, HOWTO = 7, MD_KERNEND = 8, FW_HANDLE = 12, SMAP = 0x1001 };
enum { EFI_MAP = 0x1004, MODULEP = 0x1006 };

struct smap {
    uint64_t base, length;
    uint32_t type;
} __attribute__((packed));

static char *preload_metadata;

static void put(char c)
{
    __asm__ volatile("outb %0, %1" : : "a"(c), "Nd"((uint16_t)0x3f8));
}

static void print(const char *text)
{
    for (; *text; text++)
        put(*text);
}

static void print_hex(uint64_t value)
{
    int shift = 60;

    print("0x");
    while (shift && !(value >> shift))
        shift -= 4;
    for (; shift >= 0; shift -= 4)
        put("0123456789abcdef"[value >> shift & 15]);
}

static void print_number(const char *label, uint64_t value)
{
    print(label);
    print_hex(value);
}

static void __attribute__((noreturn)) panic(const char *text)
{
    print("hammer: panic: ");
    print(text);
    print("\n");
    for (;;)
        __asm__ volatile("cli; hlt");
}

static int equal(const char *a, const char *b)
{
    for (; *a && *a == *b; a++, b++)
        ;
    return *a == *b;
}

static uint32_t *head(char *at)
{
    return (uint32_t *)at;
}

static char *next(char *at)
{
    return at + ((8 + head(at)[1] + 7) & ~7ul);
}

static int at_end(char *at)
{
    return !head(at)[0] && !head(at)[1];
}

static char *search_by_type(const char *type)
{
    char *name = 0;

    for (char *at = preload_metadata; !at_end(at); at = next(at)) {
        if (head(at)[0] == NAME)
            name = at;
        if (head(at)[0] == TYPE && equal(type, at + 8))
            return name;
    }
    return 0;
}

/* Up to the next record of the type of the first, which is NAME. */
static char *search_info(char *module, uint32_t type)
{
    for (char *at = module; !at_end(at); at = next(at)) {
        if (at != module && head(at)[0] == head(module)[0])
            break;
        if (head(at)[0] == type)
            return at + 8;
    }
    return 0;
}

static uint64_t fetch(char *module, uint32_t type)
{
    uint64_t *value = (uint64_t *)search_info(module, METADATA | type);

    return value ? *value : 0;
}

static void relocate(uint64_t offset)
{
    for (char *at = preload_metadata; !at_end(at); at = next(at))
        if (head(at)[0] == ADDR || head(at)[0] == (METADATA | SSYM) || head(at)[0] == (METADATA | ESYM))
            *(uint64_t *)(at + 8) += offset;
}

static uint64_t load_address(void)
{
    uint64_t table;

    __asm__("mov %%cr3, %0" : "=r"(table));
    for (int shift = 39; shift >= 21; shift -= 9)
        table = ((uint64_t *)(table & FRAME))[KERNSTART >> shift & 511];
    return table & FRAME;
}

static uint32_t sum(const uint8_t *data, uint64_t size)
{
    uint32_t value = 0;

    for (; size; size--)
        value += *data++;
    return value;
}

static void print_file(char *module)
{
    uint64_t address = *(uint64_t *)search_info(module, ADDR), size = *(uint64_t *)search_info(module, SIZE);
    char *arguments = search_info(module, ARGS);

    print("hammer: file ");
    print(module + 8);
    print(", type ");
    print(search_info(module, TYPE));
    if (arguments) {
        print(", arguments ");
        print(arguments);
    }
    print_number(", at ", address);
    print_number(", ", size);
    print_number(" bytes, sum ", sum((uint8_t *)address, size));
    print("\n");
}

static void print_map(char *kernel)
{
    struct smap *smap = (struct smap *)search_info(kernel, METADATA | SMAP);

    uint64_t *efi = (uint64_t *)search_info(kernel, METADATA | EFI_MAP);

    if (efi) {
        print_number("hammer: EFI memory map of version ", (uint32_t)efi[2]);
        print_number(", descriptors of ", efi[1]);
        print_number(" bytes, rest ", efi[0] % efi[1]);
        print_number("\nhammer: its first descriptor is of type ", *(uint32_t *)(efi + 4));
        print_number(" at ", efi[5]);
        print("\n");
        if (!fetch(kernel, FW_HANDLE))
            panic("no EFI system table");
    } else if (!smap)
        panic("No BIOS smap or EFI map info from loader!");
    else
        for (uint32_t i = 0; i < ((uint32_t *)smap)[-1] / sizeof *smap; i++) {
            print_number("hammer: memory ", smap[i].base);
            print_number(", ", smap[i].length);
            print_number(" bytes, type ", smap[i].type);
            print("\n");
        }
}

static void print_symbols(char *kernel)
{
    uint64_t start = fetch(kernel, SSYM), end = fetch(kernel, ESYM);
    uint64_t table_size, strings;

    if (!start)
        return;
    table_size = *(uint64_t *)start;
    strings = start + 8 + ((table_size + 7) & ~7ul);
    if (strings + 8 + *(uint64_t *)strings > end)
        panic("Symbols are corrupt!");
    print_number("hammer: symbols ", table_size / 24);
    print("\n");
}

void hammer_time(uint64_t modulep, uint64_t kernend)
{
    char *kernel, *variable, *stack = (char *)(kernend + KERNBASE);

    if (load_address() != 0x200000)
        panic("not mapped at KERNSTART");
    preload_metadata = (char *)(modulep + KERNBASE);
    relocate(KERNBASE);
    kernel = search_by_type("elf kernel");
    if (!kernel)
        kernel = search_by_type("elf64 kernel");
    if (!kernel)
        panic("no kernel in the metadata");
    for (unsigned i = 0; i < 4096; i++)
        stack[i] = 0; /* what FreeBSD takes first of the memory behind kernend */
    for (char *at = preload_metadata; !at_end(at); at = next(at))
        if (head(at)[0] == NAME && at != kernel)
            print_file(at);
    print("hammer: kernel ");
    print(kernel + 8);
    print_number(" at ", *(uint64_t *)search_info(kernel, ADDR));
    if (search_info(kernel, METADATA | ELFHDR))
        print_number(", ELF header of entry ", *(uint64_t *)(search_info(kernel, METADATA | ELFHDR) + 24));
    print_number("\nhammer: howto ", *(uint32_t *)search_info(kernel, METADATA | HOWTO));
    print_number("\nhammer: kernend ", fetch(kernel, MD_KERNEND));
    print("\n");
    for (variable = (char *)(fetch(kernel, ENVP) + KERNBASE); *variable; variable++) {
        print("hammer: env ");
        for (; *variable; variable++)
            put(*variable);
        print("\n");
    }
    print_symbols(kernel);
    print_map(kernel);
}

void mi_startup(void)
{
    print("hammer: done\n");
}
