"""Plugins: found by metadata alone, loaded by name, checked for shape, called through typed hooks."""

from __future__ import annotations

from bootbuild.host.host import Host

__all__ = ["Host"]
