// SPDX-License-Identifier: 0BSD
// A boot program as UEFI wants it: it takes memory for a kernel, ends the boot services, with the retry, copies the
// kernel there and goes there. -DBREAK=… breaks one thing.

#include "../oracles/guest_efi/efi.h"

#define NOTHING 0
#define GIVES_UP 20
#define AFTER_EXIT 1
#define RETURNED 2
#define FAILED 3
#define STACK 4
#define NO_RETRY 5
#define STRIDE 6
#define BASE 7
#define NOT_ALLOCATED 8
#define BAD_POINTER 9
#define EXIT 10
#define UNMODELLED 11
#define PRINTED 12
#define CONVERTED 13
#define NESTED 14
#define OLD_KEY 15 // goes on with the key of the first memory map
#define REGISTER 16 // takes R15 for zero at its first instruction
#define FLAG 17 // and CF
#define TOP 18 // and the stack for where OVMF has it
#define MEMORY 19 // takes the page that it is given for zeros
#define ALLOWED 21 // memory is made executable by the protocol
#define ALLOWED_AT_ONCE 22 // and not read-only before
#define AS_DATA 23 // the kernel's memory is not allocated as code
#define OWN_CODE 24 // a write to a section of code
#define OWN_FILES 27 // offers a file by a protocol of its own, and loads it by its path
#define VOLATILE 28 // finds in R10 what was there before a call
#define SHADOW 29 // and in the shadow space
#define TALKS 30 // on the console, between a refused ExitBootServices and the next
#define COPIES 31 // the kernel by a service, to memory that is not its own
#define OVERWRITES 32 // the system table by a service
#define FILLS 33 // more memory than there is
#define SUMS 34 // more than there is
#define NO_END 35 // to a device path
#define LONG 36 // random numbers, as many as no memory holds
#define TOLD 37 // wants to be told u"quiet" by who loaded it
#define POOL 38 // takes pool memory for what OVMF fills it with
#define FREED 39 // writes to a page that it has given back
#define GIVEN_BACK 40 // goes to one
#define EXITS 41 // gives up by Exit where ExitBootServices is refused
#define ALLOCATES 42 // takes other memory for the map then
#define SELECTOR 43 // loads a segment that is not in the GDT
#define OWN_IDT 44 // goes on by an IDT of its own
#define ATTRIBUTES 45 // asks the protocol for memory's attributes, also wrongly
#define UNREADABLE 46 // the kernel's page may be executed, and not be read
#define TAKES_ALL 47 // writes to every piece of memory that is nobody's when boot services have ended
#define OWN_DATA 48 // writes to memory of its own that it has made read-only
#define UNDEFINED 25 // UD2
#define KEY 26 // waits for a key
#ifndef BREAK
#define BREAK NOTHING
#endif

#define KERNEL 0x1800000ull // conventional memory in OVMF

enum { ALLOCATE_ADDRESS = 2, LOADER_CODE = 1, LOADER_DATA = 2 };

static const u8 kernel[] = {0xf4, 0xeb, 0xfd}; // hlt; jmp back
static u16 words[] = u"no kernel was found\r\n";
#if BREAK == NESTED
extern const u8 inner[], inner_end[];
__asm__(".section .rodata\ninner: .incbin \"" INNER "\"\ninner_end:\n.previous");
#endif

static void start(void)
{
    if (BREAK != ALLOWED && BREAK != UNREADABLE && BREAK != COPIES && BREAK != ATTRIBUTES) // then it is there
        for (unsigned i = 0; i < sizeof kernel; i++)
            ((volatile u8 *)KERNEL)[i] = kernel[i];
    __asm__ volatile("jmp *%0" : : "r"(KERNEL));
}

static const struct guid MEMORY_ATTRIBUTE = {0xf4560cf6, 0x40ec, 0x4b4a, {0xa1, 0x92, 0xbf, 0x1d, 0x57, 0xd0, 0xb1, 0x89}};
enum { READ_PROTECT = 0x2000, NO_EXECUTE = 0x4000, READ_ONLY = 0x20000 };

