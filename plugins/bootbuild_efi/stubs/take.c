/* SPDX-License-Identifier: 0BSD */
/* What the kernel is to be given: from sections of the application's own file, or from whoever loaded it. */
#include "application_state.h"

/* PE/COFF: offsets in the headers, which firmware loads with the image. */
#define PE_HEADER_AT 0x3c
#define PE_SECTION_COUNT 6
#define PE_OPTIONAL_SIZE 20
#define PE_OPTIONAL 24

#define REPLACEMENT 0xfffd

struct section {
    char name[8];
    uint32_t size; /* bytes, exact: what is behind them in the file is padding */
    uint32_t address;
    uint32_t rest[6];
};

/* EFI_GUIDs, by the names that UEFI 2.10 has for them. */
static const struct efi_guid acpi_20 = {0x8868e871, 0xe4f1, 0x11d3, {0xbc, 0x22, 0, 0x80, 0xc7, 0x3c, 0x88, 0x81}};
static const struct efi_guid acpi_10 = {0xeb9d2d30, 0x2d88, 0x11d3, {0x9a, 0x16, 0, 0x90, 0x27, 0x3f, 0xc1, 0x4d}};
static const struct efi_guid graphics_output = {
    0x9042a9de, 0x23dc, 0x4a38, {0x96, 0xfb, 0x7a, 0xde, 0xd0, 0x80, 0x51, 0x6a}};
static const struct efi_guid load_file2 = {0x4006c0c1, 0xfcb3, 0x403e, {0x99, 0x6d, 0x4a, 0x6c, 0x87, 0x24, 0xe0, 0x6d}};
static const struct efi_guid shell_parameters = {
    0x752f3136, 0x4e16, 0x4fdc, {0xa2, 0x2a, 0xe5, 0xf4, 0x68, 0x12, 0xf4, 0xca}};
static const struct efi_guid global_variable = {
    0x8be4df61, 0x93ca, 0x11d2, {0xaa, 0x0d, 0, 0xe0, 0x98, 0x03, 0x2b, 0x8c}};
static const struct efi_guid shim_lock = {0x605dab50, 0xe046, 0x4300, {0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23}};

/* LINUX_EFI_INITRD_MEDIA_GUID as a device path: a vendor's media node, and the end (Linux, efi-stub-helper.c). */
static const uint8_t initrd_path[] = {
    4,    3,    20,   0, /* media, vendor, 20 bytes */
    0x27, 0xe4, 0x68, 0x55, 0xfc, 0x68, 0x3d, 0x4f, 0xac, 0x74, 0xca, 0x55, 0x52, 0x31, 0xcc, 0x68,
    0x7f, 0xff, 4,    0, /* end of the whole path */
};

static int same(const void *a, const void *b, unsigned size)
{
    const char *left = a, *right = b;

    while (size--)
        if (*left++ != *right++)
            return 0;
    return 1;
}

/* The sections of our own file. */
static const struct section *sections(uint32_t *count)
{
    uint64_t header = application.loaded->image_base;

    header += *(const uint32_t *)(header + PE_HEADER_AT);
    *count = *(const uint16_t *)(header + PE_SECTION_COUNT);
    return (const struct section *)(header + PE_OPTIONAL + *(const uint16_t *)(header + PE_OPTIONAL_SIZE));
}

static const struct section *find(const char *name)
{
    uint32_t count;
    const struct section *section = sections(&count);

    for (; count; count--, section++)
        if (same(section->name, name, sizeof section->name))
            return section;
    return 0;
}

static uint64_t address_of(const struct section *section)
{
    return application.loaded->image_base + section->address;
}

/* A variable of a byte, 0 if there is none. */
static uint8_t variable(const uint16_t *name, const struct efi_guid *vendor, uint32_t *attributes)
{
    uint8_t value = 0;
    uint64_t size = sizeof value;

    return application.system->runtime->get_variable(name, vendor, attributes, &size, &value) == EFI_SUCCESS ? value : 0;
}

/* Of the firmware; of shim its user may have said that it checks nothing, in a variable that no system running can set. */
static int secure_boot(void)
{
    uint32_t attributes = 0;

    if (variable(u"SecureBoot", &global_variable, 0) != 1 || variable(u"SetupMode", &global_variable, 0) == 1)
        return 0;
    return variable(u"MokSBState", &shim_lock, &attributes) != 1 || attributes & EFI_VARIABLE_RUNTIME_ACCESS;
}

/*
 * UTF-8 of UTF-16 up to its NUL; bytes without the NUL. `to` takes three for each unit: none makes more. Half a pair of
 * surrogates is U+FFFD, as Linux has it.
 */
