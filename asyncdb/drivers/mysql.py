"""MySQL and MariaDB through asyncmy.

Read in asyncmy 0.2.18 (``connection.pyx``: ``_stream_broken``, ``_transport``, ``_proto``, ``_loop``, ``_connected``,
``_result``, ``server_status``, ``query``, ``_cursor_cls``, ``_encoders``,
``_decoders``; ``MySQLResult.unbuffered_active``;
``cursors.pyx``: ``close``, ``_result``, ``has_next``) and SQLAlchemy 2.1.9 (``dialects/mysql/asyncmy.py``).
"""

from __future__ import annotations

import asyncio
import functools
import math
import re
from collections.abc import Awaitable, Sequence
from contextvars import Context
from typing import Any, TypeVar

from sqlalchemy.dialects.mysql import BINARY, LONGBLOB, MEDIUMBLOB, TINYBLOB, VARBINARY
from sqlalchemy.dialects.mysql.asyncmy import (
    AsyncAdapt_asyncmy_connection,
    AsyncAdapt_asyncmy_cursor,
    AsyncAdapt_asyncmy_ss_cursor,
    MySQLDialect_asyncmy,
)
from sqlalchemy.dialects.mysql.mysqldb import MySQLCompiler_mysqldb
from sqlalchemy.types import LargeBinary

from ..config import DatabaseConfig
from ..errors import ConfigurationError, TransactionMisuse
from ..greenlets import await_, in_greenlet
from .asyncmy_wire import SafeConnection
from .connecting import refuse_unknown_options, within_connect_timeout
from .cursors import BoundedCursor, BoundedStreamCursor
from .dialect import PhysicalDialect
from .mysql_errors import INTERRUPTED, UNSENT, ends_connection, is_complete
from .mysql_kill import IDENTITY, Identity, kill
from .mysql_literals import BinaryParameter
from .physical import Liveness, PhysicalConnection, TransactionOptions, physical
from .routines import ASK_MYSQL, MYSQL, Routines
from .sockets import SocketLook, keep_alive, shut_down
from .statements import Kind, NotingCompiler
from .tls import ssl_context

T = TypeVar("T")

DRIVER_OPTIONS = frozenset(
    {"charset", "client_flag", "get_server_public_key", "program_name", "server_public_key"},
)
"""What ``driver_options`` may hold; everything else of asyncmy's ``connect`` has an option of its own or is unsafe."""

_OURS = frozenset({"charset", "get_server_public_key"})
_CHARSETS = ("utf8mb4", "utf8")
_UTF8 = frozenset({"utf8mb4", "utf8mb3", "utf8"})
_NAMES_CHARSET = re.compile(r"\bnames\b|character_set|\bcharset\b", re.IGNORECASE)
_IN_TRANSACTION = 0x0001
_COM_RESET_CONNECTION = 0x1F
_COM_QUIT = b"\x01\x00\x00\x00\x01"
_DEADLOCK, _LOCK_TIMEOUT = 1213, 1205


class _Cursor(BoundedCursor, AsyncAdapt_asyncmy_cursor):
    # asyncmy's close() reads the results that are left. Mostly none are: no need to switch greenlets for that.

    @property
    def _more_results(self) -> bool:
        cursor: Any = self._cursor
        result = cursor._result
        return result is not None and bool(result.has_next)

    async def _async_soft_close(self) -> None:
        if self._more_results:
            await self._adapt_connection.bounded(super()._async_soft_close())

    def close(self) -> None:
        self._rows.clear()
        if self._more_results and in_greenlet():
            await_(self._adapt_connection.bounded(self._cursor.close()))


class _StreamCursor(BoundedStreamCursor, AsyncAdapt_asyncmy_ss_cursor):
    async def _execute_async(self, operation: Any, parameters: Any) -> Any:
        try:
            return await super()._execute_async(operation, parameters)
        finally:
            self._adapt_connection.let_stream_wait()

    def _bounded(self, work: Awaitable[T]) -> T:
        self._adapt_connection.resume_reading()
        try:
            return super()._bounded(work)
        finally:
            self._adapt_connection.let_stream_wait()


