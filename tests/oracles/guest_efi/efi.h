// SPDX-License-Identifier: 0BSD
// UEFI 2.10 as the guest uses it: only the structures whose fields it reads.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define MS __attribute__((ms_abi))

struct guid {
    u32 a;
    u16 b, c;
    u8 d[8];
};

typedef u64 MS service(); // of any arguments

struct table_header {
    u64 signature;
    u32 revision, header_size, crc32, reserved;
};

enum { // §4.4, in the order of the table
    RaiseTPL, RestoreTPL, AllocatePages, FreePages, GetMemoryMap, AllocatePool, FreePool, CreateEvent, SetTimer,
    WaitForEvent, SignalEvent, CloseEvent, CheckEvent, InstallProtocolInterface, ReinstallProtocolInterface,
    UninstallProtocolInterface, HandleProtocol, Reserved, RegisterProtocolNotify, LocateHandle, LocateDevicePath,
    InstallConfigurationTable, LoadImage, StartImage, Exit, UnloadImage, ExitBootServices, GetNextMonotonicCount,
    Stall, SetWatchdogTimer, ConnectController, DisconnectController, OpenProtocol, CloseProtocol,
    OpenProtocolInformation, ProtocolsPerHandle, LocateHandleBuffer, LocateProtocol,
    InstallMultipleProtocolInterfaces, UninstallMultipleProtocolInterfaces, CalculateCrc32, CopyMem, SetMem,
    CreateEventEx, BOOT_SERVICES
};

enum { // §4.5
    GetTime, SetTime, GetWakeupTime, SetWakeupTime, SetVirtualAddressMap, ConvertPointer, GetVariable,
    GetNextVariableName, SetVariable, GetNextHighMonotonicCount, ResetSystem, UpdateCapsule,
    QueryCapsuleCapabilities, QueryVariableInfo, RUNTIME_SERVICES
};

struct services {
    struct table_header header;
    service *call[];
};

struct simple_text_output {
    service *call[9];
    struct {
        u32 max_mode, mode, attribute, column, row;
        u8 cursor;
    } *mode;
};

struct graphics_mode {
    u32 version, width, height, pixel_format, red, green, blue, reserved, pixels_per_line;
};

struct graphics_output {
    service *call[3];
    struct {
        u32 max_mode, mode;
        struct graphics_mode *info;
        u64 info_size, base, size;
    } *now;
};

struct configuration_table {
    struct guid vendor;
    u64 table;
};

struct system_table {
    struct table_header header;
    u16 *vendor;
    u32 revision;
    u64 in_handle;
    struct services *in;
    u64 out_handle;
    struct simple_text_output *out;
    u64 err_handle;
    struct simple_text_output *err;
    struct services *rt, *bs;
    u64 tables;
    struct configuration_table *table;
};

struct loaded_image {
    u32 revision;
    u64 parent;
    struct system_table *system;
    u64 device;
    u8 *file_path;
    u64 reserved;
    u32 options_size;
    u16 *options;
    u64 base, size;
    u32 code_type, data_type;
    u64 unload;
};

struct descriptor {
    u32 type;
    u64 physical, virtual, pages, attribute;
};
