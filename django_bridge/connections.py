"""The storage behind ``django.db.connections``, which asks the scope first, then Django's own.

Beside it ``async_unsafe`` (Django 5.2 and 6.1, ``utils/asyncio.py``) learns that code in our greenlets may wait. Both
are in force as soon as there is a database, for a ``connection_created`` receiver runs in a greenlet in any mode;
without a scope neither does anything. Only the attribute ``_connections`` of Django's handler is replaced (Django 5.2
and 6.1, ``utils/connection.py``), so that everything above it, and every ENGINE, stays as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from django.conf import settings
from django.db import connections
from django.utils import asyncio as guard

from asyncdb import Database
from asyncdb.collecting import collecting
from asyncdb.greenlets import in_greenlet

from .conf import bridge_for, settings_of
from .elsewhere import Elsewhere
from .in_tests import note, watched
from .lending import adopted, is_lent, visible
from .loops import on_the_loop
from .ownership import errand_of_this_thread, is_the_thread_of_its_context
from .scope_threads import scope_of_this_thread
from .scopes import Scope, inherited
from .seats import Seat
from .threads import adopt, has_pool
from .threads import forget as forget_pools
from .wrappers.base import OnSeat, share_view
from .wrappers.families import has_driver, wrapper_on
from .wrappers.rest import forget_facts
from .wrappers.view import share_from_now_on

__all__ = ["adopt_made_already", "forget", "install", "is_native", "threads_are_used"]

_spare: dict[str, list[Any]] = {}
"""Wrappers that no scope has: to make one costs as much as a checkout, and leaves a cycle to the collector."""
_MOST_SPARE = 64
_native: dict[str, bool] = {}
_settings: dict[str, dict[str, Any]] = {}
_handler: Any = connections


class Storage:
    """Stands where asgiref's ``Local`` stood; an alias is an attribute."""

    def __init__(self, djangos: Any, database: Callable[[str], Database]) -> None:
        object.__setattr__(self, "_djangos", djangos)
        object.__setattr__(self, "_database", database)

    def __getattr__(self, alias: str) -> Any:
        if (own := self._of_this_thread(alias)) is not None:
            return own
        there = _scope_here()
        if there is not None:
            found = there.wrappers.get(alias)
            if found is not None:
                return found
            if is_native(alias):
                return _make(there, alias, partial(self._database, alias))
            if alias in settings.DATABASES and on_the_loop() and in_greenlet():
                if alias not in there.elsewhere:
                    there.elsewhere[alias] = Elsewhere(alias)
                return there.elsewhere[alias]
        seen = (visible.get() or {}).get(alias)
        # One whose transaction is over is what a block that was never left has left in the thread's context.
        if seen is not None and seen.in_atomic_block and (is_lent() or on_the_loop()):
            return seen
        if seen is None and watched() and adopted():
            return getattr(self, alias)
        return getattr(self._djangos, alias)

    def _of_this_thread(self, alias: str) -> Any:
        """The thread's own wrapper on the pool of threads; None on the loop, and where the thread is its task's.

        It is its task's where the task has a transaction open, or async code has changed its session.
        """
        there = inherited()
        if not isinstance(there, Scope) or not has_pool(alias) or on_the_loop():
            return None
        own = getattr(self._djangos, alias, None)
        seat = there.seats.get(alias)
        if seat is not None and not there.closed and seat.holds_state and errand_of_this_thread() is not None:
            if getattr(own, "carries_state", False):
                there.refuse_two_places(alias)
            return None
        if own is None:
            raise AttributeError(alias)  # whereupon Django makes one
        if not getattr(own, "is_on_the_pool", False):
            return None
        if there.in_its_thread.get(alias) is not own:
            self._note(there, own)
        return own

    @staticmethod
    def _note(there: Scope, own: Any) -> None:
        """Lets the scope know of its thread's wrapper, so that both have one view."""
        if is_the_thread_of_its_context():
            there.in_its_thread[own.alias] = own
            if (wrapper := there.wrappers.get(own.alias)) is not None:
                share_from_now_on(own, wrapper)

    def __setattr__(self, alias: str, wrapper: Any) -> None:
        there = None if has_pool(alias) and not on_the_loop() else _scope_here()
        if there is not None and (alias in there.wrappers or is_native(alias)):
            there.wrappers[alias] = wrapper
        else:
            own = _for_a_thread(wrapper) if isinstance(wrapper, OnSeat) else wrapper
            adopt(own)
            note(own)
            setattr(self._djangos, alias, own)
            if isinstance(scope := inherited(), Scope) and not on_the_loop() and getattr(own, "is_on_the_pool", False):
                self._note(scope, own)

    def __delattr__(self, alias: str) -> None:
        there = None if has_pool(alias) and not on_the_loop() else _scope_here()
        if there is None or there.wrappers.pop(alias, None) is None:
            delattr(self._djangos, alias)


