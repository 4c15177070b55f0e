"""PostgreSQL through psycopg 3.

Read in psycopg 3.3.9 (``AsyncConnection``: ``pgconn``, ``info``, ``wait``, ``lock``, ``_exec_command``;
``_connection_base.py``: what ``driver_state`` reads; ``_adapters_map.py``: ``AdaptersMap.__init__``) and
SQLAlchemy 2.1.9 (``dialects/postgresql/psycopg.py``).
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import generators
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import make_conninfo
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from sqlalchemy.dialects.postgresql.psycopg import (
    AsyncAdapt_psycopg_connection,
    AsyncAdapt_psycopg_cursor,
    AsyncAdapt_psycopg_ss_cursor,
    PGCompiler_psycopg,
    PGDialectAsync_psycopg,
)

from ..config import DatabaseConfig
from ..errors import ConfigurationError
from ..greenlets import await_
from .connecting import within_connect_timeout
from .cursors import BoundedCursor, BoundedStreamCursor
from .dialect import PhysicalDialect
from .physical import Liveness, PhysicalConnection, TransactionOptions
from .psycopg_cancel import request_to_cancel, send_requests
from .psycopg_waits import WatchedConnection
from .routines import ASK_POSTGRESQL, MAY_LEAVE_SOMETHING, POSTGRESQL, Routines
from .sockets import SocketLook, keep_alive, shut_down
from .statements import NotingCompiler

PSYCOPG_OPTIONS = frozenset({"prepare_threshold", "context"})
"""What ``driver_options`` may hold beside libpq's own keywords."""

_OWN_OPTIONS = frozenset(
    "host hostaddr port user password dbname connect_timeout sslmode sslrootcert sslcert sslkey".split(),
)
_KNOWS_REQUIRE_AUTH = 160000
_KEEPALIVES = frozenset("keepalives keepalives_idle keepalives_interval keepalives_count tcp_user_timeout".split())
_SSLMODES = {"disabled": "disable", "required": "require", "verify_ca": "verify-ca", "verify_identity": "verify-full"}


class _Cursor(BoundedCursor, AsyncAdapt_psycopg_cursor):
    pass


class _StreamCursor(BoundedStreamCursor, AsyncAdapt_psycopg_ss_cursor):
    def _make_new_cursor(self, connection: Any) -> Any:
        cursor = connection.cursor(self.name)
        self._adapt_connection.streams.add(cursor)
        return cursor


