// SPDX-License-Identifier: 0BSD
// An /init that gives the files /0, /1 … to kexec_file_load, each in a process of its own, since a file may
// kill that, and at last starts /start, if there is one, with the ramdisk /initrd and the command line in /cmdline,
// its NUL included, if there are such. What it and the kernel say goes to the console in one
// order: by /dev/kmsg.

#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
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

static long out;

static int digits(char *text, long value)
{
    char reversed[20];
    int count = 0, used = 0;

    if (value < 0)
        text[used++] = '-', value = -value;
    do
        reversed[count++] = '0' + value % 10;
    while (value /= 10);
    while (count)
        text[used++] = reversed[--count];
    text[used] = 0;
    return used;
}

static void say(const char *word, long number)
{
    char line[64] = "<3>";
    int used = 3;

    while (*word)
        line[used++] = *word++;
    line[used++] = ' ';
    used += digits(line + used, number);
    line[used++] = '\n';
    call(SYS_write, out, (long)line, used, 0, 0);
}

static long opened(const char *path)
{
    return call(SYS_open, (long)path, O_RDONLY, 0, 0, 0);
}

static long load(long file, long initrd, const char *cmdline, long size)
{
    return call(SYS_kexec_file_load, file, initrd, size, (long)cmdline, initrd < 0 ? KEXEC_FILE_NO_INITRAMFS : 0);
}

static void reboot(long how)
{
    call(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, how, 0, 0);
}

void _start(void)
{
    char path[24] = "/";

    out = call(SYS_open, (long)"/dev/kmsg", O_WRONLY, 0, 0, 0);
    for (long index = 0;; index++) {
        digits(path + 1, index);
        long file = opened(path);
        if (file < 0)
            break;
        say("CASE", index);
        long child = call(SYS_fork, 0, 0, 0, 0, 0);
        if (!child) {
            say("RESULT", load(file, -1, 0, 0));
            call(SYS_kexec_file_load, -1, -1, 0, 0, KEXEC_FILE_UNLOAD);
            call(SYS_exit, 0, 0, 0, 0, 0);
        }
        call(SYS_wait4, child, 0, 0, 0, 0);
        call(SYS_close, file, 0, 0, 0, 0);
    }
    say("ALL-DONE", 0);
    static char cmdline[2048];
    long size = call(SYS_read, opened("/cmdline"), (long)cmdline, sizeof cmdline, 0, 0);
    if (!load(opened("/start"), opened("/initrd"), cmdline, size < 0 ? 0 : size))
        reboot(LINUX_REBOOT_CMD_KEXEC);
    reboot(LINUX_REBOOT_CMD_POWER_OFF);
    for (;;)
        ;
}
