"""Stubs of a plugin: loading the blobs that ship beside its code, and the chain that they stand in."""

from __future__ import annotations

from collections.abc import Sequence

from bootbuild.api.guest import Guest
from bootbuild.errors import Problem, RefusedError
from bootbuild.model.blob import Blob
from bootbuild.model.payload import Payload
from bootbuild.model.rule import Rule
from bootbuild.model.waist import NoRoute, Piece, route


def load_blob(package: str, name: str) -> Blob:
    """The blob `name` of the package's `stubs` folder (`name.bin` and `name.json`).

    Raises PluginError when it is missing or damaged.
    """
    from bootbuild.stubs.load import load

    return load(package, name)


def switches() -> Sequence[Piece]:
    """The core's pieces that change the width between a front and a back."""
    from bootbuild.stubs.pieces import switches as pieces

    return pieces()


def chain_of(
    front: Piece, back: Piece | None, payload: Payload, guest: Guest, no_route: Rule
) -> tuple[Piece, ...]:
    """The shortest chain front → the core's switches → back, which enters the payload as `guest` asks.

    `back`: of that guest, None where it has none. Raises RefusedError by `no_route`, the target's own rule,
    when there is no back or no switch leads to it.
    """
    if back is None:
        text = f"guest {guest.name} cannot be entered by a stub at width {payload.startup.width}"
        raise RefusedError(Problem(no_route, payload.source, text))
    try:
        return route(front, back, switches())
    except NoRoute as reason:
        raise RefusedError(Problem(no_route, payload.source, str(reason))) from reason