class Connection(PhysicalConnection, AsyncAdapt_asyncmy_connection):
    """One connection of asyncmy's."""

    _cursor_cls = _Cursor
    _ss_cursor_cls = _StreamCursor

    one_result_at_a_time = True
    identity: Identity | None = None

    def attach(self, config: DatabaseConfig) -> None:
        super().attach(config)
        # Kept here, for asyncmy forgets it when a cancelled read made it close, and a close may wait for ever.
        self._transport = self._connection._transport
        fileno = self._transport.get_extra_info("socket").fileno()
        self._socket_look = SocketLook(fileno)
        keep_alive(fileno, config.tcp_keepalive)

    def driver_state(self) -> Any:
        raw = self._connection
        return (raw._cursor_cls, raw._encoders, len(raw._encoders), raw._decoders, len(raw._decoders))

    @property
    def server_in_transaction(self) -> bool:
        # An error packet carries no status: after one, the last status may be older than the transaction.
        return self.errors_met or bool(self._connection.server_status & _IN_TRANSACTION)

    @property
    def stream_unfinished(self) -> bool:
        result = self._connection._result
        return result is not None and bool(result.unbuffered_active)

    def before(self, kind: Kind) -> None:
        if (result := self._connection._result) is not None and result.unbuffered_active:
            self._refuse_amid_stream()
        super().before(kind)

    def end(self, sql: str) -> None:
        if sql == "COMMIT":
            self._refuse_amid_stream()
        super().end(sql)

    def _refuse_amid_stream(self) -> None:
        # asyncmy 0.2.18 would throw away the rows that are still to come, and the stream would end as if it were whole.
        if self.open_streams and self.stream_unfinished:
            self.end_left_streams()
        if self.stream_unfinished:
            raise TransactionMisuse(
                f"a stream on {self.config.alias!r} is not at its end, and MySQL sends nothing else before it is: "
                "read it to its end, leave it by `async with db.stream(...)`, or use another session() meanwhile",
            )

    def look(self) -> Liveness:
        raw = self._connection
        if self.doom is not None or not raw._connected or raw._stream_broken or self.stream_unfinished:
            return Liveness.DEAD
        if raw.spoke_unasked:
            return Liveness.DEAD
        # MySQL says nothing unasked but its farewell: whatever is there to read is an end.
        return Liveness.WHOLE if self._socket_look() is Liveness.WHOLE else Liveness.DEAD

    async def probe(self) -> None:
        await self._connection.ping(reconnect=False)

    async def send(self, sql: str) -> None:
        async with self._execute_mutex:
            await self._connection.query(sql)

    async def ask_about_routines(self, names: list[str]) -> dict[str, bool]:
        raw = self._connection
        listed = ", ".join(map(raw.escape, names))
        async with self._execute_mutex:
            await raw.query(ASK_MYSQL % listed)
        return {name: bool(harmless) for name, harmless in raw._result.rows or ()}

    async def send_begin(self, options: TransactionOptions, isolation: str | None) -> None:
        if isolation is not None and isolation != self.isolation_level_of_server:
            await self.send(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
        await self.send("START TRANSACTION READ ONLY" if options.read_only else "BEGIN")

    def ends_transaction(self, error: BaseException) -> bool:
        code = error.args[0] if error.args else None
        return code == _DEADLOCK or (code == _LOCK_TIMEOUT and self.rollback_on_lock_timeout)

    def note_error(self, error: BaseException) -> None:
        super().note_error(error)
        if isinstance(error, self.dbapi.Error) and ends_connection(error):
            # Not only dropped: a goodbye would be an answer to whatever the server waits for now.
            self.doom = self.doom or "an error after which nobody knows what the server says next"

    async def tell_limit(self, seconds: float | None) -> None:
        name, value = _limit(self._connection, seconds or 0)
        own = self.config.session_settings.get(name, "DEFAULT")
        await self.send(f"SET SESSION {name} = {own if seconds is None else value}")

    def may_be_applied(self, error: BaseException) -> bool:
        code = error.args[0] if isinstance(error, self.dbapi.Error) and error.args else None
        return super().may_be_applied(error) or (code not in UNSENT and not is_complete(code)) or code in INTERRUPTED

    def what_runs(self) -> tuple[DatabaseConfig, Identity] | None:
        return None if self.identity is None else (self.config, self.identity)

    def ask_to_forget(self) -> bool:
        raw = self._connection
        if raw._stream_broken or not self.config.database:  # a USE could not be undone
            return False
        asking = raw._execute_command(_COM_RESET_CONNECTION, b"")
        try:
            asking.send(None)  # it writes, and waits for nothing
        except StopIteration:
            return True
        except self.dbapi.Error:
            return False
        asking.close()
        return False

    async def has_forgotten(self) -> None:
        raw = self._connection
        await raw._read_ok_packet()
        await raw.select_db(self.config.database)

    def pause_reading(self) -> None:
        """Lets the server wait: asyncmy would take all of a stream into its buffer while nobody asks for rows."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Takes what the server sends."""
        if not self._transport.is_closing():
            Context().run(self._transport.resume_reading)  # which would keep this task's context

    def let_stream_wait(self) -> None:
        """Called when nobody asks for rows any more, or yet."""
        if self.stream_unfinished:
            self.pause_reading()

    def abort(self) -> None:
        self.unwatch()
        try:
            self._transport.abort()
        except RuntimeError:  # its loop is closed
            shut_down(self._transport.get_extra_info("socket").fileno())

    def terminate(self) -> None:
        """Closes without waiting: a goodbye where the stream is whole, then the socket; by force in the end."""
        raw = self._connection
        self.unwatch()
        if self.doom is not None or raw._stream_broken:
            self._transport.abort()
        else:
            self._transport.write(_COM_QUIT)
            self._transport.close()
            raw._loop.call_later(self.config.close_timeout, self._transport.abort)
        raw._transport, raw._connected = None, False  # its close() would not wait for the goodbye

    def close(self) -> None:
        protocol = self._connection._proto

        async def closed() -> None:
            try:
                async with asyncio.timeout(self.config.close_timeout):
                    await protocol.wait_closed()
            except TimeoutError:
                pass  # ``terminate`` has arranged for the abort

        self.terminate()
        if protocol is not None:
            await_(closed())


class _Compiler(NotingCompiler, MySQLCompiler_mysqldb):
    pass


class _Binary(LargeBinary):
    """The type of what is no text: its parameters say so to the server, and come back as bytes."""

    def bind_processor(self, dialect: Any) -> Any:
        return lambda value: None if value is None else BinaryParameter(value)


_BINARY_TYPES = (LargeBinary, BINARY, VARBINARY, TINYBLOB, MEDIUMBLOB, LONGBLOB)


class _SilentDialect(MySQLDialect_asyncmy):
    def on_connect(self) -> Any:
        """Nothing: SQLAlchemy's own says SET NAMES, after ``_make_session`` has."""


class Dialect(PhysicalDialect, _SilentDialect):
    """SQLAlchemy's MySQL and MariaDB dialect on :class:`Connection`."""

    colspecs = MySQLDialect_asyncmy.colspecs | dict.fromkeys(_BINARY_TYPES, _Binary)

    supports_statement_cache = True
    statement_compiler = _Compiler
    reads_streams_to_their_end = True

    @functools.cached_property
    def routines(self) -> Routines:
        return Routines(MYSQL)

    def open(self, config: DatabaseConfig) -> Connection:
        login = within_connect_timeout(config, self._login(config), self.loaded_dbapi.Error)
        raw, (wait_timeout, isolation, rollback_on_timeout, *identity) = await_(login)
        connection = Connection(self.loaded_dbapi, raw)
        connection.routines = self.routines
        connection.attach(config)
        connection.make_session = functools.partial(self._make_session, raw, config)
        connection.idle_limit = float(wait_timeout)
        connection.isolation_level_of_server = isolation.replace("-", " ")
        connection.rollback_on_lock_timeout = bool(rollback_on_timeout)
        connection.identity = Identity.of(raw, *identity)
        return connection

    async def end_running(self, running: Sequence[tuple[DatabaseConfig, Identity]]) -> int:
        config = running[-1][0].model_copy(update={"session_settings": {}, "init_command": None, "database": ""})
        raw, (_, _, _, *identity) = await self._login(config)
        try:
            return await kill(raw, Identity.of(raw, *identity), [victim for _, victim in running])
        finally:
            raw.close()

    async def _login(self, config: DatabaseConfig) -> tuple[Any, tuple[Any, ...]]:
        arguments = connect_arguments(config)
        flags = arguments.get("client_flag", 0) | self._found_rows_client_flag()
        raw = SafeConnection(**arguments | {"client_flag": flags})
        if "get_server_public_key" in config.driver_options:
            raw.takes_key_of_server = bool(config.driver_options["get_server_public_key"])
        raw.max_reply_bytes = config.max_reply_bytes
        try:
            # In a task of its own, for a transport keeps the context that it was made in for all its life.
            await asyncio.get_running_loop().create_task(raw.connect(), context=Context())
            return raw, await self._make_session(raw, config)
        except BaseException:
            raw.close()
            raise

    async def _make_session(self, raw: SafeConnection, config: DatabaseConfig) -> Any:
        """Makes the session settings in one round trip and reads the server's own in another."""
        if config.init_command:
            await raw.run_script(config.init_command)  # first, as mysqlclient does: what Django sets comes after it
            if _NAMES_CHARSET.search(config.init_command):
                await raw.query("SELECT @@character_set_client")
                _require_utf8(config, raw._result.rows[0][0])
        isolation_name = "tx_isolation" if "MariaDB" in raw.get_server_info() else "transaction_isolation"
        # After the init_command, as mysqlclient says it, and after a reset as after a login: without it the session had
        # the collation of the login's packet, or of the server's settings.
        names = "NAMES utf8mb4"
        settings: dict[str, Any] = {"autocommit": 1}
        if config.statement_timeout is not None:
            settings |= dict([_limit(raw, config.statement_timeout)])
        if config.lock_timeout is not None:
            seconds = math.ceil(config.lock_timeout)
            settings |= {"innodb_lock_wait_timeout": seconds, "lock_wait_timeout": seconds}
        settings |= config.session_settings
        if config.isolation_level is not None:
            settings[isolation_name] = config.isolation_level.replace(" ", "-")
        each = (f"SESSION {name} = {raw.escape(value)}" for name, value in settings.items())
        await raw.query("SET " + ", ".join((names, *each)))
        await raw.query(
            f"SELECT @@character_set_client, @@wait_timeout, @@{isolation_name}, @@innodb_rollback_on_timeout, "
            f"{IDENTITY}",
        )
        charset, *found = raw._result.rows[0]
        _require_utf8(config, charset)
        return tuple(found)

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        # Not SQLAlchemy's answer, which looks for "not connected" and "already closed" in the words of any error.
        link = physical(connection) if connection is not None else None
        if getattr(link, "doom", None) is not None:
            return True
        if not isinstance(e, self.loaded_dbapi.Error) or isinstance(e, self.loaded_dbapi.NotSupportedError):
            return False
        return ends_connection(e)


def _require_utf8(config: DatabaseConfig, charset: str) -> None:
    if charset not in _UTF8:
        raise ConfigurationError(
            f"database {config.alias!r}: the session speaks {charset!r} after its session_settings and "
            "init_command: only utf8mb4 is safe here, other character sets allow SQL injection",
        )


def _limit(raw: Any, seconds: float) -> tuple[str, float]:
    """The session's variable that limits a statement, and its value: of SELECTs alone on MySQL, of all on MariaDB."""
    if "MariaDB" in raw.get_server_info():
        return "max_statement_time", seconds
    return "max_execution_time", max(1, round(seconds * 1000))


def connect_arguments(config: DatabaseConfig) -> dict[str, Any]:
    """Translates the configuration into arguments of ``asyncmy.connect``.

    - **errors**: ``ConfigurationError`` for an option that asyncmy cannot honour.
    """
    refuse_unknown_options(config, DRIVER_OPTIONS)
    charset = config.driver_options.get("charset", "utf8mb4")
    if charset not in _CHARSETS:
        raise ConfigurationError(
            f"database {config.alias!r}: charset {charset!r} is refused: use utf8mb4, which is safe to escape",
        )
    return {
        **{name: value for name, value in config.driver_options.items() if name not in _OURS},
        "charset": "utf8mb4",
        "host": config.host or "localhost",
        "port": config.port or 3306,
        "unix_socket": config.unix_socket,
        "user": config.user,
        "password": config.password.get_secret_value().encode() if config.password else b"",
        "database": config.database or None,
        "ssl": ssl_context(config),
        "connect_timeout": config.connect_timeout,
        "autocommit": None,
    }
