"""Where idle connections lie and callers wait for one: the ``_queue_class`` of our pool.

Last in, first out for connections, first come, first served for callers. A connection given back while somebody
waits is handed over directly, so that nobody who comes later can take it. Read in SQLAlchemy 2.1.9
(``util/queue.py``: ``QueueCommon``; ``pool/impl.py``: ``QueuePool``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from sqlalchemy.util import queue as sqla_queue

from .greenlets import await_


class WaitingLine(sqla_queue.QueueCommon[Any]):
    """A stack of idle items and a queue of waiting callers, for one event loop."""

    def __init__(self, maxsize: int = 0, use_lifo: bool = True) -> None:  # noqa: FBT001, FBT002  (QueueCommon's signature)
        self.maxsize = maxsize
        self.use_lifo = use_lifo
        self._idle: deque[Any] = deque()
        self._waiters: deque[asyncio.Future[Any]] = deque()

    @property
    def waiting(self) -> int:
        """Callers in line."""
        return len(self._waiters)

    @property
    def idle(self) -> tuple[Any, ...]:
        """What lies here, the next to be taken last."""
        return tuple(self._idle)

    def qsize(self) -> int:
        return len(self._idle)

    def empty(self) -> bool:
        return not self._idle

    def full(self) -> bool:
        return len(self._idle) >= self.maxsize > 0

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002
        if self._idle:
            return self._idle.pop() if self.use_lifo else self._idle.popleft()
        if not block:
            raise sqla_queue.Empty
        item = await_(self._wait(timeout))
        if item is None:
            raise sqla_queue.Empty
        return item

    def get_nowait(self) -> Any:
        return self.get(block=False)

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002
        if self._waiters and self._hand_over(item):
            return
        if len(self._idle) >= self.maxsize > 0:
            raise sqla_queue.Full
        if getattr(item, "dbapi_connection", item) is None:
            self._idle.appendleft(item)  # a place without a connection: taken when no connection is idle
        else:
            self._idle.append(item)

    def put_nowait(self, item: Any) -> None:
        self.put(item, block=False)

    def wake_one(self) -> None:
        """Lets the first in line try again: there is room for a new connection."""
        self._hand_over(None)

    def wake_all(self) -> None:
        """Lets everyone in line try again: the pool has closed."""
        while self._hand_over(None):
            pass

    def _hand_over(self, item: Any) -> bool:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(item)
                return True
        return False

    async def _wait(self, timeout: float | None) -> Any:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout):
                return await waiter
        except BaseException as err:
            if waiter.done() and not waiter.cancelled():
                self._give_on(waiter.result())
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            if isinstance(err, TimeoutError):
                raise sqla_queue.Empty from None
            raise

    def _give_on(self, item: Any) -> None:
        """What was handed to a caller who left in the same moment goes to the next."""
        if item is None:
            self.wake_one()
        else:
            self.put(item, block=False)