class Connection(PhysicalConnection, AsyncAdapt_psycopg_connection):
    """One connection of psycopg's."""

    _connection: Any  # psycopg.AsyncConnection

    def attach(self, config: DatabaseConfig) -> None:
        super().attach(config)
        self.held_cursors: set[str] = set()
        """Cursors WITH HOLD, which outlive their transaction, that were declared and not closed. Django's are such."""
        self.streams: weakref.WeakSet[Any] = weakref.WeakSet()
        fileno = self._connection.pgconn.socket
        self._socket_look = SocketLook(fileno)
        if not _KEEPALIVES & set(config.driver_options):
            keep_alive(fileno, config.tcp_keepalive)

    def begin_rest(self) -> None:
        share_adapters(self._connection)

    def come_back(self) -> None:
        super().come_back()
        if self.held_cursors:  # the next user's may have the same name
            self.held_cursors.clear()
            self.left = self.left or "an open cursor"

    def driver_state(self) -> Any:
        return driver_state(self._connection)

    def cursor(self, name: Any = None, /) -> Any:
        cls: Any = _StreamCursor if name else _Cursor
        return cls(self, name) if name else cls(self)

    @property
    def server_in_transaction(self) -> bool:
        return bool(self._connection.pgconn.transaction_status != TransactionStatus.IDLE)

    def look(self) -> Liveness:
        pgconn = self._connection.pgconn
        if self.doom is not None or pgconn.status != ConnStatus.OK:
            return Liveness.DEAD
        return self._socket_look()

    async def probe(self) -> None:
        await self._connection.execute("")

    async def send(self, sql: str) -> None:
        async with self._connection.lock:
            await self._say_it(sql)

    async def _say_it(self, sql: str) -> None:
        # Not through a cursor: psycopg would prepare BEGIN after five of them, and drop every prepared statement
        # at a ROLLBACK, each for a round trip more.
        await self._connection.wait(self._connection._exec_command(sql.encode()))

    async def ask_about_routines(self, names: list[str]) -> dict[str, bool]:
        cursor = await self._connection.execute(ASK_POSTGRESQL, [names])
        return dict(await cursor.fetchall())

    async def send_begin(self, options: TransactionOptions, isolation: str | None) -> None:
        level = f" ISOLATION LEVEL {isolation}" if isolation else ""
        begin = f"BEGIN{level}{' READ ONLY' if options.read_only else ''}"
        # Who has psycopg's connection in hand holds its lock as he comes to wait.
        await (self.send(begin) if self._connection.owed is None else self._say_it(begin))

    def end(self, sql: str) -> None:
        if sql == "COMMIT" and self._connection.pgconn.transaction_status == TransactionStatus.INERROR:
            # PostgreSQL answers COMMIT with ROLLBACK here, and psycopg reports no error.
            self.poison = "a statement in it failed, and PostgreSQL then rolls back all of it"
        super().end(sql)

    def ends_transaction(self, error: BaseException) -> bool:
        return False  # the server refuses what follows by itself, and ``end`` asks it before a commit

    @property
    def cause(self) -> str | None:
        return super().cause or ("lost" if self._connection.pgconn.status != ConnStatus.OK else None)

    @property
    def can_change_limit(self) -> bool:
        return bool(self._connection.pgconn.transaction_status != TransactionStatus.INERROR)

    async def tell_limit(self, seconds: float | None) -> None:
        own = self.config.session_settings.get("statement_timeout")
        value = "DEFAULT" if seconds is None and own is None else f"'{own}'" if seconds is None else f"'{_ms(seconds)}'"
        await self.send(f"SET statement_timeout = {value}")

    def may_be_applied(self, error: BaseException) -> bool:
        return super().may_be_applied(error) or self._connection.pgconn.status != ConnStatus.OK

    def ask_to_forget(self) -> bool:
        pgconn = self._connection.pgconn
        if pgconn.status != ConnStatus.OK or self._connection.lock.locked():
            return False
        try:
            pgconn.send_query(b"DISCARD ALL")
            return bool(pgconn.flush() == 0)
        except psycopg.Error:
            return False

    async def has_forgotten(self) -> None:
        raw = self._connection
        async with raw.lock:
            results = await raw.wait(generators.fetch_many(raw.pgconn))
            if [result.status for result in results] != [ExecStatus.COMMAND_OK]:
                raise psycopg.OperationalError("DISCARD ALL failed")
            # The server has none of them any more: not ``clear()``, which would have them deallocated.
            for prepared in (raw._prepared._names, raw._prepared._counts, raw._prepared._to_flush):
                prepared.clear()

    def what_runs(self) -> Any:
        return request_to_cancel(self._connection.pgconn)

    def abort(self) -> None:
        self.unwatch()
        pgconn = self._connection.pgconn
        if pgconn.status == ConnStatus.OK:
            shut_down(pgconn.socket)

    def discard(self) -> None:
        self.terminate()

    def close(self) -> None:
        self.terminate()

    def terminate(self) -> None:
        """Sends libpq's goodbye and closes; neither waits."""
        self.unwatch()
        for stream in self.streams:
            stream._close()  # it ended with the connection: nobody has to be warned of it
        self._connection._closed = True
        self._connection.finish()


def share_adapters(connection: Any) -> None:
    """Has a later registration of an adapter make new tables of them, by which it is noticed."""
    AdaptersMap(connection.adapters)  # what is a template copies its tables before it changes one


def driver_state(connection: Any) -> tuple[Any, ...]:
    """What can be set on a connection of psycopg's, synchronous or not."""
    adapters, prepared = connection.adapters, connection._prepared
    return (
        connection.row_factory,
        connection.cursor_factory,
        connection.server_cursor_factory,
        connection._autocommit,
        connection._isolation_level,
        connection._read_only,
        connection._deferrable,
        prepared.prepare_threshold,
        prepared.prepared_max,
        len(connection._notice_handlers),
        len(connection._notify_handlers),
        *adapters._dumpers.values(),  # the same tables are found equal without a look into them
        *adapters._dumpers_by_oid,
        *adapters._loaders,
        adapters.types._registry,
    )


class _Compiler(NotingCompiler, PGCompiler_psycopg):
    pass


