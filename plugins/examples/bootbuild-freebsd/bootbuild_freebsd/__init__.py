"""An example plugin of bootbuild: guest `freebsd`."""
