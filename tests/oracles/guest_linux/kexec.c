// SPDX-License-Identifier: 0BSD
// An /init that gives the files /0, /1 … to kexec_file_load, each in a process of its own, since a file may
// kill that, and at last starts /start, if there is one. What it and the kernel say goes to the console in one
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

static long load(long file)
{
    return call(SYS_kexec_file_load, file, -1, 0, 0, KEXEC_FILE_NO_INITRAMFS);
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
        long file = call(SYS_open, (long)path, O_RDONLY, 0, 0, 0);
        if (file < 0)
            break;
        say("CASE", index);
        long child = call(SYS_fork, 0, 0, 0, 0, 0);
        if (!child) {
            say("RESULT", load(file));
            call(SYS_kexec_file_load, -1, -1, 0, 0, KEXEC_FILE_UNLOAD);
            call(SYS_exit, 0, 0, 0, 0, 0);
        }
        call(SYS_wait4, child, 0, 0, 0, 0);
        call(SYS_close, file, 0, 0, 0, 0);
    }
    say("ALL-DONE", 0);
    long start = call(SYS_open, (long)"/start", O_RDONLY, 0, 0, 0);
    if (start >= 0 && !load(start))
        reboot(LINUX_REBOOT_CMD_KEXEC);
    reboot(LINUX_REBOOT_CMD_POWER_OFF);
    for (;;)
        ;
}
