"""Unicorn's Python binding. It is typed only in part, so its names are given here as Any."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from unicorn import unicorn_const as _unicorn_const
from unicorn import x86_const as _x86_const
from unicorn.unicorn_py3 import unicorn as _implementation

VERSION: str = version("unicorn")
Uc: Any = _implementation.Uc
UcError = _implementation.UcError
uc: Any = _unicorn_const  #: constants of the engine
x86: Any = _x86_const  #: constants of the architecture
library: Any = _implementation.uclib  #: the C library, for what the binding leaves out