static u64 virtual_map[16 * 6];

#if BREAK == OWN_IDT
static void own_idt(void)
{
    static struct { u16 low, selector, flags, middle; u32 high, zero; } table[7];
    struct { u16 limit; u64 base; } __attribute__((packed)) idtr = {sizeof table - 1, (u64)table};
    u64 handler;
    u16 cs;

    __asm__ volatile("lea 1f(%%rip), %0\n\tjmp 2f\n1:\taddq $2, (%%rsp)\n\tiretq\n2:\tmov %%cs, %1" : "=r"(handler), "=r"(cs));
    table[6].low = (u16)handler, table[6].selector = cs, table[6].flags = 0x8e00;
    table[6].middle = (u16)(handler >> 16), table[6].high = (u32)(handler >> 32);
    __asm__ volatile("lidt %0" : : "m"(idtr));
}
#endif

#if BREAK == ATTRIBUTES
// Which answer is not as UEFI 2.10 §37.6 has it, as 256 and its line; `KERNEL` and the next page are the program's.
static u64 attributes(struct services *bs)
{
    enum { INVALID = 2, UNSUPPORTED = 3, DENIED = 15, NO_MAPPING = 17 };
    service **protection = 0, *get, *set, *clear;
    u64 next = KERNEL + 0x1000, found = 0;

    bs->call[LocateProtocol](&MEMORY_ATTRIBUTE, 0ull, &protection);
    get = protection[0], set = protection[1], clear = protection[2];
#define EXPECT(code, call) if ((call) != (code ? 1ull << 63 | (code) : 0)) return 0x100 + __LINE__
#define ARE(wanted, at) EXPECT(0, get(protection, at, 0x1000ull, &found)); if (found != (wanted)) return 0x100 + __LINE__
    bs->call[AllocatePages](ALLOCATE_ADDRESS, LOADER_DATA, 1ull, &next);
    ARE(NO_EXECUTE, KERNEL);
    EXPECT(INVALID, get(protection, KERNEL, 0ull, &found));
    EXPECT(INVALID, get(protection, KERNEL, 0x1000ull, 0ull));
    EXPECT(UNSUPPORTED, get(protection, KERNEL + 0x800, 0x1000ull, &found));
    EXPECT(UNSUPPORTED, get(protection, KERNEL, 0x800ull, &found));
    EXPECT(UNSUPPORTED, get(protection, 1ull << 40, 0x1000ull, &found));
    EXPECT(INVALID, set(protection, KERNEL, 0x1000ull, 0ull));
    EXPECT(INVALID, set(protection, KERNEL, 0x1000ull, READ_ONLY | 8ull));
    EXPECT(INVALID, set(protection, KERNEL, 0ull, READ_ONLY));
    EXPECT(DENIED, clear(protection, KERNEL, 0x2000ull, NO_EXECUTE));
    EXPECT(0, set(protection, next, 0x1000ull, READ_ONLY));
    ARE(NO_EXECUTE, KERNEL);
    ARE(NO_EXECUTE | READ_ONLY, next);
    EXPECT(NO_MAPPING, get(protection, KERNEL, 0x2000ull, &found));
    EXPECT(DENIED, clear(protection, KERNEL, 0x2000ull, NO_EXECUTE));
    ARE(NO_EXECUTE | READ_ONLY, next);
    EXPECT(0, set(protection, KERNEL, 0x2000ull, READ_PROTECT));
    ARE(NO_EXECUTE | READ_PROTECT, KERNEL);
    EXPECT(0, clear(protection, KERNEL, 0x2000ull, READ_PROTECT | READ_ONLY));
    ARE(NO_EXECUTE, KERNEL);
    ARE(NO_EXECUTE, next);
    *(volatile u8 *)next = 1;
    EXPECT(0, set(protection, KERNEL, 0x1000ull, READ_ONLY));
    bs->call[FreePages](KERNEL, 1ull);
    u64 at = KERNEL;

    bs->call[AllocatePages](ALLOCATE_ADDRESS, LOADER_CODE, 1ull, &at);
    ARE(NO_EXECUTE, KERNEL); // what was set of memory is not kept for who gets it next
    for (unsigned i = 0; i < sizeof kernel; i++)
        ((volatile u8 *)KERNEL)[i] = kernel[i];
    EXPECT(0, set(protection, KERNEL, 0x1000ull, READ_ONLY));
    EXPECT(0, clear(protection, KERNEL, 0x1000ull, NO_EXECUTE));
    return 0;
}
#endif

