"""Bare metal: targets `multiboot1` and `multiboot2`, as GRUB and QEMU start them, and guest `multiboot2`."""
