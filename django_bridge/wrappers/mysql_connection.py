"""What stands for mysqlclient's connection on a seat: its methods, and what its cursor classes ask of it.

Read in mysqlclient 2.3.1 (``connections.py``, ``cursors.py``, ``_mysql.c``) and asyncmy 0.2.18 (``connection.pyx``:
``query``, ``next_result``, ``read_packet``, ``_execute_command``; ``MySQLResult``: ``_finish_unbuffered_query``).
A cursor class of mysqlclient's, or one made of it, is used as it is: it stands on :meth:`Connection.query`,
:meth:`Connection.store_result`, :meth:`Connection.use_result` and their like.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import Any, NoReturn, Self, cast

from asyncmy import errors
from asyncmy.constants.COMMAND import COM_STATISTICS

from asyncdb.drivers.mysql_literals import as_utf8
from asyncdb.greenlets import await_

from ..errors import ScopeError
from .mysql_cursors import Cursor, described, flags, read_stream, text
from .mysql_errors import of_mysqldb
from .mysql_values import as_dict, converted, literal

log = logging.getLogger("django_bridge.scope")
_NOT_HERE = (
    "change_user",
    "dump_debug_info",
    "fileno",
    "get_character_set_info",
    "read_query_result",
    "send_query",
    "set_character_set",
    "set_server_option",
    "shutdown",
    "sqlstate",
    "_get_native_connection",
)
"""Methods of mysqlclient's connection that a connection of the pool does not have."""
_ERRORS = (
    "DataError", "DatabaseError", "Error", "IntegrityError", "InterfaceError", "InternalError", "NotSupportedError",
    "OperationalError", "ProgrammingError", "Warning",
)  # fmt: skip
_PROTOCOL = 10
_UNKNOWN = (1 << 64) - 1
"""How many rows a result has that stays on the server."""