def install(database: Callable[[str], Database]) -> None:
    """Puts the storage in its place, which finds an alias's database by ``database(alias)``; again does nothing."""
    guard.get_running_loop = _running_loop  # type: ignore[attr-defined]  # the name by which async_unsafe asks
    if not isinstance(_handler._connections, Storage):
        for wrapper in _made_already():
            note(wrapper)
        _handler._connections = Storage(_handler._connections, database)


def adopt_made_already() -> None:
    """Has the connections that this thread had before take part in the pool of threads, where there is one."""
    for wrapper in _made_already():
        adopt(wrapper)


def _made_already() -> list[Any]:
    if "settings" not in vars(_handler):
        return []  # nobody has asked for a connection yet
    return list(connections.all(initialized_only=True))


def is_native(alias: str) -> bool:
    """Whether the ORM's queries on ``alias`` go through the event loop: its family has a driver, and nobody said no."""
    known = _native.get(alias)
    if known is None:
        known = _native[alias] = (
            alias in settings.DATABASES and has_driver(alias) and bridge_for(alias).mode == "native"
        )
    return known


def threads_are_used() -> bool:
    """Whether any alias stays in threads."""
    known = _native.get("")
    if known is None:
        known = _native[""] = not all(map(is_native, settings.DATABASES))
    return known


def _live_settings(alias: str) -> dict[str, Any]:
    known = _settings.get(alias)
    if known is None:
        known = _settings[alias] = settings_of(alias)
    return known


def forget() -> None:
    """Forgets what was learned of settings and servers, for settings that have changed."""
    _native.clear()
    _settings.clear()
    forget_facts()
    forget_pools()
    _spare.clear()


def _for_a_thread(wrapper: Any) -> Any:
    """Django's own connection for a thread that was handed a scope's, as a live server's is in tests."""
    own = wrapper.of_django()
    own._thread_ident, own._thread_sharing_count = wrapper._thread_ident, wrapper._thread_sharing_count
    wrapper.lend(own)
    close = own.close

    def close_both() -> None:
        close()
        wrapper.released()

    own.close = close_both
    return own


def _running_loop() -> asyncio.AbstractEventLoop:
    """``get_running_loop`` as if no loop ran, for code in our greenlets."""
    loop = asyncio._get_running_loop()
    if loop is None or (in_greenlet() and isinstance(inherited(), Scope)):
        raise RuntimeError("no loop runs here, or only one that waits for a greenlet")
    return loop


def _scope_here() -> Scope | None:
    there = inherited()
    if not isinstance(there, Scope):
        return None
    if on_the_loop():
        return None if there.closed else there
    return scope_of_this_thread()


def _make(there: Scope, alias: str, database: Callable[[], Database]) -> Any:
    seat = Seat(there, alias, database)
    try:
        wrapper = _spare[alias].pop()
    except (KeyError, IndexError):  # asked by being taken: another loop's thread may come in between
        wrapper = wrapper_on(seat)
    else:
        seat.succeed(wrapper.seat)
        wrapper.take_seat(seat)
    if (whose := there.view_of) is not None:
        if (other := whose.wrappers.get(alias) or whose.in_its_thread.get(alias)) is not None:
            share_view(wrapper, other)
    elif there.in_its_thread and (own := cast("Any", there.in_its_thread.get(alias))) is not None:
        share_from_now_on(wrapper, own)
    there.seats[alias] = seat
    there.wrappers[alias] = wrapper
    return wrapper


def spare_wrappers(ended: Scope) -> None:
    """Keeps for those to come the wrappers of a scope on which nothing is left."""
    if asyncio._get_running_loop() is not ended.loop or collecting():
        return  # the garbage collector has ended a coroutine in this thread, and the loop will end the scope
    for alias, wrapper in () if ended.had_threads else ended.wrappers.items():  # a thread may keep one in its hands
        if isinstance(wrapper, OnSeat) and ended.view_of is None and wrapper.at_rest:
            spare = _spare.setdefault(alias, [])
            if len(spare) < _MOST_SPARE and wrapper.settings_dict is _live_settings(alias):
                spare.append(wrapper)
    ended.wrappers.clear()
    ended.seats.clear()
