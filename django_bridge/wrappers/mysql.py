"""Django's MySQL and MariaDB wrapper on a seat: a cursor that asks asyncmy and answers as mysqlclient does.

Read in Django 5.2 and 6.1 (``db/backends/mysql/base.py``), mysqlclient 2.2 (``cursors.py``, ``converters.py``) and
asyncmy 0.2.18 (``connection.pyx``: ``query``, ``next_result``, ``_result``; ``MySQLResult``: ``_pending_rows``).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self, cast

from asyncmy import errors
from asyncmy.constants import FIELD_TYPE
from django.db.backends.utils import CursorWrapper
from django.utils.functional import cached_property

from asyncdb.drivers.mysql_literals import NO_BACKSLASH_ESCAPES, quoted
from asyncdb.drivers.mysql_literals import literal as drivers_literal
from asyncdb.greenlets import await_

from ..seats import Seat
from .base import OnSeat

_CHECKED = frozenset({1048, 1690, 3819, 4025})
"""What Django counts as ``IntegrityError`` (Django 6.1, ``mysql/base.py``, ``codes_for_integrityerror``)."""
_TIMES = (FIELD_TYPE.TIME,)
_DATES = (FIELD_TYPE.DATE, FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP)
_MIDNIGHT = datetime.datetime(1, 1, 1)  # noqa: DTZ001  (a TIME has no zone)
_TO_CONVERT = frozenset((*_TIMES, *_DATES))


class _Database:
    """The driver's module, as far as Django asks a wrapper for it."""

    Binary = bytes

    def __getattr__(self, name: str) -> Any:
        return getattr(errors, name)


class OnMySQLSeat(OnSeat):
    """Mixin of Django's MySQL wrapper."""

    Database = _Database()

    @cached_property
    def isolation_level(self) -> str | None:
        """What Django keeps of its settings when it connects."""
        cast("Any", self).get_connection_params()
        return cast("str | None", vars(self)["isolation_level"])

    @cached_property
    def _seated(self) -> _Connection:
        return _Connection(self)

    def seated_connection(self) -> Any:
        return self._seated

    def close(self) -> None:
        super().close()
        if self.connection is None:
            vars(self).pop("_seated", None)  # to who closed it, the next one is another

    def create_cursor(self, name: str | None = None) -> Any:
        if self._wraps_cursors:
            return cast("Any", super()).create_cursor(name)
        return self.new_cursor()

    @cached_property
    def _wraps_cursors(self) -> bool:
        """Whether the project's own class has a say in how a cursor is made."""
        from django.db.backends.mysql.base import DatabaseWrapper  # needs MySQLdb, or what stands for it

        return self.project_class.create_cursor is not DatabaseWrapper.create_cursor

    def new_cursor(self) -> Cursor:
        cursor = Cursor(self)
        self.register(cursor)
        return cursor

    def make_cursor(self, cursor: Any) -> Any:
        made: Any = cast("Any", super()).make_cursor(cursor)
        if (type(made), type(cursor)) == (CursorWrapper, Cursor):
            # The rows are here: no error of the driver's is to be translated where they are read.
            made.fetchmany, made.close = cursor.fetchmany, cursor.close
        return made

    def stream_cursor(self) -> Any:
        with self.wrap_database_errors:
            cursor = StreamCursor(self)
            self.register(cursor, streams=True)
            return cast("Any", self)._prepare_cursor(cursor)


class _Connection:
    """What Django, and what stands on it, uses of mysqlclient's connection."""

    def __init__(self, wrapper: OnMySQLSeat) -> None:
        self._wrapper = wrapper

    def cursor(self, *_: Any) -> Cursor:
        return self._wrapper.new_cursor()

    def ping(self, *_: Any) -> None:
        self._wrapper.seat.call(self._ping)

    def _ping(self) -> None:
        await_(self._wrapper.taken().probe())

    def get_server_info(self) -> str:
        return str(self._wrapper.seat.call(self._wrapper.taken).raw.get_server_info())

    def thread_id(self) -> int:
        return int(self._wrapper.seat.call(self._wrapper.taken).raw.thread_id())

    encoders: Mapping[Any, Any] = MappingProxyType({})

    def escape(self, value: Any, _: Any = None) -> str | bytes:
        """A value as an SQL literal: Django's schema editor writes defaults and conditions so.

        Of bytes and bool mysqlclient makes bytes, which Django knows.
        """
        plain = _is_plain(self._wrapper.seat.call(self._wrapper.taken).raw)
        if isinstance(value, bytes | bytearray):
            return quoted(value.decode("latin-1"), plain=plain).encode("latin-1")
        text = literal(value, plain=plain)
        return text.encode() if isinstance(value, bool) else text

    def autocommit(self, enabled: bool) -> None:  # noqa: FBT001  (mysqlclient's signature)
        self._wrapper.switch_driver(bool(enabled))

    def commit(self) -> None:
        self._wrapper.seat.call(self._wrapper._end, "COMMIT")

    def rollback(self) -> None:
        self._wrapper.seat.call(self._wrapper._end, "ROLLBACK")

    def close(self) -> None:
        self._wrapper.let_go()


