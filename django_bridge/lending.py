"""A test's connections, lent to the async code that it runs: tasks find them by their context, or are given it.

A task that was started with an empty context (asgiref's ``ApplicationCommunicator``, so those of channels) carries
nothing of the test. On an event loop that the test waits for, or that runs on its thread, it is the test's all the
same, and takes on the context that it would have inherited.

Read in asgiref 3.13 (``sync.py``: ``SyncToAsync.__call__``, ``single_thread_executor``, ``thread_sensitive_context``,
``context_to_thread_executor``, ``AsyncToSync.loop_thread_executors``; ``current_thread_executor.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import ContextVar
from threading import get_ident
from typing import Any, Final

from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext
from django.db import connections

from .in_tests import held, is_in_a_test, watched

__all__ = ["ExecutorByThread", "adopted", "is_lent", "kept_open", "lending", "lent_to_the_loop", "visible"]

visible: Final[ContextVar[Mapping[str, Any] | None]] = ContextVar("django_bridge_visible", default=None)
"""Connections of Django's threads, by alias, that code on the loop sees: their hooks, whether they are in a block."""
lending: Final[ContextVar[Lent | None]] = ContextVar("django_bridge_lending", default=None)
"""Those of a test that the event loop on its thread, and that loop's threads, use as well."""

_open: list[Lent] = []


class Lent:
    """Connections of this thread's that a second thread uses for event loops that run on this one."""

    until: AsyncGenerator[None, None] | None = None
    """What ends it with the loop that it was made for."""

    def __init__(self, wrappers: Mapping[str, Any]) -> None:
        self.wrappers = wrappers
        self.thread = get_ident()
        self.over = False
        self.context = ThreadSensitiveContext()
        self.executor = ThreadPoolExecutor(max_workers=1, initializer=self._in_its_thread)
        SyncToAsync.context_to_thread_executor[self.context] = self.executor
        for wrapper in wrappers.values():
            wrapper.inc_thread_sharing()
        self._kept = contextlib.ExitStack()
        self._kept.enter_context(kept_open(wrappers.values()))
        _open.append(self)

    def _in_its_thread(self) -> None:
        """What is sent there with an empty context finds the connections as well."""
        for alias, wrapper in self.wrappers.items():
            connections[alias] = wrapper

    def settings(self) -> list[tuple[ContextVar[Any], Any]]:
        """What a context carries of it."""
        return [
            (visible, self.wrappers),
            (lending, self if self.wrappers else None),
            (SyncToAsync.thread_sensitive_context, self.context),
        ]

    def close(self) -> None:
        if self.over:
            return
        self.over = True
        _open.remove(self)
        self._kept.close()
        for wrapper in self.wrappers.values():
            wrapper.dec_thread_sharing()
        SyncToAsync.context_to_thread_executor.pop(self.context, None)
        self.executor.shutdown()


class ExecutorByThread(Executor):
    """In the place of asgiref's one thread for all loops, to which goes what says nothing of where it belongs.

    From a loop on a test's own thread it goes to the thread that the test's connections are lent to; else to asgiref's.
    """

    def __init__(self, asgirefs: Executor) -> None:
        self._asgirefs = asgirefs

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        lent = _lent_to_this_thread(held()) if watched() and asyncio._get_running_loop() is not None else None
        return (self._asgirefs if lent is None else lent.executor).submit(function, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._asgirefs, name)


def _lent_to_this_thread(wrappers: Mapping[str, Any]) -> Lent | None:
    """What lends ``wrappers`` to the loops of this thread, if they are this thread's."""
    here = get_ident()
    if all(wrapper._thread_ident != here for wrapper in wrappers.values()):
        return None
    known = (one for one in reversed(_open) if one.thread == here and one.wrappers == wrappers)
    return next(known, None) or _lent_to_this_loop(wrappers)


def is_lent() -> bool:
    """Whether this context carries connections of a test that runs still."""
    lent = lending.get()
    return lent is not None and not lent.over


def adopted() -> bool:
    """Whether this task, which carries nothing of a test, belongs to one; it then carries what it would have inherited.

    So it does on the loop of an ``async_to_sync`` in which the test's thread waits, and on a loop that runs on that
    thread: there nobody else can use the test's connections meanwhile.
    """
    if not watched() or (loop := asyncio._get_running_loop()) is None:
        return False
    wrappers = held()
    if (executor := AsyncToSync.loop_thread_executors.get(loop)) is not None:
        if executor._work_thread.ident not in {wrapper._thread_ident for wrapper in wrappers.values()}:
            return False
        AsyncToSync.executors.current = executor
        visible.set(wrappers)
        return True
    if (lent := _lent_to_this_thread(wrappers)) is None:
        return False
    for variable, value in lent.settings():
        variable.set(value)
    return True


def _lent_to_this_loop(wrappers: Mapping[str, Any]) -> Lent:
    """Lends to a loop that the test runs on its own thread (``asyncio.run``), until that loop ends."""
    lent = Lent(wrappers)

    async def lends() -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            lent.close()

    lent.until = lends()
    with contextlib.suppress(StopIteration):
        lent.until.asend(None).send(None)  # runs to the yield, which tells the loop of the generator
    return lent


@contextlib.contextmanager
def lent_to_the_loop(aliases: Iterable[str]) -> Iterator[None]:
    """Lends this thread's connections that are in a test's transaction to the event loops that will run on this thread.

    Everything async finds them there until the end of the block, and works on them in one thread; requests that a
    test sends do not close them.
    """
    known = {wrapper.alias: wrapper for wrapper in connections.all(initialized_only=True)}
    lent = Lent({alias: known[alias] for alias in aliases if alias in known and is_in_a_test(known[alias])})
    tokens = [(variable, variable.set(value)) for variable, value in lent.settings()]
    try:
        yield
    finally:
        for variable, token in tokens:
            with contextlib.suppress(ValueError):  # pytest may run fixtures and their ends in contexts of their own
                variable.reset(token)
        lent.close()


@contextlib.contextmanager
def kept_open(wrappers: Iterable[Any]) -> Iterator[None]:
    """Has the requests that a test sends leave its connections open.

    Django's clients switch the receiver off around each request, which several at once do not survive.
    """
    kept = [wrapper for wrapper in wrappers if _CLOSES not in vars(wrapper)]
    for wrapper in kept:
        vars(wrapper)[_CLOSES] = _stays_open
    try:
        yield
    finally:
        for wrapper in kept:
            del vars(wrapper)[_CLOSES]


_CLOSES = "close_if_unusable_or_obsolete"


def _stays_open() -> None:
    """In the place of what ``close_old_connections`` calls."""
