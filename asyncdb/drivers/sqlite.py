"""SQLite through aiosqlite: one thread a connection, which is the driver's own way.

Read in aiosqlite 0.22.1 (``core.py``: ``stop``,
``_running``, ``_tx``, ``_STOP_RUNNING_SENTINEL``, ``_thread``, ``_connection_worker_thread``) and SQLAlchemy 2.1.9
(``dialects/sqlite/aiosqlite.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import sqlite3
import threading
import uuid
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import aiosqlite
from aiosqlite import core
from sqlalchemy import types as sqltypes
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_ss_cursor,
    SQLiteDialect_aiosqlite,
)
from sqlalchemy.dialects.sqlite.base import DATE, DATETIME, TIME, SQLiteCompiler

from ..config import DatabaseConfig
from ..errors import ConfigurationError
from ..greenlets import await_, in_greenlet
from .connecting import refuse_unknown_options, within_connect_timeout
from .cursors import BoundedCursor, BoundedStreamCursor
from .dialect import PhysicalDialect
from .physical import Begun, Liveness, PhysicalConnection, TransactionOptions
from .routines import Routines
from .statements import Kind, NotingCompiler

log = logging.getLogger("asyncdb.pool")

DRIVER_OPTIONS = frozenset({"cached_statements", "detect_types", "factory", "transaction_mode", "uri"})
"""What ``driver_options`` may hold."""

_SENDS = frozenset({"execute", "executemany", "execute_fetchall", "_execute_fetchall", "executescript"})
"""Functions of ``sqlite3``'s and aiosqlite's that send a statement."""
_ROWS_OF_A_CHUNK = 64  # aiosqlite's own default
_TRANSACTION_MODES = ("DEFERRED", "IMMEDIATE", "EXCLUSIVE")


class _Cursor(BoundedCursor, AsyncAdapt_aiosqlite_cursor):
    _aenter_cursor = AsyncAdapt_aiosqlite_cursor._aenter_cursor  # the cursor is made in the thread


class _StreamCursor(BoundedStreamCursor, AsyncAdapt_aiosqlite_ss_cursor):
    _aenter_cursor = AsyncAdapt_aiosqlite_ss_cursor._aenter_cursor


class Connection(PhysicalConnection, AsyncAdapt_aiosqlite_connection):
    """One connection of aiosqlite's."""

    _cursor_cls = _Cursor
    _ss_cursor_cls = _StreamCursor
    _connection: Any  # aiosqlite.Connection
    isolation_level_of_server = "SERIALIZABLE"
    limits_on_server = False  # SQLite has none; the statement is interrupted

    @property
    def server_in_transaction(self) -> bool:
        return self._connection._connection is not None and self._connection.in_transaction

    def begin_rest(self) -> None:
        self._connection._conn.altered = False

    def driver_state(self) -> Any:
        real = self._connection._connection
        if real is None:  # it is closed, and nobody's any more
            return self._at_rest
        return (real.altered, real.row_factory, real.text_factory, real.isolation_level)

    def needs_begin(self, kind: Kind) -> bool:
        # As in Django's autocommit: a read takes and gives back SQLite's own lock, and nothing that reads can write.
        # A BEGIN that reads first and writes later fails at once when another wrote in between (SQLITE_BUSY_SNAPSHOT).
        return kind in (Kind.CONTROL, Kind.WRITE)

    def look(self) -> Liveness:
        alive = self.doom is None and self._connection._running and self._connection._connection is not None
        return Liveness.WHOLE if alive else Liveness.DEAD

    async def probe(self) -> None:
        pass

    async def send(self, sql: str) -> None:
        await self._connection.execute_fetchall(sql)

    async def send_begin(self, options: TransactionOptions, isolation: str | None) -> None:
        if options.read_only:
            await self.send("PRAGMA query_only = ON")
            await self.send("BEGIN")
        else:
            await self.send(f"BEGIN {self.config.driver_options.get('transaction_mode') or 'IMMEDIATE'}")

    def end(self, sql: str) -> None:
        read_only = self.options.read_only and self.begun is Begun.SENT
        try:
            super().end(sql)
        finally:
            if read_only and self.doom is None:
                self._say("PRAGMA query_only = OFF")

    def ends_transaction(self, error: BaseException) -> bool:
        return not self.server_in_transaction

    def abort(self) -> None:
        """Stops the statement that runs, and lets the thread close its connection and end; does not wait."""
        self.unwatch()
        self._interrupt()
        raw = self._connection
        if raw._running:
            raw._running = False
            # Not ``stop()``: it makes a future, whose loop may be closed when the thread answers.
            raw._tx.put_nowait((None, functools.partial(_close_in_thread, raw)))

    def terminate(self) -> None:
        if in_greenlet():
            self._interrupt()
            self.close()
        else:
            self.abort()

    def close(self) -> None:
        self.unwatch()
        raw = self._connection
        if raw._running:
            raw._running = False
            closed = self._loop.create_future()
            raw._tx.put_nowait((closed, functools.partial(_close_in_thread, raw)))
            raw._tx.put_nowait((None, _end_thread))
            await_(self._ended(closed))

    def _interrupt(self) -> None:
        if self._connection._connection is not None:
            with contextlib.suppress(sqlite3.ProgrammingError):  # its thread has closed it
                self._connection._connection.interrupt()

    async def _ended(self, thread: asyncio.Future[Any]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.close_timeout):
                await asyncio.shield(thread)


