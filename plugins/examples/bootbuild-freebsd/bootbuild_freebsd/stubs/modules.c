/* SPDX-License-Identifier: 0BSD */
/*
 * The modules, moved behind the stubs. A kernel sees the first GiB only, keeps all from its own first byte to
 * kernend, and takes the memory from kernend on for its first tables: wherever a monitor put the modules, there
 * they would be out of reach or in the way.
 */
#include "freebsd.h"

static uint64_t round_up(uint64_t value)
{
    return (value + PAGE - 1) & ~(uint64_t)(PAGE - 1);
}

static int overlap(uint64_t at, uint64_t size, uint64_t other, uint64_t other_size)
{
    return other_size && other < at + size && at < other + other_size;
}

/* End of something in [at, at + size) that has still to be read, 0 if there is nothing. */
static uint64_t in_the_way(const struct bb_handover *record, uint64_t at, uint64_t size)
{
    const struct bb_module *module = (const struct bb_module *)record->modules;

    for (uint32_t i = 0; i < record->module_count; i++)
        if (overlap(at, size, module[i].address, module[i].size))
            return module[i].address + module[i].size;
    if (overlap(at, size, record->efi_memmap, record->efi_memmap_size))
        return record->efi_memmap + record->efi_memmap_size;
    return 0;
}

/* The lowest RAM behind the stubs and below 1 GiB where nothing is in the way. */
static uint64_t find_room(const struct bb_handover *record, uint64_t size)
{
    const struct bb_memory *memory = (const struct bb_memory *)record->memmap;
    uint64_t floor = round_up(bb_params.stub_base + bb_params.stub_size);

    for (uint32_t i = 0; i < record->memmap_count; i++) {
        uint64_t at = round_up(memory[i].address > floor ? memory[i].address : floor);
        uint64_t end = memory[i].address + memory[i].size;
        uint64_t after;

        if (memory[i].type != BB_MEMORY_RAM)
            continue;
        if (end > GIB)
            end = GIB;
        for (; at < end && size <= end - at; at = round_up(after)) {
            after = in_the_way(record, at, size);
            if (!after)
                return at;
        }
    }
    die("there is no room for its modules in the first GiB");
}

static const char *skip(const char *text)
{
    while (*text == ' ')
        text++;
    return text;
}

static uint32_t word_length(const char *text)
{
    uint32_t size = 0;

    while (text[size] && text[size] != ' ')
        size++;
    return size;
}

/* `-t TYPE NAME ARGUMENTS`, as the loader's command `load` takes it; all of it may be absent. */
static void read_command(struct file *file, const char *command)
{
    static const char kernel_types[] = "elf";

    file->type = "mfs_root";
    file->type_size = sizeof "mfs_root" - 1;
    command = skip(command);
    if (command[0] == '-' && command[1] == 't' && command[2] == ' ') {
        file->type = skip(command + 2);
        file->type_size = word_length(file->type);
        command = skip(file->type + file->type_size);
    }
    file->name = command;
    file->name_size = word_length(command);
    file->arguments = skip(command + file->name_size);
    if (!file->name_size) {
        file->name = "initrd";
        file->name_size = sizeof "initrd" - 1;
    }
    if (same(file->type, file->type_size < 3 ? file->type_size : 3, kernel_types))
        die("a module of an ELF type must be linked by FreeBSD's own loader");
}

uint32_t place_files(const struct bb_handover *record, struct file *files)
{
    const struct bb_module *module = (const struct bb_module *)record->modules;
    uint64_t size = 0, at = round_up(bb_params.stub_base + bb_params.stub_size);

    if (record->module_count > MAX_FILES)
        die("there are too many modules");
    for (uint32_t i = 0; i < record->module_count; i++)
        size += round_up(module[i].size);
    if (size)
        at = find_room(record, size);
    for (uint32_t i = 0; i < record->module_count; i++) {
        files[i].address = at;
        files[i].size = module[i].size;
        read_command(&files[i], module[i].cmdline ? (const char *)module[i].cmdline : "");
        bb_copy((void *)at, (const void *)module[i].address, module[i].size);
        at += round_up(module[i].size);
    }
    return (uint32_t)at;
}