class Cursor:
    """mysqlclient's cursor, as Django uses it, on the seat's connection; its rows are read whole."""

    arraysize = 1

    def __init__(self, wrapper: OnMySQLSeat) -> None:
        self._wrapper = wrapper
        self._seat: Seat = wrapper.seat
        self._rows: Sequence[Any] = ()
        self._next = 0
        self._executed: str | None = None
        self._closed = False
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = 0

    @property
    def connection(self) -> Any:
        return self._wrapper.connection

    def execute(self, query: Any, args: Any = None) -> int:
        self._require_open()
        return self._seat.call(self._execute, query if type(query) is str else _text(query), args)

    def executemany(self, query: Any, args: Iterable[Any]) -> int | None:
        self._require_open()
        rows = list(args)
        if not rows:
            return None
        return self._seat.call(self._execute_each, _text(query), rows)

    def callproc(self, procname: str, args: Sequence[Any] = ()) -> Sequence[Any]:
        return self._seat.call(self._call, procname, args)

    def nextset(self) -> int | None:
        return self._seat.call(self._nextset)

    def fetchone(self) -> Any:
        if self._next >= len(self._rows):
            return None
        row = self._rows[self._next]
        self._next += 1
        return row

    def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        start = self._next
        self._next = min(len(self._rows), start + (size or self.arraysize))
        return tuple(self._rows[start : self._next])

    def fetchall(self) -> Sequence[Any]:
        start, self._next = self._next, len(self._rows)
        return self._rows[start:] if start else self._rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchone, None)

    def close(self) -> None:
        self._rows = ()
        self._closed = True
        self._seat.closed(self)

    def _require_open(self) -> None:
        if self._closed:
            raise errors.ProgrammingError("cursor closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def setinputsizes(self, *_: Any) -> None:
        """Nothing to do (DB-API)."""

    def setoutputsizes(self, *_: Any) -> None:
        """Nothing to do (DB-API)."""

    # -- in a greenlet -------------------------------------------------------------------------------------------

    def _execute(self, query: str, args: Any) -> int:
        try:
            return self._execute_once(query, args)
        except errors.OperationalError:
            if not self._wrapper.may_ask_again(query):
                raise
        return self._execute_once(query, args)

    def _execute_once(self, query: str, args: Any) -> int:
        link = self._wrapper.before(query)
        raw = link.raw
        if raw._result is not None and raw._result.has_next:
            self._drain(link, raw)
        self._send(link, query if args is None else _bound(query, args, raw))
        return self.rowcount

    def _execute_each(self, query: str, rows: list[Any]) -> int:
        total = 0
        for row in rows:
            total += self._execute(query, row)
        self.rowcount = total
        return total

    def _call(self, procname: str, args: Sequence[Any]) -> Sequence[Any]:
        if args:
            names = ", ".join(f"@_{procname}_{index}={_MARK}" for index, _ in enumerate(args))
            self._execute(f"SET {names}", args)
        self._execute(f"CALL {procname}({', '.join(f'@_{procname}_{index}' for index, _ in enumerate(args))})", None)
        return args

    def _nextset(self) -> int | None:
        link = self._wrapper.taken()
        raw = link.raw
        if not getattr(raw._result, "has_next", False):
            return None
        self._await(link, raw.next_result())
        self._read(raw._result)
        return 1

    def _send(self, link: Any, sql: str) -> None:
        self._executed = sql
        raw = link.raw
        self._await(link, raw.query(sql))
        self._read(raw._result)

    def _drain(self, link: Any, raw: Any) -> None:
        """Reads what an earlier CALL left unread, which may have changed how text is to be quoted."""
        while raw._result is not None and raw._result.has_next:
            self._await(link, raw.next_result())

    def _await(self, link: Any, work: Any) -> None:
        try:
            link.wait_for(work)
        except BaseException as error:
            if isinstance(error, Exception) and link.doom is not None and link.doom.startswith("no reply"):
                timed_out = errors.OperationalError(2013, link.doom)
                self._wrapper.failed(timed_out)
                raise timed_out from error
            self._wrapper.failed(error)
            if isinstance(error, errors.OperationalError) and error.args and error.args[0] in _CHECKED:
                raise errors.IntegrityError(*error.args) from error
            raise

    def _read(self, result: Any) -> None:
        self.description = result.description
        self.rowcount = result.affected_rows
        self.lastrowid = result.insert_id
        self._rows = _converted(result.rows, result.description) if result.rows else ()
        self._next = 0


class StreamCursor(Cursor):
    """The same with rows that stay on the server until they are asked for."""

    _link: Any = None

    def fetchone(self) -> Any:
        rows = self.fetchmany(1)
        return rows[0] if rows else None

    def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        return self._seat.call(self._fetch, size or self.arraysize)

    def fetchall(self) -> Sequence[Any]:
        return self._seat.call(self._fetch, None)

    def nextset(self) -> None:
        """A stream is one result."""

    def close(self) -> None:
        seat = self._seat
        link = seat.link
        if link is not None and link.stream_unfinished:
            link.doom = "a stream was left unfinished"  # the server would send all of it before anything else
            seat.scope.soon(seat.give_back)
        super().close()

    def _send(self, link: Any, sql: str) -> None:
        self._executed = sql
        raw = link.raw
        self._link = link
        self._await(link, raw.query(sql, unbuffered=True))
        result = raw._result
        self.description, self.rowcount = result.description, -1
        link.pause_reading()

    def _fetch(self, size: int | None) -> Sequence[Any]:
        link = self._seat.link
        if link is None or link is not self._link:
            raise errors.InterfaceError(
                0, "the stream's connection went when its scope ended: read it to its end there"
            )
        result = link.raw._result
        rows: list[Any] = []

        async def read() -> None:
            link.resume_reading()
            while result is not None and (size is None or len(rows) < size):
                pending = result._take_pending_rows(None if size is None else size - len(rows))
                if pending:
                    rows.extend(pending)
                    continue
                row = await result._read_rowdata_packet_unbuffered()
                if row is None:
                    return
                rows.append(row)

        self._await(link, read())
        if link.stream_unfinished:
            link.pause_reading()
        return _converted(tuple(rows), self.description)


_MARK = "%s"


def _text(query: Any) -> str:
    return query.decode() if isinstance(query, bytes | bytearray) else query


def _bound(query: str, args: Any, raw: Any) -> str:
    """The statement with its parameters as literals, as mysqlclient sends it."""
    plain = _is_plain(raw)
    values: Any
    if type(args) is not tuple and isinstance(args, Mapping):
        values = {key: literal(value, plain=plain) for key, value in args.items()}
    else:
        values = tuple([literal(value, plain=plain) for value in args])
    try:
        return cast("str", query % values)
    except TypeError as err:
        raise errors.ProgrammingError(str(err)) from err


def _is_plain(raw: Any) -> bool:
    """Whether the session knows no backslash escapes."""
    return bool(raw.server_status & NO_BACKSLASH_ESCAPES)


def literal(value: Any, *, plain: bool = False) -> str:
    """One parameter as an SQL literal; what is of no type that MySQL knows is its text, as with mysqlclient."""
    return drivers_literal(value, plain=plain, otherwise=_as_text)


def _as_text(value: Any, *, plain: bool) -> str:
    return quoted(str(value), plain=plain)


def _converted(rows: Sequence[Any], description: Any) -> Sequence[Any]:
    """Rows as mysqlclient gives them to Django: TIME as ``time``, dates that are none as None."""
    for column in description or ():
        if column[1] in _TO_CONVERT:
            break
    else:
        return rows
    times = [index for index, column in enumerate(description or ()) if column[1] in _TIMES]
    dates = [index for index, column in enumerate(description or ()) if column[1] in _DATES]
    return tuple(_row(row, times, dates) for row in rows)


def _row(row: Any, times: list[int], dates: list[int]) -> Any:
    wrong = [index for index in dates if isinstance(row[index], str)]
    if not times and not wrong:
        return row
    changed = list(row)
    for index in times:
        changed[index] = _time(changed[index])
    for index in wrong:
        changed[index] = None
    return tuple(changed)


def _time(value: Any) -> Any:
    if not isinstance(value, datetime.timedelta):
        return value
    return (_MIDNIGHT + value).time()
