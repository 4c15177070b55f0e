"""Cancels a task at each point where it waits: what a user who goes away does, everywhere that he can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any, Literal

How = Literal["once", "twice", "sticky", "same tick"]
"""How it is cancelled.

- ``once``: while it waits;
- ``twice``: and again at its next wait, as by a second Ctrl-C, or a time-out within a time-out;
- ``sticky``: and again at each wait that follows, as by cancel scopes;
- ``same tick``: when what it waits for has just come, so that a result and a cancellation arrive together.
"""

_MOST_POINTS = 10_000
_STICKS_FOR = 100


async def cancelled_everywhere(
    work: Callable[[], Coroutine[Any, Any, Any]], *, how: How = "once"
) -> AsyncIterator[int]:
    """Runs ``work()`` again and again, each time cancelled at the next point where it waits, until it ends by itself.

    Yields the number of the point after each run that was cancelled, the first being 1: look there whether all is well.

    Example::

        async for point in cancelled_everywhere(lambda: view(request), how="twice"):
            assert database.stats().checked_out == 0, f"cancelled at its wait number {point}"

    - **errors**: any but the cancellation that ``work`` ends with, with the point as a note.
    """
    for point in range(1, _MOST_POINTS):
        if not await cancelled_at(point, work(), how=how):
            return
        yield point
    raise RuntimeError(f"it waited more than {_MOST_POINTS} times")


async def cancelled_at(point: int, work: Coroutine[Any, Any, Any], *, how: How = "once") -> bool:
    """Runs ``work`` in a task that is cancelled at its ``point``-th wait; returns whether it waited that often.

    - **errors**: any but the cancellation that ``work`` ends with, with the point as a note.
    """
    watched = _Watched(work, point, how)
    task = asyncio.create_task(watched.run(), name=f"cancelled at its wait number {point}, {how}")
    try:
        await asyncio.wait([task])
    except BaseException:
        task.cancel()
        raise
    if not task.cancelled() and (error := task.exception()) is not None:
        error.add_note(f"{task.get_name()}{'' if watched.reached else ' (not reached)'}")
        raise error
    return watched.reached


class _Watched:
    """Awaits a coroutine and counts its waits."""

    reached = False

    def __init__(self, work: Coroutine[Any, Any, Any], point: int, how: How) -> None:
        self._work = work
        self._how = how
        self._waits = 0
        last = {"once": point, "same tick": point, "twice": point + 1, "sticky": point + _STICKS_FOR}[how]
        self._due = range(point, last + 1)

    async def run(self) -> Any:
        return await self

    def __await__(self) -> Generator[Any, Any, Any]:
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                awaited = self._work.send(value) if error is None else self._work.throw(error)
            except StopIteration as done:
                return done.value
            self._waits += 1
            if self._waits in self._due:
                self.reached = True
                self._cancel(awaited)
            value = error = None
            try:
                value = yield awaited
            except BaseException as err:
                error = err

    def _cancel(self, awaited: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._how == "same tick" and awaited is not None:
            # Before the task's own: it is woken by the same future, and told of the cancellation first.
            awaited.add_done_callback(lambda _: task.cancel())
        else:
            task.cancel()
