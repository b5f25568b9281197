"""The rules of laying out and writing a bzImage (BB-W040 to BB-W059)."""

from __future__ import annotations

from bootbuild.model.rule import Rule

DEFECT = "this is a defect of bootbuild: report it with the payload's `readelf -hlnW`"

# What is refused.

LOW_MEMORY = Rule(
    "BB-W040",
    "Kernel below 1 MiB in a bzImage",
    "Below 1 MiB lie the BIOS's data, the real-mode code of the bzImage, boot_params and the command line: "
    "what a loader hands over would be overwritten when the kernel is unpacked.",
    "link the kernel at 1 MiB or above",
)
NO_ROOM = Rule(
    "BB-W041",
    "No room to unpack the kernel below 4 GiB",
    "The bzImage moves itself behind kernel and stubs and unpacks from there, and init_size, which reserves "
    "all of it, has 32 bits.",
    "load the kernel at a lower physical address, or leave `compress` out",
)
NOT_PACKED = Rule(
    "BB-W042",
    "No bzImage to be left as it is",
    "A target that inserts nothing takes the payload's own bzImage, and this payload is none.",
    "name the bzImage itself in [payload] path",
)
SIGNED = Rule(
    "BB-W043",
    "Header fields of a signed bzImage",
    "The setup header lies inside what the signature of a PE file covers (Authenticode): with other fields "
    "the firmware refuses the file under Secure Boot.",
    "change the unsigned kernel, and sign the result; or leave `header` out",
)
HEADER_VALUE = Rule(
    "BB-W044",
    "Setup header that promises what the kernel does not keep",
    "A recipe may narrow what the header says of a kernel, and never widen it: what is compiled in stays. "
    "A field must also be there: each came with a version of the protocol.",
    "leave the field out, or give a value on the other side of the kernel's own",
)

# What is found after writing.

HEADER_WRONG = Rule(
    "BB-W050",
    "Setup header is not the one that was meant",
    "0xaa55 at 0x1fe, `HdrS` at 0x202, setup_sects that lead to the protected-mode code, and every field as "
    "it was laid out.",
    DEFECT,
)
PAYLOAD_WRONG = Rule(
    "BB-W051",
    "Kernel in the bzImage is not the one that was packed",
    "payload_offset and payload_length lead to an ELF file, as it is or by LZ4, which is unpacked by the lz4 "
    "library and compared byte for byte.",
    DEFECT,
)
CHECKSUM_WRONG = Rule(
    "BB-W052",
    "Checksum of the bzImage is wrong",
    "The last four bytes make the CRC-32 of the whole file 0, as Linux's own build has it up to 6.15.",
    DEFECT,
)
CODE_WRONG = Rule(
    "BB-W053",
    "Code of the bzImage is not the stubs'",
    "The real-mode code, and the protected-mode code with its entries at 0 and 0x200, are written as they "
    "were linked.",
    DEFECT,
)
MEMORY_WRONG = Rule(
    "BB-W054",
    "init_size of the bzImage does not cover its memory",
    "From pref_address on, init_size bytes hold every PT_LOAD of the kernel, and "
    "behind them all that is loaded and unpacked.",
    DEFECT,
)
BYTES_CHANGED = Rule(
    "BB-W055",
    "Bytes of the payload's own bzImage have changed",
    "Only the fields that were asked for and, where there was a right one, the checksum may differ.",
    DEFECT,
)

RULES = (
    LOW_MEMORY,
    NO_ROOM,
    NOT_PACKED,
    SIGNED,
    HEADER_VALUE,
    HEADER_WRONG,
    PAYLOAD_WRONG,
    CHECKSUM_WRONG,
    CODE_WRONG,
    MEMORY_WRONG,
    BYTES_CHANGED,
)
