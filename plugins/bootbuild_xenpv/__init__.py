"""Xen PV: the target, its domains as emulated environments, and the hypervisor that runs them."""
