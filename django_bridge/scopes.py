"""The scope: the span, owned by one task, in which an alias means one connection to Django's ORM and to threads.

::

    Scope                 one task's; for each alias one Seat
      Seat                takes a connection from the pool for a statement, keeps it as long as it must,
                          and gives it back when the operation ends

A connection stays on its seat until the operation on the loop ends, or until the last cursor of a thread is closed;
longer while a transaction is open, or when a statement left something on the session (``asyncdb.drivers.residue``).
Only its owner uses a scope: whoever else reaches it by an inherited context gets a scope of its own, or an error
where that would hide a transaction.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NoReturn, TypeVar

from django.core.exceptions import SynchronousOnlyOperation
from django.db import DatabaseError

from asyncdb import Database
from asyncdb.drivers.physical import Begun, PhysicalConnection
from asyncdb.engine import pool_of
from asyncdb.errors import NoEventLoop
from asyncdb.greenlets import in_greenlet, spawned

from .errors import ScopeClosed, ScopeOwnedByTask
from .ownership import (
    Errand,
    acts_for,
    errand_of_this_thread,
    has_sync_caller,
    loop_of_this_thread,
    runs_for,
    waiter_for,
)

__all__ = [
    "OUTSIDE",
    "Scope",
    "Seat",
    "hidden",
    "inherited",
    "on_the_loop",
    "scope",
    "scope_from_thread",
    "scope_of_this_thread",
    "usable",
]

T = TypeVar("T")
log = logging.getLogger("django_bridge.scope")

_LOOK_AT_LOOP = 1.0
"""Seconds between two looks of a waiting thread at its loop, which may be closed before it answers."""


class _Outside:
    """Where a view asked to be left to Django."""


OUTSIDE: Final = _Outside()
_current: ContextVar[Scope | _Outside | None] = ContextVar("django_bridge_scope", default=None)
inherited: Final = _current.get
"""``inherited()`` is the scope that this context carries, whoever owns it."""
enter: Final = _current.set
"""``enter(place)`` makes ``place`` the scope of this context; what it returns is for :func:`leave`."""
_enabled = False
_of_this_thread = threading.local()


class Seat:
    """The place of one alias in a scope, on which at most one connection sits."""

    link: Any = None
    wrapper: Any = None
    left: str | None = None
    """What an earlier statement left on the session, by its first word."""
    used = False
    """Whether a statement was sent on the connection since it sits here."""
    _checkout: Any = None
    _pool: Any = None

    def __init__(self, scope: Scope, alias: str, database: Callable[[], Database]) -> None:
        self.scope = scope
        self.alias = alias
        self._database = database
        self._cursors: dict[int, weakref.ref[Any]] = {}
        self._streams: set[int] = set()

    @classmethod
    def lent(cls, scope: Scope, alias: str, link: PhysicalConnection) -> Seat:
        """A seat on which somebody else has put a connection, who will take it away."""

        def none() -> Database:
            raise ScopeClosed(f"the connection of {alias!r} is not there any more")

        seat = cls(scope, alias, none)
        seat.link = link
        return seat

    def succeed(self, other: Seat) -> None:
        """Takes the place of a seat whose scope has ended, and spares itself the way to the same pool."""
        if other.scope.loop is self.scope.loop:
            self._pool = other._pool

    def beside(self, scope: Scope) -> Seat:
        """A seat of the same alias in another scope."""
        seat = Seat(scope, self.alias, self._database)
        scope.seats[self.alias] = seat
        return seat

    # -- whose turn it is ----------------------------------------------------------------------------------------

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Calls ``function`` in a greenlet on the scope's loop, whether the caller is there or in a thread.

        - **errors**: ``ScopeOwnedByTask`` in another task, ``ScopeClosed`` after the scope's end,
          ``SynchronousOnlyOperation`` on the loop outside of a greenlet.
        """
        if in_greenlet():
            self.scope.require_task()
            return function(*args)
        if on_the_loop():
            raise SynchronousOnlyOperation(
                "the database was asked on the event loop by code that cannot wait: await the a* method "
                "(aget, asave, async for), or run the whole function by `await run_django(function)`",
            )
        return self.scope.call_from_thread(self, function, *args)

    # -- the connection ------------------------------------------------------------------------------------------

    def taken(self) -> Any:
        """The physical connection, taken from the pool if none sits here. In a greenlet."""
        if self.link is None:
            pool = self._pool
            if pool is None or pool.closed:
                pool = self._pool = pool_of(self._database().engine)
            self._checkout = pool.checkout(self.scope.owner or self.scope.reader)
            self.link = self._checkout.dbapi_connection
            self.used = False
        return self.link

    def is_disconnect(self, error: Exception) -> bool:
        """Whether the connection is of no use after ``error`` of its driver."""
        if self._checkout is None:
            return False
        return bool(self._database().engine.dialect.is_disconnect(error, self.link, None))  # type: ignore[arg-type]

    @property
    def holds_state(self) -> bool:
        """Whether the connection carries what another would lack: a transaction, or something left on the session."""
        link, wrapper = self.link, self.wrapper
        if link is None:
            return False
        if self.left is not None or wrapper.in_atomic_block or not wrapper.autocommit:
            return True
        return link.doom is None and (link.begun is not Begun.NO or bool(link.server_in_transaction))

    def settle(self) -> None:
        """Gives the connection back if nothing keeps it here: no transaction, no residue, no open cursor."""
        if self._checkout is None or self._cursors or self.holds_state:
            return
        self._leave(clean=self.link.doom is None)
        if self.scope.owner is None:
            self.scope.emptied()

    def give_back(self) -> None:
        """Gives the connection back at once; one that carries state is closed instead. Never waits, never raises."""
        if self._checkout is not None:
            self._leave(clean=self.left is None and not self._streams and self.link.nothing_to_end)

    def _leave(self, *, clean: bool) -> None:
        checkout, link, self._checkout, self.link = self._checkout, self.link, None, None
        left, self.left = self.left or ("an open stream" if self._streams else None), None
        self._cursors.clear()
        self._streams.clear()
        self.wrapper.unseated()
        try:
            if clean:
                checkout.close()
            else:
                link.doom = link.doom or (left and f"{left} left something on its session") or "a transaction was open"
                checkout.invalidate()
        except Exception as err:
            log.warning("%r: a connection could not be given back (%s) and is lost", self.alias, type(err).__name__)

    def hold_for(self, cursor: object, *, streams: bool = False) -> None:
        """Keeps the connection while ``cursor`` is open, or alive; of one that ``streams`` something may stay open."""
        key = id(cursor)
        if streams:
            self._streams.add(key)
        self._cursors[key] = weakref.ref(cursor, lambda _: self._closed(key))

    def closed(self, cursor: object) -> None:
        """Called when ``cursor`` is closed, from wherever that is."""
        if self._cursors:
            self._closed(id(cursor))

    def _closed(self, key: int) -> None:
        self._streams.discard(key)
        if self._cursors.pop(key, None) is not None and not self._cursors:
            self.scope.soon(self.settle)


