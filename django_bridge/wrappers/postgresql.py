"""Django's PostgreSQL wrapper on a seat: psycopg's synchronous face of the asynchronous connection.

Both faces share one libpq connection and its prepared statements; each has adapters of its own, Django's here and
SQLAlchemy's there. Read in psycopg 3.3.9 (``_connection_base.py``: ``pgconn``, ``_autocommit``, ``_adapters``,
``_prepared``, the notice and notify handlers, ``_notifies_backlog``; ``connection.py``: ``wait``, ``lock``,
``notifies``; ``_server_cursor.py``; ``errors.py``: ``_WaitTimeout``) and Django 5.2 and 6.1
(``db/backends/postgresql/base.py``).
"""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Self, TypeVar, cast
from weakref import WeakSet

import psycopg
from psycopg._typeinfo import TypesRegistry
from psycopg.adapt import AdaptersMap
from psycopg.pq import TransactionStatus
from psycopg.sql import Composable

from asyncdb.drivers.at_rest import AtRest
from asyncdb.drivers.physical import Begun
from asyncdb.drivers.postgresql import driver_state, share_adapters
from asyncdb.greenlets import in_greenlet

from ..errors import ScopeError
from .base import OnSeat

T = TypeVar("T")
_MOST_UNREAD = 10_000
"""Notifications that are kept for ``notifies()``, the latest of them; psycopg keeps all."""
_LISTENS = frozenset({TransactionStatus.IDLE, TransactionStatus.INTRANS})
log = logging.getLogger("django_bridge.transaction")


class Heard:
    """What one user of Django's connection wants to hear of the server, and what was said to nobody yet."""

    def __init__(self) -> None:
        self.notice_handlers: list[Any] = []
        self.notify_handlers: list[Any] = []
        self.backlog: deque[Any] | None = deque(maxlen=_MOST_UNREAD)
        self.notifications = self.backlog


class OnPostgreSQLSeat(OnSeat):
    """Mixin of Django's PostgreSQL wrapper."""

    heard: Heard

    def take_seat(self, seat: Any) -> None:
        self.heard = Heard()
        super().take_seat(seat)

    def close(self) -> None:
        super().close()
        if self.connection is None:
            self.heard = Heard()  # the next connection is another

    def seated_connection(self) -> Any:
        return self.seat.call(self._sit_on_taken)

    def _sit_on_taken(self) -> Face:
        link = self.taken()
        if link.face is None:
            link.face = Face(link, self.login_parameters or cast("Any", self).get_connection_params())
        face: Face = link.face
        if face.wrapper is not self:
            face.server_cursors = ()
        face.wrapper = self
        face.hear(self.heard)
        return face

    def unseated(self) -> None:
        if isinstance(self.connection, Face):
            self.connection.wrapper, self.connection.server_cursors = None, ()
            self.connection.hear(Heard())
        super().unseated()

    def rebind(self, facade: Any) -> None:
        facade.wrapper = self

    def create_cursor(self, name: str | None = None) -> Any:
        try:
            cursor: Any = super().create_cursor(name)
        except psycopg.OperationalError as err:  # the server has ended it meanwhile, which was heard before this
            self.seat.call(self.failed, err)
            raise
        return self.adopt_cursor(cursor, streams=name is not None)

    def adopt_cursor(self, cursor: Any, *, streams: bool = False) -> Any:
        if isinstance(cursor, psycopg.Cursor | psycopg.ServerCursor):
            if not issubclass(type(cursor), _Seated):
                cursor.__class__ = _seated(type(cursor))
                if isinstance(cursor, psycopg.ServerCursor):
                    cast("Any", self.connection).add_server_cursor(cursor)
            self.register(cursor, streams=streams)
        return cursor

    def _end(self, sql: str) -> None:
        """Commits as Django does: a transaction in which a statement failed is rolled back, and no error is raised.

        asyncdb's own blocks refuse such a commit. Django's leave it to PostgreSQL, which answers COMMIT with ROLLBACK,
        and code stands on it that catches an ``IntegrityError`` within ``atomic()`` (Django's postgres_tests, schema).
        """
        if sql == "COMMIT" and self.failed_on_server:
            log.warning("%r: a statement failed, so that the COMMIT of its transaction rolls it back", self.alias)
            sql = "ROLLBACK"
        super()._end(sql)

    @property
    def failed_on_server(self) -> bool:
        link = self.seat.link
        return link is not None and link.doom is None and _has_failed(link)

    def ensure_timezone(self) -> bool:
        """Sets the session's zone anew after a changed setting; what is in the pool is replaced."""
        return self.connection is not None and bool(cast("Any", self)._configure_timezone(self.connection))


def _tell_both(asynchronous: Callable[[Any], None], synchronous: Callable[[Any], None], said: Any) -> None:
    asynchronous(said)
    synchronous(said)


