"""The sync caller beneath a task, and the connection on which it is in a transaction.

Sync code that waits by ``async_to_sync`` lends its thread to what it waits for; a test lends its connections to the
event loop that runs on its own thread. Whoever else is not a caller.

Read in asgiref 3.13 (``sync.py``: ``AsyncToSync.executors``; ``current_thread_executor.py``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from django.db import connections

from ..connections import is_native
from ..in_tests import held, is_in_a_test, refuse
from ..lending import kept_open, visible
from ..scopes import Scope, inherited, usable
from .places import InScope, InThread, Place, executor_of_this_task
from .turns import Turns, busy

__all__ = [
    "Caller",
    "caller_beneath",
    "is_of_an_async_view",
    "lent_by_a_test",
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


def is_of_an_async_view(wrapper: Any) -> bool:
    """Whether nobody but the async view itself is in the innermost block: it is that of ``ATOMIC_REQUESTS``."""
    return bool(wrapper.atomic_blocks) and getattr(wrapper.atomic_blocks[-1], "of_async_view", False)


async def caller_beneath(alias: str, patience: float) -> Caller | None:
    """The caller, where there is one and it is in a transaction on ``alias``."""
    there = inherited()
    if isinstance(there, Scope) and is_native(alias) and not there.is_in_its_thread(alias):
        return _in_scope(usable(), alias, patience)
    found = await _caller_in(InThread(), _known_connection, alias, patience)
    return found if found is not None and found.in_transaction else None


async def where_the_orm_is(alias: str, patience: float) -> Caller:
    """The connection that the ORM uses for this task while it is not on the loop.

    - **errors**: ``JoinRefused`` where that is not the one on which the running test is in a transaction.
    """
    found = await _caller_in(InThread(), connections.__getitem__, alias, patience)
    assert found is not None, "Django makes a connection for every alias"
    if held().get(alias, found.wrapper) is not found.wrapper:
        refuse(alias)
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
        with kept_open(lent.values()):
            yield
    finally:
        visible.reset(token)
