/* SPDX-License-Identifier: 0BSD */
/*
 * The command line as the kernel's environment. Words are separated by blanks: `name=value` is a variable, `name`
 * alone one with the value 1, and what begins with `-` are flags (sys/kern/subr_boot.c).
 */
#include "freebsd.h"

static char text[4 * PAGE] __attribute__((aligned(16)));
static uint32_t used;

/* RB_* of sys/sys/reboot.h, by flag and by variable (boot_parse_arg and howto_names of subr_boot.c). */
static const struct {
    char flag;
    char variable[15];
    uint32_t bit;
} howto_names[] = {
    {'a', "boot_askname", 0x1},      {'C', "boot_cdrom", 0x2000},  {'d', "boot_ddb", 0x40},
    {'r', "boot_dfltroot", 0x20},    {'g', "boot_gdb", 0x8000},    {'D', "boot_multicons", 0x20000000},
    {'m', "boot_mute", 0x10000},     {'p', "boot_pause", 0x100000}, {'h', "boot_serial", 0x1000},
    {'s', "boot_single", 0x2},       {'v', "boot_verbose", 0x800},
};
#define HOWTO_NAMES (sizeof howto_names / sizeof howto_names[0])

static int blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n';
}

/* The value of a variable, 0 if it is not there. */
static char *find(const char *name, uint32_t length)
{
    for (char *at = text; at < text + used; at += bb_length(at) + 1) {
        uint32_t i = 0;

        while (i < length && at[i] == name[i])
            i++;
        if (i == length && at[i] == '=')
            return at + i + 1;
    }
    return 0;
}

/* As setenv(): of two values the later one counts. */
static void set(const char *name, uint32_t length, const char *value, uint32_t size)
{
    char *old = find(name, length);

    if (old) {
        char *from = old + bb_length(old) + 1, *to = old - length - 1;

        bb_copy(to, from, (unsigned long)(text + used - from));
        used -= (uint32_t)(from - to);
    }
    if (length + size + 4 > sizeof text - used)
        die("its environment does not fit");
    bb_copy(text + used, name, length);
    used += length;
    text[used++] = '=';
    bb_copy(text + used, value, size);
    used += size;
    text[used++] = 0;
}

static uint32_t flags(const char *word, uint32_t size)
{
    uint32_t howto = 0;

    for (uint32_t i = 1; i < size; i++) {
        if (word[i] == 'S') {
            set("comconsole_speed", 16, word + i + 1, size - i - 1);
            break;
        }
        for (unsigned n = 0; n < HOWTO_NAMES; n++)
            if (howto_names[n].flag == word[i])
                howto |= howto_names[n].bit;
    }
    return howto;
}

/* The flags that variables stand for: any value but "no". */
static uint32_t flags_of_variables(void)
{
    uint32_t howto = 0;

    for (unsigned n = 0; n < HOWTO_NAMES; n++) {
        const char *value = find(howto_names[n].variable, (uint32_t)bb_length(howto_names[n].variable));

        if (value && ((value[0] | 0x20) != 'n' || (value[1] | 0x20) != 'o' || value[2]))
            howto |= howto_names[n].bit;
    }
    return howto;
}

/* acpi.rsdp, as stand/efi/loader/arch/amd64/elf64_freebsd.c sets it: 0x and 16 digits. */
static void set_rsdp(uint64_t rsdp)
{
    char value[18] = {'0', 'x'};

    for (unsigned i = 0; i < 16; i++)
        value[2 + i] = "0123456789abcdef"[rsdp >> (60 - 4 * i) & 15];
    set("acpi.rsdp", 9, value, sizeof value);
}

struct environment build_environment(const struct bb_handover *record)
{
    const char *line = record->cmdline ? (const char *)record->cmdline : "";
    struct environment environment = {text, 0};

    if (record->rsdp)
        set_rsdp(record->rsdp);
    for (;;) {
        const char *word;
        uint32_t size = 0, length = 0;

        while (blank(*line))
            line++;
        if (!*line)
            break;
        for (word = line; *line && !blank(*line); line++)
            size++;
        while (length < size && word[length] != '=')
            length++;
        if (*word == '-')
            environment.howto |= flags(word, size);
        else if (length < size)
            set(word, length, word + length + 1, size - length - 1);
        else
            set(word, length, "1", 1);
    }
    environment.howto |= flags_of_variables();
    text[used] = 0;
    return environment;
}