class _Driver(aiosqlite.Connection):
    """aiosqlite's connection that says when a statement of who has it in hand is about to be sent."""

    owed: Callable[[str | None], Awaitable[None]] | None = None

    async def _execute(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        if self.owed is not None and getattr(fn, "__name__", "") in _SENDS and args:
            await self.owed(str(args[0]))
        return await super()._execute(fn, *args, **kwargs)  # type: ignore[no-untyped-call]  # aiosqlite's


def _alters(name: str) -> Any:
    original = getattr(sqlite3.Connection, name, None)
    if original is None:  # Python < 3.12: setconfig; or a Python without extension loading
        return None

    @functools.wraps(original)
    def noted(self: Any, *args: Any, **options: Any) -> Any:
        self.altered = True
        return getattr(super(_KnowsItsCursors, self), name)(*args, **options)

    return noted


class _KnowsItsCursors(sqlite3.Connection):
    """Mixin of what ``sqlite3.connect`` makes: it knows its cursors, and whether somebody has changed it.

    SQLite keeps a closed connection, with its transaction and its locks, as long as one of its cursors lives, and that
    may be as long as the traceback of a cancellation (SQLite manual, ``sqlite3_close_v2``: "zombie"; CPython from 3.11
    on leaves the cursors alone). Nor does it roll back while a cursor that was interrupted is open.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cursors: weakref.WeakSet[sqlite3.Cursor] = weakref.WeakSet()

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        made = super().cursor(*args, **kwargs)
        self._cursors.add(made)
        return made

    def close(self) -> None:
        for cursor in list(self._cursors):
            with contextlib.suppress(sqlite3.Error):
                cursor.close()
        with contextlib.suppress(sqlite3.Error):
            self.rollback()
        super().close()

    altered = False
    """Whether somebody has set what SQLite does not tell again: a function, a collation, an authorizer."""


for _name in (
    "create_aggregate create_collation create_function create_window_function deserialize enable_load_extension "
    "load_extension set_authorizer set_progress_handler set_trace_callback setconfig setlimit"
).split():
    if (_noted := _alters(_name)) is not None:
        setattr(_KnowsItsCursors, _name, _noted)


def _work(orders: Any) -> None:
    """Aiosqlite's thread, which outlives the loop that asked: 0.22.1 dies where it cannot tell it of an outcome."""
    while True:
        try:
            core._connection_worker_thread(orders)
            return
        except RuntimeError as err:  # from ``call_soon_threadsafe``: the loop is closed, and nobody waits for this one
            log.debug("nobody waits for a statement of SQLite any more (%s)", err)


def _end_thread() -> object:
    """Ends the thread where ``_close_in_thread`` could not tell its loop that it did."""
    return core._STOP_RUNNING_SENTINEL


def _close_in_thread(raw: Any) -> object:
    connection, raw._connection = raw._connection, None
    with contextlib.suppress(sqlite3.Error):  # the thread must end, whatever this says
        if connection is not None:
            connection.close()
    return core._STOP_RUNNING_SENTINEL


class _Compiler(NotingCompiler, SQLiteCompiler):
    pass


class _Detected:
    """Mixin of a type whose values ``sqlite3`` has converted already, where ``detect_types`` says so."""

    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        parse: Any = super().result_processor(dialect, coltype)  # type: ignore[misc]  # a mixin
        if parse is None or not dialect.detects_types:
            return parse
        return lambda value: parse(value) if isinstance(value, str) else value


class _DateTime(_Detected, DATETIME):
    pass


class _Date(_Detected, DATE):
    pass


class _Time(_Detected, TIME):
    pass


class Dialect(PhysicalDialect, SQLiteDialect_aiosqlite):
    """SQLAlchemy's SQLite dialect on :class:`Connection`."""

    supports_statement_cache = True
    statement_compiler = _Compiler
    isolation_levels = ("AUTOCOMMIT", "SERIALIZABLE")
    colspecs = SQLiteDialect_aiosqlite.colspecs | {
        sqltypes.DateTime: _DateTime,
        sqltypes.Date: _Date,
        sqltypes.Time: _Time,
    }

    @functools.cached_property
    def routines(self) -> Routines:
        return Routines(all_harmless=True)  # a function of SQLite has no session to change

    detects_types = False
    """Whether ``sqlite3`` converts by a column's declared type, as Django lets it."""
    _anchor: sqlite3.Connection | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._memory_name = f"file:asyncdb-{uuid.uuid4().hex}?mode=memory&cache=shared"

    def open(self, config: DatabaseConfig) -> Connection:
        self.detects_types = bool(config.driver_options.get("detect_types"))
        if config.in_memory:
            config = self._in_shared_memory(config)
        raw = await_(within_connect_timeout(config, self._login(config), sqlite3.Error))
        connection = Connection(self.loaded_dbapi, raw)
        connection.routines = self.routines
        connection.attach(config)
        return connection

    def _in_shared_memory(self, config: DatabaseConfig) -> DatabaseConfig:
        """Names the database in memory and holds it open, so that losing the one pooled connection loses no rows."""
        name = self._memory_name if config.database == ":memory:" else config.database
        if self._anchor is None:
            self._anchor = sqlite3.connect(name, uri=True, check_same_thread=False)
        return config.model_copy(update={"database": name})

    def release(self) -> None:
        if self._anchor is not None:
            self._anchor.close()
            self._anchor = None

    async def _login(self, config: DatabaseConfig) -> Any:
        raw = _Driver(functools.partial(sqlite3.connect, **connect_arguments(config)), _ROWS_OF_A_CHUNK)
        # A daemon: a connection that somebody forgot must not keep the process alive.
        raw._thread = threading.Thread(target=_work, args=(raw._tx,), name="asyncdb-sqlite", daemon=True)
        raw._thread.start()
        try:
            await _open(raw)
            for name, value in config.session_settings.items():
                if value is None:
                    continue  # SQLite's own
                await raw.execute_fetchall(f"PRAGMA {name} = {_pragma(value)}")
            if config.init_command:
                await raw.executescript(config.init_command)
        except BaseException:
            raw._running = False
            raw._tx.put_nowait((None, functools.partial(_close_in_thread, raw)))
            raise
        return raw


async def _open(raw: aiosqlite.Connection) -> None:
    """Aiosqlite's ``_connect``; what it opened is noted in its thread, so that a cancelled caller closes it too."""

    def connect() -> None:
        raw._connection = raw._connector()

    opened = asyncio.get_running_loop().create_future()
    raw._tx.put_nowait((opened, connect))
    await opened


def _pragma(value: object) -> str:
    if isinstance(value, bool):
        return "ON" if value else "OFF"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


@functools.cache
def _knowing(factory: type[sqlite3.Connection]) -> type[sqlite3.Connection]:
    return type(factory.__name__, (_KnowsItsCursors, factory), {})


def connect_arguments(config: DatabaseConfig) -> dict[str, Any]:
    """Translates the configuration into arguments of ``sqlite3.connect``.

    - **errors**: ``ConfigurationError`` for an option that cannot be honoured.
    """
    refuse_unknown_options(config, DRIVER_OPTIONS)
    mode = config.driver_options.get("transaction_mode")
    if mode is not None and str(mode).upper() not in _TRANSACTION_MODES:
        raise ConfigurationError(
            f"database {config.alias!r}: transaction_mode is one of {', '.join(_TRANSACTION_MODES)}",
        )
    options = {name: value for name, value in config.driver_options.items() if name != "transaction_mode"}
    return {
        **options,
        "factory": _knowing(options.get("factory", sqlite3.Connection)),
        "database": config.database,
        "timeout": config.busy_timeout,
        "isolation_level": None,  # BEGIN is ours to send
        "check_same_thread": False,
        "uri": bool(options.get("uri")) or config.database.startswith("file:"),
    }
