"""The lifecycle hooks: names, arguments and results that a `hook.*` plugin may implement.

An implementation is a function with `bootbuild.api.hookimpl` on it, and may leave out arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bootbuild.api import (
        BuildRecord,
        Contribution,
        ElfImage,
        Finding,
        Layout,
        Payload,
        Profile,
        ProfileVerdict,
    )

hookspec = pluggy.HookspecMarker("bootbuild")


class Specs:
    """Held against every implementation when it is registered."""

    @hookspec(firstresult=True)
    def bootbuild_build(self, payload: Payload, contributions: Sequence[Contribution]) -> Layout | None:
        """Lay out an image in core's place. The first result that is not None counts; core is last."""

    @hookspec(firstresult=True)
    def bootbuild_boot(self, image: ElfImage, profile: Profile) -> ProfileVerdict | None:
        """Boot and judge an image in core's place. The first result that is not None counts; core is last."""

    @hookspec
    def bootbuild_judge(self, verdict: ProfileVerdict) -> Finding | None:
        """Add a finding to what core found; all implementations are asked."""

    @hookspec
    def bootbuild_finished(self, record: BuildRecord) -> None:
        """Look at the record of a finished build; nothing can be changed any more.

        A record that was `reused`, because nothing had changed, has no `blocks` in its runs.
        """
