// SPDX-License-Identifier: 0BSD
// The whole user space of the test initrd: says which kernel runs and what it was told, then powers off.
// Freestanding, so that it is small, needs no libc, and boots the same everywhere.

#include <fcntl.h>
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

static long out = 1;
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
    call(SYS_write, out, (long)line, used, 0, 0);
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

static void add_bytes(const char *path)
{
    static unsigned char data[1024];
    long fd = call(SYS_open, (long)path, 0, 0, 0, 0);
    long size = fd < 0 ? 0 : call(SYS_read, fd, (long)data, sizeof(data), 0, 0);

    for (long i = 0; i < size; i++) {
        char text[3] = {"0123456789abcdef"[data[i] >> 4], "0123456789abcdef"[data[i] & 15], 0};

        add(text);
    }
}

// What the loader left in boot_params.hdr.setup_data, each node as its type and its bytes.
static void say_setup_data(void)
{
    static char type[] = "/sys/kernel/boot_params/setup_data/N/type";
    static char data[] = "/sys/kernel/boot_params/setup_data/N/data";
    const unsigned long number = sizeof("/sys/kernel/boot_params/setup_data/") - 1;

    for (char node = '0'; node <= '9'; node++) {
        type[number] = data[number] = node;
        if (call(SYS_open, (long)type, 0, 0, 0, 0) < 0)
            return;
        add("bootbuild-initrd setup_data type=");
        add_file(type);
        add(" data=");
        add_bytes(data);
        flush();
    }
}

void _start(void)
{
    static struct new_utsname uts;

    call(SYS_mkdir, (long)"/proc", 0755, 0, 0, 0);
    call(SYS_mkdir, (long)"/sys", 0755, 0, 0, 0);
    call(SYS_mount, (long)"proc", (long)"/proc", (long)"proc", 0, 0);
    call(SYS_mount, (long)"sysfs", (long)"/sys", (long)"sysfs", 0, 0);
    // Without a console there is still the kernel's log.
    if (call(SYS_write, out, (long)line, 0, 0, 0) < 0)
        out = call(SYS_open, (long)"/dev/kmsg", O_WRONLY, 0, 0, 0);
    say("cmdline", "/proc/cmdline");
    say("hypervisor", "/sys/hypervisor/type");
    say("guest", "/sys/hypervisor/guest_type");
    say_setup_data();
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
