/* SPDX-License-Identifier: 0BSD */
/* A kernel: prints its command line and switches off. A flat binary, at 2 MiB, entered at its first byte. */
#include <bootbuild/handover.h>

static void print(const struct bb_handover *record, const char *text)
{
    struct bb_post_text argument = {(uint64_t)text, 0};

    while (text[argument.size])
        argument.size++;
    ((bb_post_stub *)record->post_stub)(record, BB_POST_CONSOLE_WRITE, &argument);
}

__attribute__((section(".text.start"))) void start(const char *cmdline, const struct bb_handover *record)
{
    print(record, "started with: ");
    print(record, cmdline ? cmdline : "");
    print(record, "\n");
    ((bb_post_stub *)record->post_stub)(record, BB_POST_SHUTDOWN, 0);
}
