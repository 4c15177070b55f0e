"""The event loop as its own thread and others see it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from .errors import ScopeClosed

__all__ = ["on_the_loop", "run_on"]

T = TypeVar("T")

_LOOK_AT_LOOP = 1.0
"""Seconds between two looks of a waiting thread at its loop, which may be closed before it answers."""


def on_the_loop() -> bool:
    """Whether an event loop runs in this thread."""
    return asyncio._get_running_loop() is not None


def run_on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Runs ``work`` on ``loop`` and blocks this thread until it is done, or the loop is closed."""
    future = asyncio.run_coroutine_threadsafe(work, loop)
    while True:
        try:
            return future.result(_LOOK_AT_LOOP)
        except TimeoutError:
            if future.done():
                return future.result()  # it came in this moment, or the time-out is the statement's own
            if loop.is_closed():
                raise ScopeClosed("the event loop of this thread's scope was closed") from None
