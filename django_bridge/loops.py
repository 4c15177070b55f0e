"""The event loop as its own thread and others see it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

from .errors import ScopeClosed

__all__ = ["on_the_loop", "run_on"]

T = TypeVar("T")

_LOOK_AT_LOOP = 1.0
"""Seconds between two looks of a waiting thread at its loop, which may end before it answers."""
_STOPPED = 5
"""Looks at a loop that does not run. It may run again, as between two calls of ``run_until_complete``; a server that
has stopped its loop and waits for its threads would wait for ever."""
_SILENT = 60
"""Looks at a loop that runs and answers nothing: code that blocks it, which may itself wait for this thread. Counted
in looks, so that a process that was stopped for a while finds its loop as it was."""


def on_the_loop() -> bool:
    """Whether an event loop runs in this thread."""
    return asyncio._get_running_loop() is not None


def run_on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Runs ``work`` on ``loop`` and blocks this thread until it is done, or the loop can do it no more.

    What it waits for has bounds of its own: for a connection, for a reply. This is the bound for a loop that is
    closed, stopped or blocked.

    - **errors**: ``ScopeClosed``; the work is cancelled, should the loop ever come to it.
    """
    future = asyncio.run_coroutine_threadsafe(work, loop)
    watch = _Watch(loop)
    while True:
        try:
            return future.result(_LOOK_AT_LOOP)
        except TimeoutError:
            if future.done():
                return future.result()  # it came in this moment, or the time-out is the statement's own
        try:
            watch.look()
        except ScopeClosed:
            if not future.cancel():
                continue  # it came in this moment
            raise


class _Watch:
    """A thread's look at the loop that it waits for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._answered = True
        self._silent = self._stopped = 0

    def look(self) -> None:
        """Raises where the loop will not answer any more."""
        if self._loop.is_closed():
            _refuse("was closed")
        self._stopped = 0 if self._loop.is_running() else self._stopped + 1
        if self._stopped >= _STOPPED:
            _refuse("was stopped, and does not run")
        if not self._answered:
            self._silent += 1
            if self._silent >= _SILENT:
                _refuse(f"has answered nothing for {self._silent * _LOOK_AT_LOOP:g} s: some code blocks it")
            return
        self._answered, self._silent = False, 0
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:
            _refuse("was closed")

    def _answer(self) -> None:
        self._answered = True


def _refuse(what: str) -> NoReturn:
    raise ScopeClosed(f"the event loop of this thread's scope {what}")
