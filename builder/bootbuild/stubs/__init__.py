"""Stubs: the headers and the build of blobs, their linking, and the core's own pieces."""
