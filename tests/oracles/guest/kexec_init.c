/* The first program of a Linux that starts another kernel: /kernel with /initrd, by kexec_file_load(2). No library. */
#include <asm/unistd.h>
#include <fcntl.h>

#define REBOOT_MAGIC1 0xfee1dead
#define REBOOT_MAGIC2 672274793
#define REBOOT_KEXEC 0x45584543

static long call(long number, long a, long b, long c, long d, long e)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;

    __asm__ volatile("syscall" : "+a"(number) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
    return number;
}

/* A program that ends is the kernel's panic, which says its code: 1 to 4 tell the step. */
static void need(long result, int step)
{
    if (result < 0)
        call(__NR_exit, step, 0, 0, 0, 0);
}

void _start(void)
{
    static const char cmdline[] = CMDLINE;
    long kernel = call(__NR_open, (long)"/kernel", O_RDONLY, 0, 0, 0);
    long initrd = call(__NR_open, (long)"/initrd", O_RDONLY, 0, 0, 0);

    need(kernel, 1);
    need(initrd, 2);
    need(call(__NR_kexec_file_load, kernel, initrd, sizeof cmdline, (long)cmdline, 0), 3);
    need(call(__NR_reboot, REBOOT_MAGIC1, REBOOT_MAGIC2, REBOOT_KEXEC, 0, 0), 4);
}
