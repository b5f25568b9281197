# A kernel that tells at which of Linux's three entries it was started, and where; then it ends QEMU.
#
# On port 0xEA a letter (R, P or L for real, protected and long mode) and the four bytes of the physical
# address of that entry; on COM1 a line. From real mode it goes on to the 32-bit entry by code32_start, as
# Linux does. Section .setup is for offset 0x26C of the file, .kernel is the protected-mode code.

    .set TOLD, 0xEA
    .set COM1, 0x3F8
    .set END, 0xF4
    .set CODE32_START, 0x214

    .macro print                          # the line at %esi, by COM1
    mov $COM1, %dx
9:  lodsb
    out %al, %dx
    cmp $'\n', %al
    jne 9b
    .endm

    .macro tell letter                    # and the address that is in %ebx
    mov $TOLD, %dx
    mov $\letter, %al
    out %al, %dx
    mov %ebx, %eax
    .rept 4
    out %al, %dx
    shr $8, %eax
    .endr
    .endm

    .section .setup, "ax"
setup:
    .code16
    cli
    xor %ebx, %ebx
    mov %cs, %bx
    shl $4, %ebx
    tell 'R
    mov $line16 - setup + 0x26C, %si
    print
    sub $0x200, %ebx                      # where the file's beginning lies: its segment is that of %ds
    mov %ebx, %eax
    add $(table - setup + 0x26C), %eax
    mov %eax, pointer + 2 - setup + 0x26C
    mov %ebx, %esi
    mov CODE32_START, %ebx
    lgdtl pointer - setup + 0x26C
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    lea protected - setup + 0x26C(%esi), %eax
    pushl $0x10
    pushl %eax
    lretl
    .code32
protected:
    mov $0x18, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    jmp *%ebx
    .balign 8
table:
    .quad 0, 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF
pointer:
    .word pointer - table - 1
    .long 0

line16:
    .ascii "entered in real mode\n"

    .section .kernel, "ax"
kernel:
    .code32
    mov %esi, %ecx                        # boot_params, or the setup code: a stack for a call
    lea 0x1000(%ecx), %esp
    call 1f
1:  pop %ebx
    sub $(1b - kernel), %ebx
    tell 'P
    lea line32 - kernel(%ebx), %esi
    print
    mov $END, %dx
    out %al, %dx
2:  hlt
    jmp 2b
    .org 0x200
    .code64
    lea (kernel + 0x200)(%rip), %rbx
    tell 'L
    lea line64(%rip), %rsi
    print
    mov $END, %dx
    out %al, %dx
3:  hlt
    jmp 3b
line32:
    .ascii "entered in protected mode\n"
line64:
    .ascii "entered in long mode\n"
