"""The sync caller beneath a task, and the connection on which it is in a transaction.

Sync code that waits by ``async_to_sync`` lends its thread to what it waits for; a test lends its connections to the
event loop that runs on its own thread. Whoever else is not a caller.

Read in asgiref 3.13 (``sync.py``: ``AsyncToSync.executors``, ``SyncToAsync.thread_sensitive_context``,
``context_to_thread_executor``; ``current_thread_executor.py``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.db import connections

from ..connections import is_native
from ..scopes import Scope, inherited, lending, usable, visible
from .places import InScope, InThread, Place, executor_of_this_task
from .turns import Turns, busy

__all__ = [
    "Caller",
    "caller_beneath",
    "is_in_a_test",
    "is_of_an_async_view",
    "lent_by_a_test",
    "lent_to_the_loop",
    "turn_of_this_task",
    "where_the_orm_is",
]


class Caller:
    """One connection of Django's, and the place where it may be used."""

    def __init__(self, wrapper: Any, place: Place, patience: float) -> None:
        self.wrapper = wrapper
        self.place = place
        self.turns = Turns(place, wrapper.alias, patience)
        self.joined: dict[Any, Any] = {}
        """The ``JoinedDatabase`` of each event loop, by what ends them with it."""

    @property
    def in_transaction(self) -> bool:
        """Whether it is in a transaction that was not begun here."""
        return bool(self.wrapper.in_atomic_block) and not self.turns.has_begun(self.wrapper)


_CALLER = "django_bridge_caller"
"""Where it is kept on Django's connection itself, so that it goes with it."""


def is_in_a_test(wrapper: Any) -> bool:
    """Whether the transaction is that of a ``TestCase``, as pytest-django's ``db`` is too."""
    return any(getattr(block, "_from_testcase", False) for block in wrapper.atomic_blocks)


def is_of_an_async_view(wrapper: Any) -> bool:
    """Whether nobody but the async view itself is in the innermost block: it is that of ``ATOMIC_REQUESTS``."""
    return bool(wrapper.atomic_blocks) and getattr(wrapper.atomic_blocks[-1], "of_async_view", False)


async def caller_beneath(alias: str, patience: float) -> Caller | None:
    """The caller, where there is one and it is in a transaction on ``alias``."""
    there = inherited()
    if isinstance(there, Scope) and is_native(alias):
        return _in_scope(usable(), alias, patience)
    found = await _caller_in(InThread(), _known_connection, alias, patience)
    return found if found is not None and found.in_transaction else None


async def where_the_orm_is(alias: str, patience: float) -> Caller:
    """The connection that the ORM uses for this task while it is not on the loop."""
    found = await _caller_in(InThread(), connections.__getitem__, alias, patience)
    assert found is not None, "Django makes a connection for every alias"
    return found


async def _caller_in(place: Place, connection_of: Callable[[str], Any], alias: str, patience: float) -> Caller | None:
    wrapper = await place.call(connection_of, alias)
    if wrapper is None:
        return None
    known: Caller | None = vars(wrapper).get(_CALLER)
    if known is None:
        known = vars(wrapper)[_CALLER] = Caller(wrapper, place, patience)
    return known


def _in_scope(there: Scope | None, alias: str, patience: float) -> Caller | None:
    """A sync view's transaction, on the connection of the request's scope; not that of an async ``atomic()``."""
    wrapper = there.wrappers.get(alias) if there is not None else None
    if there is None or wrapper is None or not wrapper.in_atomic_block or getattr(wrapper, "shared", None) is not None:
        return None
    known: Caller | None = vars(wrapper).get(_CALLER)
    if known is None or not isinstance(known.place, InScope) or known.place.scope is not there:
        known = vars(wrapper)[_CALLER] = Caller(wrapper, InScope(there), patience)
    return known if known.in_transaction else None


async def turn_of_this_task() -> None:
    """Waits until no other task has a block open on a connection that this task's calls of the ORM would use."""
    executor = executor_of_this_task()
    for turns in busy():
        if isinstance(turns.place, InThread) and turns.place.executor is executor:
            await turns.wait(as_owner=True)


def _known_connection(alias: str) -> Any:
    """The connection of this thread, if there is one; makes none."""
    handler: Any = connections
    return getattr(handler._connections, alias, None)


@contextlib.contextmanager
def lent_by_a_test() -> Iterator[None]:
    """Shows the connections of a test in this thread to what it calls by ``async_to_sync``; else does nothing."""
    lent = None
    if visible.get() is None and inherited() is None:
        lent = {wrapper.alias: wrapper for wrapper in connections.all(initialized_only=True) if is_in_a_test(wrapper)}
    if not lent:
        yield
        return
    token = visible.set(lent)
    try:
        with _kept_open(lent.values()):
            yield
    finally:
        visible.reset(token)


@contextlib.contextmanager
def _kept_open(wrappers: Iterable[Any]) -> Iterator[None]:
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


@contextlib.contextmanager
def lent_to_the_loop(aliases: Iterable[str]) -> Iterator[None]:
    """Lends this thread's connections that are in a transaction to the event loop that will run on this thread.

    Everything async finds them there until the end of the block, and works on them in one thread; requests that a
    test sends do not close them.
    """
    lent = {
        alias: wrapper
        for alias in aliases
        if (wrapper := _known_connection(alias)) is not None and is_in_a_test(wrapper)
    }
    context = ThreadSensitiveContext()
    executor = SyncToAsync.context_to_thread_executor[context] = ThreadPoolExecutor(max_workers=1)
    settings: list[tuple[ContextVar[Any], Any]] = [
        (visible, lent),
        (lending, bool(lent)),
        (SyncToAsync.thread_sensitive_context, context),
    ]
    tokens = [(variable, variable.set(value)) for variable, value in settings]
    for wrapper in lent.values():
        wrapper.inc_thread_sharing()
    try:
        with _kept_open(lent.values()):
            yield
    finally:
        for wrapper in lent.values():
            wrapper.dec_thread_sharing()
        for variable, token in tokens:
            with contextlib.suppress(ValueError):  # pytest may run fixtures and their ends in contexts of their own
                variable.reset(token)
        SyncToAsync.context_to_thread_executor.pop(context, None)
        executor.shutdown()
