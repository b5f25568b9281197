"""Lifecycle hooks: for what watches or replaces a whole step. Few, and never per instruction."""

from __future__ import annotations

import pluggy

hookimpl = pluggy.HookimplMarker("bootbuild")