class Connection:
    """What Django, and what stands on it, uses of mysqlclient's connection."""

    encoders: Mapping[Any, Any] = MappingProxyType({})
    cursorclass = default_cursor = Cursor
    encoding = "utf8"
    executemany_fallback = "loop"

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper
        self._error: errors.MySQLError | None = None

    def cursor(self, cursorclass: Any = None) -> Any:
        """A cursor; of a class of mysqlclient's, if one is named.

        - **errors**: ``NotSupportedError`` for a class of another driver's.
        """
        if cursorclass is None or cursorclass is Cursor:
            return self._wrapper.new_cursor(of_django=False)
        module: Any = sys.modules.get("MySQLdb.cursors")
        base = getattr(module, "BaseCursor", None)
        if base is None or not isinstance(cursorclass, type) or not issubclass(cursorclass, base):
            name = getattr(cursorclass, "__qualname__", type(cursorclass).__qualname__)
            _refuse(
                f"cursor({getattr(cursorclass, '__module__', '')}.{name})", "it is no cursor class of mysqlclient's"
            )
        if cursorclass is module.Cursor:
            return self._wrapper.new_cursor(of_django=False)
        return _seated(cursorclass)(self)

    @property
    def messages(self) -> list[Any]:
        """Nothing: mysqlclient keeps none."""
        return []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the transaction, and the connection's end ---------------------------------------------------------------

    def autocommit(self, enabled: bool) -> None:  # noqa: FBT001  (mysqlclient's signature)
        self._wrapper.switch_driver(bool(enabled))

    def get_autocommit(self) -> bool:
        return bool(self._wrapper.autocommit)

    def begin(self) -> None:
        self.query(b"BEGIN")

    def commit(self) -> None:
        self._wrapper.seat.call(self._wrapper._end, "COMMIT")

    def rollback(self) -> None:
        self._wrapper.seat.call(self._wrapper._end, "ROLLBACK")

    def close(self) -> None:
        self._wrapper.let_go()

    @property
    def open(self) -> int:
        """Whether it is the connection that its wrapper has now."""
        return int(self._wrapper.connection is self)

    def ping(self, *_: Any) -> None:
        self._wrapper.seat.call(self._ping)

    def _ping(self) -> None:
        await_(self._wrapper.taken().probe())

    # -- literals ------------------------------------------------------------------------------------------------

    def escape(self, value: Any, _: Any = None) -> str | bytes:
        """A value as an SQL literal: Django's schema editor writes defaults and conditions so.

        Of numbers mysqlclient makes text, of everything else bytes.
        """
        written = self.literal(value)
        return written.decode() if type(value) in _NUMBERS else written

    def literal(self, value: Any) -> bytes:
        return literal(value, plain=self._plain())

    def string_literal(self, value: Any) -> bytes:
        return literal(value if isinstance(value, bytes) else str(value), plain=self._plain())

    def escape_string(self, value: str | bytes) -> bytes:
        return self.string_literal(value)[1:-1]

    def _plain(self) -> bool:
        return bool(self._raw().plain)

    # -- what the server said ------------------------------------------------------------------------------------

    def affected_rows(self) -> int:
        rows = int(self._raw().affected_rows())
        return -1 if rows == _UNKNOWN else rows

    def insert_id(self) -> int:
        return int(self._wrapper._insert_id)

    def warning_count(self) -> int:
        result = self._raw()._result
        return 0 if result is None else int(result.warning_count)

    def field_count(self) -> int:
        result = self._raw()._result
        return 0 if result is None else int(result.field_count)

    def info(self) -> str | None:
        result = self._raw()._result
        message: bytes = b"" if result is None else result.message or b""
        return message[1:].decode() if message else None  # behind its length

    def errno(self) -> int:
        return 0 if self._error is None else int(self._error.args[0])

    def error(self) -> str:
        return "" if self._error is None else str(self._error.args[-1])

    def show_warnings(self) -> Any:
        return self._ask("SHOW WARNINGS")

    def stat(self) -> str:
        return str(self._wrapper.seat.call(self._stat))

    def _stat(self) -> str:
        link = self._wrapper.before("SHOW STATUS")
        self._wrapper.drain(link)
        raw, said = link.raw, []

        async def ask() -> None:
            await raw._execute_command(COM_STATISTICS, b"")
            said.append((await raw.read_packet()).get_all_data())

        self._wrapper.await_reply(link, ask())
        return cast("bytes", said[0]).decode()

    def get_server_info(self) -> str:
        return str(self._raw().get_server_info()).removeprefix("5.5.5-")  # which MariaDB puts before its own

    def get_host_info(self) -> str:
        config = self._link().config
        return "Localhost via UNIX socket" if config.unix_socket else f"{config.host or 'localhost'} via TCP/IP"

    def get_proto_info(self) -> int:
        return _PROTOCOL

    def thread_id(self) -> int:
        return int(self._raw().thread_id())

    @property
    def server_capabilities(self) -> int:
        return int(self._raw().server_capabilities)

    @property
    def client_flag(self) -> int:
        return int(self._raw()._client_flag)

    def character_set_name(self) -> str:
        return str(self._wrapper.settings_dict["OPTIONS"].get("charset") or "utf8mb4")

    @property
    def port(self) -> int:
        return int(self._link().config.port or 3306)

    @property
    def host(self) -> Any:
        return self._link().config.host

    @property
    def user(self) -> Any:
        return self._link().config.user

    @property
    def database(self) -> Any:
        return self._link().config.database

    db = database

    @property
    def converter(self) -> NoReturn:
        _refuse("converter", "rows are asyncmy's: use a field's from_db_value(), or a SQLAlchemy type")

    # -- what it is told -----------------------------------------------------------------------------------------

    def select_db(self, name: str | bytes) -> None:
        self._ask("USE `" + text(name).replace("`", "``") + "`")

    def set_sql_mode(self, sql_mode: str) -> None:
        self._ask(f"SET SESSION sql_mode={self.string_literal(sql_mode).decode()}")

    def kill(self, thread: int) -> None:
        self._ask(f"KILL {int(thread)}")

    def _ask(self, sql: str) -> Any:
        with self.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()

    # -- what mysqlclient's cursors stand on ---------------------------------------------------------------------

    def query(self, query: str | bytes | bytearray) -> None:
        """Sends a statement and reads the head of its reply."""
        self._wrapper.seat.call(self._query, bytes(query) if isinstance(query, bytes | bytearray) else as_utf8(query))

    def _query(self, sql: bytes) -> None:
        wrapper = self._wrapper
        link = wrapper.before(sql.decode(errors="replace"))
        wrapper.drain(link)
        raw = link.raw
        self._error = None
        try:
            wrapper.await_reply(link, raw.query(sql, unbuffered=True))
        except errors.MySQLError as error:
            self._error = error
            raise
        link.let_stream_wait()
        wrapper.note_result(raw._result)

    def store_result(self) -> Any:
        """All rows of the reply; None where the statement has none to give."""
        return self._result_of(stored=True)

    def use_result(self) -> Any:
        """The rows of the reply, which stay on the server until they are asked for."""
        return self._result_of(stored=False)

    def _result_of(self, *, stored: bool) -> Any:
        link = self._wrapper.seat.link
        result = None if link is None else link.raw._result
        if result is None or not result.field_count:
            return None
        made = Result(self._wrapper, link, result)
        if stored:
            self._wrapper.seat.call(made.store)
        return made

    def more_results(self) -> bool:
        """Whether the reply has another result."""
        link = self._wrapper.seat.link
        result = None if link is None else link.raw._result
        return result is not None and bool(result.has_next)

    def next_result(self) -> int:
        """Reads the head of the reply's next result: 0; -1 where there is none."""
        link = self._wrapper.seat.link
        result = None if link is None else link.raw._result
        if result is None or not (result.has_next or result.unbuffered_active):
            return -1
        return int(self._wrapper.seat.call(self._next_result))

    def _next_result(self) -> int:
        self._discard_result()
        link = self._link()
        raw = link.raw
        if not raw._result.has_next:
            return -1
        self._wrapper.await_reply(link, raw.next_result(unbuffered=True))
        link.let_stream_wait()
        self._wrapper.note_result(raw._result)
        return 0

    def discard_result(self) -> None:
        """Reads what is left of the result, for nobody."""
        link = self._wrapper.seat.link
        if link is not None and link.stream_unfinished:
            self._wrapper.seat.call(self._discard_result)

    def _discard_result(self) -> None:
        link = self._link()
        if link.stream_unfinished:
            link.resume_reading()
            self._wrapper.await_reply(link, link.raw._result._finish_unbuffered_query())

    def _link(self) -> Any:
        link = self._wrapper.seat.link
        return link if link is not None else self._wrapper.seat.call(self._wrapper.taken)

    def _raw(self) -> Any:
        return self._link().raw


