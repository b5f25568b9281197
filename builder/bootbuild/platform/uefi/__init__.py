"""UEFI firmware: what it leaves behind, what it looks like alive, and how its services behave."""
