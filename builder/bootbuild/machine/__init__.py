"""The emulated x86 machine: the only package that knows Unicorn. Names load when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bootbuild.machine.rules import RULES

if TYPE_CHECKING:
    from bootbuild.machine.run import Machine
    from bootbuild.machine.selftest import self_test

__all__ = ["RULES", "Machine", "self_test"]


def __getattr__(name: str) -> Any:
    if name == "Machine":
        from bootbuild.machine.run import Machine

        return Machine
    if name == "self_test":
        from bootbuild.machine.selftest import self_test

        return self_test
    raise AttributeError(name)
