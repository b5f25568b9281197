"""An example plugin of bootbuild: the monitor toymon, and kernels that start as toyos does (README.md)."""
