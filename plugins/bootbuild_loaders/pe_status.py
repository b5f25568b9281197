"""EFI_STATUS as EDK2 prints it: MdePkg/Library/BasePrintLib/PrintLibInternal.c, mStatusString."""

LOAD_ERROR = "Load Error"
INVALID_PARAMETER = "Invalid Parameter"
UNSUPPORTED = "Unsupported"
OUT_OF_RESOURCES = "Out of Resources"
NOT_FOUND = "Not Found"
CRASH = "X64 Exception"