static uint64_t to_utf8(char *to, const uint16_t *from, uint64_t units)
{
    char *at = to;

    for (uint64_t i = 0; i < units && from[i]; i++) {
        uint32_t c = from[i] >> 11 == 0x1b ? REPLACEMENT : from[i];

        if (from[i] >> 10 == 0x36 && i + 1 < units && from[i + 1] >> 10 == 0x37) {
            c = 0x10000 + ((from[i] & 0x3ffu) << 10) + (from[i + 1] & 0x3ff);
            i++;
            *at++ = (char)(0xf0 | c >> 18);
            *at++ = (char)(0x80 | (c >> 12 & 0x3f));
            *at++ = (char)(0x80 | (c >> 6 & 0x3f));
            *at++ = (char)(0x80 | (c & 0x3f));
        } else if (c < 0x80) {
            *at++ = (char)c;
        } else if (c < 0x800) {
            *at++ = (char)(0xc0 | c >> 6);
            *at++ = (char)(0x80 | (c & 0x3f));
        } else {
            *at++ = (char)(0xe0 | c >> 12);
            *at++ = (char)(0x80 | (c >> 6 & 0x3f));
            *at++ = (char)(0x80 | (c & 0x3f));
        }
    }
    *at = 0;
    return (uint64_t)(at - to);
}

static uint64_t strings; /* bytes of all command lines, each with its NUL */

/* That all of them together are no more than the record has room for. */
static efi_status count_string(uint64_t length)
{
    strings += length + 1;
    if (strings > MAX_STRINGS)
        return refuse(u"the command lines take more than 8192 bytes, with the NUL of each", EFI_INVALID_PARAMETER);
    return EFI_SUCCESS;
}

/* A copy with a NUL behind it, which the kernel's reach and memory allow; 0 without room. */
static uint64_t copy_string(uint64_t from, uint64_t size)
{
    uint64_t to = place(size + 1);

    if (to) {
        bb_copy((void *)to, (const void *)from, size);
        *(char *)(to + size) = 0;
    }
    return to;
}

struct options {
    const uint16_t *text;
    uint64_t units;
};

/* LoadOptions; of UEFI's shell what follows the program's name, with which it begins them: in quotes, if that has blanks. */
static struct options load_options(void)
{
    struct options options = {application.loaded->load_options, application.loaded->load_options_size / 2};
    int quoted = 0;
    void *shell;

    if (!options.text)
        options.units = 0;
    if (application.boot->handle_protocol(application.image, &shell_parameters, &shell) != EFI_SUCCESS)
        return options;
    for (; options.units && *options.text && (quoted || *options.text != ' '); options.text++, options.units--)
        quoted ^= *options.text == '"';
    for (; options.units && *options.text == ' '; options.units--)
        options.text++;
    return options;
}

/* And not what some firmware puts into its boot options, which begins with a number. */
static int are_text(struct options options)
{
    return options.units && *options.text >= ' ';
}

static efi_status take_cmdline(void)
{
    const struct section *own = find(".cmdline");
    struct options options = load_options();
    uint64_t length;

    if (!(bb_efi_plan.flags & PLAN_NO_LOAD_OPTIONS) && are_text(options) &&
        !(own && application.handoff->flags & BB_FLAG_SECURE_BOOT)) {
        uint64_t to = place(options.units * 3 + 1);

        if (!to)
            return refuse_place(u"no memory for the command line");
        length = to_utf8((char *)to, options.text, options.units);
        application.handoff->cmdline = to;
    } else if (own && own->size) {
        length = own->size;
        application.handoff->cmdline = copy_string(address_of(own), length);
        if (!application.handoff->cmdline)
            return refuse_place(u"no memory for the command line");
    } else {
        return EFI_SUCCESS;
    }
    return count_string(length);
}

static struct bb_module *new_module(void)
{
    struct handoff *handoff = application.handoff;

    return handoff->module_count < MAX_MODULES ? handoff->modules + handoff->module_count++ : 0;
}

/* The modules of our own file, each with the command line that follows it. They stay where they are, if they can. */
static efi_status take_own_modules(void)
{
    struct bb_module *module = 0;
    uint32_t count;
    const struct section *section = sections(&count);

    for (; count; count--, section++) {
        if (module && same(section->name, ".modargs", sizeof section->name)) {
            module->cmdline = copy_string(address_of(section), section->size);
            if (!module->cmdline)
                return refuse_place(u"no memory for a module's command line");
            if (count_string(section->size) != EFI_SUCCESS)
                return EFI_INVALID_PARAMETER;
        }
        if (!same(section->name, ".module\0", sizeof section->name))
            continue;
        module = new_module();
        if (!module)
            return refuse(u"there are more than 32 modules", EFI_INVALID_PARAMETER);
        module->address = address_of(section);
        module->size = section->size;
        if (!must_move(module->address, module->size))
            continue;
        module->address = place(module->size);
        if (!module->address)
            return refuse_place(u"no memory for a module");
        bb_copy((void *)module->address, (const void *)address_of(section), module->size);
    }
    return EFI_SUCCESS;
}

