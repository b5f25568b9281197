"""bootbuild: builds x86 boot images and proves each one by booting it."""

__version__ = "0.1.0"
