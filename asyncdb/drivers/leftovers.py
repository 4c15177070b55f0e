"""Streams on a connection that has other users too: those that somebody left end before anything else is asked.

Whoever leaves one may do so where nothing can be awaited: in the midst of a task, or as the garbage collector.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from weakref import WeakSet

from ..greenlets import await_


class Leftovers:
    """Mixin of :class:`~asyncdb.drivers.physical.PhysicalConnection`."""

    open_streams: Collection[Any] = ()
    """Those that are open; one that nobody reads on says so by ``left``. Their sessions keep them, not the pool."""
    coming_back = False
    """Whether it was a stream's own that somebody has left, and is given back as soon as the loop comes to it."""
    doom: str | None

    def add_stream(self, stream: Any) -> None:
        """Looks after a stream that has begun."""
        if not isinstance(self.open_streams, WeakSet):
            self.open_streams = WeakSet()
        self.open_streams.add(stream)

    def take_stream(self, stream: Any) -> Any:
        """The result of a stream that ends, to be closed; None where it was taken before."""
        if stream not in self.open_streams:
            return None
        remaining = [other for other in self.open_streams if other is not stream]
        self.open_streams = WeakSet(remaining) if remaining else ()
        stream.held_by.discard(stream)
        result, stream.result = stream.result, None
        return result

    def end_left_streams(self) -> None:
        """Closes those that were left: reads what the server still sends, or tells it. In a greenlet."""
        for stream in list(self.open_streams):
            if stream.left:
                self._close_stream(stream)

    def end_streams(self, *, unread: bool) -> None:
        """Closes all of them, for their transaction ends; ``unread``, where the connection is dropped anyway."""
        for stream in list(self.open_streams):
            if unread:
                self.take_stream(stream)
            else:
                self._close_stream(stream)
        self.open_streams = ()

    def _close_stream(self, stream: Any) -> None:
        try:
            await_(self.take_stream(stream).close())
        except BaseException:
            self.doom = self.doom or "a stream could not be ended"
            raise