def _refuse(name: str, why: str) -> NoReturn:
    raise of_mysqldb(errors.NotSupportedError(f"{name} does not exist on a connection of the pool: {why}"))


def _refused(name: str) -> Any:
    def refused(self: Connection, *_: Any, **__: Any) -> NoReturn:
        _refuse(f"{name}()", "use a connection of mysqlclient's own, in a thread")

    refused.__name__ = name
    return refused


for _name in _NOT_HERE:
    setattr(Connection, _name, _refused(_name))
for _name in _ERRORS:
    setattr(Connection, _name, getattr(errors, _name))
_NUMBERS = (int, float, Decimal)


class Result:
    """What stands for mysqlclient's result: rows that are here, or still on the server."""

    def __init__(self, wrapper: Any, link: Any, result: Any) -> None:
        self._wrapper, self._link, self._result = wrapper, link, result
        self._rows: Sequence[Any] | None = None
        self._next = 0

    def store(self) -> None:
        """Reads all rows. In a greenlet."""
        result, raw = self._result, self._link.raw
        rows = read_stream(self._wrapper, self._link, result, None)
        raw._affected_rows = len(rows)
        self._rows = converted(tuple(rows), result.description)

    def describe(self) -> Any:
        return described(self._result)

    def field_flags(self) -> Any:
        return flags(self._result)

    def num_fields(self) -> int:
        return int(self._result.field_count)

    def num_rows(self) -> int:
        return 0 if self._rows is None else len(self._rows)

    def data_seek(self, row: int) -> None:
        self._next = row

    def fetch_row(self, maxrows: int = 1, how: int = 0) -> tuple[Any, ...]:
        """Some rows, 0 being all that are left: as tuples (0), by name (1), by table and name (2)."""
        if self._rows is not None:
            end = len(self._rows) if not maxrows else self._next + maxrows
            rows, self._next = self._rows[self._next : end], min(end, len(self._rows))
        else:
            rows = self._wrapper.seat.call(self._fetch, maxrows or None)
        if not how:
            return tuple(rows)
        return tuple(as_dict(row, self._result.fields, always_with_table=how > 1) for row in rows)

    def _fetch(self, size: int | None) -> Sequence[Any]:
        if self._wrapper.seat.link is not self._link:
            raise errors.InterfaceError(
                0, "the stream's connection went when its scope ended: read it to its end there"
            )
        return converted(tuple(read_stream(self._wrapper, self._link, self._result, size)), self._result.description)

    def discard(self) -> None:
        """Reads what is left, for nobody."""
        self._rows = ()
        if self._result.unbuffered_active and self._wrapper.seat.link is self._link:
            connection = self._wrapper.connection
            if connection is not None:
                connection.discard_result()

    def __del__(self) -> None:
        if self._rows is None and self._result.unbuffered_active:  # mysqlclient's reads what is left, too
            self.leave()

    def leave(self) -> None:
        """Has the connection read what is left before it is asked anything else. Waits for nothing, in any thread."""
        seat = self._wrapper.seat
        seat.scope.soon(partial(_leave_unread, seat, self._link, self._result))


