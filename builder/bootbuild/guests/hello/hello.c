/* SPDX-License-Identifier: 0BSD */
/*
 * hello: the smallest kernel for bootbuild's native handover, of either width.
 *
 * It holds what it is handed to docs/handover.md, prints it through the post stub, and switches off.
 * Its last line is `hello: done`; anything wrong is `hello: FAILED what`.
 */
#include <bootbuild/handover.h>

typedef unsigned long word; /* an address */

static const struct bb_handover *record;
static volatile uint32_t greeting = 0x6f6c6c65;/* .data: read-write, from the file */
static volatile uint8_t blank[48 * 1024];      /* .bss: zero at the startup path, whoever loaded us */

static void put(const char *text, word size)
{
    struct bb_post_text argument = {(word)text, size};

    ((bb_post_stub *)(word)record->post_stub)(record, BB_POST_CONSOLE_WRITE, &argument);
}

static void print(const char *text)
{
    word size = 0;

    while (text[size])
        size++;
    put(text, size);
}

static void hex(uint64_t value)
{
    char text[18];
    char *at = text + sizeof text;

    do
        *--at = "0123456789abcdef"[value & 15];
    while (value >>= 4);
    *--at = 'x';
    *--at = '0';
    put(at, (word)(text + sizeof text - at));
}

static void decimal(uint32_t value)
{
    char text[10];
    char *at = text + sizeof text;

    do
        *--at = (char)('0' + value % 10);
    while (value /= 10);
    put(at, (word)(text + sizeof text - at));
}

static void line(const char *label, uint64_t value)
{
    print(label);
    hex(value);
    print("\n");
}

static void stop(uint32_t reason)
{
    ((bb_post_stub *)(word)record->post_stub)(record, BB_POST_SHUTDOWN, &reason);
    for (;;)
        __asm__ volatile("cli; hlt");
}

static void check(int right, const char *what)
{
    if (right)
        return;
    print("hello: FAILED ");
    print(what);
    print("\n");
    stop(BB_SHUTDOWN_CRASH);
}

