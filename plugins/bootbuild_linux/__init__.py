"""Guest `linux`: kernels whose startup path takes struct boot_params."""
