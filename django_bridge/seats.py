"""The seat of one alias in a scope: when its connection is taken from the pool, how long it stays, how it goes back.

It stays until the operation on the loop ends, or the call of ``sync_to_async`` whose thread uses it; longer while a
cursor or a transaction is open, or when a statement left something on the session (``asyncdb.drivers.residue``).
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn, Protocol, TypeVar, cast

from django.core.exceptions import SynchronousOnlyOperation

from asyncdb import Database
from asyncdb.collecting import collecting
from asyncdb.drivers.physical import PhysicalConnection
from asyncdb.engine import pool_of
from asyncdb.errors import TransactionMisuse
from asyncdb.greenlets import in_greenlet

from .errors import ScopeClosed, SessionLost
from .lent import LentConnection
from .loops import on_the_loop
from .ownership import errand_of_this_thread

__all__ = ["Seat"]

T = TypeVar("T")
log = logging.getLogger("django_bridge.scope")


_MEMORY = "its wrapper"


class Host(Protocol):
    """Whose seat it is; see ``scopes.Scope``."""

    owner: asyncio.Task[Any] | None
    loop: asyncio.AbstractEventLoop
    seats: dict[str, Seat]

    @property
    def holder(self) -> asyncio.Task[Any] | None: ...
    @property
    def in_operation(self) -> bool: ...
    @property
    def serves_a_thread(self) -> bool: ...
    def require_task(self) -> None: ...
    def admits(self, task: asyncio.Task[Any] | None) -> bool: ...
    def call_from_thread(self, seat: Seat, function: Callable[..., T], *args: Any) -> T: ...
    def soon(self, function: Callable[[], None]) -> None: ...
    def later(self, function: Callable[[], None]) -> None: ...
    def emptied(self) -> None: ...
    def outlive(self, apart: Any) -> None: ...


class Seat:
    """The place of one alias in a scope, on which at most one connection sits."""

    link: Any = None
    wrapper: Any = None
    lost: str | None = None
    """What had changed the session of a connection that was lost, without which nothing goes on."""
    used = False
    """Whether a statement was sent on the connection since it sits here."""
    _checkout: Any = None
    _pool: Any = None
    _lent: weakref.WeakSet[LentConnection] | None = None

    def __init__(self, scope: Host, alias: str, database: Callable[[], Database]) -> None:
        self.scope = scope
        self.alias = alias
        self._database = database
        self._cursors: dict[int, weakref.ref[Any]] = {}
        self._streams: set[int] = set()
        self.unread: set[Any] = set()
        """What others have left unread on the connection, which looks after it."""

    @classmethod
    def lent(cls, scope: Host, alias: str, link: PhysicalConnection) -> Seat:
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

    def beside(self, scope: Host) -> Seat:
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
                "(aget, asave, async for), or run the whole function by `await run_django(function)`; "
                "DJANGO_ALLOW_ASYNC_UNSAFE allows it outside of scopes alone, on a connection of Django's own",
            )
        return self.scope.call_from_thread(self, function, *args)

    @property
    def may_ask(self) -> bool:
        """Whether who leaves a cursor in this place may ask the server to close it; else nothing is to wait here.

        Python may run that code anywhere: in the collector, on the loop outside of a greenlet, in a task or a thread
        that has nothing to do with the scope.
        """
        if collecting():
            return False
        if in_greenlet():
            return self.scope.admits(asyncio.current_task())
        return not on_the_loop() and errand_of_this_thread() is not None

    # -- the connection ------------------------------------------------------------------------------------------

    def taken(self) -> Any:
        """The physical connection, taken from the pool if none sits here. In a greenlet.

        - **errors**: ``SessionLost`` where one was lost with a changed session.
        """
        if self.link is None:
            if self.lost is not None:
                self.refuse_without_its_session()
            pool = self._pool
            if pool is None or pool.closed:
                pool = self._pool = pool_of(self._database().engine)
            checkout = pool.checkout(self.scope.holder)
            if cast("Any", self).link is not None:  # what a test puts before each connection has connected meanwhile
                checkout.close()
                return self.link
            self._checkout, self.link = checkout, checkout.dbapi_connection
            self.link.implies_begin = False  # Django's connections are in autocommit
            self.used = False
        return self.link

    def is_disconnect(self, error: Exception) -> bool:
        """Whether the connection is of no use after ``error`` of its driver."""
        if self._checkout is None:
            return False
        return bool(self._database().engine.dialect.is_disconnect(error, self.link, None))  # type: ignore[arg-type]

    @property
    def is_lent(self) -> bool:
        """Whether the connection was put here by somebody else, who will take it away."""
        return self._checkout is None

    @property
    def streams(self) -> bool:
        """Whether a cursor has rows on the server still."""
        return bool(self._streams)

    def note_retry(self) -> None:
        """Counts a statement that is sent once more."""
        self._pool.counts.retried += 1

    @property
    def session_changed(self) -> bool:
        """Whether a statement left something on the session, so that all that follows belongs on this connection."""
        return self.lost is not None or (self.link is not None and self.link.left is not None)

    @property
    def holds_state(self) -> bool:
        """Whether the connection carries what another would lack: a transaction, or something left on the session."""
        link, wrapper = self.link, self.wrapper
        if wrapper.remembers:
            return True
        if link is None:
            return self.lost is not None
        if link.left is not None or wrapper.in_atomic_block or not wrapper.autocommit:
            return True
        return link.doom is None and bool(link.holds_transaction)

    def settle(self) -> None:
        """Gives the connection back if nothing keeps it here: no work that goes on, nor what :meth:`rest` names."""
        if not (self.scope.serves_a_thread or self.scope.in_operation):
            self.rest()

    def rest(self) -> None:
        """Gives the connection back unless a transaction, a changed session or an open cursor keeps it here."""
        if self._checkout is None or self._cursors or self.holds_state:
            return
        self._leave(clean=self.link.doom is None)
        if self.scope.owner is None:
            self.scope.emptied()

    def lose(self) -> None:
        """Gives a connection back that is of no use any more; with it goes what was left on its session."""
        if self.link is not None:
            self.lost = self.link.left or self.lost or (_MEMORY if self.wrapper.remembers else None)
            self.give_back()

    def refuse_without_its_session(self) -> NoReturn:
        """Raises the error that says what was lost, and how to go on without it."""
        raise SessionLost(
            f"the connection of {self.alias!r} was lost on which {self.lost} had changed the session (a setting, a "
            "lock, a temporary table), and nothing was sent without it: end the scope, or call connection.close() and "
            "make the session anew",
        )

    def lend(self) -> LentConnection:
        """The connection, which carries a changed session, for a session of SQLAlchemy's: until it leaves the seat."""
        if self.link is None:
            self.refuse_without_its_session()
        lent = LentConnection(self.link, self._require_autocommit)
        if self._lent is None:
            self._lent = weakref.WeakSet()
        self._lent.add(lent)
        self.link.shared_by_sessions = True
        return lent

    def _require_autocommit(self) -> None:
        self.scope.require_task()
        if self.wrapper.in_atomic_block or not self.wrapper.autocommit:
            raise TransactionMisuse(
                f"a session() on {self.alias!r} shares the connection on which {self.link.left} changed the session, "
                "and that is in an atomic() block: use the block's own session (async with atomic() as db)",
            )

    def give_back(self) -> None:
        """Gives the connection back at once, closed if a transaction is open on it. Never waits, never raises.

        What a statement left on the session is the pool's affair, which has the server forget it.
        """
        if self._checkout is not None:
            self._leave(clean=not self._streams and self.link.nothing_to_end)

    def _leave(self, *, clean: bool) -> None:
        checkout, link, self._checkout, self.link = self._checkout, self.link, None, None
        if self._lent is not None:
            for lent in self._lent:
                lent.sever()
            self._lent = None
        if self._streams:
            link.left = link.left or "an open stream"
        if link.stream_unfinished:  # the server would send all of it before anything else
            clean, link.doom = False, link.doom or "a stream was left unfinished"
        self._cursors.clear()
        self._streams.clear()
        self.unread.clear()
        self.wrapper.unseated()
        try:
            if clean:
                checkout.close()
            else:
                left = link.left and f"{link.left} left something on its session"
                link.doom = link.doom or left or "a transaction was open"
                checkout.invalidate()
        except Exception as err:
            log.warning("%r: a connection could not be given back (%s) and is lost", self.alias, type(err).__name__)

    def hold_for(self, cursor: object, *, streams: bool = False) -> None:
        """Keeps the connection while ``cursor`` is open, or alive; of one that ``streams`` something may stay open."""
        key = id(cursor)
        if streams:
            self._streams.add(key)
        self._cursors[key] = weakref.ref(cursor, lambda _: self._was_collected(key))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps the connection from when it is taken to when a cursor is made on it."""
        self.hold_for(self)
        try:
            yield
        finally:
            self.closed(self)

    def closed(self, cursor: object) -> None:
        """Called when ``cursor`` is closed, from wherever that is."""
        if self._cursors:
            self._closed(id(cursor))

    def _was_collected(self, key: int) -> None:
        self._comes_back()
        self.scope.later(partial(self._forgotten, key))

    def _comes_back(self) -> None:
        """Has the pool know that who asks for one more need not wait for himself, if this is a stream's own."""
        if self.scope.owner is None and (link := self.link) is not None:
            link.coming_back = True

    def _forgotten(self, key: int) -> None:
        """Called on the loop, some time after the garbage collector has found a cursor; its number may be another's."""
        found = self._cursors.get(key)
        if found is not None and found() is None:
            self._closed(key)

    def _closed(self, key: int) -> None:
        streamed = key in self._streams
        self._streams.discard(key)
        if self._cursors.pop(key, None) is not None and not self._cursors:
            self._comes_back()
            self.scope.soon(self._end_stream if streamed else self.settle)

    def _end_stream(self) -> None:
        """Called on the loop when a stream was closed, at its end or before."""
        if self.link is None or self._cursors or not self.link.stream_unfinished:
            self.settle()
            return
        self.give_back()
        if self.scope.owner is None:
            self.scope.emptied()