/* CRC-32 of IEEE 802.3, as zlib's crc32(), four bits at a time. */
static uint32_t crc32(const uint8_t *data, uint64_t size)
{
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    uint32_t crc = ~0u;

    while (size--) {
        crc ^= *data++;
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

static const char *boot_name(uint32_t type)
{
    static const char *const names[] = {
        [BB_BOOT_PVH] = "pvh",
        [BB_BOOT_XEN_PV] = "xen-pv",
        [BB_BOOT_EFI] = "efi",
        [BB_BOOT_MULTIBOOT1] = "multiboot1",
        [BB_BOOT_MULTIBOOT2] = "multiboot2",
        [BB_BOOT_LINUX_16] = "linux-16",
        [BB_BOOT_LINUX_32] = "linux-32",
        [BB_BOOT_LINUX_64] = "linux-64",
    };

    return type && type < sizeof names / sizeof *names ? names[type] : "something unknown";
}

static const char *hypervisor_name(uint32_t type)
{
    static const char *const names[] = {
        [BB_HYPERVISOR_NONE] = "bare metal",
        [BB_HYPERVISOR_XEN] = "xen",
        [BB_HYPERVISOR_KVM] = "kvm",
        [BB_HYPERVISOR_TCG] = "tcg",
        [BB_HYPERVISOR_HYPER_V] = "hyper-v",
        [BB_HYPERVISOR_VMWARE] = "vmware",
        [BB_HYPERVISOR_BHYVE] = "bhyve",
    };

    return type < sizeof names / sizeof *names ? names[type] : "an unknown hypervisor";
}

static const char *memory_name(uint32_t type)
{
    static const char *const names[] = {"type 0", "ram", "reserved", "acpi", "nvs", "unusable", "disabled",
                                        "persistent"};

    return type < sizeof names / sizeof *names ? names[type] : "unknown";
}

static int bss_is_zero(void)
{
    for (word i = 0; i < sizeof blank; i++)
        if (blank[i])
            return 0;
    return 1;
}

static uint32_t sum(void)
{
    uint32_t total = 0;

    for (uint32_t i = 0; i < record->size / 4; i++)
        total += ((const uint32_t *)record)[i];
    return total;
}

static void check_state(uint32_t boot_type, word stack, word flags)
{
    check(record->version >= 1, "version");
    check(record->size >= sizeof *record && record->size < 4096 && record->size % 4 == 0, "size");
    check(sum() == 0, "checksum");
    check(record->boot_type == boot_type, "boot type: the argument differs from the record");
    check((word)record >= record->stub_base && (word)record - record->stub_base < record->stub_size,
          "stub range: the record is outside");
    check(bss_is_zero(), ".bss: not zero");
    check(greeting == 0x6f6c6c65, ".data: not as in the file");
    /* In ring 3 IF is the hypervisor's, which masks events elsewhere; beside boot services it is the firmware's. */
    check(boot_type == BB_BOOT_XEN_PV || record->flags & BB_FLAG_BOOT_SERVICES || !(flags & 1 << 9),
          "flags: interrupts are on");
    check(!(flags & 1 << 10), "flags: DF is set");
    check(*(const word *)stack == 0, "stack: no null return address");
    check((stack + sizeof(word)) % 16 == 0, "stack: alignment");
}

static void show_memory(void)
{
    const struct bb_memory *memory = (const struct bb_memory *)(word)record->memmap;
    uint64_t last = 0;

    for (uint32_t i = 0; i < record->memmap_count; i++) {
        check(memory[i].address >= last && memory[i].size, "memory map: not in its normal form");
        last = memory[i].address;
        print("memory ");
        hex(memory[i].address);
        print(" ");
        hex(memory[i].size);
        print(" ");
        print(memory_name(memory[i].type));
        print("\n");
    }
}

static void show_modules(void)
{
    const struct bb_module *module = (const struct bb_module *)(word)record->modules;

    for (uint32_t i = 0; i < record->module_count; i++) {
        print("module ");
        decimal(i);
        print(" at ");
        hex(module[i].address);
        print(" size ");
        decimal((uint32_t)module[i].size);
        print(" crc32 ");
        hex(crc32((const uint8_t *)(word)module[i].address, module[i].size));
        if (module[i].cmdline) {
            print(" cmdline ");
            print((const char *)(word)module[i].cmdline);
        }
        print("\n");
    }
}

#ifdef __x86_64__
static volatile uint32_t traps_seen;

/* An exception under Xen PV: rcx, r11, then the frame. Skips the UD2, and goes back by the iret hypercall. */
__asm__(".text\n"
        "trapped:\n\t"
        "addq $2, 16(%rsp)\n\t"
        "incl traps_seen(%rip)\n\t"
        "popq %rcx\n\t"
        "popq %r11\n\t"
        "pushq $0\n\t"
        "pushq %rcx\n\t"
        "pushq %r11\n\t"
        "pushq %rax\n\t"
        "mov $23, %eax\n\t" /* __HYPERVISOR_iret */
        "syscall");

/* Without a trap table an exception ends the domain; with ours, it comes back. */
static void try_trap(void)
{
    struct {
        uint8_t vector, flags;
        uint16_t cs;
        uint32_t pad;
        uint64_t address;
    } table[2] = {{6, 0, 0xe033, 0, 0}, {0, 0, 0, 0, 0}};
    struct bb_post_traps traps = {(word)table, 0, 0, 0};

    __asm__("lea trapped(%%rip), %0" : "=r"(table[0].address));
    if (((bb_post_stub *)(word)record->post_stub)(record, BB_POST_TRAPS, &traps))
        check(0, "post stub: no trap table");
    __asm__ volatile("ud2" : : : "memory");
    check(traps_seen == 1, "trap table: the exception was not taken");
    print("traps: taken\n");
}
#else
static void try_trap(void)
{
}
#endif

void hello(uint32_t boot_type, const struct bb_handover *handed, word stack, word flags)
{
    uint64_t answer;

    record = handed;
    if (record->magic != BB_HANDOVER_MAGIC)
        return; /* no post stub to complain through */
    check_state(boot_type, stack, flags);

    print("hello from ");
    print(boot_name(record->boot_type));
    print(" on ");
    print(hypervisor_name(record->hypervisor_type));
    print("\ncmdline ");
    print(record->cmdline ? (const char *)(word)record->cmdline : "(none)");
    print("\n");
    show_memory();
    show_modules();
    line("rsdp ", record->rsdp);
    line("data ", record->data);
    line("flags ", record->flags);
    line("record ", (word)record);
    line("stub ", record->stub_base);

    if (boot_type == BB_BOOT_XEN_PV)
        try_trap();
    answer = ((bb_post_stub *)(word)record->post_stub)(record, 0x7fff, 0);
    check(answer == BB_POST_ENOSYS, "post stub: an unknown operation is not refused");
    print("unknown operation: -");
    decimal((uint32_t)-answer);
    print("\nhello: done\n");
    stop(BB_SHUTDOWN_POWEROFF);
}
