// SPDX-License-Identifier: 0BSD
// Hypercalls about page tables and descriptors, and what Xen answers.
#include "calls.h"

void tables(void)
{
    struct {
        u32 command, pad;
        u64 one, two;
    } *op = (void *)words;
    u64 *update = words;
    u32 done;

    begin("mmuext_op");
    op->command = 6;
    field("self", call4(26, (u64)op, 1, 0, SELF));
    field("number", call4(26, (u64)op, 1, 0, info->flags & 2 ? 0 : 1));
    field("dom0", call4(26, (u64)op, 1, 0, 0));
    field("io", call4(26, (u64)op, 1, 0, 0x7ff1));
    field("none_of_xens", call4(26, XENS, 0, 0, SELF));
    for (u32 command = 6; command < 24; command++) {
        if (command == 15 || command == 16 || command == 17)
            continue;
        op->command = command;
        op->one = op->two = 0;
        done = 7;
        field("command", call4(26, (u64)op, 1, (u64)&done, SELF));
        field("done", done);
    }
    op->command = 13;
    op->one = 4;
    op->two = 1;
    field("ldt_not_aligned", call4(26, (u64)op, 1, 0, SELF));
    op->one = 0;
    op->two = 8193;
    field("ldt_too_large", call4(26, (u64)op, 1, 0, SELF));
    op->command = 17;
    op->one = frame(scratch);
    op->two = ~0ull;
    field("copy_of_nothing", call4(26, (u64)op, 1, 0, SELF));
    op->command = 16;
    op->one = frame((void *)info->pt_base);
    field("clear_of_root", call4(26, (u64)op, 1, 0, SELF));
    op[0].command = 6;
    op[1].command = 99;
    op[2].command = 6;
    field("second_fails", call4(26, (u64)op, 3, (u64)&done, SELF));
    field("second_fails_done", done);
    for (int i = 0; i < 170; i++) {
        op[i].command = 6;
        op[i].one = 0;
    }
    field("many", call4(26, (u64)op, 170, (u64)&done, SELF));
    field("many_done", done);

    begin("mmu_update");
    field("none_of_own_number", call4(1, (u64)words, 0, 0, 0));
    field("none_of_xens", call4(1, XENS, 0, 0, SELF));
    field("nowhere", call4(1, NOWHERE, 1, (u64)&done, SELF));
    field("nowhere_done", done);
    for (u64 kind = 0; kind < 8; kind++) {
        update[0] = frame(scratch) * PAGE | kind;
        update[1] = kind == 1 ? ((u64)scratch - BASE) / PAGE : 0x1234;
        done = 7;
        field("kind", call4(1, (u64)update, 1, (u64)&done, SELF));
        field("done", done);
        field("written", *(u64 *)scratch);
    }

    begin("update_va_mapping");
    for (int i = 0; i < 5; i++) {
        static const u64 bits[] = {0x8, 0x10, 0x80, 0x100, 1ull << 62};

        field("bits", call(14, (u64)scratch, frame(scratch) * PAGE | PRESENT | bits[i], 0));
    }
    for (int i = 0; i < 6; i++) {
        static const u64 flags[] = {0, 2 | 4, 1 | 4, 1 | NOWHERE, 2 | NOWHERE, 3 | NOWHERE}; // UVMF_*

        field("flags", call(14, (u64)scratch, frame(scratch) * PAGE | PRESENT, flags[i]));
    }
    field("uncanonical", call(14, (u64)scratch & ~0ull >> 16, frame(scratch) * PAGE | PRESENT, 0));
}

void descriptors(void)
{
    static const u64 values[] = {
        0,                  0x00af9b000000ffff, 0x00cff3000000ffff, 0x0000600000000000, // DPL 3, not present
        0x0000800000000000, 0x0000e00000000000, // type 0
        0x0000e20000000000, 0x0000890000000000, 0x00008e0000080000, // LDT, TSS, interrupt gate
        0x00008c0000080000, 0x0000ec0000080000, 0x0000ec00e0330000, 0x0000ec00e0080000, // call gates
        0x0000ec00fffc0000, 0x0000ec0100080000, 0x1234ec0000081234, 0x0020fb0000000000,
    };
    u64 frames[1] = {frame(scratch)};

    begin("update_descriptor");
    for (u64 i = 0; i < sizeof values / sizeof *values; i++) {
        *(u64 *)scratch = ~0ull;
        field("answer", call(10, frame(scratch) * PAGE, values[i], 0));
        field("value", *(u64 *)scratch);
    }
    field("not_aligned", call(10, frame(scratch) * PAGE + 4, 0, 0));
    field("not_mine", call(10, 0, 0, 0));
    field("in_root", call(10, info->pt_base - BASE, 0, 0));

    begin("set_gdt");
    for (int i = 0; i < 512; i++)
        ((u64 *)scratch)[i] = 0;
    for (u64 i = 0; i < sizeof values / sizeof *values; i++)
        ((u64 *)scratch)[i] = values[i];
    ((u64 *)scratch)[6] = ((u64 *)scratch)[7] = ((u64 *)scratch)[8] = 0;
    field("writable", call(2, (u64)frames, 512, 0));
    field("too_many", call(2, (u64)frames, 7169, 0));
    field("nowhere", call(2, NOWHERE, 512, 0));
    field("read_only", call(14, (u64)scratch, frame(scratch) * PAGE | (PRESENT & ~2), 2));
    field("with_a_bad_gate", call(2, (u64)frames, 512, 0));
    field("writable_again", call(14, (u64)scratch, frame(scratch) * PAGE | PRESENT, 2));
    ((u64 *)scratch)[12] = ((u64 *)scratch)[14] = ((u64 *)scratch)[13] = 0;
    field("read_only_again", call(14, (u64)scratch, frame(scratch) * PAGE | (PRESENT & ~2), 2));
    field("set", call(2, (u64)frames, 512, 0));
    for (u64 i = 0; i < sizeof values / sizeof *values; i++)
        field("value", ((u64 *)scratch)[i]);
    field("while_in_use", call(14, (u64)scratch, frame(scratch) * PAGE | PRESENT, 2));
    field("empty", call(2, 0, 0, 0));
    field("writable_at_last", call(14, (u64)scratch, frame(scratch) * PAGE | PRESENT, 2));
}
