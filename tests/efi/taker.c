// SPDX-License-Identifier: 0BSD
// A program that takes a piece of memory for good, and comes back with an error: the firmware starts what follows.

#include "../oracles/guest_efi/efi.h"

#define AT_ADDRESS 2
#define RUNTIME_SERVICES_DATA 6
#define NOT_FOUND (1ull << 63 | 14)

u64 MS entry(u64 image, struct system_table *system)
{
    u64 address = TAKEN;
    static const u16 done[] = u"taker: taken\r\n", not[] = u"taker: failed\r\n";
    u64 status = system->bs->call[AllocatePages](AT_ADDRESS, RUNTIME_SERVICES_DATA, 1ull, &address);

    (void)image;
    system->out->call[1](system->out, status ? not : done);
    return NOT_FOUND;
}