#if BREAK == REGISTER
#define UNLESS "test %r15, %r15\n\tjnz 1f"
#elif BREAK == FLAG
#define UNLESS "jc 1f"
#elif BREAK == TOP
#define UNLESS "lea -0x978(%rsp), %rax\n\ttest $0xfff, %eax\n\tjnz 1f"
#endif
#ifdef UNLESS
__asm__(".globl entry\nentry:\n\t" UNLESS "\n\tjmp rest\n1:\tmov $0x8000000000000001, %rax\n\tret");
#define entry rest
#endif

MS u64 entry(u64 handle, struct system_table *system)
{
    struct services *bs = system->bs;
    u64 status, at = KERNEL, size = 0, key = 0, stride = 0;
    u8 *map = 0;
    u32 version;

#ifdef CLEARED // what of the data's page the file does not have
    if (*(volatile u8 *)((u64)words | 0xfff))
        return 1ull << 63 | 7;
#endif
#if BREAK == RETURNED
    return 0;
#elif BREAK == NOT_ALLOCATED
    *(volatile u8 *)KERNEL = 1;
#elif BREAK == BAD_POINTER
    bs->call[GetMemoryMap](0x0000700000000000ull, map, &key, &stride, &version);
#elif BREAK == UNMODELLED
    if (bs->call[ConnectController](handle, 0ull, 0ull, 0ull) != (1ull << 63 | 3))
        return 1;
    for (u32 kind = 0x100; kind <= 0x200; kind += 0x100)
        if (bs->call[CreateEvent](kind, 8ull, KERNEL, 0ull, &size) != (1ull << 63 | 3))
            return 1;
#elif BREAK == OWN_FILES
    static const struct guid device_path = {0x9576e91, 0x6d3f, 0x11d2, {0x8e, 0x39, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
    static const struct guid load_file2 = {0x4006c0c1, 0xfcb3, 0x403e, {0x99, 0x6d, 0x4a, 0x6c, 0x87, 0x24, 0xe0, 0x6d}};
    static const u8 path[] = {4, 3, 20, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0x7f, 0xff, 4, 0};
    u64 own = 0, image = 0;

    if (bs->call[InstallMultipleProtocolInterfaces](&own, &device_path, path, &load_file2, words, 0ull))
        return 1;
    if (bs->call[LoadImage](0u, handle, path, 0ull, 0ull, &image) != (1ull << 63 | 3))
        return 1;
#elif BREAK == COPIES
    bs->call[CopyMem](KERNEL, kernel, (u64)sizeof kernel);
#elif BREAK == OVERWRITES
    bs->call[SetMem](system, 8ull, 0u);
#elif BREAK == FILLS
    bs->call[SetMem](&at, 1ull << 62, 0u);
#elif BREAK == SUMS
    bs->call[CalculateCrc32](0x90000ull, 1ull << 62, &version);
#elif BREAK == NO_END
    static const struct guid device_path = {0x9576e91, 0x6d3f, 0x11d2, {0x8e, 0x39, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
    static const u8 path[] = {4, 3, 4, 0, 4, 3, 2, 0};
    const u8 *rest = path;

    bs->call[LocateDevicePath](&device_path, &rest, &size);
#elif BREAK == LONG
    static const struct guid random = {0x3152bca5, 0xeade, 0x433d, {0x86, 0x2e, 0xc0, 0x1c, 0xdc, 0x29, 0x1f, 0x44}};
    service **rng = 0;

    bs->call[LocateProtocol](&random, 0ull, &rng);
    rng[1](rng, 0ull, 1ull << 62, words);
#elif BREAK == PRINTED
    system->out->call[1](system->out, words);
#elif BREAK == STACK
    __asm__ volatile("push %%rax\n\tsub $0x20, %%rsp\n\tcall *%0\n\tadd $0x28, %%rsp"
                     : : "r"(bs->call[Stall]), "c"(0) : "rax", "rdx", "r8", "r9", "r10", "r11", "memory");
#elif BREAK == VOLATILE
    u64 left = 0;

    __asm__ volatile("mov $0x77, %%r10d\n\tsub $0x20, %%rsp\n\tcall *%1\n\tadd $0x20, %%rsp\n\tmov %%r10, %0"
                     : "=b"(left) : "S"(bs->call[Stall]), "c"(0) : "rax", "rdx", "r8", "r9", "r10", "r11", "memory");
    if (left != 0x77)
        return 1ull << 63 | 1;
#elif BREAK == SHADOW
    u64 left = 0;

    __asm__ volatile("sub $0x20, %%rsp\n\tmovq $0x77, 8(%%rsp)\n\tcall *%1\n\tmov 8(%%rsp), %0\n\tadd $0x20, %%rsp"
                     : "=b"(left) : "S"(bs->call[Stall]), "c"(0) : "rax", "rdx", "r8", "r9", "r10", "r11", "memory");
    if (left != 0x77)
        return 1ull << 63 | 1;
#elif BREAK == BASE
    if ((u64)start >> 16 != 0x200) // where it is linked
        return 1ull << 63 | 1;
#elif BREAK == NESTED
    u64 child = 0;

    status = bs->call[LoadImage](0ull, handle, 0ull, inner, (u64)(inner_end - inner), &child);
#ifdef OPTIONS
    static const struct guid loaded_image = {0x5b1b31a1, 0x9562, 0x11d2, {0x8e, 0x3f, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
    struct loaded_image *loaded = 0;

    bs->call[HandleProtocol](child, &loaded_image, &loaded);
    loaded->options = words;
    loaded->options_size = sizeof words;
#endif
    if (!status)
        status = bs->call[StartImage](child, 0ull, 0ull);
    return status;
#elif BREAK == TOLD
    static const struct guid protocol = {0x5b1b31a1, 0x9562, 0x11d2, {0x8e, 0x3f, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
    static const u16 told[] = u"quiet";
    struct loaded_image *own = 0;

    bs->call[HandleProtocol](handle, &protocol, &own);
    for (unsigned i = 0; i < sizeof told / sizeof *told; i++)
        if (own->options_size != sizeof told || own->options[i] != told[i])
            return 1ull << 63 | 1;
#endif
    status = bs->call[AllocatePages](ALLOCATE_ADDRESS, BREAK == AS_DATA ? LOADER_DATA : LOADER_CODE, 1ull, &at);
    if (BREAK == MEMORY && *(volatile u8 *)KERNEL)
        return 1ull << 63 | 1;
#if BREAK == ALLOWED || BREAK == ALLOWED_AT_ONCE || BREAK == UNREADABLE || BREAK == OWN_DATA
    service **protection = 0;
    u64 found = 0;

    if (bs->call[LocateProtocol](&MEMORY_ATTRIBUTE, 0ull, &protection))
        return 1ull << 63 | 20;
    for (unsigned i = 0; i < sizeof kernel; i++)
        ((volatile u8 *)KERNEL)[i] = kernel[i];
    if (BREAK != ALLOWED_AT_ONCE && protection[1](protection, KERNEL, 0x1000ull, READ_ONLY))
        return 1ull << 63 | 21;
    if (BREAK == OWN_DATA)
        *(volatile u8 *)KERNEL = 0;
    if (protection[2](protection, KERNEL, 0x1000ull, NO_EXECUTE))
        return 1ull << 63 | 22;
    if (protection[0](protection, KERNEL, 0x1000ull, &found) || found != READ_ONLY)
        return 1ull << 63 | 23;
    if (BREAK == UNREADABLE && protection[1](protection, KERNEL, 0x1000ull, READ_PROTECT))
        return 1ull << 63 | 24;
#elif BREAK == ATTRIBUTES
    if ((status = attributes(bs)))
        return 1ull << 63 | status;
#elif BREAK == OWN_CODE
    __asm__ volatile("movb $0, entry(%rip)");
#elif BREAK == FREED
    bs->call[FreePages](at, 1ull);
    *(volatile u8 *)KERNEL = 1;
#elif BREAK == GIVEN_BACK
    bs->call[FreePages](at, 1ull);
#elif BREAK == SELECTOR
    __asm__ volatile("mov %0, %%ds" : : "r"(0x50));
#elif BREAK == OWN_IDT
    own_idt();
    __asm__ volatile("ud2");
#elif BREAK == UNDEFINED
    __asm__ volatile("ud2");
#elif BREAK == KEY
    bs->call[WaitForEvent](1ull, (u8 *)system->in + 16, &size);
#endif
#if BREAK == FAILED || BREAK == EXIT
    status = bs->call[AllocatePages](ALLOCATE_ADDRESS, LOADER_CODE, 1ull, &at);
#endif
    if (status) {
        system->out->call[1](system->out, words);
#if BREAK == EXIT
        bs->call[Exit](handle, status, 0ull, 0ull);
#endif
        return status;
    }
    bs->call[GetMemoryMap](&size, map, &key, &stride, &version);
    size += 8 * stride;
    status = bs->call[AllocatePool](LOADER_DATA, size, &map);
    if (BREAK == POOL && *map != 0xaf)
        return 1ull << 63 | 1;
    *map = 1; // it is the program's to write
    u64 room = 0;

    for (int tries = 0; tries < 3; tries++) {
        room = size;
        if (BREAK != OLD_KEY || !tries)
            status = bs->call[GetMemoryMap](&room, map, &key, &stride, &version);
#if BREAK == STRIDE
        if (*(u32 *)(map + 40))
            return 1ull << 63 | 1;
#endif
        status = bs->call[ExitBootServices](handle, key);
        if (BREAK == EXITS && status)
            bs->call[Exit](handle, status, 0ull, 0ull);
        if (BREAK == ALLOCATES && status) {
            bs->call[FreePool](map);
            bs->call[AllocatePool](LOADER_DATA, 2 * size, &map);
        }
        if (!status || BREAK == NO_RETRY || BREAK == GIVES_UP)
            break;
#if BREAK == TALKS
        system->out->call[1](system->out, words);
#endif
    }
    if (status && BREAK != NO_RETRY)
        return status;
#if BREAK == AFTER_EXIT
    bs->call[Stall](1ull);
#elif BREAK == TAKES_ALL
    for (u64 i = 0; i * stride < room; i++) {
        struct descriptor *d = (void *)(map + i * stride);

        if ((d->type >= 1 && d->type <= 4) || d->type == 7)
            for (u64 byte = d->physical; byte < d->physical + d->pages * 0x1000; byte += d->pages * 0x1000 - 1)
                *(volatile u8 *)byte = *(volatile u8 *)byte;
    }
#elif BREAK == CONVERTED
    u64 many = 0;

    for (u64 i = 0; i * stride < room && many < 16; i++) {
        struct descriptor *d = (void *)(map + i * stride);

        if (!(d->attribute >> 63))
            continue;
        virtual_map[6 * many] = d->type;
        virtual_map[6 * many + 1] = d->physical;
        virtual_map[6 * many + 2] = d->physical;
        virtual_map[6 * many + 3] = d->pages;
        virtual_map[6 * many++ + 4] = d->attribute;
    }
    status = system->rt->call[SetVirtualAddressMap](many * 48, 48ull, 1u, virtual_map);
    if (status || !system->rt->call[SetVirtualAddressMap](many * 48, 48ull, 1u, virtual_map))
        return 1ull << 63 | 2;
#endif
    (void)virtual_map;
    (void)words;
    (void)MEMORY_ATTRIBUTE;
    start();
    __builtin_unreachable();
}