/* The initrd of whoever loaded us, as Linux asks for it. That there is none, or one of no bytes, is no error. */
static efi_status take_initrd(void)
{
    struct efi_device_path *path = (struct efi_device_path *)initrd_path;
    struct efi_load_file2 *loader;
    struct bb_module *module;
    uint64_t size = 0, room, to;
    void *handle;
    efi_status status;

    if (application.boot->locate_device_path(&load_file2, &path, &handle) != EFI_SUCCESS ||
        application.boot->handle_protocol(handle, &load_file2, (void **)&loader) != EFI_SUCCESS)
        return EFI_SUCCESS;
    status = loader->load_file(loader, path, 0, &size, 0);
    if (status == EFI_NOT_FOUND || (!size && (status == EFI_BUFFER_TOO_SMALL || status == EFI_SUCCESS)))
        return EFI_SUCCESS;
    if (status != EFI_BUFFER_TOO_SMALL)
        return refuse(u"the initrd cannot be read", EFI_LOAD_ERROR);
    room = size;
    to = place(room);
    if (!to)
        return refuse_place(u"no memory for the initrd");
    if (loader->load_file(loader, path, 0, &size, (void *)to) != EFI_SUCCESS || size > room)
        return refuse(u"the initrd cannot be read", EFI_LOAD_ERROR);
    module = new_module();
    module->address = to;
    module->size = size;
    return EFI_SUCCESS;
}

/* ACPI 2.0's, else 1.0's, which has no 64-bit tables. */
static uint64_t find_rsdp(void)
{
    const struct efi_configuration *table = application.system->configurations;
    uint64_t old = 0;

    for (uint64_t i = 0; i < application.system->configuration_count; i++, table++) {
        if (same(&table->guid, &acpi_20, sizeof acpi_20))
            return table->table;
        if (same(&table->guid, &acpi_10, sizeof acpi_10))
            old = table->table;
    }
    return old;
}

static void set_colour(uint8_t *position, uint8_t *size, uint32_t mask)
{
    *position = mask ? (uint8_t)__builtin_ctz(mask) : 0;
    *size = mask ? (uint8_t)(32 - __builtin_clz(mask) - *position) : 0;
}

/* A screen as it is now: whether its pixels lie in memory that the kernel can reach, all that are told of. */
static int take_screen(const struct efi_graphics *graphics)
{
    struct bb_framebuffer *shape = &application.handoff->framebuffer;
    const struct efi_graphics_mode *mode;
    uint32_t red = 0xff, green = 0xff00, blue = 0xff0000, all = 0xffffffff, bits;
    uint64_t pitch;

    mode = graphics->now ? graphics->now->mode : 0;
    if (!mode || mode->pixel_format > EFI_BIT_MASK)
        return 0;
    if (graphics->now->framebuffer > FOUR_GIB || graphics->now->framebuffer_size > FOUR_GIB - graphics->now->framebuffer)
        return 0;
    if (mode->pixel_format == EFI_BGR) {
        red = 0xff0000;
        blue = 0xff;
    } else if (mode->pixel_format == EFI_BIT_MASK) {
        red = mode->red;
        green = mode->green;
        blue = mode->blue;
        all = red | green | blue | mode->reserved;
    }
    if (!all)
        return 0;
    bits = (uint32_t)(32 - __builtin_clz(all) + 7) & ~7u;
    pitch = (uint64_t)mode->pixels_per_line * (bits / 8);
    if (mode->pixels_per_line < mode->width || pitch > FOUR_GIB || pitch * mode->height > graphics->now->framebuffer_size)
        return 0;
    shape->address = graphics->now->framebuffer;
    shape->width = mode->width;
    shape->height = mode->height;
    shape->bits_per_pixel = bits;
    shape->pitch = (uint32_t)pitch;
    shape->size = pitch * mode->height;
    set_colour(&shape->red_position, &shape->red_size, red);
    set_colour(&shape->green_position, &shape->green_size, green);
    set_colour(&shape->blue_position, &shape->blue_size, blue);
    return 1;
}

/* The first of all screens: one that firmware makes of several, or that of a device without such memory, has no pixels. */
static void take_framebuffer(void)
{
    struct efi_graphics *graphics;
    uint64_t count = 0;
    void **handles;

    if (application.boot->locate_handle_buffer(EFI_BY_PROTOCOL, &graphics_output, 0, &count, &handles) != EFI_SUCCESS)
        return;
    for (uint64_t i = 0; i < count; i++)
        if (application.boot->handle_protocol(handles[i], &graphics_output, (void **)&graphics) == EFI_SUCCESS &&
            take_screen(graphics))
            break;
    application.boot->free_pool(handles);
}

efi_status take_all(void)
{
    efi_status status;

    if (secure_boot())
        application.handoff->flags |= BB_FLAG_SECURE_BOOT;
    status = take_cmdline();
    if (status == EFI_SUCCESS)
        status = take_own_modules();
    if (status == EFI_SUCCESS && !application.handoff->module_count && !(bb_efi_plan.flags & PLAN_NO_INITRD))
        status = take_initrd();
    application.handoff->system_table = (uint64_t)application.system;
    application.handoff->rsdp = find_rsdp();
    take_framebuffer();
    return status;
}
