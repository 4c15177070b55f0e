"""The task that opened a stream, at whose end it is closed unless another task has read of it.

An exception that leaves a task keeps its frames, and they keep what was read there. So the end of a stream must not
wait until nobody refers to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

__all__ = ["Opener"]

_OF_A_STEP = frozenset({"async_generator_asend", "anext_awaitable", "_wrap_awaitable"})
"""What a task awaits that asyncio makes for one step of an iteration (``wait_for(anext(rows))`` on Python 3.11)."""


class Opener:
    """The running task, by default the one that opens a stream; none where the task is for a single step of it."""

    __slots__ = ("_ended", "_handed_on", "task")

    def __init__(self) -> None:
        task = asyncio.current_task()
        self.task = None if task is not None and _name(task.get_coro()) in _OF_A_STEP else task
        self._handed_on = False
        self._ended: Callable[[], object] | None = None

    def when_it_ends(self, function: Callable[[], object]) -> None:
        """Has ``function`` called on the loop when the task ends that alone has read of the stream.

        The task keeps ``function``, which must not keep the stream.
        """
        self.note_reader()
        if self.task is not None and not self._handed_on:
            self._ended = function
            self.task.add_done_callback(self._end)

    def note_reader(self) -> None:
        """Called where the running task reads of the stream."""
        if not self._handed_on:
            self._handed_on = asyncio.current_task() is not self.task

    def forget(self) -> None:
        """Called when the stream has ended."""
        if self._ended is not None and self.task is not None:
            self.task.remove_done_callback(self._end)
        self.task = self._ended = None

    def _end(self, _: asyncio.Task[Any]) -> None:
        function, self.task, self._ended = self._ended, None, None  # its error would keep all its frames
        if function is not None and not self._handed_on:
            function()


def _name(coroutine: Any) -> str:
    return getattr(coroutine, "__qualname__", type(coroutine).__name__)
