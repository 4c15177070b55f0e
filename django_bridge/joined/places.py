"""Where a caller's connection is used: in the thread that owns it, or on the loop, where it is a scope's.

Read in asgiref 3.13 (``sync.py``: ``SyncToAsync.__call__``, ``AsyncToSync.executors``, ``loop_thread_executors``,
``thread_sensitive_context``, ``context_to_thread_executor``; ``current_thread_executor.py``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Protocol, TypeVar, cast

from asgiref.sync import AsyncToSync, SyncToAsync

from ..scopes import Scope

__all__ = ["InScope", "InThread", "Place", "executor_of_this_task"]

T = TypeVar("T")
log = logging.getLogger("django_bridge.joined")
_UNTIL_DONE = 5.0
"""Seconds that a cancelled task waits for what its thread has begun, so that nothing of it happens later."""


class Place(Protocol):
    """Calls functions where the connection may be used, one after the other."""

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """Calls ``function`` there.

        - **cancel**: a call that has not begun is dropped; one that has is waited for, at most 5 s.
        """

    def soon(self, function: Callable[..., Any], *args: Any, then: Callable[[], None]) -> None:
        """Has ``function`` called there, and ``then`` after it; neither waits nor raises."""


class InThread:
    """The thread that Django works in for a task: its caller's, its request's, or that of all tasks."""

    def __init__(self) -> None:
        self.executor = executor_of_this_task()
        """The one that was used last: what waits in the thread by ``async_to_sync`` has another one there."""

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        self.executor = executor_of_this_task()
        future = self.executor.submit(copy_context().run, function, *args)
        done = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            if not future.cancel():
                await asyncio.wait([done], timeout=_UNTIL_DONE)
            raise

    def soon(self, function: Callable[..., Any], *args: Any, then: Callable[[], None]) -> None:
        def done(future: Future[Any]) -> None:
            if not future.cancelled() and (error := future.exception()) is not None:
                log.warning("a joined block could not be rolled back (%s)", type(error).__name__)
            then()

        try:
            self.executor.submit(copy_context().run, function, *args).add_done_callback(done)
        except RuntimeError:
            log.warning("a joined block was left open: its thread has ended")


def executor_of_this_task() -> Executor:
    """Where ``sync_to_async`` would send a thread-sensitive function of this task."""
    if (current := getattr(AsyncToSync.executors, "current", None)) is not None:
        return cast("Executor", current)
    if (context := SyncToAsync.thread_sensitive_context.get(None)) is not None:
        threads = SyncToAsync.context_to_thread_executor
        if context not in threads:
            threads[context] = ThreadPoolExecutor(max_workers=1)
        return threads[context]
    of_loop: Executor | None = AsyncToSync.loop_thread_executors.get(asyncio.get_running_loop())
    return of_loop or SyncToAsync.single_thread_executor


class InScope:
    """The loop, in a greenlet: the connection is that of a scope, in whose thread sync code waits."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        return await self.scope.run(function, args, {})

    def soon(self, function: Callable[..., Any], *args: Any, then: Callable[[], None]) -> None:
        try:
            function(*args)
        except Exception as err:
            log.warning("a joined block could not be rolled back (%s)", type(err).__name__)
        then()
