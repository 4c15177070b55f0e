"""Where a caller's connection is used: in the thread that owns it, or on the loop, where it is a scope's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from asgiref.sync import sync_to_async

from ..scopes import Scope

__all__ = ["ByDjango", "InScope", "InThread", "Place"]

T = TypeVar("T")
log = logging.getLogger("django_bridge.joined")
_pending: set[asyncio.Task[Any]] = set()
"""What is to be done soon: the loop itself keeps no task alive."""


class Place(Protocol):
    """Calls functions where the connection may be used, one after the other."""

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """Calls ``function`` there.

        - **cancel**: a call that has not begun is dropped; one that has goes on, and what follows stands behind it.
        """

    def soon(self, function: Callable[..., Any], *args: Any, then: Callable[[], None]) -> None:
        """Has ``function`` called there, and ``then`` after it; neither waits nor raises."""


@dataclass(frozen=True)
class InThread:
    """The thread of a caller that waits in ``async_to_sync``, or of a test's loop."""

    executor: Executor

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.wrap_future(self.executor.submit(copy_context().run, function, *args))

    def soon(self, function: Callable[..., Any], *args: Any, then: Callable[[], None]) -> None:
        def done(future: Future[Any]) -> None:
            if not future.cancelled() and (error := future.exception()) is not None:
                log.warning("a joined block could not be rolled back (%s)", type(error).__name__)
            then()

        try:
            self.executor.submit(copy_context().run, function, *args).add_done_callback(done)
        except RuntimeError:
            log.warning("a joined block was left open: its caller has gone on")


@dataclass(frozen=True)
class ByDjango:
    """The thread to which Django sends the ORM's calls of this task, while the ORM is not on the loop."""

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        return await sync_to_async(function, thread_sensitive=True)(*args)

    def soon(self, function: Callable[..., Any], *args: Any, then: Callable[[], None]) -> None:
        async def call() -> None:
            try:
                await self.call(function, *args)
            except Exception as err:
                log.warning("a block could not be rolled back (%s)", type(err).__name__)
            finally:
                then()

        work = call()
        try:
            pending = asyncio.get_running_loop().create_task(work)
        except RuntimeError:
            work.close()
            log.warning("a block was left open: no loop runs any more")
            return
        _pending.add(pending)
        pending.add_done_callback(_pending.discard)


@dataclass(frozen=True)
class InScope:
    """The loop, in a greenlet: the connection is that of a scope, in whose thread sync code waits."""

    scope: Scope

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        return await self.scope.run(function, args, {})

    def soon(self, function: Callable[..., Any], *args: Any, then: Callable[[], None]) -> None:
        try:
            function(*args)
        except Exception as err:
            log.warning("a joined block could not be rolled back (%s)", type(err).__name__)
        then()
