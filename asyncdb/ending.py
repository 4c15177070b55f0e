"""Ends on the server what was given up here: a cancelled statement would else go on, with its locks, and be applied.

What is to end is collected and ended by one task, over one side connection at a time and few of them a second, so that
a storm of cancellations is none of logins. The task is nobody's child: no cancellation of a request reaches it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

log = logging.getLogger("asyncdb.pool")

EndRunning = Callable[[Sequence[Any]], Awaitable[int]]

_WITHIN = 3.0
"""Seconds for one batch: a login, a question, a KILL for each. A server that takes longer has other troubles."""
_TO_LET_GO = 1.0
"""Seconds for a batch that is cancelled, which closes its side connection without waiting."""
_EVERY = 0.1
"""Seconds between two side connections at least."""
_BATCH = 200
_MOST = 2000
"""Statements that may wait to be ended; more are left to the server's own limits."""


class Ending:
    """What is to be ended on the server of one pool."""

    def __init__(self, alias: str, end_running: EndRunning | None) -> None:
        """``end_running`` ends a batch on the server; None: nothing can be ended there."""
        self._alias = alias
        self._end_running = end_running
        self._waiting: deque[Any] = deque(maxlen=_MOST)
        self._task: asyncio.Task[None] | None = None
        self._last = 0.0
        self._abandoned = False
        self.ended = 0
        """Statements that were ended since it was made."""

    def soon(self, running: Any) -> None:
        """Ends ``running`` as soon as may be; does not wait. Where no loop runs it is left to the server."""
        loop = asyncio._get_running_loop()
        if loop is None or self._end_running is None:
            return
        self._waiting.append(running)
        if self._task is None or self._task.done():
            self._task = loop.create_task(
                self._work(), name=f"asyncdb: end statements on {self._alias!r}", context=contextvars.Context()
            )

    async def drain(self, timeout: float) -> None:
        """Waits until all is ended, at most ``timeout`` seconds, after which the rest is left to the server."""
        task = self._task
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            return
        try:
            await asyncio.wait([task], timeout=timeout)
        finally:
            self.abandon()
        # Not the task itself, whose cancellation would be taken for ours, and ours for its.
        await asyncio.wait([task], timeout=_TO_LET_GO)

    def abandon(self) -> None:
        """Leaves all of it to the server."""
        self._abandoned = True
        if self._task is not None:
            self._task.cancel()

    async def _work(self) -> None:
        try:
            await self._end_all()
        except asyncio.CancelledError:
            if not self._abandoned:  # the loop ends, as asyncio.run ends it: now or never
                await self._end_all()
            raise

    async def _end_all(self) -> None:
        while self._waiting:
            pause = self._last + _EVERY - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            self._last = time.monotonic()
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH))]
            try:
                await self._end(batch)
            except asyncio.CancelledError:
                self._waiting.extendleft(reversed(batch))
                raise

    async def _end(self, batch: list[Any]) -> None:
        assert self._end_running is not None
        try:
            async with asyncio.timeout(_WITHIN):
                self.ended += await self._end_running(batch)
        except Exception as err:  # whatever it is: the sockets are closed, and the server has limits of its own
            log.warning(
                "%r: %d statements that nobody waits for could not be ended on the server (%s)",
                self._alias,
                len(batch),
                type(err).__name__,
            )
