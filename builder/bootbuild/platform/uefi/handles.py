"""The handle database: which handle has which protocols, by their interfaces' addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bootbuild.platform.uefi import device_path, guids, status
from bootbuild.platform.uefi.pages import Refused


class Handles:
    """Handles in the order in which they came, each with its protocols: GUID → address of the interface."""

    def __init__(self) -> None:
        self._handles: dict[int, dict[bytes, int]] = {}
        self._holders: dict[bytes, dict[int, None]] = {}  #: of each protocol, in the order they got it

    def __iter__(self) -> Iterator[int]:
        return iter(self._handles)

    def __contains__(self, handle: int) -> bool:
        return handle in self._handles

    def protocols(self, handle: int) -> dict[bytes, int]:
        """Those of a handle. Raises Refused without such a handle."""
        if handle not in self._handles:
            raise Refused(status.INVALID_PARAMETER)
        return self._handles[handle]

    def interface(self, handle: int, protocol: bytes) -> int:
        """The address of an interface. Raises Refused."""
        found = self.protocols(handle)
        if protocol not in found:
            raise Refused(status.UNSUPPORTED)
        return found[protocol]

    def with_protocol(self, protocol: bytes) -> list[int]:
        """The handles that have a protocol, who had it first before the others."""
        return [*self._holders.get(protocol, ())]

    def nearest(
        self, read: Callable[[int, int], bytes], protocol: bytes, path: int
    ) -> tuple[int, tuple[bytes, ...]] | None:
        """The handle with a protocol whose path begins the one at `path` by most nodes, and the rest.

        Of a path of several instances the first counts.
        """
        asked = tuple(device_path.nodes(read, path))
        first = next(number for number, node in enumerate(asked) if node[0] == device_path.END_TYPE)
        best: tuple[int, int] | None = None
        for handle in self.with_protocol(protocol):
            at = self._handles[handle].get(guids.DEVICE_PATH)
            if at is None:
                continue
            own = tuple(device_path.nodes(read, at))[:-1]
            if asked[:first][: len(own)] == own and (best is None or len(own) > best[0]):
                best = len(own), handle
        return (best[1], asked[best[0] :]) if best else None

    def install(self, handle: int, protocols: dict[bytes, int]) -> None:
        """Give a handle, new or not, these protocols. Raises Refused where it has one of them."""
        here = self._handles.get(handle, {})
        if any(protocol in here for protocol in protocols):
            raise Refused(status.INVALID_PARAMETER)
        self._handles[handle] = here | protocols
        for protocol in protocols:
            self._holders.setdefault(protocol, {})[handle] = None

    def uninstall(self, handle: int, protocols: dict[bytes, int]) -> None:
        """Take protocols away; a handle without any is gone. Raises Refused."""
        here = self.protocols(handle)
        if any(here.get(protocol) != interface for protocol, interface in protocols.items()):
            raise Refused(status.NOT_FOUND)
        self._handles[handle] = {p: i for p, i in here.items() if p not in protocols}
        for protocol in protocols:
            del self._holders[protocol][handle]
        if not self._handles[handle]:
            del self._handles[handle]
