"""A plugin of bootbuild: guest `unikernel`."""
