"""Profiles of target `xen-pv`: a domain as its builder makes it, and the CPU at its first instruction."""
