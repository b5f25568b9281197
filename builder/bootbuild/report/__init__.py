"""What bootbuild says about what it did: aligned text for people, JSON for programs. Pure functions."""

from __future__ import annotations
