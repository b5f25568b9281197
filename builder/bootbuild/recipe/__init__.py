"""What a user asks for: one TOML file, read strictly, into frozen values."""

from __future__ import annotations