def _leave_unread(seat: Any, link: Any, result: Any) -> None:
    if result.unbuffered_active and seat.link is link:
        link.add_stream(_Unread(link, result, seat.unread))


class _Unread:
    """A result that its reader has left; see ``asyncdb.drivers.leftovers``."""

    left = True

    def __init__(self, link: Any, result: Any, held_by: set[Any]) -> None:
        self._link, self._unread = link, result
        self.result: Any = self
        self.held_by = held_by
        held_by.add(self)

    async def close(self) -> None:
        """Reads it to its end."""
        self._link.resume_reading()
        await self._link.bounded(self._unread._finish_unbuffered_query())


class _Seated:
    """Mixin of mysqlclient's cursor classes: the seat keeps its connection while they are open."""

    connection: Any
    _result: Any = None

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)  # type: ignore[call-arg]  # a mixin
        self._seat_of_cursor = connection._wrapper.seat
        connection._wrapper.register(self)

    def close(self) -> None:
        seat = self._seat_of_cursor
        result = self._result
        try:
            if seat.may_ask:
                super().close()  # type: ignore[misc]  # a mixin
        except ScopeError as err:  # nobody waits for this thread (any more)
            log.debug("a stream is left unread until its connection is asked something else: %s", err)
        finally:
            self.connection = self._result = self._rows = None
            if isinstance(result, Result):
                result.leave()
            seat.closed(self)


_classes: dict[type, type] = {}


def _seated(cls: type) -> type:
    if (found := _classes.get(cls)) is None:
        found = _classes[cls] = type(cls.__name__, (_Seated, cls), {"__module__": cls.__module__})
    return found
