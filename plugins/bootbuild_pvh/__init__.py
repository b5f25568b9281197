"""Target `pvh`: the direct boot ABI that Xen defined and QEMU, Firecracker and Cloud Hypervisor took over."""