class Dialect(PhysicalDialect, PGDialectAsync_psycopg):
    """SQLAlchemy's PostgreSQL dialect on :class:`Connection`."""

    supports_statement_cache = True
    has_terminate = True
    streams_live_in_transactions = True
    statement_compiler = _Compiler

    @functools.cached_property
    def routines(self) -> Routines:
        return Routines(POSTGRESQL)

    @classmethod
    def get_async_dialect_cls(cls, url: Any) -> type[Dialect]:
        return cls

    def do_terminate(self, dbapi_connection: Any) -> None:
        dbapi_connection.terminate()

    def open(self, config: DatabaseConfig) -> Connection:
        login = within_connect_timeout(config, self._login(config), psycopg.Error)
        raw, (isolation, idle_limit) = await_(login)
        connection = Connection(self.loaded_dbapi, raw)
        connection.routines = self.routines
        connection.attach(config)
        connection.make_session = functools.partial(self._make_session, raw, config)
        connection.isolation_level_of_server = isolation.upper()
        connection.idle_limit = float(idle_limit) if idle_limit else None
        return connection

    async def _login(self, config: DatabaseConfig) -> tuple[Any, Any]:
        raw = await WatchedConnection.connect(
            autocommit=True,
            **{"context": self._psycopg_adapters_map} | connect_arguments(config),
        )
        try:
            return raw, await self._make_session(raw, config)
        except BaseException:
            raw.finish()
            raise

    async def _make_session(self, raw: WatchedConnection, config: DatabaseConfig) -> Any:
        """Makes the session settings and reads the server's own, in one round trip."""
        settings: dict[str, str | None] = {
            name: _ms(seconds)
            for name, seconds in (
                ("statement_timeout", config.statement_timeout),
                ("lock_timeout", config.lock_timeout),
            )
            if seconds is not None
        }
        # None is the server's own: NULL is what set_config() takes for SET … TO DEFAULT.
        settings |= {name: value if value is None else str(value) for name, value in config.session_settings.items()}
        if config.isolation_level is not None:
            settings["default_transaction_isolation"] = config.isolation_level.lower()
        made = "".join(["set_config(%s, %s, false), "] * len(settings))
        values = [part for item in settings.items() for part in item]
        routines = "NULL" if self.routines.loaded else MAY_LEAVE_SOMETHING
        read = (
            "current_setting('default_transaction_isolation'), "
            "(SELECT setting::int / 1000.0 FROM pg_settings WHERE name = 'idle_session_timeout')"
        )
        cursor = await raw.execute(f"SELECT {made}{routines}, {read}", values)
        row = await cursor.fetchone()
        if row and not self.routines.loaded:
            self.routines.load(row[-3] or ())
        if config.init_command:
            await raw.execute(config.init_command)
        return row[-2:] if row else ("read committed", None)

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        link = getattr(connection, "dbapi_connection", connection)
        return super().is_disconnect(e, link, cursor)

    async def end_running(self, running: Sequence[Any]) -> int:
        return await send_requests(running)

    def set_readonly(self, connection: Any, value: Any) -> None:
        raise NotImplementedError("use atomic(read_only=True)")


def _ms(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


def connect_arguments(config: DatabaseConfig) -> dict[str, Any]:
    """Translates the configuration into arguments of ``psycopg.AsyncConnection.connect``.

    - **errors**: ``ConfigurationError`` for an option that psycopg and libpq do not know, or that has a name of ours.
    """
    for name, value in config.driver_options.items():
        if name in _OWN_OPTIONS:
            raise ConfigurationError(
                f"database {config.alias!r}: driver_options {name!r} has an option of its own (host, tls, tls_ca, …)",
            )
        if name not in PSYCOPG_OPTIONS:
            _check_libpq_keyword(config.alias, name, value)
    tls = {
        "sslmode": _SSLMODES.get(config.tls or ""),
        "sslrootcert": config.tls_ca,
        "sslcert": config.tls_cert,
        "sslkey": config.tls_key,
    }
    arguments = {
        **tls,
        "host": config.unix_socket or config.host,
        "port": config.port,
        "user": config.user,
        "password": config.password.get_secret_value() if config.password else None,
        "dbname": config.database or None,
        "connect_timeout": max(2, int(config.connect_timeout) + 1),  # ours is the shorter clock
    }
    given = {name: value for name, value in arguments.items() if value is not None}
    # prepare_threshold=None means never
    return {"client_encoding": "UTF8", **_guards(config), **config.driver_options, **given}


def _guards(config: DatabaseConfig) -> dict[str, Any]:
    """What libpq does only when it is told: TLS that is asked for is TLS, and no password in clear without it.

    Source: PostgreSQL manual, "Parameter Key Words" (``gssencmode``, ``require_auth``).
    """
    if config.tls not in (None, "disabled"):
        return {"gssencmode": "disable"}  # by default its encryption comes first, and nobody looks at a certificate
    over_tcp = config.unix_socket is None and config.host is not None and not config.host.startswith("/")
    return {"require_auth": "!password"} if over_tcp and psycopg.pq.version() >= _KNOWS_REQUIRE_AUTH else {}


def _check_libpq_keyword(alias: str, name: str, value: Any) -> None:
    try:
        make_conninfo(**{name: value})
    except psycopg.Error:
        raise ConfigurationError(
            f"database {alias!r}: driver_options {name!r} is not a connection keyword of libpq",
        ) from None
