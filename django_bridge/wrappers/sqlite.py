"""Django's SQLite wrapper on a seat: Django's own cursor, run in aiosqlite's thread.

A statement and all its rows are one visit to that thread. Rows are read whole: a statement that is left unfinished
would hold SQLite's lock against every other connection. Private names: ``aiosqlite.Connection._execute`` and ``_conn``
(aiosqlite 0.22).
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, cast

from .base import OnSeat

T = TypeVar("T")


class OnSQLiteSeat(OnSeat):
    """Mixin of Django's SQLite wrapper."""

    def seated_connection(self) -> Any:
        return InThread(self)

    def create_cursor(self, name: str | None = None) -> Any:
        return self.adopt_cursor(super().create_cursor(name))

    def adopt_cursor(self, cursor: Any, *, streams: bool = False) -> Any:
        if isinstance(cursor, Cursor):
            self.register(cursor)
        return cursor

    def chunked_cursor(self) -> Any:
        return self.cursor()

    def released(self) -> None:
        if not cast("Any", self).is_in_memory_db():  # which Django never closes either
            super().released()

    def lend(self, own: Any) -> None:
        """The very connection of a database in memory, as Django does: it is locked as a whole against any other."""
        if self.seat.link is not None and cast("Any", self).is_in_memory_db():
            own.connection, own.autocommit = self.seat.link.raw._conn, True

    def in_thread(self, function: Callable[..., T], *args: Any) -> T:
        """Calls ``function(real connection, ...)`` in aiosqlite's thread, and waits."""
        return cast("T", self.seat.call(self._in_thread, function, *args))

    def _in_thread(self, function: Callable[..., T], *args: Any) -> T:
        link = self.taken()
        raw = link.raw
        try:
            return cast("T", link.wait_for(raw._execute(function, raw._conn, *args)))
        except BaseException as error:
            if not isinstance(error, Exception) or isinstance(error, sqlite3.Error):
                self.failed(error)
            raise


class InThread:
    """``sqlite3``'s connection as Django uses it."""

    def __init__(self, wrapper: OnSQLiteSeat) -> None:
        self._wrapper = wrapper

    def cursor(self, factory: type[sqlite3.Cursor] = sqlite3.Cursor) -> Cursor:
        return Cursor(self._wrapper, factory)

    def execute(self, statement: str, *args: Any) -> Cursor:
        return self.cursor().execute(statement, *args)

    def executemany(self, statement: str, args: Iterable[Any]) -> Cursor:
        return self.cursor().executemany(statement, args)

    def executescript(self, script: str) -> None:
        self._wrapper.seat.call(self._wrapper.before, script)
        self._wrapper.in_thread(lambda real: real.executescript(script))

    def in_thread(self, function: Callable[..., T], *args: Any) -> T:
        """Calls ``function(real connection, ...)`` in the connection's thread."""
        return self._wrapper.in_thread(function, *args)

    def commit(self) -> None:
        self._wrapper.seat.call(self._wrapper._end, "COMMIT")

    def rollback(self) -> None:
        self._wrapper.seat.call(self._wrapper._end, "ROLLBACK")

    def close(self) -> None:
        self._wrapper.let_go()

    def __getattr__(self, name: str) -> Any:
        value = self._wrapper.in_thread(lambda real: getattr(real, name))
        if not callable(value):
            return value

        @functools.wraps(value)
        def called(*args: Any, **kwargs: Any) -> Any:
            return self._wrapper.in_thread(lambda _: value(*args, **kwargs))

        return called


class Cursor:
    """``sqlite3``'s cursor, with its rows already there."""

    arraysize = 1

    def __init__(self, wrapper: OnSQLiteSeat, factory: type[sqlite3.Cursor]) -> None:
        self._wrapper = wrapper
        self._factory = factory
        self._rows: list[Any] = []
        self._next = 0
        self._closed = False
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    @property
    def connection(self) -> Any:
        return self._wrapper.connection

    def execute(self, query: str, *args: Any) -> Cursor:
        return self._send("execute", query, *args)

    def executemany(self, query: str, rows: Iterable[Any]) -> Cursor:
        return self._send("executemany", query, rows)

    def fetchone(self) -> Any:
        if self._next >= len(self._rows):
            return None
        self._next += 1
        return self._rows[self._next - 1]

    def fetchmany(self, size: int | None = None) -> list[Any]:
        start = self._next
        self._next = min(len(self._rows), start + (size or self.arraysize))
        return self._rows[start : self._next]

    def fetchall(self) -> list[Any]:
        start, self._next = self._next, len(self._rows)
        return self._rows[start:] if start else self._rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchone, None)

    def close(self) -> None:
        self._rows = []
        self._closed = True
        self._wrapper.seat.closed(self)

    def _send(self, method: str, query: str, *args: Any) -> Cursor:
        if self._closed:
            raise sqlite3.ProgrammingError("Cannot operate on a closed cursor.")
        return self._wrapper.seat.call(self._sent, method, query, *args)

    def _sent(self, method: str, query: str, *args: Any) -> Cursor:
        self._wrapper.before(query)
        done = self._wrapper._in_thread(_run, self._factory, method, query, args)
        self._rows, self.description, self.rowcount, self.lastrowid = done
        self._next = 0
        return self


def _run(real: sqlite3.Connection, factory: type[sqlite3.Cursor], method: str, query: str, args: Any) -> Any:
    cursor = real.cursor(factory)
    try:
        getattr(cursor, method)(query, *args)
        rows = cursor.fetchall() if cursor.description is not None else []
        return rows, cursor.description, cursor.rowcount, cursor.lastrowid
    finally:
        cursor.close()
