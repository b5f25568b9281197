/* SPDX-License-Identifier: 0BSD */
/* What we call of UEFI: the tables and protocols of UEFI 2.10, at their offsets. */
#ifndef EFI_H
#define EFI_H

#include <bootbuild/waist.h>

#define EFIAPI __attribute__((ms_abi)) /* 2.3.4.2: arguments in RCX, RDX, R8, R9, then the stack */

/* Appendix D. */
typedef uint64_t efi_status;
#define EFI_ERROR(number) (1ull << 63 | (number))
#define EFI_SUCCESS 0
#define EFI_LOAD_ERROR EFI_ERROR(1)
#define EFI_INVALID_PARAMETER EFI_ERROR(2)
#define EFI_UNSUPPORTED EFI_ERROR(3)
#define EFI_BUFFER_TOO_SMALL EFI_ERROR(5)
#define EFI_OUT_OF_RESOURCES EFI_ERROR(9)
#define EFI_NOT_FOUND EFI_ERROR(14)

#define EFI_PAGE 4096ull

struct efi_guid {
    uint32_t a;
    uint16_t b, c;
    uint8_t d[8];
};

/* 7.2.3: types of memory */
enum efi_memory_type {
    EFI_RESERVED,
    EFI_LOADER_CODE,
    EFI_LOADER_DATA,
    EFI_BOOT_SERVICES_CODE,
    EFI_BOOT_SERVICES_DATA,
    EFI_RUNTIME_SERVICES_CODE,
    EFI_RUNTIME_SERVICES_DATA,
    EFI_CONVENTIONAL,
    EFI_UNUSABLE,
    EFI_ACPI_RECLAIM,
    EFI_ACPI_NVS,
    EFI_MMIO,
    EFI_MMIO_PORTS,
    EFI_PAL_CODE,
    EFI_PERSISTENT,
};

enum efi_locate_type { EFI_ALL_HANDLES, EFI_BY_REGISTER_NOTIFY, EFI_BY_PROTOCOL };
enum efi_allocate_type { EFI_ALLOCATE_ANY, EFI_ALLOCATE_MAX, EFI_ALLOCATE_ADDRESS };

/* The first 40 bytes of an entry of the map, whose stride is what GetMemoryMap says. */
struct efi_memory {
    uint32_t type;
    uint32_t pad;
    uint64_t address;
    uint64_t virtual_address;
    uint64_t pages;
    uint64_t attribute;
};

/* 12.4 */
struct efi_text_output {
    void *reset;
    efi_status(EFIAPI *output)(struct efi_text_output *, const uint16_t *);
};

struct efi_device_path;

/* 7.1 to 7.5 */
struct efi_boot_services {
    char header[24];
    void *tpl[2];
    efi_status(EFIAPI *allocate_pages)(uint32_t how, uint32_t type, uint64_t pages, uint64_t *address);
    efi_status(EFIAPI *free_pages)(uint64_t address, uint64_t pages);
    efi_status(EFIAPI *get_memory_map)(uint64_t *size, struct efi_memory *map, uint64_t *key, uint64_t *stride,
                                       uint32_t *version);
    void *allocate_pool;
    efi_status(EFIAPI *free_pool)(void *);
    void *events[9];
    efi_status(EFIAPI *handle_protocol)(void *handle, const struct efi_guid *, void **interface);
    void *handles[3];
    efi_status(EFIAPI *locate_device_path)(const struct efi_guid *, struct efi_device_path **, void **handle);
    void *images[5];
    efi_status(EFIAPI *exit_boot_services)(void *image, uint64_t key);
    void *others[9];
    efi_status(EFIAPI *locate_handle_buffer)(uint32_t how, const struct efi_guid *, void *key, uint64_t *count,
                                             void ***handles);
    efi_status(EFIAPI *locate_protocol)(const struct efi_guid *, void *registration, void **interface);
};

/* 8.1 to 8.6 */
#define EFI_VARIABLE_RUNTIME_ACCESS 4

struct efi_runtime_services {
    char header[24];
    void *time[4];
    efi_status(EFIAPI *set_virtual_address_map)(uint64_t size, uint64_t stride, uint32_t version, void *map);
    void *convert_pointer;
    efi_status(EFIAPI *get_variable)(const uint16_t *name, const struct efi_guid *, uint32_t *attributes, uint64_t *size,
                                     void *data);
};

struct efi_configuration {
    struct efi_guid guid;
    uint64_t table;
};

/* 4.3 */
struct efi_system_table {
    char header[24];
    void *vendor;
    uint32_t revision;
    void *console_in_handle, *console_in, *console_out_handle;
    struct efi_text_output *console_out;
    void *error_handle, *error;
    struct efi_runtime_services *runtime;
    struct efi_boot_services *boot;
    uint64_t configuration_count;
    const struct efi_configuration *configurations;
};

/* 9.1.1 */
struct efi_loaded_image {
    uint32_t revision;
    void *parent, *system_table, *device, *file_path, *reserved;
    uint32_t load_options_size;
    const uint16_t *load_options;
    uint64_t image_base;
    uint64_t image_size;
};

/* 13.2 */
struct efi_load_file2 {
    efi_status(EFIAPI *load_file)(struct efi_load_file2 *, struct efi_device_path *, uint8_t boot_policy, uint64_t *size,
                                  void *buffer);
};

/* 37.3 */
struct efi_memory_attribute {
    efi_status(EFIAPI *get)(struct efi_memory_attribute *, uint64_t base, uint64_t size, uint64_t *attributes);
    efi_status(EFIAPI *set)(struct efi_memory_attribute *, uint64_t base, uint64_t size, uint64_t attributes);
    efi_status(EFIAPI *clear)(struct efi_memory_attribute *, uint64_t base, uint64_t size, uint64_t attributes);
};

/* 12.9.2 */
enum { EFI_RGB, EFI_BGR, EFI_BIT_MASK };

struct efi_graphics_mode {
    uint32_t version, width, height, pixel_format;
    uint32_t red, green, blue, reserved; /* masks, for EFI_BIT_MASK */
    uint32_t pixels_per_line;
};

struct efi_graphics {
    void *query_mode, *set_mode, *blt;
    struct {
        uint32_t count, current;
        const struct efi_graphics_mode *mode;
        uint64_t mode_size;
        uint64_t framebuffer;
        uint64_t framebuffer_size;
    } *now;
};

#define EFI_AT(type, field, at) _Static_assert(__builtin_offsetof(struct type, field) == at, #field)
EFI_AT(efi_boot_services, allocate_pages, 0x28);
EFI_AT(efi_boot_services, get_memory_map, 0x38);
EFI_AT(efi_boot_services, free_pool, 0x48);
EFI_AT(efi_boot_services, handle_protocol, 0x98);
EFI_AT(efi_boot_services, locate_device_path, 0xb8);
EFI_AT(efi_boot_services, exit_boot_services, 0xe8);
EFI_AT(efi_boot_services, locate_handle_buffer, 0x138);
EFI_AT(efi_boot_services, locate_protocol, 0x140);
EFI_AT(efi_runtime_services, set_virtual_address_map, 0x38);
EFI_AT(efi_runtime_services, get_variable, 0x48);
EFI_AT(efi_system_table, console_out, 0x40);
EFI_AT(efi_system_table, runtime, 0x58);
EFI_AT(efi_system_table, boot, 0x60);
EFI_AT(efi_system_table, configurations, 0x70);
EFI_AT(efi_loaded_image, load_options_size, 0x30);
EFI_AT(efi_loaded_image, image_base, 0x40);
#undef EFI_AT

#endif