def _has_failed(link: Any) -> bool:
    transaction: TransactionStatus = link.raw.pgconn.transaction_status
    return transaction == TransactionStatus.INERROR


class _OneAtATime:
    """In the place of psycopg's lock: on the loop, waiting for it would be waiting for ever."""

    held = False

    def __enter__(self) -> Self:
        if self.held:
            raise psycopg.InterfaceError("another statement of this connection is on its way")
        self.held = True
        return self

    def __exit__(self, *_: object) -> None:
        self.held = False


class _Both(AdaptersMap):
    """Adapters of the synchronous face; what is registered here is registered with the asynchronous one as well."""

    def __init__(self, template: AdaptersMap, other: AdaptersMap) -> None:
        super().__init__(template)
        self._other = other
        self.types = _BothTypes(self.types, other.types)

    def register_dumper(self, *args: Any, **kwargs: Any) -> None:
        super().register_dumper(*args, **kwargs)
        self._other.register_dumper(*args, **kwargs)

    def register_loader(self, *args: Any, **kwargs: Any) -> None:
        super().register_loader(*args, **kwargs)
        self._other.register_loader(*args, **kwargs)


class _BothTypes(TypesRegistry):
    """Types known to both faces."""

    def __init__(self, template: TypesRegistry, other: TypesRegistry) -> None:
        super().__init__(template)
        self._other = other

    def add(self, info: Any) -> None:
        super().add(info)
        self._other.add(info)


class Face(AtRest, psycopg.Connection[Any]):
    """The synchronous face: what Django calls the connection."""

    server_cursors: Collection[Any] = ()
    """Those of its present user."""

    def __init__(self, link: Any, parameters: Any) -> None:
        self._asynchronous: psycopg.AsyncConnection[Any] = link.raw
        pgconn = self._asynchronous.pgconn
        self._heard = Heard()
        handlers = pgconn.notice_handler, pgconn.notify_handler
        super().__init__(pgconn)
        pgconn.notice_handler = partial(_tell_both, handlers[0], pgconn.notice_handler)
        pgconn.notify_handler = partial(_tell_both, handlers[1], pgconn.notify_handler)
        self._link = link
        self._prepared = self._asynchronous._prepared
        self._autocommit = True
        self.lock = _OneAtATime()  # type: ignore[assignment]  # all that psycopg asks of a lock
        self.wrapper = None
        self._adapters = _Both(parameters["context"].adapters, self._asynchronous.adapters)
        self.cursor_factory = _seated(parameters.get("cursor_factory") or self.cursor_factory)
        self.server_cursor_factory = _seated(self.server_cursor_factory)
        self.note_rest()

    def add_server_cursor(self, cursor: Any) -> None:
        """Notes a cursor of the present user, which will be no other's to close."""
        if not isinstance(self.server_cursors, WeakSet):
            self.server_cursors = WeakSet()
        self.server_cursors.add(cursor)

    def note_held(self, name: str) -> None:
        """Notes a cursor that outlives its transaction, and would be met by the next user of the connection."""
        self._link.held_cursors.add(name)

    def note_closed(self, name: str) -> None:
        """Notes that such a one is closed; in a failed transaction psycopg sends nothing, and it stays."""
        if self.pgconn.transaction_status in _LISTENS:
            self._link.held_cursors.discard(name)

    def begin_rest(self) -> None:
        share_adapters(self)

    def driver_state(self) -> Any:
        return driver_state(self)

    @property
    def wrapper(self) -> Any:
        """Who has this connection now; weakly, for the pool would keep a task that nobody can wake any more."""
        return None if self._wrapper is None else self._wrapper()

    @wrapper.setter
    def wrapper(self, wrapper: Any) -> None:
        self._wrapper = None if wrapper is None else weakref.ref(wrapper)

    def hear(self, heard: Heard) -> None:
        """Calls these handlers from now on, and keeps for ``notifies()`` what nobody handles."""
        self._heard = heard
        self._notice_handlers, self._notify_handlers = heard.notice_handlers, heard.notify_handlers
        self.lock = _OneAtATime()  # type: ignore[assignment]  # an iterator that was left holds the other one

    @property
    def _notifies_backlog(self) -> deque[Any] | None:
        return self._heard.backlog

    @_notifies_backlog.setter
    def _notifies_backlog(self, backlog: deque[Any] | None) -> None:
        # ``notifies()`` takes it away and puts it back at its end, which may come when another has the connection.
        if backlog is None or backlog is self._heard.notifications:
            self._heard.backlog = backlog

    def __del__(self) -> None:  # type: ignore[override]  # psycopg warns of what was not closed; its owner closes it
        """The asynchronous face owns the connection."""

    @property
    def autocommit(self) -> bool:
        return bool(self._link.begun is Begun.NO)

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        self._seated().switch_driver(value)

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        wrapper = self._seated()
        if not in_greenlet():
            return wrapper.seat.call(self.wait, gen, interval, timeout)
        wrapper.seat.scope.note_reader()
        try:
            return self._link.wait_for(self._asynchronous.wait(gen, interval, timeout))
        except psycopg.errors._WaitTimeout:  # nobody has failed: no notification came
            raise
        except BaseException as error:
            self._note(wrapper, error)
            raise

    def statement(self, function: Callable[..., T], query: Any, *args: Any, **kwargs: Any) -> T:
        """Runs a cursor's method that sends ``query``, on the loop."""
        wrapper = self._seated()
        return cast("T", wrapper.seat.call(self._statement, wrapper, partial(function, query, *args, **kwargs), query))

    def _statement(self, wrapper: Any, send: Callable[[], T], query: Any) -> T:
        wrapper.before(_text(query, self))
        return send()

    def _note(self, wrapper: Any, error: BaseException) -> None:
        if isinstance(error, psycopg.Error) or self.pgconn.transaction_status == TransactionStatus.ACTIVE:
            wrapper.failed(error)

    def _seated(self) -> Any:
        wrapper = self.wrapper
        if wrapper is None or wrapper.seat.link is not self._link:
            raise psycopg.InterfaceError(
                "this cursor's connection went back to the pool when its operation ended, or the task that opened its "
                "stream: use the cursor within one run_django(), or inside transaction.atomic(), and read a stream in "
                "the task that opened it",
            )
        return wrapper

    def commit(self) -> None:
        wrapper = self._seated()
        wrapper.seat.call(wrapper._end, "COMMIT")

    def rollback(self) -> None:
        wrapper = self._seated()
        wrapper.seat.call(wrapper._end, "ROLLBACK")

    def close(self) -> None:
        if self.wrapper is not None:
            self.wrapper.let_go()


