"""psycopg's connection whose socket its loop watches all the time, where psycopg registers it anew for each reply.

Read in psycopg 3.3.9 (``connection_async.py``: ``wait``; ``waiting.py``: ``wait_async``; ``generators.py``: ``fetch``,
which reads until libpq is not busy) and CPython 3.11 to 3.14 (``asyncio/selector_events.py``: ``add_reader``).

A descriptor that is closed while the loop watches it would be taken for the next one of its number, so the watch ends
in the same step in which libpq closes its socket, and before psycopg waits by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Generator
from contextvars import Context
from typing import Any, Final, cast

import psycopg
from psycopg.pq import ConnStatus
from psycopg.sql import Composable
from psycopg.waiting import Ready, Wait, wait_async

_READABLE: Final = Ready.R
_BUSY_FOR: Final = 0.01
"""Seconds after which a COPY whose socket never makes it wait lets others have the loop (psycopg's own number)."""


class WatchedConnection(psycopg.AsyncConnection[Any]):
    """psycopg's asynchronous connection, with a ``wait`` of half the price."""

    _watching: asyncio.AbstractEventLoop | None = None
    _watched: int = -1
    _waiter: asyncio.Future[None] | None = None
    _last_pause: float = 0.0
    owed: Callable[[str | None], Awaitable[None]] | None = None
    """What is called before each statement once somebody has this connection in hand."""

    async def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Waits for a reply as psycopg does.

        - **cancel**: raised at once, where psycopg first waits for up to 10 s until the server has stopped the
          statement: that is the pool's affair, and the connection must not be used again.
        """
        if self.owed is not None:
            await self.owed(_statement_of(gen, self))
        if timeout is not None:
            self.unwatch()
            return await super().wait(gen, interval, timeout)
        pgconn = self.pgconn
        state: Any = None
        try:
            state = next(gen)
            while state == Wait.R:
                if self._watching is None:
                    self._watch()
                self._waiter = waiter = self._watching.create_future()  # type: ignore[union-attr]  # just set
                await waiter
                if cast("Any", pgconn).pgconn_ptr is None:  # psycopg's generator would go on with what libpq has freed
                    raise psycopg.OperationalError("the connection was closed amid a statement")
                state = gen.send(_READABLE)
        except StopIteration as done:
            if state is None:
                await self._pause()
            return done.value
        finally:
            self._waiter = None
            if pgconn.status != ConnStatus.OK:
                self.unwatch()
        self.unwatch()
        return await wait_async(cast("Any", _Amid(gen, state)), pgconn.socket, interval)

    def unwatch(self) -> None:
        """Ends the watch: the socket is to be closed, or somebody else is to wait for it."""
        loop, self._watching = self._watching, None
        if loop is not None and not loop.is_closed():
            loop.remove_reader(self._watched)

    def finish(self) -> None:
        """Says goodbye and closes without waiting, from any thread: where its loop runs in another one, there."""
        loop = self._watching
        if loop is not None and loop.is_running() and asyncio._get_running_loop() is not loop:
            with contextlib.suppress(RuntimeError):  # it was closed in this moment
                loop.call_soon_threadsafe(self.finish)
                return
        self.unwatch()
        self.pgconn.finish()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            with contextlib.suppress(RuntimeError):  # its loop is closed
                waiter.set_result(None)

    async def close(self) -> None:
        self.unwatch()
        await super().close()

    def _watch(self) -> None:
        self._watched = self.pgconn.socket
        self._watching = asyncio.get_running_loop()
        # Not in this task's context, which the loop would keep as long as it watches.
        Context().run(self._watching.add_reader, self._watched, self._readable)

    def _readable(self) -> None:
        """Reads what has come, as the one who waits would: unread, it would call again and again."""
        pgconn, waiter = self.pgconn, self._waiter
        try:
            pgconn.consume_input()
            if waiter is not None and pgconn.is_busy():
                return
        except psycopg.Error:  # the one who waits meets it, or the pool when it looks at the status
            self.unwatch()
        if pgconn.status != ConnStatus.OK:
            self.unwatch()
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _pause(self) -> None:
        if time.monotonic() - self._last_pause >= _BUSY_FOR:
            await asyncio.sleep(0)
            self._last_pause = time.monotonic()


_SENDS: Final = {
    "_execute_gen": "query",
    "_executemany_gen_pipeline": "query",
    "_executemany_gen_no_pipeline": "query",
    "_stream_send_gen": "query",
    "_start_copy_gen": "statement",
}
"""psycopg's generators that send a statement, and where they have it (``_cursor_base.py``)."""


def _statement_of(gen: Any, connection: Any) -> str | None:
    """What a cursor of psycopg's is about to send; None where it cannot be told."""
    name = _SENDS.get(getattr(getattr(gen, "gi_code", None), "co_name", ""))
    frame = getattr(gen, "gi_frame", None)
    query = None if name is None or frame is None else frame.f_locals.get(name)
    if isinstance(query, Composable):
        return query.as_string(connection)
    return query.decode(errors="replace") if isinstance(query, bytes) else query if isinstance(query, str) else None


class _Amid:
    """A generator that waits for ``state``, as psycopg begins with one."""

    def __init__(self, gen: Generator[Any, Any, Any], state: Any) -> None:
        self._gen = gen
        self._state = state

    def __next__(self) -> Any:
        return self._state

    def send(self, ready: Any) -> Any:
        return self._gen.send(ready)

    def close(self) -> None:
        self._gen.close()
