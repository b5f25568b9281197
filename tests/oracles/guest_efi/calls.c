// SPDX-License-Identifier: 0BSD
// The answers of calls whose arguments say what is asked: statuses, and what is the same wherever memory lies.

#include "efi.h"

void begin(const char *kind);
void field(const char *name, u64 value);
void bytes(const char *name, const void *from, u64 size);
void text16(const char *name, const u16 *from);
void path(const char *name, const u8 *at);

#define FILLED 0x1111111111111111ull
#define MiB (1ull << 20)

static service **bs, **rt;
static u64 self;
static struct system_table *system;

static const struct guid NOBODY = {0x12345678, 0x1234, 0x1234, {1, 2, 3, 4, 5, 6, 7, 8}};
static const struct guid OTHER = {0x12345678, 0x1234, 0x1234, {1, 2, 3, 4, 5, 6, 7, 9}};
static const struct guid LOADED_IMAGE = {0x5b1b31a1, 0x9562, 0x11d2, {0x8e, 0x3f, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
static const struct guid IMAGE_PATH = {0xbc62157e, 0x3e33, 0x4fec, {0x99, 0x20, 0x2d, 0x3b, 0x36, 0xd7, 0x50, 0xdf}};
static const struct guid DEVICE_PATH = {0x9576e91, 0x6d3f, 0x11d2, {0x8e, 0x39, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
static const struct guid TEXT_OUT = {0x387477c2, 0x69c7, 0x11d2, {0x8e, 0x39, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
static const struct guid LOAD_FILE2 = {0x4006c0c1, 0xfcb3, 0x403e, {0x99, 0x6d, 0x4a, 0x6c, 0x87, 0x24, 0xe0, 0x6d}};
static const struct guid GOP = {0x9042a9de, 0x23dc, 0x4a38, {0x96, 0xfb, 0x7a, 0xde, 0xd0, 0x80, 0x51, 0x6a}};
static const struct guid RNG = {0x3152bca5, 0xeade, 0x433d, {0x86, 0x2e, 0xc0, 0x1c, 0xdc, 0x29, 0x1f, 0x44}};
static const struct guid MEMATTR = {0xf4560cf6, 0x40ec, 0x4b4a, {0xa1, 0x92, 0xbf, 0x1d, 0x57, 0xd0, 0xb1, 0x89}};
static const struct guid TCG2 = {0x607f766c, 0x7455, 0x42be, {0x93, 0x0b, 0xe4, 0xd7, 0x6d, 0xb2, 0x72, 0x0f}};
static const struct guid GLOBAL = {0x8be4df61, 0x93ca, 0x11d2, {0xaa, 0x0d, 0, 0xe0, 0x98, 0x03, 0x2b, 0x8c}};

static u8 initrd_media[] = {4, 3, 20, 0, 0x27, 0xe4, 0x68, 0x55, 0xfc, 0x68, 0x3d, 0x4f,
                            0xac, 0x74, 0xca, 0x55, 0x52, 0x31, 0xcc, 0x68, 0x7f, 0xff, 4, 0};
static u8 strange_media[] = {4, 3, 20, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0x7f, 0xff, 4, 0};
static u8 end_path[] = {0x7f, 0xff, 4, 0};

static void pages(void)
{
    static const u32 types[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 100, 0x6fffffff, 0x70000000, 0x80000000};
    static const u64 places[] = {0, 1, 0x1000, 0x2800, 0x9f000, 0xa0000, 0xfffff000, MiB, 0x805000, 0x806000, 0x808000, 0x900000,
                                 0x1500000, 0x1800000, 0x1800800, 0x2000000, 0xb0000000, 0xffc00000, 0x100000000, 0x1000000000, ~0xfffull};
    u64 at;

    begin("pages");
    for (unsigned how = 0; how < 5; how++) {
        at = 0x1800000;
        field("how", bs[AllocatePages](how, 2u, 1ull, &at));
        field("left", at == 0x1800000);
        field("free", bs[FreePages](at, 1ull));
    }
    for (unsigned i = 0; i < sizeof types / sizeof *types; i++) {
        at = FILLED;
        field("type", bs[AllocatePages](0u, types[i], 1ull, &at));
        field("got", at == FILLED);
        field("free", at == FILLED ? 0 : bs[FreePages](at, 1ull));
    }
    for (unsigned i = 0; i < sizeof places / sizeof *places; i++)
        for (u64 many = 0; many < 3; many++) {
            at = places[i];
            u64 status = bs[AllocatePages](2u, 2u, many, &at);

            field("place", status);
            if (!status)
                field("free", bs[FreePages](at, many));
        }
    for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
        at = places[i];
        u64 status = bs[AllocatePages](1u, 2u, 1ull, &at);

        field("below", status);
        if (!status) {
            field("ends", at + 0xfff <= places[i]);
            field("at", at > 0x1a000000 ? 0 : at);
            field("free", bs[FreePages](at, 1ull));
        }
    }
    at = 0x1fff; // the last byte that may be used
    field("inclusive", bs[AllocatePages](1u, 2u, 1ull, &at));
    field("at", at);
    field("free", bs[FreePages](at, 1ull));
    at = 0x1ffe;
    field("exclusive", bs[AllocatePages](1u, 2u, 1ull, &at));
    for (u64 last = 0xffe; last < 0x1001; last++) { // page 0 is nobody's
        at = last;
        field("page_0", bs[AllocatePages](1u, 2u, 1ull, &at));
    }
    at = 0x2000000;
    field("taken", bs[AllocatePages](2u, 2u, 4ull, &at));
    at = 0x2003000;
    field("again", bs[AllocatePages](2u, 2u, 1ull, &at));
    at = 0x1fff000;
    field("overlap", bs[AllocatePages](2u, 2u, 2ull, &at));
    field("leaked", bs[FreePages](0x1fff000ull, 1ull));
    field("part", bs[FreePages](0x2001000ull, 1ull));
    field("hole", bs[FreePages](0x2000000ull, 4ull));
    field("misaligned", bs[FreePages](0x2000800ull, 1ull));
    field("twice", bs[FreePages](0x2001000ull, 1ull));
    field("rest", bs[FreePages](0x2002000ull, 2ull));
    field("first", bs[FreePages](0x2000000ull, 1ull));
    field("nothing", bs[FreePages](0x2000000ull, 0ull));
    field("nowhere", bs[FreePages](0x7000000000ull, 1ull));
    field("nothing_nowhere", bs[FreePages](0x7000000000ull, 0ull));
    field("misaligned_nowhere", bs[FreePages](0x7000000800ull, 1ull));
    field("behind_memory", bs[FreePages](0xa0000ull, 0ull)); // where a piece of the map ends
    at = 0;
    field("many", bs[AllocatePages](0u, 2u, 1ull << 30, &at));
    field("null", bs[AllocatePages](0u, 2u, 1ull, 0ull));
    at = FILLED; // of the first two arguments 32 bits count
    field("wide", bs[AllocatePages](1ull << 32, 0x100000002ull, 1ull, &at));
    field("free", bs[FreePages](at, 1ull));
}

static void pool(void)
{
    static const u64 sizes[] = {0, 1, 8, 0x18, 0x58, 0x59, 0x68, 0x80, 0x1000, 0x10000, 0x7fffffffffffffff};
    u64 at;

    begin("pool");
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        at = FILLED;
        field("size", bs[AllocatePool](2u, sizes[i], &at));
        field("low", at & 7);
        field("left", at == FILLED);
        if (at != FILLED && at)
            field("free", bs[FreePool](at));
    }
    for (u32 type = 0; type < 17; type++) {
        at = FILLED;
        field("type", bs[AllocatePool](type, 8ull, &at));
        field("left", at == FILLED);
        if (at != FILLED && at)
            field("free", bs[FreePool](at));
    }
    field("null", bs[AllocatePool](2u, 8ull, 0ull));
    field("free_null", bs[FreePool](0ull));
    u64 first = 0, second = 0;

    bs[AllocatePool](2u, 0x100ull, &first);
    bytes("filled", (void *)first, 8);
    bs[AllocatePool](2u, 0x100ull, &second);
    field("free_first", bs[FreePool](first));
    at = 0;
    field("same_size", bs[AllocatePool](2u, 0x100ull, &at));
    field("same_place", at == first);
    field("free", bs[FreePool](at));
    field("twice", bs[FreePool](at));
    field("free_second", bs[FreePool](second));
}

static u8 map[16384];

static void memory_map(void)
{
    u64 size = 0, key = 0, key2 = 0, stride = FILLED, at = 0;
    u32 version = 0x22222222;

    begin("memory_map");
    field("empty", bs[GetMemoryMap](&size, 0ull, &key, &stride, &version));
    field("size", size > 0);
    field("stride", stride);
    field("version", version);
    field("key", key != 0);
    size = 100;
    stride = FILLED;
    version = 0x22222222;
    field("small", bs[GetMemoryMap](&size, map, &key, &stride, &version));
    field("stride", stride);
    field("version", version);
    size = sizeof map;
    field("no_buffer", bs[GetMemoryMap](&size, 0ull, &key, &stride, &version));
    field("no_size", bs[GetMemoryMap](0ull, map, &key, &stride, &version));
    size = sizeof map;
    field("no_key", bs[GetMemoryMap](&size, map, 0ull, &stride, &version));
    size = sizeof map;
    field("no_stride", bs[GetMemoryMap](&size, map, &key, 0ull, &version));
    size = sizeof map;
    field("no_version", bs[GetMemoryMap](&size, map, &key, &stride, 0ull));
    size = sizeof map;
    field("whole", bs[GetMemoryMap](&size, map, &key2, &stride, &version));
    field("same_key", key == key2);
    u64 used = size;

    size = 0;
    bs[GetMemoryMap](&size, map, &key, &stride, &version);
    field("merged", size - used); // before that there has to be room for them
    u64 needed = size;

    size = used;
    field("as_before", bs[GetMemoryMap](&size, map, &key2, &stride, &version));
    size = needed;
    field("exact", bs[GetMemoryMap](&size, map, &key2, &stride, &version));
    size = needed - 1;
    field("a_byte_less", bs[GetMemoryMap](&size, map, &key2, &stride, &version));
    field("multiple", size % stride);
    bs[AllocatePages](0u, 2u, 1ull, &at);
    size = sizeof map;
    bs[GetMemoryMap](&size, map, &key2, &stride, &version);
    field("other_key", key == key2);
    bs[FreePages](at, 1ull);
    size = sizeof map;
    bs[GetMemoryMap](&size, map, &key, &stride, &version);
    field("other_key", key == key2);
    bs[AllocatePool](2u, 8ull, &at);
    bs[FreePool](at);
}

static void located(const char *name, const struct guid *guid)
{
    u64 interface = FILLED, size = 0, count = FILLED, buffer = FILLED;

    begin(name);
    field("protocol", bs[LocateProtocol](guid, 0ull, &interface));
    field("cleared", interface == 0);
    field("handles", bs[LocateHandle](2u, guid, 0ull, &size, 0ull));
    field("size", size > 0);
    field("buffer", bs[LocateHandleBuffer](2u, guid, 0ull, &count, &buffer));
    field("count", count > 0);
    interface = FILLED;
    field("on_self", bs[HandleProtocol](self, guid, &interface));
    field("cleared", interface == 0);
    interface = FILLED;
    field("on_nobody", bs[HandleProtocol](0x10ull, guid, &interface));
    field("cleared", interface == FILLED);
    interface = FILLED;
    field("on_null", bs[HandleProtocol](0ull, guid, &interface));
    field("no_result", bs[HandleProtocol](self, guid, 0ull));
    field("buffer_cleared", buffer == 0);
}

static void handles(void)
{
    u64 mine = 0, other = 0, interface = FILLED, count = 0, size = 0, list[4];
    struct guid **guids = 0;

    located("loaded_image", &LOADED_IMAGE);
    located("graphics", &GOP);
    located("random", &RNG);
    located("attributes", &MEMATTR);
    located("tpm", &TCG2);
    located("nobodys", &NOBODY);
    begin("handles");
    field("install", bs[InstallProtocolInterface](&mine, &NOBODY, 0u, 0x1234ull));
    field("is", mine != 0);
    field("twice", bs[InstallProtocolInterface](&mine, &NOBODY, 0u, 0x1234ull));
    field("strange_type", bs[InstallProtocolInterface](&mine, &OTHER, 1u, 0x1234ull));
    field("no_handle", bs[InstallProtocolInterface](0ull, &OTHER, 0u, 0x1234ull));
    field("no_guid", bs[InstallProtocolInterface](&mine, 0ull, 0u, 0x1234ull));
    field("second", bs[InstallProtocolInterface](&mine, &OTHER, 0u, 0x5678ull));
    field("handle", bs[HandleProtocol](mine, &OTHER, &interface));
    field("interface", interface);
    field("open", bs[OpenProtocol](mine, &OTHER, &interface, self, 0ull, 2u));
    field("interface", interface);
    field("open_nothing", bs[OpenProtocol](mine, &LOADED_IMAGE, &interface, self, 0ull, 2u));
    field("open_no_result", bs[OpenProtocol](mine, &OTHER, 0ull, self, 0ull, 2u));
    field("open_test", bs[OpenProtocol](mine, &OTHER, 0ull, self, 0ull, 4u));
    field("open_strange", bs[OpenProtocol](mine, &OTHER, &interface, self, 0ull, 0x100u));
    field("close", bs[CloseProtocol](mine, &OTHER, self, 0ull));
    field("protocols", bs[ProtocolsPerHandle](mine, &guids, &count));
    field("count", count);
    field("of_nobody", bs[ProtocolsPerHandle](0x10ull, &guids, &count));
    size = 4;
    field("small", bs[LocateHandle](2u, &NOBODY, 0ull, &size, list));
    field("size", size);
    field("fits", bs[LocateHandle](2u, &NOBODY, 0ull, &size, list));
    field("mine", list[0] == mine);
    field("no_size", bs[LocateHandle](2u, &NOBODY, 0ull, 0ull, list));
    field("strange", bs[LocateHandle](3u, &NOBODY, 0ull, &size, list));
    field("reinstall", bs[ReinstallProtocolInterface](mine, &NOBODY, 0x1234ull, 0x4321ull));
    field("handle", bs[HandleProtocol](mine, &NOBODY, &interface));
    field("interface", interface);
    field("wrong", bs[UninstallProtocolInterface](mine, &NOBODY, 0x1234ull));
    field("uninstall", bs[UninstallProtocolInterface](mine, &NOBODY, 0x4321ull));
    field("uninstall", bs[UninstallProtocolInterface](mine, &NOBODY, 0x4321ull));
    field("last", bs[UninstallProtocolInterface](mine, &OTHER, 0x5678ull));
    field("gone", bs[HandleProtocol](mine, &OTHER, &interface));
    field("several", bs[InstallMultipleProtocolInterfaces](&other, &NOBODY, 1ull, &OTHER, 2ull, 0ull));
    field("handle", bs[HandleProtocol](other, &OTHER, &interface));
    field("interface", interface);
    field("one_more", bs[InstallMultipleProtocolInterfaces](&other, &DEVICE_PATH, strange_media, 0ull));
    mine = 0;
    field("same_path", bs[InstallMultipleProtocolInterfaces](&mine, &DEVICE_PATH, strange_media, 0ull));
    field("none", bs[UninstallMultipleProtocolInterfaces](other, &NOBODY, 2ull, 0ull));
    field("rest", bs[UninstallMultipleProtocolInterfaces](other, &NOBODY, 1ull, &OTHER, 2ull, 0ull));

    const u8 *at = strange_media;

    mine = 0;
    field("path", bs[LocateDevicePath](&DEVICE_PATH, &at, &mine));
    field("found", mine == other);
    bytes("rest", at, 4);
    at = initrd_media;
    field("initrd", bs[LocateDevicePath](&LOAD_FILE2, &at, &mine));
    field("moved", at - initrd_media);
    at = end_path;
    field("end", bs[LocateDevicePath](&LOAD_FILE2, &at, &mine));
    field("no_path", bs[LocateDevicePath](&LOAD_FILE2, 0ull, &mine));
    at = 0;
    field("null_path", bs[LocateDevicePath](&LOAD_FILE2, &at, &mine));
    at = strange_media;
    field("no_protocol", bs[LocateDevicePath](&LOAD_FILE2, &at, &mine));
    field("away", bs[UninstallMultipleProtocolInterfaces](other, &DEVICE_PATH, strange_media, 0ull));
    // Who came first, among handles with one protocol and handles with one path.
    static u8 two_paths[] = {4, 3, 20, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
                             0x7f, 1, 4, 0, 4, 3, 20, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0x7f, 0xff, 4, 0};
    mine = other = 0;
    bs[InstallProtocolInterface](&mine, &DEVICE_PATH, 0u, strange_media);
    bs[InstallProtocolInterface](&other, &DEVICE_PATH, 0u, strange_media);
    bs[InstallProtocolInterface](&other, &NOBODY, 0u, 2ull);
    bs[InstallProtocolInterface](&mine, &NOBODY, 0u, 1ull);
    field("of_two", bs[LocateProtocol](&NOBODY, 0ull, &interface));
    field("interface", interface);
    size = sizeof list;
    field("both", bs[LocateHandle](2u, &NOBODY, 0ull, &size, list));
    field("size", size);
    field("first", list[0] == other);
    at = strange_media;
    field("path", bs[LocateDevicePath](&DEVICE_PATH, &at, &interface));
    field("first", interface == mine);
    at = two_paths;
    field("several_paths", bs[LocateDevicePath](&DEVICE_PATH, &at, &interface));
    field("moved", at - two_paths);
    // Whose path begins another's: the longest counts, in whatever order they came.
    static u8 two_nodes[] = {4, 3, 20, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1, 0xff, 6, 0, 1, 2,
                             1, 1, 6, 0, 3, 4, 0x7f, 0xff, 4, 0};
    static u8 one_more[] = {4, 3, 20, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1, 0xff, 6, 0, 1, 2,
                            0x7f, 0xff, 4, 0};

    for (unsigned i = 0; i < 2; i++) {
        u64 holder = i ? mine : other;

        bs[ReinstallProtocolInterface](holder, &DEVICE_PATH, strange_media, one_more);
        at = two_nodes;
        field("longest", bs[LocateDevicePath](&DEVICE_PATH, &at, &interface));
        field("is_holder", interface == holder);
        field("moved", at - two_nodes);
        bs[ReinstallProtocolInterface](holder, &DEVICE_PATH, one_more, strange_media);
    }
    bs[ReinstallProtocolInterface](mine, &DEVICE_PATH, strange_media, two_paths);
    bs[UninstallProtocolInterface](other, &DEVICE_PATH, strange_media);
    at = two_paths;
    field("path_of_two", bs[LocateDevicePath](&DEVICE_PATH, &at, &interface));
    field("moved", at - two_paths);
    at = strange_media;
    field("one_of_two", bs[LocateDevicePath](&DEVICE_PATH, &at, &interface));
    bs[ReinstallProtocolInterface](mine, &DEVICE_PATH, two_paths, strange_media);
    bs[InstallProtocolInterface](&other, &DEVICE_PATH, 0u, strange_media);
    for (u32 how = 1; how <= 0x40; how <<= 1) {
        field("open", bs[OpenProtocol](mine, &NOBODY, &interface, self, 0ull, how));
        field("by_nobody", bs[OpenProtocol](mine, &NOBODY, &interface, 0x10ull, other, how));
        field("for_itself", bs[OpenProtocol](mine, &NOBODY, &interface, self, mine, how & 0x1f));
        bs[CloseProtocol](mine, &NOBODY, self, 0ull);
        bs[CloseProtocol](mine, &NOBODY, self, mine);
    }
    field("by_driver_alone", bs[OpenProtocol](mine, &NOBODY, &interface, self, other, 0x30u));
    bs[CloseProtocol](mine, &NOBODY, self, other);
    bs[UninstallMultipleProtocolInterfaces](mine, &DEVICE_PATH, strange_media, &NOBODY, 1ull, 0ull);
    bs[UninstallMultipleProtocolInterfaces](other, &DEVICE_PATH, strange_media, &NOBODY, 2ull, 0ull);
    field("text", bs[HandleProtocol](system->out_handle, &TEXT_OUT, &interface));
    field("same", interface == (u64)system->out);
    interface = FILLED;
    field("image_path", bs[HandleProtocol](self, &IMAGE_PATH, &interface));
    path("image_path", (u8 *)interface);
}

// The same with arguments that are missing, or of nobody.
static void strange_handles(void)
{
    u64 mine = 0, interface = FILLED, count = 0, size = 0, list[4], buffer = 0;
    struct guid **guids = 0;
    const u8 *at = end_path;

    begin("strange_handles");
    field("locate_nothing", bs[LocateProtocol](0ull, 0ull, &interface));
    field("locate_no_result", bs[LocateProtocol](&NOBODY, 0ull, 0ull));
    field("locate_found_no_result", bs[LocateProtocol](&LOADED_IMAGE, 0ull, 0ull));
    field("handle_nothing", bs[HandleProtocol](self, 0ull, &interface));
    field("open_nothing", bs[OpenProtocol](self, 0ull, &interface, self, 0ull, 2u));
    size = sizeof list;
    field("handles_no_list", bs[LocateHandle](2u, &LOADED_IMAGE, 0ull, &size, 0ull));
    field("handles_of_nothing", bs[LocateHandle](2u, 0ull, 0ull, &size, list));
    field("buffer_of_nothing", bs[LocateHandleBuffer](2u, 0ull, 0ull, &count, &buffer));
    field("buffer_of_register", bs[LocateHandleBuffer](1u, 0ull, 0ull, &count, &buffer));
    field("buffer_strange", bs[LocateHandleBuffer](3u, &NOBODY, 0ull, &count, &buffer));
    field("per_handle_no_list", bs[ProtocolsPerHandle](self, 0ull, &count));
    field("per_handle_no_count", bs[ProtocolsPerHandle](self, &guids, 0ull));
    field("path_no_protocol", bs[LocateDevicePath](0ull, &at, &mine));
    field("path_no_device", bs[LocateDevicePath](&NOBODY, &at, 0ull));
    mine = 0x10;
    field("install_on_nobody", bs[InstallProtocolInterface](&mine, &NOBODY, 0u, 1ull));
    mine = 0;
    field("install_twice", bs[InstallMultipleProtocolInterfaces](&mine, &NOBODY, 1ull, &NOBODY, 2ull, 0ull));
    field("nothing_left", mine);
    field("install_none", bs[InstallMultipleProtocolInterfaces](&mine, 0ull));
    field("install_no_handle", bs[InstallMultipleProtocolInterfaces](0ull, &NOBODY, 1ull, 0ull));
    mine = 0;
    bs[InstallProtocolInterface](&mine, &NOBODY, 0u, 1ull);
    field("install_one_that_is_there", bs[InstallMultipleProtocolInterfaces](&mine, &OTHER, 2ull, &NOBODY, 1ull, 0ull));
    field("first_left", bs[HandleProtocol](mine, &OTHER, &interface));
    field("close_unopened", bs[CloseProtocol](mine, &NOBODY, self, 0ull));
    field("close_of_none", bs[CloseProtocol](mine, &OTHER, self, 0ull));
    field("close_no_agent", bs[CloseProtocol](mine, &NOBODY, 0ull, 0ull));
    field("close_nobody", bs[CloseProtocol](0x10ull, &NOBODY, self, 0ull));
    field("close_nothing", bs[CloseProtocol](mine, 0ull, self, 0ull));
    static const u32 ways[] = {1, 2, 4, 8, 0x10, 0x20, 0x30};

    for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
        field("way", ways[i]);
        field("no_agent", bs[OpenProtocol](mine, &NOBODY, &interface, 0ull, 0ull, ways[i]));
        field("no_controller", bs[OpenProtocol](mine, &NOBODY, &interface, self, 0ull, ways[i]));
        bs[CloseProtocol](mine, &NOBODY, self, 0ull);
        field("self", bs[OpenProtocol](mine, &NOBODY, &interface, self, mine, ways[i]));
        field("close", bs[CloseProtocol](mine, &NOBODY, self, mine));
    }
    field("uninstall_nothing", bs[UninstallProtocolInterface](mine, 0ull, 1ull));
    field("uninstall_of_nobody", bs[UninstallProtocolInterface](0x10ull, &NOBODY, 1ull));
    field("reinstall_of_none", bs[ReinstallProtocolInterface](mine, &OTHER, 1ull, 2ull));
    field("reinstall_of_nobody", bs[ReinstallProtocolInterface](0x10ull, &NOBODY, 1ull, 2ull));
    field("reinstall_other", bs[ReinstallProtocolInterface](mine, &NOBODY, 2ull, 3ull));
    field("uninstall_several_none", bs[UninstallMultipleProtocolInterfaces](mine, 0ull));
    field("uninstall", bs[UninstallProtocolInterface](mine, &NOBODY, 1ull));
}

static u8 file[0x10000];

// Linux's initrd, where the firmware has one.
static void initrd(void)
{
    const u8 *at = initrd_media;
    service **load = 0;
    u64 handle = 0, size = 0;
    u32 crc = 0;

    begin("initrd");
    u64 status = bs[LocateDevicePath](&LOAD_FILE2, &at, &handle);

    field("there", status);
    if (status)
        return;
    field("moved", at - initrd_media);
    field("handle", bs[HandleProtocol](handle, &LOAD_FILE2, &load));
    field("size_asked", load[0](load, at, 0u, &size, 0ull));
    field("size", size);
    u64 whole = size;

    size = 4;
    field("small", load[0](load, at, 0u, &size, file));
    field("size", size);
    field("whole", load[0](load, at, 0u, &size, file));
    bs[CalculateCrc32](file, size, &crc);
    field("crc", crc);
    size = sizeof file;
    field("room", load[0](load, at, 0u, &size, file));
    field("size", size == whole);
    field("boot_policy", load[0](load, at, 1u, &size, file));
    field("wide_boot_policy", load[0](load, at, 0x100u, &size, file)); // a BOOLEAN is a byte
    field("no_path", load[0](load, 0ull, 0u, &size, file));
    field("no_size", load[0](load, at, 0u, 0ull, file));
    field("whole_path", load[0](load, initrd_media, 0u, &size, file));
    at = initrd_media;
    field("as_file", bs[LocateDevicePath](&DEVICE_PATH, &at, &handle));
    field("moved", at - initrd_media);
    u64 mine = 0;

    field("second", bs[InstallMultipleProtocolInterfaces](&mine, &DEVICE_PATH, initrd_media, &LOAD_FILE2, load, 0ull));
}

// The screen: what it shows now, its modes, and what a caller gets who asks wrongly.
static void screen(void)
{
    struct graphics_output *graphics = 0;
    struct graphics_mode *mode = 0;
    u64 size = FILLED, list[2];

    begin("screen");
    u64 status = bs[LocateProtocol](&GOP, 0ull, &graphics);

    field("there", status);
    if (status)
        return;
    field("max_mode", graphics->now->max_mode);
    field("mode", graphics->now->mode);
    field("info_size", graphics->now->info_size);
    bytes("info", graphics->now->info, 36);
    field("base", graphics->now->base);
    field("size", graphics->now->size);
    size = sizeof list;
    field("handles", bs[LocateHandle](2u, &GOP, 0ull, &size, list));
    field("size", size);
    field("of_console", list[1] == system->out_handle);
    bs[HandleProtocol](list[0], &DEVICE_PATH, &mode);
    path("path", (u8 *)mode);
    size = FILLED;
    for (u32 i = 0; i <= graphics->now->max_mode; i++) {
        field("query", graphics->call[0](graphics, i, &size, &mode));
        if (i == graphics->now->max_mode)
            break;
        field("size", size);
        bytes("info", mode, size);
        bs[FreePool](mode);
    }
    field("query_no_size", graphics->call[0](graphics, 0u, 0ull, &mode));
    field("query_no_info", graphics->call[0](graphics, 0u, &size, 0ull));
    field("query_nobody", graphics->call[0](0ull, 0u, &size, &mode));
    field("set_none", graphics->call[1](graphics, graphics->now->max_mode));
    for (u32 i = graphics->now->max_mode; i--;) {
        field("set", graphics->call[1](graphics, i));
        field("mode", graphics->now->mode);
        bytes("info", graphics->now->info, 36);
        field("base", graphics->now->base);
        field("size", graphics->now->size);
    }
    *(volatile u32 *)graphics->now->base = 0x123456;
    field("pixel", *(volatile u32 *)graphics->now->base);
}

static u8 image[0x8000];

static void images(void)
{
    struct loaded_image *own = 0, *loaded = 0;
    u64 child = 0, size = FILLED;
    u16 *data = 0;

    begin("images");
    bs[HandleProtocol](self, &LOADED_IMAGE, &own);
    *(volatile u64 *)&own->unload = 0; // a program may change its own
    field("garbage", bs[LoadImage](0u, self, 0ull, image, 0x400ull, &child));
    field("no_parent", bs[LoadImage](0u, 0ull, 0ull, image, 0x400ull, &child));
    field("nothing", bs[LoadImage](0u, self, 0ull, 0ull, 0ull, &child));
    field("no_result", bs[LoadImage](0u, self, 0ull, image, 0x400ull, 0ull));
    field("strange_parent", bs[LoadImage](0u, 0x10ull, 0ull, image, 0x400ull, &child));
    field("start_nobody", bs[StartImage](0x10ull, 0ull, 0ull));
    field("unload_nobody", bs[UnloadImage](0x10ull));
    field("start_self", bs[StartImage](self, 0ull, 0ull));
    field("unload_self", bs[UnloadImage](self));
    field("exit_of_null", bs[Exit](0ull, 0ull, 0ull, 0ull));
    child = FILLED;
    field("empty", bs[LoadImage](0u, self, 0ull, image, 0ull, &child));
    field("left", child);
    child = FILLED;
    field("tiny", bs[LoadImage](0u, self, 0ull, image, 10ull, &child));
    field("left", child);
    child = FILLED;
    field("nowhere", bs[LoadImage](0u, self, end_path, 0ull, 0ull, &child));
    field("left", child);
    // A PE of one section that returns what is in it: its headers by hand
    image[0] = 'M', image[1] = 'Z', image[0x3c] = 0x40;
    u8 *pe = image + 0x40;

    pe[0] = 'P', pe[1] = 'E';
    *(u16 *)(pe + 4) = 0x8664, *(u16 *)(pe + 6) = 1, *(u16 *)(pe + 20) = 240, *(u16 *)(pe + 22) = 0x22;
    u8 *optional = pe + 24;

    *(u16 *)optional = 0x20b;
    *(u32 *)(optional + 16) = 0x1000; // entry
    *(u32 *)(optional + 32) = 0x1000, *(u32 *)(optional + 36) = 0x200;
    *(u32 *)(optional + 56) = 0x2000, *(u32 *)(optional + 60) = 0x200;
    *(u16 *)(optional + 68) = 10;
    *(u32 *)(optional + 108) = 16;
    u8 *section = optional + 240;

    section[0] = '.', section[1] = 't';
    *(u32 *)(section + 8) = 0x1000, *(u32 *)(section + 12) = 0x1000;
    *(u32 *)(section + 16) = 0x200, *(u32 *)(section + 20) = 0x200, *(u32 *)(section + 36) = 0x60000020;
    static const u8 code[] = {0xb8, 0x34, 0x12, 0, 0, 0xc3}; // mov $0x1234, %eax; ret

    for (unsigned i = 0; i < sizeof code; i++)
        image[0x200 + i] = code[i];
    field("load", bs[LoadImage](0u, self, 0ull, image, 0x400ull, &child));
    field("handle", bs[HandleProtocol](child, &LOADED_IMAGE, &loaded));
    field("revision", loaded->revision);
    field("parent", loaded->parent == self);
    field("system", loaded->system == own->system);
    field("device", loaded->device);
    path("path", loaded->file_path);
    field("size", loaded->size);
    field("options", loaded->options_size);
    field("code", loaded->code_type);
    field("data", loaded->data_type);
    loaded->options_size = 2, loaded->options = (u16 *)image; // UEFI 2.10 §7.4: who loads it may give it some
    field("given", loaded->options == (u16 *)image && loaded->options_size == 2);
    field("start", bs[StartImage](child, &size, &data));
    field("exit_size", size);
    field("gone", bs[HandleProtocol](child, &LOADED_IMAGE, &loaded));
    field("again", bs[LoadImage](0u, self, 0ull, image, 0x400ull, &child));
    field("unload", bs[UnloadImage](child));
    field("unload", bs[UnloadImage](child));
    *(u32 *)(optional + 32) = 0x200000;
    field("aligned", bs[LoadImage](0u, self, 0ull, image, 0x400ull, &child));
    field("aligned", bs[HandleProtocol](child, &LOADED_IMAGE, &loaded));
    field("above", (u64)loaded->base & 0x1fffff);
    field("aligned", bs[StartImage](child, &size, &data));
    *(u32 *)(optional + 32) = 0x1000;
    *(u16 *)(pe + 4) = 0xaa64;
    field("machine", bs[LoadImage](0u, self, 0ull, image, 0x400ull, &child));
    *(u16 *)(pe + 4) = 0x8664, *(u32 *)(section + 20) = 0x4000;
    field("short", bs[LoadImage](0u, self, 0ull, image, 0x400ull, &child));
    *(u32 *)(section + 20) = 0x200, *(u32 *)(optional + 56) = 0x1800;
    field("small", bs[LoadImage](0u, self, 0ull, image, 0x400ull, &child));
    *(u32 *)(optional + 56) = 0x2000, *(u16 *)(optional + 68) = 1;
    field("subsystem", bs[LoadImage](0u, self, 0ull, image, 0x400ull, &child));
    *(u16 *)(optional + 68) = 10;
}

static void ends(void)
{
    // sub $0x28, %rsp; mov 0x60(%rdx), %rax; mov $0x5678, %edx; mov $6, %r8d; lea text(%rip), %r9; call *0xd8(%rax); int3
    static const u8 exits[] = {0x48, 0x83, 0xec, 0x28, 0x48, 0x8b, 0x42, 0x60, 0xba, 0x78, 0x56, 0, 0,
                               0x41, 0xb8, 6, 0, 0, 0, 0x4c, 0x8d, 0x0d, 7, 0, 0, 0,
                               0xff, 0x90, 0xd8, 0, 0, 0, 0xcc, 'w', 0, 'h', 0, 0, 0};
    u64 child = 0, second = 0, size = FILLED;
    u16 *data = 0;

    begin("ends");
    for (unsigned i = 0; i < sizeof exits; i++)
        image[0x200 + i] = exits[i];
    field("load", bs[LoadImage](0u, self, 0ull, image, 0x400ull, &child));
    field("start", bs[StartImage](child, &size, &data));
    field("size", size);
    text16("data", data);
    field("free", bs[FreePool](data));
    field("gone", bs[UnloadImage](child));
    field("load", bs[LoadImage](0u, self, 0ull, image, 0x400ull, &child));
    size = FILLED;
    field("start_without_data", bs[StartImage](child, &size, 0ull));
    field("size", size);
    data = (u16 *)FILLED;
    field("load", bs[LoadImage](0u, self, 0ull, image, 0x400ull, &child));
    field("start_without_size", bs[StartImage](child, 0ull, &data));
    field("left", (u64)data == FILLED);
    field("exit_of_none", bs[Exit](0x10ull, 0ull, 0ull, 0ull));
    field("load", bs[LoadImage](0u, self, 0ull, image, 0x400ull, &child));
    field("load_second", bs[LoadImage](0u, child, 0ull, image, 0x400ull, &second)); // its parent has not begun
    field("exit_before_start", bs[Exit](child, 7ull, 0ull, 0ull));
    field("gone", bs[UnloadImage](child));
    field("second", bs[UnloadImage](second));
}

static u8 *joined(u8 *to, const u8 *device, const u16 *name) // a device path of one node, and a file's
{
    u16 size = (u16)(device[2] | device[3] << 8), length = 4;

    for (u16 i = 0; i < size; i++)
        to[i] = device[i];
    u8 *node = to + size;

    node[0] = 4, node[1] = 4;
    do {
        node[length++] = (u8)*name, node[length++] = (u8)(*name >> 8);
    } while (*name++);
    node[2] = (u8)length, node[3] = 0;
    for (unsigned i = 0; i < sizeof end_path; i++)
        node[length + i] = end_path[i];
    return to;
}

static void loaded_by(const char *what, u32 policy, const u8 *at, const void *source)
{
    struct loaded_image *own = 0, *loaded = 0;
    u64 child = 0, status = bs[LoadImage](policy, self, at, source, source ? 0x400ull : 0ull, &child);

    begin(what);
    field("status", status);
    field("child", child != 0);
    if (status)
        return;
    bs[HandleProtocol](self, &LOADED_IMAGE, &own);
    bs[HandleProtocol](child, &LOADED_IMAGE, &loaded);
    field("same_device", loaded->device == own->device);
    field("no_device", loaded->device == 0);
    path("path", loaded->file_path);
    field("size", source ? loaded->size : loaded->size == own->size);
    const u8 *whole = 0;

    field("whole", bs[HandleProtocol](child, &IMAGE_PATH, &whole));
    path("whole_path", whole);
    field("unload", bs[UnloadImage](child));
}

static void by_path(void)
{
    static u8 at[256];
    const u8 *own = 0, *device = 0;
    struct loaded_image *me = 0;

    bs[HandleProtocol](self, &IMAGE_PATH, &own);
    bs[HandleProtocol](self, &LOADED_IMAGE, &me);
    bs[HandleProtocol](me->device, &DEVICE_PATH, &device);
    loaded_by("own_path", 0u, own, 0);
    loaded_by("own_path_by_policy", 1u, own, 0);
    loaded_by("file_path_alone", 0u, me->file_path, 0);
    loaded_by("device_alone", 0u, device, 0);
    loaded_by("end_alone", 0u, end_path, 0);
    loaded_by("other_file", 0u, joined(at, device, u"nobody"), 0);
    loaded_by("from_root", 0u, joined(at, device, u"\\kernel"), 0);
    loaded_by("capitals", 0u, joined(at, device, u"KERNEL"), 0);
    loaded_by("in_folder", 0u, joined(at, device, u"a\\kernel"), 0);
    joined(at, device, u"kernel");
    u8 *file = at + (device[2] | device[3] << 8);

    for (unsigned i = 0; i < 18 + 4; i++)
        file[18 + i] = i < 18 ? file[i] : end_path[i - 18];
    loaded_by("in_file", 0u, at, 0);
    loaded_by("no_program", 0u, joined(at, device, u"cmdline"), 0);
    loaded_by("another_file", 0u, joined(at, device, u"initrd"), 0);
    loaded_by("strange_device", 0u, joined(at, strange_media, u"kernel"), 0);
    loaded_by("initrd_media", 0u, initrd_media, 0);
    loaded_by("initrd_media_by_policy", 1u, initrd_media, 0);
    loaded_by("source_and_path", 0u, own, image);
    loaded_by("source_and_device", 0u, device, image);
    loaded_by("source_and_strange_device", 0u, joined(at, strange_media, u"kernel"), image);
    loaded_by("source_and_file_path", 0u, me->file_path, image);
}

static u16 name[64];

static void random_numbers(void)
{
    static const struct guid raw = {0xe43176d7, 0xb6e8, 0x4827, {0xb7, 0x84, 0x7f, 0xfd, 0xc4, 0xb6, 0x85, 0x61}};
    static u8 numbers[0x1000];
    static struct guid list[4];
    service **rng = 0;
    u64 size = 0;
    u32 zeros = 0;

    begin("numbers");
    field("protocol", bs[LocateProtocol](&RNG, 0ull, &rng));
    if (!rng)
        return;
    field("how_large", rng[0](rng, &size, 0ull));
    field("size", size);
    size = 15;
    field("small", rng[0](rng, &size, list));
    field("size", size);
    size = sizeof list;
    field("no_list", rng[0](rng, &size, 0ull));
    size = sizeof list;
    field("info", rng[0](rng, &size, list));
    field("size", size);
    bytes("algorithms", list, size);
    field("no_size", rng[0](rng, 0ull, list));
    field("of_nobody", rng[0](0ull, &size, list));
    field("usual", rng[1](rng, 0ull, sizeof numbers, numbers));
    for (unsigned i = 0; i < sizeof numbers; i++)
        zeros += !numbers[i];
    field("filled", zeros < sizeof numbers / 64);
    static u64 again[2][2];

    for (unsigned i = 0; i < 2; i++)
        field("again", rng[1](rng, 0ull, sizeof again[i], again[i]));
    field("same", again[0][0] == again[1][0] && again[0][1] == again[1][1]);
    field("raw", rng[1](rng, &raw, 8ull, numbers));
    field("strange", rng[1](rng, &NOBODY, 8ull, numbers));
    field("nothing", rng[1](rng, 0ull, 0ull, numbers));
    field("nowhere", rng[1](rng, 0ull, 8ull, 0ull));
    field("no_rng", rng[1](0ull, 0ull, 8ull, numbers));
}

static void variables(void)
{
    u64 size = sizeof name, data = 0;
    u32 attributes = FILLED & 0xffffffff;

    begin("variables");
    field("secure_boot", rt[GetVariable](u"SecureBoot", &GLOBAL, &attributes, &size, &data));
    field("size", size);
    field("data", data);
    field("attributes", attributes);
    size = 8;
    field("setup_mode", rt[GetVariable](u"SetupMode", &GLOBAL, &attributes, &size, &data));
    field("data", data);
    size = 8;
    field("nobodys", rt[GetVariable](u"Nobodys", &NOBODY, &attributes, &size, &data));
    field("no_name", rt[GetVariable](0ull, &NOBODY, &attributes, &size, &data));
    field("no_guid", rt[GetVariable](u"Nobodys", 0ull, &attributes, &size, &data));
    field("no_size", rt[GetVariable](u"Nobodys", &NOBODY, &attributes, 0ull, &data));
    field("empty_name", rt[GetVariable](u"", &NOBODY, &attributes, &size, &data));
    data = 0x123456789abcdef0;
    field("set", rt[SetVariable](u"Mine", &NOBODY, 2u, 8ull, &data));
    size = 4;
    field("small", rt[GetVariable](u"Mine", &NOBODY, &attributes, &size, &data));
    field("size", size);
    data = 0;
    field("get", rt[GetVariable](u"Mine", &NOBODY, &attributes, &size, &data));
    field("attributes", attributes);
    field("data", data);
    size = 8;
    field("no_attributes", rt[GetVariable](u"Mine", &NOBODY, 0ull, &size, &data));
    size = 8;
    field("no_data", rt[GetVariable](u"Mine", &NOBODY, &attributes, &size, 0ull));
    size = 0;
    field("how_large", rt[GetVariable](u"Mine", &NOBODY, &attributes, &size, 0ull));
    field("size", size);
    field("other_attributes", rt[SetVariable](u"Mine", &NOBODY, 6u, 8ull, &data));
    field("runtime_alone", rt[SetVariable](u"Runs", &NOBODY, 4u, 8ull, &data));
    field("set_no_name", rt[SetVariable](0ull, &NOBODY, 2u, 8ull, &data));
    field("set_empty_name", rt[SetVariable](u"", &NOBODY, 2u, 8ull, &data));
    field("set_no_guid", rt[SetVariable](u"Mine", 0ull, 2u, 8ull, &data));
    field("set_no_data", rt[SetVariable](u"Mine", &NOBODY, 2u, 8ull, 0ull));
    field("away", rt[SetVariable](u"Mine", &NOBODY, 2u, 0ull, 0ull));
    field("away", rt[SetVariable](u"Mine", &NOBODY, 2u, 0ull, 0ull));
    size = 8;
    field("gone", rt[GetVariable](u"Mine", &NOBODY, &attributes, &size, &data));
    data = 0x1122334455667788;
    field("append", rt[SetVariable](u"Grows", &NOBODY, 0x42u, 2ull, &data));
    field("append", rt[SetVariable](u"Grows", &NOBODY, 0x42u, 2ull, &data));
    size = 8;
    data = 0;
    field("grown", rt[GetVariable](u"Grows", &NOBODY, &attributes, &size, &data));
    field("size", size);
    field("data", data);
    field("attributes", attributes);
    field("append_nothing", rt[SetVariable](u"Grows", &NOBODY, 0x42u, 0ull, 0ull));
    field("set_again", rt[SetVariable](u"Grows", &NOBODY, 2u, 1ull, &data));
    field("delete_no_attributes", rt[SetVariable](u"Grows", &NOBODY, 0u, 1ull, &data));
    size = 8;
    field("gone", rt[GetVariable](u"Grows", &NOBODY, &attributes, &size, &data));
    static const u32 kinds[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 0xa, 0xe, 0xf, 0x10, 0x12, 0x20, 0x22, 0x26, 0x30, 0x80, 0x82, 0x100, 0x80000002};

    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        field("kind", kinds[i]);
        field("set", rt[SetVariable](u"Kind", &NOBODY, kinds[i], 8ull, &data));
        size = 8;
        field("get", rt[GetVariable](u"Kind", &NOBODY, &attributes, &size, &data));
        field("delete", rt[SetVariable](u"Kind", &NOBODY, kinds[i], 0ull, 0ull));
    }
    field("large", rt[SetVariable](u"Large", &NOBODY, 2u, 0x8001ull, file));
    field("large_away", rt[SetVariable](u"Large", &NOBODY, 2u, 0ull, 0ull));
    field("larger", rt[SetVariable](u"Large", &NOBODY, 2u, 0xffffull, file));
    field("larger_away", rt[SetVariable](u"Large", &NOBODY, 2u, 0ull, 0ull));
    field("largest", rt[SetVariable](u"Large", &NOBODY, 2u, ~0ull, file));
    u16 each[] = u"Each0";
    u64 full = 0;

    for (; !full && each[4] < '0' + 40; each[4]++)
        full = rt[SetVariable](each, &NOBODY, 2u, 0x4000ull, file);
    field("full", full);
    field("full_to_append", rt[SetVariable](u"Each0", &NOBODY, 0x42u, 0x4000ull, file));
    while (each[4]-- > '0')
        rt[SetVariable](each, &NOBODY, 2u, 0ull, 0ull);
    field("secure_boot_set", rt[SetVariable](u"SecureBoot", &GLOBAL, 6u, 1ull, &data));
    field("setup_mode_set", rt[SetVariable](u"SetupMode", &GLOBAL, 6u, 1ull, &data));
    field("secure_boot_away", rt[SetVariable](u"SecureBoot", &GLOBAL, 0u, 0ull, 0ull));
    u64 most = FILLED, left = FILLED, one = FILLED;

    field("query", rt[QueryVariableInfo](7u, &most, &left, &one));
    field("query_nothing", rt[QueryVariableInfo](0u, &most, &left, &one));
    field("query_strange", rt[QueryVariableInfo](0x80u, &most, &left, &one));
    field("query_no_result", rt[QueryVariableInfo](7u, 0ull, &left, &one));
    field("query_no_result", rt[QueryVariableInfo](7u, &most, 0ull, &one));
    field("query_no_result", rt[QueryVariableInfo](7u, &most, &left, 0ull));
    static u8 time[16], capabilities[12];

    field("no_time", rt[GetTime](0ull, 0ull));
    field("time", rt[GetTime](time, 0ull));
    field("this_century", time[1] == 7 && time[0] >= 0xe9); // from 2025 on
    field("time_of_what_clock", rt[GetTime](time, capabilities));
    bytes("capabilities", capabilities, 9);
    struct guid vendor = NOBODY;
    u64 status = 0, found = 0;


    data = 0;
    field("set", rt[SetVariable](u"Mine", &NOBODY, 2u, 8ull, &data));
    for (unsigned i = 0; i < 500 && !status; i++) {
        size = sizeof name;
        status = rt[GetNextVariableName](&size, name, &vendor);
        u64 same = name[0] == 'M' && name[1] == 'i' && name[2] == 'n' && name[3] == 'e' && !name[4];

        if (!status && same && size == 10 && vendor.a == NOBODY.a)
            found++;
    }
    field("end_of_names", status);
    field("found", found);
    bs[SetMem](name, sizeof name, 0u);
    vendor = NOBODY;
    field("away", rt[SetVariable](u"Mine", &NOBODY, 2u, 0ull, 0ull));
    size = 2;
    name[0] = 0;
    field("next_small", rt[GetNextVariableName](&size, name, &vendor));
    field("grown", size > 2);
    size = 0;
    field("next_none", rt[GetNextVariableName](&size, name, &vendor));
    size = sizeof name;
    field("next_no_vendor", rt[GetNextVariableName](&size, name, 0ull));
    size = 2;
    name[0] = 'x';
    name[1] = 0;
    field("next_unterminated", rt[GetNextVariableName](&size, name, &vendor));
    name[0] = 'x';
    size = sizeof name;
    field("next_of_nobody", rt[GetNextVariableName](&size, name, &vendor));
    size = sizeof name;
    field("next_no_name", rt[GetNextVariableName](&size, 0ull, &vendor));
    field("next_no_size", rt[GetNextVariableName](0ull, name, &vendor));
    field("virtual", rt[SetVirtualAddressMap](48ull, 48ull, 1u, map));
    field("convert_null", rt[ConvertPointer](0ull, &data));
    field("convert_optional", rt[ConvertPointer](1ull, &data));
    field("convert_nothing", rt[ConvertPointer](0ull, 0ull));
    data = 0x1800000;
    field("convert", rt[ConvertPointer](0ull, &data));
}

static void rest(void)
{
    u64 tpl, count = 0, count2 = 0, columns = FILLED, rows = FILLED;
    u32 crc = 0;
    static u8 text[] = "123456789";

    begin("rest");
    tpl = bs[RaiseTPL](16ull);
    field("tpl", tpl);
    field("tpl", bs[RaiseTPL](16ull));
    bs[RestoreTPL](tpl);
    field("stall", bs[Stall](1ull));
    field("watchdog", bs[SetWatchdogTimer](0ull, 0x10000ull, 0ull, 0ull));
    field("watchdog_code", bs[SetWatchdogTimer](0ull, 1ull, 0ull, 0ull));
    field("monotonic", bs[GetNextMonotonicCount](&count));
    field("monotonic", bs[GetNextMonotonicCount](&count2));
    field("one_more", count2 - count);
    field("no_count", bs[GetNextMonotonicCount](0ull));
    field("crc", bs[CalculateCrc32](text, 9ull, &crc));
    field("value", crc);
    field("crc_no_data", bs[CalculateCrc32](0ull, 9ull, &crc));
    field("crc_nothing", bs[CalculateCrc32](text, 0ull, &crc));
    field("crc_no_result", bs[CalculateCrc32](text, 9ull, 0ull));
    bs[CopyMem](text + 1, text, 4ull);
    bytes("copied", text, 9);
    bs[SetMem](text, 3ull, 0xabcd41u); // a byte of it counts
    bytes("set", text, 9);
    field("table", bs[InstallConfigurationTable](&NOBODY, 0ull));
    field("table_add", bs[InstallConfigurationTable](&NOBODY, text));
    u64 last = system->tables - 1;

    bytes("last", &system->table[last].vendor, 16);
    field("points", system->table[last].table == (u64)text);
    field("table_away", bs[InstallConfigurationTable](&NOBODY, 0ull));
    field("fewer", system->tables == last);
    field("table_no_guid", bs[InstallConfigurationTable](0ull, text));
    static struct system_table copy;

    bs[CopyMem](&copy, system, sizeof copy);
    copy.header.crc32 = 0;
    bs[CalculateCrc32](&copy, sizeof copy, &crc);
    field("crc_of_system", crc == system->header.crc32);
    static u8 services[512];
    struct services *tables[] = {system->bs, system->rt};

    for (unsigned i = 0; i < 2; i++) {
        struct table_header *header = (void *)services;

        bs[CopyMem](services, tables[i], (u64)tables[i]->header.header_size);
        header->crc32 = 0;
        bs[CalculateCrc32](services, (u64)header->header_size, &crc);
        field("crc_of_services", crc == tables[i]->header.crc32);
    }
    begin("console");
    field("string", system->out->call[1](system->out, u""));
    field("test", system->out->call[2](system->out, u"x"));
    field("mode", system->out->call[3](system->out, 0ull, &columns, &rows));
    field("columns", columns);
    field("rows", rows);
    for (u64 mode = 1; mode < 4; mode++) {
        field("mode", system->out->call[3](system->out, mode, &columns, &rows));
        field("columns", columns);
        field("rows", rows);
    }
    field("no_mode", system->out->call[3](system->out, 99ull, &columns, &rows));
    field("set_mode", system->out->call[4](system->out, 99ull));
    field("attribute", system->out->call[5](system->out, 0x07ull));
    field("no_attribute", system->out->call[5](system->out, 0x80ull));
    field("place", system->out->call[7](system->out, 999ull, 0ull));
    field("last_column", system->out->call[7](system->out, 79ull, 0ull));
    field("behind_it", system->out->call[7](system->out, 80ull, 0ull));
    field("last_row", system->out->call[7](system->out, 0ull, 49ull));
    field("behind_it", system->out->call[7](system->out, 0ull, 50ull));
    field("origin", system->out->call[7](system->out, 0ull, 0ull));
    field("cursor", system->out->call[8](system->out, 1u));
    field("max_mode", system->out->mode->max_mode);
    field("now", system->out->mode->mode);
    field("color", system->out->mode->attribute);
    u32 key = 0;

    field("key", ((service **)system->in)[1](system->in, &key));
    field("key_event", bs[CheckEvent](((u64 *)system->in)[2]));
    u64 old = system->out->mode->mode;

    field("other_color", system->out->call[5](system->out, 0x1eull));
    field("color", system->out->mode->attribute);
    field("old_color", system->out->call[5](system->out, 0x07ull));
    field("other_mode", system->out->call[4](system->out, 2ull));
    field("now", system->out->mode->mode);
    field("old_mode", system->out->call[4](system->out, old));
}

static void events(void)
{
    u64 event = FILLED, index = FILLED;

    begin("events");
    field("create", bs[CreateEvent](0u, 4ull, 0ull, 0ull, &event));
    field("check", bs[CheckEvent](event));
    field("signal", bs[SignalEvent](event));
    field("check", bs[CheckEvent](event));
    field("check", bs[CheckEvent](event));
    field("timer_of_none", bs[SetTimer](event, 1u, 10ull));
    field("close", bs[CloseEvent](event));
    field("timer", bs[CreateEvent](0x80000000u, 4ull, 0ull, 0ull, &event));
    field("set", bs[SetTimer](event, 2u, 10ull));
    field("wait", bs[WaitForEvent](1ull, &event, &index));
    field("index", index);
    field("cancel", bs[SetTimer](event, 0u, 0ull));
    field("check", bs[CheckEvent](event));
    field("strange", bs[SetTimer](event, 3u, 0ull));
    field("close", bs[CloseEvent](event));
    field("close_twice", bs[CloseEvent](event));
    field("wait_none", bs[WaitForEvent](0ull, &event, &index));
    field("wait_null", ({ u64 none = 0; bs[WaitForEvent](1ull, &none, &index); }));
    field("index", index);
    u64 several[2] = {0, (u64)map};

    bs[CreateEvent](0u, 4ull, 0ull, 0ull, &several[0]);
    index = FILLED;
    field("wait_second_is_none", bs[WaitForEvent](2ull, several, &index));
    field("index", index);
    u64 tpl = bs[RaiseTPL](8ull);

    field("wait_high", bs[WaitForEvent](1ull, several, &index));
    bs[SignalEvent](several[0]);
    field("check_high", bs[CheckEvent](several[0]));
    bs[RestoreTPL](tpl);
    bs[SignalEvent](several[0]);
    field("wait_no_index", bs[WaitForEvent](1ull, several, 0ull));
    field("wait_no_events", bs[WaitForEvent](1ull, 0ull, &index));
    bs[CloseEvent](several[0]);
    field("closed", bs[CheckEvent](several[1]));
    field("check_null", bs[CheckEvent](0ull));
    field("signal_null", bs[SignalEvent](0ull));
    field("signal_none", bs[SignalEvent](map));
    field("close_null", bs[CloseEvent](0ull));
    field("close_none", bs[CloseEvent](map));
    field("timer_null", bs[SetTimer](0ull, 1u, 10ull));
    field("periodic", bs[CreateEvent](0x80000000u, 4ull, 0ull, 0ull, &event));
    field("set", bs[SetTimer](event, 1u, 10ull));
    for (unsigned i = 0; i < 3; i++)
        field("wait", bs[WaitForEvent](1ull, &event, &index));
    field("once", bs[SetTimer](event, 2u, 10ull));
    field("wait", bs[WaitForEvent](1ull, &event, &index));
    field("check", bs[CheckEvent](event));
    field("cancel", bs[SetTimer](event, 0u, 0ull));
    field("signal", bs[SignalEvent](event));
    field("signaled", bs[CheckEvent](event));
    field("close", bs[CloseEvent](event));
    static const u32 kinds[] = {1, 0x40000000, 0x80000000, 0xc0000000, 0x201, 0x60000202, 0x10, 0x20000000};

    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        event = 0;
        field("kind", bs[CreateEvent](kinds[i], 4ull, 0ull, 0ull, &event));
        field("close", event ? bs[CloseEvent](event) : 0);
    }
    field("ex", bs[CreateEventEx](0u, 4ull, 0ull, 0ull, 0ull, &event));
    field("close", bs[CloseEvent](event));
    field("ex_group", bs[CreateEventEx](0u, 4ull, 0ull, 0ull, &NOBODY, &event));
    field("close", bs[CloseEvent](event));
    field("ex_kind", bs[CreateEventEx](0x201u, 8ull, 0ull, 0ull, 0ull, &event));
    field("create_no_result", bs[CreateEvent](0u, 4ull, 0ull, 0ull, 0ull));
    field("create_both", bs[CreateEvent](0x300u, 8ull, 0ull, 0ull, &event));
    field("create_no_function", bs[CreateEvent](0x200u, 8ull, 0ull, 0ull, &event));
}

static u32 crc_of(const struct table_header *header) // as if its own field were 0
{
    u32 crc = ~0u;

    for (u32 i = 0; i < header->header_size; i++) {
        crc ^= i / 4 == 4 ? 0 : ((const u8 *)header)[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

// What there is when boot services are gone: the system table, variables, and the way to virtual addresses.
static void afterwards(void)
{
    static u64 descriptors[32 * 6];
    u64 size = 0, key = 0, stride = 0, many = 0, value = 7, status = FILLED;
    u32 version = 0, attributes = 0;

    begin("exit"); // EDK2 stops the timer at the first attempt already
    rt[SetVariable](u"Boots", &NOBODY, 2u, 8ull, &value);
    rt[SetVariable](u"Runs", &NOBODY, 6u, 8ull, &value);
    rt[SetVariable](u"Stays", &NOBODY, 7u, 8ull, &value);
    rt[SetVariable](u"Hides", &NOBODY, 3u, 8ull, &value);
    field("key", bs[ExitBootServices](self, ~0ull));
    field("nobody", bs[ExitBootServices](0ull, ~0ull));
    for (int i = 0; i < 3 && status; i++) {
        size = sizeof map;
        bs[GetMemoryMap](&size, map, &key, &stride, &version);
        status = bs[ExitBootServices](self, key);
    }
    field("exited", status);
    if (status)
        return;
    begin("afterwards");
    field("in", system->in_handle | (u64)system->in);
    field("out", system->out_handle | (u64)system->out);
    field("err", system->err_handle | (u64)system->err);
    field("boot_services", (u64)system->bs);
    field("runtime_services", system->rt->call == rt);
    field("crc", crc_of(&system->header) == system->header.crc32);
    size = 8;
    field("boots", rt[GetVariable](u"Boots", &NOBODY, &attributes, &size, &value));
    field("boots_set", rt[SetVariable](u"Boots", &NOBODY, 2u, 8ull, &value));
    value = 0;
    size = 8;
    field("runs", rt[GetVariable](u"Runs", &NOBODY, &attributes, &size, &value));
    field("value", value);
    field("attributes", attributes);
    field("runs_set", rt[SetVariable](u"Runs", &NOBODY, 6u, 8ull, &value));
    field("runs_append", rt[SetVariable](u"Runs", &NOBODY, 0x46u, 8ull, &value));
    field("runs_away", rt[SetVariable](u"Runs", &NOBODY, 6u, 0ull, 0ull));
    field("new", rt[SetVariable](u"New", &NOBODY, 6u, 8ull, &value));
    field("new_stays", rt[SetVariable](u"New", &NOBODY, 7u, 8ull, &value));
    field("new_boots", rt[SetVariable](u"Newer", &NOBODY, 3u, 8ull, &value));
    field("new_is_none", rt[SetVariable](u"Newer", &NOBODY, 0u, 0ull, 0ull));
    field("hides_set", rt[SetVariable](u"Hides", &NOBODY, 3u, 8ull, &value));
    field("hides_away", rt[SetVariable](u"Hides", &NOBODY, 0u, 0ull, 0ull));
    field("stays_set", rt[SetVariable](u"Stays", &NOBODY, 7u, 4ull, &value));
    size = 8;
    field("stays", rt[GetVariable](u"Stays", &NOBODY, &attributes, &size, &value));
    field("size", size);
    field("attributes", attributes);
    field("secure_boot_set", rt[SetVariable](u"SecureBoot", &GLOBAL, 6u, 1ull, &value));
    struct guid vendor = NOBODY;
    u64 ours = 0;

    for (unsigned i = 0; i < sizeof name / 2; i++)
        name[i] = 0;
    for (size = sizeof name; !(status = rt[GetNextVariableName](&size, name, &vendor)); size = sizeof name)
        ours += vendor.a == NOBODY.a;
    field("end_of_names", status);
    field("ours", ours);
    field("stays_away", rt[SetVariable](u"Stays", &NOBODY, 0u, 0ull, 0ull));
    field("stays_away", rt[SetVariable](u"Stays", &NOBODY, 7u, 0ull, 0ull));
    field("new_away", rt[SetVariable](u"New", &NOBODY, 7u, 0ull, 0ull));
    for (u64 at = 0; at < sizeof map && many < 32; at += stride) {
        struct descriptor *from = (void *)(map + at), *to = (void *)(descriptors + 6 * many);

        if (!from->pages)
            break;
        if (!(from->attribute >> 63))
            continue;
        *to = *from;
        to->virtual = to->physical;
        many++;
    }
    field("strange_version", rt[SetVirtualAddressMap](many * 48, 48ull, 2u, descriptors));
    field("small_descriptors", rt[SetVirtualAddressMap](many * 48, 39ull, 1u, descriptors));
    field("virtual", rt[SetVirtualAddressMap](many * 48, 48ull, 1u, descriptors));
    field("twice", rt[SetVirtualAddressMap](many * 48, 48ull, 1u, descriptors));
    size = 8;
    field("variable", rt[GetVariable](u"SecureBoot", &GLOBAL, &attributes, &size, &value));
    field("convert", rt[ConvertPointer](0ull, &value));
}

void calls(u64 handle, struct system_table *table)
{
    system = table;
    self = handle;
    bs = table->bs->call;
    rt = table->rt->call;
    pages();
    pool();
    memory_map();
    handles();
    strange_handles();
    initrd();
    screen();
    images();
    ends();
    by_path();
    random_numbers();
    variables();
    events();
    rest();
    afterwards();
}