class _Seated:
    """Mixin of psycopg's cursors: each statement is prepared for by the wrapper, and sent on the loop."""

    __slots__ = ()
    _conn: Face

    def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._conn.statement(super().execute, query, *args, **kwargs)  # type: ignore[misc]  # a mixin
        except BaseException as error:
            if not isinstance(error, Exception):  # Django closes a cursor that fails, and knows of no cancellation
                cast("Any", self)._close()
            raise

    def executemany(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        return self._conn.statement(super().executemany, query, *args, **kwargs)  # type: ignore[misc]  # a mixin

    def stream(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        self._conn.statement(_nothing, query)
        return super().stream(query, *args, **kwargs)  # type: ignore[misc]  # a mixin

    def copy(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
        self._conn.statement(_nothing, statement)
        return super().copy(statement, *args, **kwargs)  # type: ignore[misc]  # a mixin

    def close(self) -> None:
        cast("Any", self)._close()  # which asks the server nothing
        if (wrapper := self._conn.wrapper) is not None:
            wrapper.seat.closed(self)


class _SeatedOnServer(_Seated):
    """Mixin of those that the server keeps, too: it closes them when it is told, or with the session's reset."""

    __slots__ = ()

    def __init__(self, connection: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(connection, *args, **kwargs)  # type: ignore[call-arg]  # a mixin
        connection.add_server_cursor(self)

    def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        cursor: Any = self
        if cursor.withhold:
            self._conn.note_held(cursor.name)
        return super().execute(query, *args, **kwargs)

    def close(self) -> None:
        try:
            if self._may_be_closed_now():
                super(_Seated, self).close()  # type: ignore[misc]  # psycopg's
                self._conn.note_closed(cast("Any", self).name)
        except ScopeError as err:  # nobody waits for this thread (any more)
            log.debug("a cursor is left open until its connection is reset: %s", err)
        finally:
            super().close()

    def _may_be_closed_now(self) -> bool:
        face: Any = self._conn
        wrapper = face.wrapper
        if self not in face.server_cursors or wrapper is None or wrapper.seat.link is not face._link:
            return False  # its connection has another user, and it was closed by the reset between them
        return face._link.doom is None and not face.lock.held and wrapper.seat.may_ask


def _nothing(_: Any) -> None:
    """COPY is sent when its block is entered; this only prepares for it."""


_classes: dict[type, type] = {}


def _seated(cls: type) -> type:
    if (found := _classes.get(cls)) is None:
        mixin = _SeatedOnServer if issubclass(cls, psycopg.ServerCursor) else _Seated
        found = _classes[cls] = type(cls.__name__, (mixin, cls), {"__slots__": (), "__module__": cls.__module__})
    return found


def _text(query: Any, face: Face) -> str:
    if isinstance(query, str):
        return query
    if isinstance(query, Composable):
        return query.as_string(face)
    return bytes(query).decode(errors="replace") if isinstance(query, bytes | bytearray) else ""
