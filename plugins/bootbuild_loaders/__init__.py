"""Loader models: what each real program says to a file, found by reading it as that program does.

A model follows the program's own source, its quirks and omissions included, and never raises: every file has
a verdict. It reads headers, notes and strings only, never the bulk of a kernel.
"""
