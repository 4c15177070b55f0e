"""Where a caller's connection is used: in the thread that owns it, or on the loop, where it is a scope's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ..scopes import Scope

__all__ = ["InScope", "InThread", "Place"]

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


@dataclass(frozen=True)
class InThread:
    """A thread that Django works in for this task: its caller's, its request's, or that of all tasks."""

    executor: Executor

    async def call(self, function: Callable[..., T], *args: Any) -> T:
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
