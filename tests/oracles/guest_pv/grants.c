// SPDX-License-Identifier: 0BSD
// Hypercalls about the grant table, and what Xen answers.
#include "calls.h"

void grants(void)
{
    struct {
        unsigned short dom, pad;
        u32 nr_frames;
        short status;
        u64 frame_list;
    } setup;
    struct {
        unsigned short dom, pad;
        u32 nr_frames, max_nr_frames;
        short status;
    } size;
    struct {
        u32 nr_frames;
        unsigned short dom;
        short status;
        u64 frame_list;
    } states;
    struct {
        unsigned short dom, pad;
        u32 version;
    } get;
    u32 version;

    begin("grant_query_size");
    for (int i = 0; i < 3; i++) {
        static const unsigned short domids[] = {SELF, 0, 77}; // its own number a domU is not told

        size.dom = domids[i];
        size.nr_frames = size.max_nr_frames = 0;
        size.status = 5;
        field("answer", call(20, 6, (u64)&size, 1));
        field("status", (u32)size.status);
        field("most", size.max_nr_frames);
    }
    field("count", call(20, 6, (u64)&size, 2));
    field("negative", call(20, 6, (u64)&size, 1u << 31));
    field("nowhere", call(20, 6, NOWHERE, 1));
    field("unknown", call(20, 77, (u64)&size, 1));

    begin("grant_setup_table");
    for (int i = 0; i < 4; i++) {
        static const u32 counts[] = {1, 3, 64, 65};

        for (int j = 0; j < 66; j++)
            words[j] = 0;
        setup.dom = SELF;
        setup.nr_frames = counts[i];
        setup.status = 5;
        setup.frame_list = (u64)words;
        field("answer", call(20, 2, (u64)&setup, 1));
        field("status", (u32)setup.status);
        field("frames", (words[0] != 0) + (words[1] != 0) + (words[2] != 0));
        size.dom = SELF;
        call(20, 6, (u64)&size, 1);
        field("size", size.nr_frames);
    }
    setup.nr_frames = 1;
    setup.frame_list = NOWHERE;
    field("list_nowhere", call(20, 2, (u64)&setup, 1));
    field("list_nowhere_status", (u32)setup.status);
    setup.frame_list = XENS;
    field("list_of_xens", call(20, 2, (u64)&setup, 1));
    setup.frame_list = (u64)words;
    setup.dom = 77;
    field("of_none", call(20, 2, (u64)&setup, 1));
    field("of_none_status", (u32)setup.status);
    setup.dom = SELF;
    setup.status = 5;
    call(20, 2, (u64)&setup, 1);
    field("mapped", call(14, (u64)scratch, words[0] * PAGE | PRESENT, 2));
    ((u64 *)scratch)[9] = 0x1234;
    field("entry", ((u64 *)scratch)[9]);

    begin("grant_version");
    get.dom = SELF;
    field("get", call(20, 10, (u64)&get, 1));
    field("is", get.version);
    version = 3;
    field("three", call(20, 8, (u64)&version, 1));
    version = 0;
    field("zero", call(20, 8, (u64)&version, 1));
    version = 1;
    field("one", call(20, 8, (u64)&version, 1));
    field("kept", ((u64 *)scratch)[9]);
    ((u64 *)scratch)[30] = 0x1234;
    states.dom = SELF;
    states.status = 5;
    states.nr_frames = 1;
    states.frame_list = (u64)words;
    field("no_states", call(20, 9, (u64)&states, 1));
    field("no_states_status", (u32)states.status);
    version = 2;
    field("two", call(20, 8, (u64)&version, 1));
    call(20, 10, (u64)&get, 1);
    field("is_now", get.version);
    field("cleared", ((u64 *)scratch)[18]);
    field("cleared_behind", ((u64 *)scratch)[30]);
    field("states", call(20, 9, (u64)&states, 1));
    field("states_status", (u32)states.status);
    states.nr_frames = 9;
    field("too_many_states", call(20, 9, (u64)&states, 1));
    field("too_many_states_status", (u32)states.status);
    version = 1;
    field("back", call(20, 8, (u64)&version, 1));
    get.dom = 77;
    field("of_none", call(20, 10, (u64)&get, 1));
    field("given_back", call(14, (u64)scratch, frame(scratch) * PAGE | PRESENT, 2));
}
