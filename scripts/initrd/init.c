// SPDX-License-Identifier: 0BSD
// The whole user space of the test initrd: says which kernel runs and what it was told, then powers off.
// Freestanding, so that it is small, needs no libc, and boots the same everywhere.

#include <linux/reboot.h>
#include <linux/utsname.h>
#include <sys/syscall.h>

static long call(long number, long a, long b, long c, long d, long e)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

static char line[4096];
static unsigned long used;

static void add(const char *text)
{
    while (*text && used < sizeof(line) - 2)
        line[used++] = *text++;
}

// One write a line: a console shared with a hypervisor mixes output by the line.
static void flush(void)
{
    line[used++] = '\n';
    call(SYS_write, 1, (long)line, used, 0, 0);
    used = 0;
}

static void add_file(const char *path)
{
    static char text[2048];
    long fd = call(SYS_open, (long)path, 0, 0, 0, 0);
    long size = fd < 0 ? 0 : call(SYS_read, fd, (long)text, sizeof(text) - 1, 0, 0);

    text[size < 0 ? 0 : size] = 0;
    for (char *at = text; *at; at++)
        if (*at == '\n')
            *at = 0;
    add(text);
}

static void say(const char *name, const char *path)
{
    add("bootbuild-initrd ");
    add(name);
    add("=");
    add_file(path);
    flush();
}

void _start(void)
{
    static struct new_utsname uts;

    call(SYS_mkdir, (long)"/proc", 0755, 0, 0, 0);
    call(SYS_mkdir, (long)"/sys", 0755, 0, 0, 0);
    call(SYS_mount, (long)"proc", (long)"/proc", (long)"proc", 0, 0);
    call(SYS_mount, (long)"sysfs", (long)"/sys", (long)"sysfs", 0, 0);
    say("cmdline", "/proc/cmdline");
    say("hypervisor", "/sys/hypervisor/type");
    say("guest", "/sys/hypervisor/guest_type");
    call(SYS_uname, (long)&uts, 0, 0, 0, 0);
    // The last line: a test waits for it.
    add("bootbuild-initrd up sysname=");
    add(uts.sysname);
    add(" release=");
    add(uts.release);
    add(" machine=");
    add(uts.machine);
    flush();
    call(SYS_sync, 0, 0, 0, 0, 0);
    call(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_POWER_OFF, 0, 0);
    for (;;)
        call(SYS_pause, 0, 0, 0, 0, 0);
}
