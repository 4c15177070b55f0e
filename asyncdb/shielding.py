"""Work that a cancellation lets finish, for a while.

``asyncio.shield`` would make a task of each COMMIT, of which one in a million is cancelled. Here the work stays in the
task that does it: what it waits for is waited for through a future of ours, and a cancellation ends only that one.

Read in CPython 3.11 to 3.14 (``asyncio/futures.py``: ``Future.__await__`` yields itself with
``_asyncio_future_blocking`` set, which tells a task from ``yield``; ``asyncio/tasks.py``: ``Task.cancel`` cancels what
the task waits for). uvloop uses the same futures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Shielded(Generic[T]):
    """Awaits ``work``; once its task is cancelled, for at most ``grace`` seconds more.

    - **errors**: those of ``work``;
    - **cancel**: raised when the grace is over, and ``work`` is then closed amid whatever it did. Where ``work`` comes
      to an end before, that end is what is seen, and ``cancelled`` is the cancellation that is still to be raised.
    """

    def __init__(self, work: Coroutine[Any, Any, T], grace: float) -> None:
        self._work = work
        self._grace = grace
        self._ends: float | None = None
        self.cancelled: asyncio.CancelledError | None = None

    def __await__(self) -> Generator[Any, Any, T]:
        work = self._work
        try:
            while True:
                try:
                    awaited = work.send(None)
                except StopIteration as done:
                    return done.value  # type: ignore[no-any-return]  # a coroutine's result
                if awaited is None:  # asyncio.sleep(0)
                    yield from self._a_moment()
                else:
                    awaited._asyncio_future_blocking = False
                    while not awaited.done():
                        yield from self._until(awaited)
        finally:
            work.close()

    def _a_moment(self) -> Generator[Any, Any, None]:
        try:
            yield
        except asyncio.CancelledError as err:
            self._note(err)

    def _until(self, awaited: asyncio.Future[Any]) -> Generator[Any, Any, None]:
        loop = awaited.get_loop()
        bridge = loop.create_future()

        def wake(_: object = None) -> None:
            if not bridge.done():
                bridge.set_result(None)

        timer = None if self._ends is None else loop.call_at(self._ends, wake)
        awaited.add_done_callback(wake)
        try:
            yield from bridge
        except asyncio.CancelledError as err:
            self._note(err)
        finally:
            awaited.remove_done_callback(wake)
            if timer is not None:
                timer.cancel()
        if self._ends is not None and loop.time() >= self._ends and not awaited.done():
            assert self.cancelled is not None
            raise self.cancelled

    def _note(self, error: asyncio.CancelledError) -> None:
        if self._ends is None:
            self.cancelled = error
            self._ends = asyncio.get_running_loop().time() + self._grace
