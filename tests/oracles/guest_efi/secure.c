// SPDX-License-Identifier: 0BSD
// A UEFI application that says what Secure Boot makes of images: without a signature, signed, and with a program's own
// function in EFI_SECURITY2_ARCH_PROTOCOL, as systemd's stub puts one there.
#include "efi.h"

static const struct guid GLOBAL = {0x8be4df61, 0x93ca, 0x11d2, {0xaa, 0x0d, 0, 0xe0, 0x98, 0x03, 0x2b, 0x8c}};
static const struct guid SECURITY2 = {0x94ab2f58, 0x1438, 0x4ef1, {0x91, 0x52, 0x18, 0x94, 0x1a, 0x3a, 0x0e, 0x68}};

asm(".section .rodata\n"
    "unsigned_image: .incbin \"" UNSIGNED "\"\n"
    "unsigned_end:\n"
    "signed_image: .incbin \"" SIGNED "\"\n"
    "signed_end: .text\n");
extern u8 unsigned_image[], unsigned_end[], signed_image[], signed_end[];

static void put(char c)
{
    __asm__ volatile("outb %0, %1" : : "a"(c), "Nd"((u16)0x3f8));
}

#define WORDS
#include "../guest/words.h"

static u64 program;
static struct services *bs, *rt;

static void variable(const char *name, const u16 *text)
{
    u64 size = 1;
    u8 value = 0xff;

    field(name, rt->call[GetVariable](text, &GLOBAL, 0ull, &size, &value));
    field(name, value);
}

static void load(const char *name, u8 *image, u8 *end)
{
    u64 child = 0x1111, status = bs->call[LoadImage](0u, program, 0ull, image, (u64)(end - image), &child);

    begin(name);
    field("load", status);
    field("refused", !child);
    if (!status)
        field("start", bs->call[StartImage](child, 0ull, 0ull));
}

static MS u64 allow(void)
{
    return 0;
}

MS u64 entry(u64 handle, struct system_table *system)
{
    service **security = 0;
    u64 status;

    program = handle, bs = system->bs, rt = system->rt;
    begin("begin");
    variable("secure_boot", u"SecureBoot");
    variable("setup_mode", u"SetupMode");
    load("garbage", unsigned_image, unsigned_image + 10);
    load("unsigned", unsigned_image, unsigned_end);
    load("signed", signed_image, signed_end);
    status = bs->call[LocateProtocol](&SECURITY2, 0ull, &security);
    begin("asked");
    field("there", status);
    field("unsigned", security[0](security, 0ull, unsigned_image, (u64)(unsigned_end - unsigned_image), 0u));
    field("signed", security[0](security, 0ull, signed_image, (u64)(signed_end - signed_image), 0u));
    service *own = security[0];

    security[0] = (service *)allow;
    load("allowed", unsigned_image, unsigned_end);
    security[0] = own;
    load("unsigned_again", unsigned_image, unsigned_end);
    begin("end");
    return 0;
}
