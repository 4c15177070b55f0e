"""How many statements were sent, and by which kind of driver.

A statement is what Django's own ``CursorWrapper`` hands to the cursor below it, in both ways of running. Which driver
carried it is seen in the drivers' own code, but for the one method that asyncdb overrides in psycopg's:

- a **sync** driver was at work if mysqlclient's ``Connection.query`` or psycopg's blocking ``waiting.wait`` was entered
  in any thread before the statement came back, or the cursor of ``sqlite3`` in the same thread;
- an **async** driver was at work if asyncmy's ``Connection._execute_command``, the coroutine ``wait`` of psycopg's
  ``AsyncConnection`` or of a subclass of it (asyncdb has one), or aiosqlite's ``Connection._execute`` was entered.

A statement is native if an async driver was at work and no sync one. One that reached no driver (refused by Django, or
by a cursor of a test's own making) was not sent. For SQLite the same ``sqlite3`` is below both, but under aiosqlite it
runs in aiosqlite's thread and not in that of the statement.

Three kinds of statements are left out, in both ways. BEGIN: only on SQLite does Django send it through a cursor. What
a wrapper sends in ``connect()``: on the loop asyncdb's connections come with it. Those of threads that a test starts
itself: they have a connection of Django's own, in both ways and by design; executors' threads (``sync_to_async``) do.

Private names used here: ``CursorWrapper._execute`` and ``._executemany`` (Django 5.2 and 6.1),
``asyncmy.Connection._execute_command`` (asyncmy 0.2.18), ``aiosqlite.Connection._execute`` (aiosqlite 0.22).
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any


class _Seen:
    """How often a sync driver was entered."""

    sync = 0


class _SeenInThread(threading.local, _Seen):
    """How often it was entered in this thread."""


class _Connects(threading.local):
    """Whether this thread is in ``connect()``."""

    now = False


class Counter:
    """Counts from the moment it is installed until the process ends."""

    def __init__(self) -> None:
        self.sent = 0
        self.native = 0
        self._seen: _Seen = _Seen()
        self._async_seen = 0
        self._connects = _Connects()

    def take(self) -> tuple[int, int]:
        """Returns how many were sent, and how many of them were native, since the last call."""
        taken = self.sent, self.native
        self.sent = self.native = 0
        return taken

    def install(self, family: str) -> None:
        """Watches Django, and the drivers of a family."""
        from django.db.backends.base.base import BaseDatabaseWrapper
        from django.db.backends.utils import CursorWrapper

        for name in ("_execute", "_executemany"):
            _replace(CursorWrapper, name, self._statement)
        _replace(BaseDatabaseWrapper, "connect", self._connecting)
        getattr(self, f"_watch_{family}")()

    def _watch_mariadb(self) -> None:
        from asyncmy.connection import Connection as AsyncConnection
        from MySQLdb.connections import Connection

        _replace(Connection, "query", self._sync)
        _replace(AsyncConnection, "_execute_command", self._async)

    def _watch_postgresql(self) -> None:
        from psycopg import AsyncConnection, waiting

        import asyncdb.drivers.psycopg_waits  # noqa: F401  # so that its subclass is there

        _replace(waiting, "wait", self._sync)
        for each in (AsyncConnection, *AsyncConnection.__subclasses__()):
            if "wait" in vars(each):
                _replace(each, "wait", self._async)

    def _watch_sqlite(self) -> None:
        from aiosqlite import Connection
        from django.db.backends.sqlite3.base import SQLiteCursorWrapper

        self._seen = _SeenInThread()
        for name in ("execute", "executemany"):
            _replace(SQLiteCursorWrapper, name, self._sync)
        _replace(Connection, "_execute", self._async)

    def _statement(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def counted(cursor: Any, sql: Any, *args: Any) -> Any:
            if self._connects.now or not _counts() or (isinstance(sql, str) and sql.startswith("BEGIN")):
                return original(cursor, sql, *args)
            sync, asynchronous = self._seen.sync, self._async_seen
            try:
                return original(cursor, sql, *args)
            finally:
                if self._seen.sync != sync:
                    self.sent += 1
                elif self._async_seen != asynchronous:
                    self.sent += 1
                    self.native += 1

        return counted

    def _connecting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def connect(*args: Any) -> Any:
            before, self._connects.now = self._connects.now, True
            try:
                return original(*args)
            finally:
                self._connects.now = before

        return connect

    def _sync(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def seen(*args: Any, **kwargs: Any) -> Any:
            self._seen.sync += 1
            return original(*args, **kwargs)

        return seen

    def _async(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def seen(*args: Any, **kwargs: Any) -> Any:
            self._async_seen += 1
            return await original(*args, **kwargs)

        return seen


def _counts() -> bool:
    thread = threading.current_thread()
    return thread is threading.main_thread() or thread.name.startswith(("ThreadPoolExecutor", "asyncio_"))


def _replace(owner: Any, name: str, by: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    setattr(owner, name, by(getattr(owner, name)))
