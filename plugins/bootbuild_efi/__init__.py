"""UEFI: a PE/COFF application from any kernel, and the firmware that starts it."""