class Scope:
    """The connections of one task; see :func:`scope`."""

    closed = False
    view_of: Scope | None = None
    """The scope whose view of its connections (query log, execute wrappers) this one shares."""
    _host: Scope | None = None
    _depth = 0
    _acting: asyncio.Task[Any] | None = None

    def __init__(
        self, owner: asyncio.Task[Any] | None, loop: asyncio.AbstractEventLoop, *, brief: bool = False
    ) -> None:
        self.owner = owner
        self.reader: asyncio.Task[Any] | None = None
        """Who began to read the stream that it is for, where it has no owner."""
        self.brief = brief
        """Whether it is for one operation only."""
        self.loop = loop
        self.seats: dict[str, Seat] = {}
        self.wrappers: dict[str, Any] = {}
        self.elsewhere: dict[str, Any] = {}
        """What stands on the loop for the aliases that stay in threads."""
        self.guests: set[Scope] = set()

    def __repr__(self) -> str:
        return f"<Scope of {task_name(self.owner)}{' closed' if self.closed else ''}>"

    # -- who may use it ------------------------------------------------------------------------------------------

    def belongs_to(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether ``task`` is the owner, or acts for it while it waits."""
        return task is self.owner or task is self._acting or (self.owner is not None and acts_for(self.owner, task))

    def require_task(self) -> None:
        """Raises unless the running task may use this scope."""
        task = asyncio.current_task()
        if self.closed:
            raise ScopeClosed(f"{task_name(task)} asked a scope that has ended: open one there (async with scope())")
        if self.owner is None or task is self.owner or task is self._acting:
            return
        if not self.belongs_to(task):
            self.refuse(task)

    def refuse(self, task: asyncio.Task[Any] | None) -> NoReturn:
        """Raises the error that names both tasks and the remedy."""
        held = ", ".join(repr(alias) for alias, seat in self.seats.items() if seat.holds_state) or "of none"
        raise ScopeOwnedByTask(
            f"the connection {held} belongs to the scope of {task_name(self.owner)}, which holds a transaction or a "
            f"changed session on it, and {task_name(task)} reached it by an inherited context: await one after another "
            "in the owner's task (asyncio.gather makes tasks, and so does asyncio.wait_for on Python 3.11: use "
            "asyncio.timeout), or open a scope in the task (async with scope())",
        )

    @property
    def holds_state(self) -> bool:
        """Whether one of its connections carries a transaction or a changed session."""
        return any(seat.holds_state for seat in self.seats.values())

    @property
    def in_operation(self) -> bool:
        """Whether an operation runs, at whose end the connections are looked after."""
        return self._depth > 0

    # -- operations ----------------------------------------------------------------------------------------------

    async def run(self, function: Callable[..., T], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> T:
        """Runs ``function`` in a greenlet as one operation, after which clean connections go back to the pool.

        - **cancel**: a connection cancelled amid a statement is closed, the others go back.
        """
        before, self._acting = self._acting, asyncio.current_task()
        self._depth += 1
        try:
            return await spawned(function, args, kwargs)
        finally:
            self._acting = before
            self._depth -= 1
            if not self._depth:
                for seat in self.seats.values():
                    if seat.link is not None:
                        seat.give_back() if self.closed else seat.settle()

    def call_from_thread(self, seat: Seat, function: Callable[..., T], *args: Any) -> T:
        """Calls ``function`` in a greenlet on the loop for a thread that the owner waits for; blocks the thread."""
        errand = errand_of_this_thread()
        if errand is None:
            raise DatabaseError(
                f"the connection {seat.alias!r} of {task_name(self.owner)} was handed to a thread of its own, and can "
                "only be used by threads that sync_to_async starts while the task waits",
            )
        if self.closed or self.loop.is_closed():
            self._refuse_thread()
        return _from_thread(self.loop, self._run_for_thread(errand, seat, function, args))

    async def _run_for_thread(
        self, errand: Errand | None, seat: Seat, function: Callable[..., T], args: tuple[Any, ...]
    ) -> T:
        if self.closed or not (self.owner is None or runs_for(self.owner, errand)):
            self._refuse_thread()
        before, self._acting = self._acting, asyncio.current_task()
        self._depth += 1
        try:
            return await spawned(function, args, {})
        finally:
            self._acting = before
            self._depth -= 1
            if self.has_ended():
                seat.give_back()  # it may have come after the end
            elif not self._depth:
                seat.settle()

    def has_ended(self) -> bool:
        """Whether it was closed meanwhile."""
        return self.closed

    def _refuse_thread(self) -> NoReturn:
        raise ScopeClosed(
            f"a thread asked for the connection of {task_name(self.owner)}, which does not wait for that thread (any "
            "more): its scope has ended, it was cancelled, or it went on; nothing was sent",
        )

    def outlive(self, apart: Scope) -> None:
        """Ends ``apart``, which a stream opened, with this scope; one for a single operation ends before its stream."""
        if not self.brief:
            self.guests.add(apart)
            apart._host = self

    def emptied(self) -> None:
        """Called when a seat was left: a stream's scope is over then."""
        if self._host is not None:
            self._host.guests.discard(self)

    def soon(self, function: Callable[[], None]) -> None:
        """Calls ``function`` on the loop: now if this is its thread, else as soon as it can."""
        if asyncio._get_running_loop() is self.loop:
            function()
        else:
            try:
                self.loop.call_soon_threadsafe(function)
            except RuntimeError:
                log.debug("the loop of %r is closed", self)

    def close(self) -> None:
        """Ends the scope: clean connections go back to the pool, the others are closed. Never waits."""
        self.closed = True
        if self._host is not None:
            self._host.guests.discard(self)
        while self.guests:
            self.guests.pop().close()
        for seat in self.seats.values():
            if self._depth and seat.link is not None:
                seat.link.doom = seat.link.doom or "its scope ended amid a statement"
                seat.link.abort()
            seat.give_back()


class scope:  # noqa: N801  (a context manager, named as a noun)
    """``async with scope():`` the ORM's connections of this task, for consumers, background tasks and scripts.

    Under ``ScopeMiddleware`` each request has one. Inside another scope of the same task it is that one. A connection
    is taken for each operation and given back after it, unless a transaction is open or a statement left something
    on its session: that one is kept to the end of the scope, and then closed.

    Beneath sync code that waits by ``async_to_sync`` (a command, a WSGI view, a ``TestCase``) everything is left to
    Django, on the caller's own connection and in its transaction.

    - **errors**: ``NoEventLoop`` outside asyncio; inside, ``ScopeOwnedByTask`` for another task that reaches a
      transaction here by an inherited context;
    - **cancel**: what is clean goes back to the pool, what is not is closed.
    """

    def __init__(self) -> None:
        self._made: Scope | None = None
        self._token: Any = None

    async def __aenter__(self) -> Scope:
        task = _running_task()
        there = _current.get()
        if isinstance(there, Scope) and not there.closed and there.belongs_to(task):
            return there
        self._made = made = Scope(task, asyncio.get_running_loop())
        if _enabled:
            self._token = _current.set(OUTSIDE if has_sync_caller() else made)
        return made

    async def __aexit__(self, *_: object) -> None:
        made, self._made = self._made, None
        if made is None:
            return
        try:
            made.close()
        finally:
            if self._token is not None:
                leave(self._token)


def enable(enabled: bool) -> None:  # noqa: FBT001
    """Lets scopes have effect, or leaves everything to Django; called by ``hooks``."""
    global _enabled  # noqa: PLW0603  (one switch for the process)
    _enabled = enabled


def enabled() -> bool:
    """Whether scopes have effect in this process."""
    return _enabled


def _running_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        raise NoEventLoop("scope() needs a running asyncio event loop (trio is not supported)") from None


def leave(token: Any) -> None:
    """Gives the context back the scope that it had."""
    try:
        _current.reset(token)
    except ValueError:  # left in another context than it was entered in, as some fixtures and generators do
        _current.set(None)


@contextmanager
def entered(place: Scope | _Outside | None) -> Iterator[None]:
    """Makes ``place`` the scope of this context."""
    token = enter(place)
    try:
        yield
    finally:
        leave(token)


@contextmanager
def hidden() -> Iterator[None]:
    """Leaves what runs inside to Django: its threads, its connections."""
    with entered(OUTSIDE):
        yield


def usable() -> Scope | None:
    """The scope that the running task may use; None where a new one is due.

    - **errors**: ``ScopeOwnedByTask`` where the inherited one holds state that a new one would not have.
    """
    there = _current.get()
    if not isinstance(there, Scope) or there.closed or there.loop is not asyncio.get_running_loop():
        return None
    task = asyncio.current_task()
    if there.belongs_to(task):
        return there
    if there.holds_state:
        there.refuse(task)
    return None


def on_the_loop() -> bool:
    """Whether an event loop runs in this thread."""
    return asyncio._get_running_loop() is not None


def task_name(task: asyncio.Task[Any] | None) -> str:
    """A task, as errors name it."""
    return f"task {task.get_name()!r}" if task is not None else "no task"


def scope_of_this_thread() -> Scope | None:
    """The scope that a thread works in: its caller's, or one for a task that is not the inherited scope's owner.

    - **errors**: ``ScopeClosed`` where nobody waits for this thread any more.
    """
    there = _current.get()
    if not isinstance(there, Scope):
        return None
    errand = errand_of_this_thread()
    if errand is None:
        return None
    known: tuple[Scope, Errand, Scope] | None = getattr(_of_this_thread, "known", None)
    if known is not None and known[0] is there and known[1] is errand:
        return known[2]
    if there.loop.is_closed():
        return None
    found = _from_thread(there.loop, _scope_for(there, errand))
    _of_this_thread.known = (there, errand, found)
    return found


@contextmanager
def scope_from_thread() -> Iterator[Scope | None]:
    """A scope of the task that waits for this thread, where ``sync_to_async`` started it; none elsewhere (WSGI)."""
    errand, loop = errand_of_this_thread(), loop_of_this_thread()
    there = _current.get()
    made = None
    if _enabled and errand is not None and loop is not None and there is None and not has_sync_caller():
        made = _from_thread(loop, _opened_for(errand))
    if made is None:
        yield there if isinstance(there, Scope) else None
        return
    with entered(made):
        try:
            yield made
        finally:
            _from_thread(made.loop, _closed(made))


async def _opened_for(errand: Errand) -> Scope | None:
    waiter = waiter_for(errand)
    return None if waiter is None else Scope(waiter, asyncio.get_running_loop())


async def _closed(ended: Scope) -> None:
    ended.close()


def _from_thread(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
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


async def _scope_for(there: Scope, errand: Errand) -> Scope:
    if not there.closed and there.owner is not None and runs_for(there.owner, errand):
        return there
    waiter = waiter_for(errand)
    if waiter is None:
        raise ScopeClosed(
            f"a thread that {task_name(there.owner)} started asked for a connection, and nobody waits for that thread "
            "any more: its caller was cancelled or has gone on; nothing was sent",
        )
    if not there.closed and there.holds_state:
        there.refuse(waiter)
    for guest in there.guests:
        if guest.owner is waiter and not guest.closed:
            return guest
    made = Scope(waiter, there.loop)
    made.view_of = there
    if not there.closed:
        there.outlive(made)
    waiter.add_done_callback(lambda _: made.close())
    return made
