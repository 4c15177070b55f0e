"""mysqlclient's cursor on a seat: it asks asyncmy, and answers as mysqlclient does.

Read in mysqlclient 2.3.1 (``cursors.py``) and asyncmy 0.2.18 (``connection.pyx``: ``query``, ``next_result``,
``_result``; ``MySQLResult``: ``_pending_rows``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

from asyncmy import errors

from asyncdb.drivers.mysql_literals import as_utf8

from ..seats import Seat
from .mysql_errors import of_mysqldb
from .mysql_values import bound, converted, literal

_NUMBERS = frozenset({*range(7), 8, 9, 13, 246})
_NUMBER_FLAG = 0x8000  # which the client sets (MySQL, ``mysql_com.h``: NUM_FLAG)


_CHECKED = frozenset({1048, 1690, 3819, 4025})
"""What Django counts as ``IntegrityError`` (Django 6.1, ``mysql/base.py``, ``codes_for_integrityerror``)."""
_INSERT_OF_VALUES = re.compile(
    r"\s*((?:INSERT|REPLACE)\b.+\bVALUES?\s*)"
    r"(\(\s*(?:%s|%\(.+\)s)\s*(?:,\s*(?:%s|%\(.+\)s)\s*)*\))"
    r"(\s*(?:ON DUPLICATE.*)?);?\s*\Z",
    re.IGNORECASE | re.DOTALL,
)
"""The statements that ``executemany`` sends with all rows at once, which are mysqlclient's and PyMySQL's."""


class Cursor:
    """mysqlclient's cursor, as Django uses it, on the seat's connection; its rows are read whole."""

    arraysize = 1
    max_stmt_length = 64 * 1024
    """How long a statement of :meth:`executemany` grows, in bytes."""

    def __init__(self, wrapper: Any, *, of_django: bool = True) -> None:
        self._wrapper = wrapper
        self._seat: Seat = wrapper.seat
        self._of_django = of_django
        self._rows: Sequence[Any] = ()
        self._next = 0
        self._result: Any = None
        self._executed: bytes | None = None
        self._closed = False
        self.rowcount: int | None = 0
        self.lastrowid: int | None = None

    @property
    def connection(self) -> Any:
        return None if self._closed else self._wrapper.connection

    @property
    def description(self) -> Any:
        """Each column as (name, type, None, length, length, decimals, whether it may be NULL)."""
        return described(self._result)

    @property
    def description_flags(self) -> Any:
        """The flags of each column (``MySQLdb.constants.FLAG``)."""
        return flags(self._result)

    @property
    def warning_count(self) -> int:
        """How many warnings the statement had."""
        return 0 if self._result is None else int(self._result.warning_count)

    @property
    def rownumber(self) -> int | None:
        """The place of the next row; None before the first statement."""
        return None if self._executed is None else self._next

    def execute(self, query: Any, args: Any = None) -> int:
        self._require_open()
        return self._seat.call(self._execute, query if type(query) is str else text(query), args)

    def executemany(self, query: Any, args: Iterable[Any]) -> int | None:
        """An INSERT or REPLACE of VALUES is sent as one statement with all its rows, cut where it grows too long."""
        if not args:
            return None
        self._require_open()
        rows = list(args)  # here, for they may come from a generator that asks the database
        if not rows:
            return None
        return self._seat.call(self._execute_each, text(query), rows)

    def callproc(self, procname: Any, args: Sequence[Any] = ()) -> Sequence[Any]:
        self._require_open()
        return self._seat.call(self._call, text(procname), args)

    def mogrify(self, query: Any, args: Any = None) -> str:
        """The statement as it would be sent."""
        self._require_open()
        return self._seat.call(self._mogrified, text(query), args).decode()

    def nextset(self) -> int | None:
        self._require_open()
        return self._seat.call(self._nextset)

    def scroll(self, value: int, mode: str = "relative") -> None:
        """Moves to another row."""
        self._require_executed()
        if mode not in {"relative", "absolute"}:
            raise errors.ProgrammingError(f"unknown scroll mode {mode!r}")
        place = value if mode == "absolute" else self._next + value
        if not 0 <= place < len(self._rows):
            raise IndexError("out of range")
        self._next = place

    def fetchone(self) -> Any:
        if self._next >= len(self._rows):
            self._require_executed()
            return None
        row = self._rows[self._next]
        self._next += 1
        return row

    def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        self._require_executed()
        start = self._next
        self._next = min(len(self._rows), start + (size or self.arraysize))
        return tuple(self._rows[start : self._next])

    def fetchall(self) -> Sequence[Any]:
        self._require_executed()
        start, self._next = self._next, len(self._rows)
        return self._rows[start:] if start else self._rows

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if (row := self.fetchone()) is None:
            raise StopIteration
        return row

    def close(self) -> None:
        self._rows, self._result = (), None
        self._closed = True
        self._seat.closed(self)

    def _require_open(self) -> None:
        if self._closed:
            raise errors.ProgrammingError("cursor closed")

    def _require_executed(self) -> None:
        if self._executed is None:
            raise errors.ProgrammingError("execute() first")

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
        link = self._ready(query)
        return self._send(link, as_utf8(query) if args is None else bound(query, args, plain=link.raw.plain))

    def _ready(self, query: str) -> Any:
        link = self._wrapper.before(query)
        self._wrapper.drain(link)
        return link

    def _execute_each(self, query: str, rows: list[Any]) -> int:
        found = _INSERT_OF_VALUES.match(query)
        if found is not None:
            return self._execute_at_once(query, found, rows)
        total = 0
        for row in rows:
            total += self._execute(query, row)
        self.rowcount = total
        return total

    def _execute_at_once(self, query: str, found: Any, rows: list[Any]) -> int:
        """Sends as few statements as may be; what ``query`` does is told from its text, once for all of them."""
        head = as_utf8(found.group(1) % ())
        values, tail = found.group(2).rstrip(), as_utf8(found.group(3) or "")
        statement, total = bytearray(head), 0
        link = self._ready(query)
        for row in rows:
            written = bound(values, row, plain=link.raw.plain)
            if len(statement) == len(head):
                statement += written
            elif len(statement) + len(written) + len(tail) + 1 <= self.max_stmt_length:
                statement += b"," + written
            else:
                total += self._send(link, bytes(statement + tail))
                statement = bytearray(head) + written
                link = self._ready(query)
        total += self._send(link, bytes(statement + tail))
        self.rowcount = total
        return total

    def _call(self, procname: str, args: Sequence[Any]) -> Sequence[Any]:
        escaped = procname.replace("`", "``")
        names = [f"@`_{escaped}_{index}`" for index, _ in enumerate(args)]
        if args:
            link = self._ready("SET @_procedure = 1")
            plain = link.raw.plain
            each = [as_utf8(name) + b"=" + literal(value, plain=plain) for name, value in zip(names, args, strict=True)]
            self._send(link, b"SET " + b",".join(each))
        self._execute(f"CALL `{escaped}`({','.join(names)})", None)
        return args

    def _mogrified(self, query: str, args: Any) -> bytes:
        if args is None:
            return as_utf8(query)
        return bound(query, args, plain=self._wrapper.taken().raw.plain)

    def _nextset(self) -> int | None:
        link = self._wrapper.taken()
        raw = link.raw
        if not getattr(raw._result, "has_next", False):
            return None
        self._await(link, raw.next_result())
        self._read(raw._result)
        return 1

    def _send(self, link: Any, sql: bytes) -> int:
        self._result, self._rows, self._next = None, (), 0
        self.rowcount = self.lastrowid = None
        raw = link.raw
        self._await(link, raw.query(sql))
        self._executed = sql
        return self._read(raw._result)

    def _await(self, link: Any, work: Any) -> None:
        try:
            self._wrapper.await_reply(link, work)
        except errors.OperationalError as error:
            if self._of_django and error.args and error.args[0] in _CHECKED:
                raise of_mysqldb(errors.IntegrityError(*error.args)) from error
            raise

    def _read(self, result: Any) -> int:
        self._result = result
        self.rowcount = count = int(result.affected_rows)
        self.lastrowid = self._wrapper.note_result(result)
        self._rows = converted(result.rows, result.description) if result.rows else ()
        self._next = 0
        return count


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

    def scroll(self, value: int, mode: str = "relative") -> None:
        raise errors.NotSupportedError("scroll() does not exist on a cursor that streams its rows")

    def _send(self, link: Any, sql: bytes) -> int:
        raw = link.raw
        self._link = link
        self._await(link, raw.query(sql, unbuffered=True))
        self._executed = sql
        self._result, self.rowcount = raw._result, -1
        link.pause_reading()
        return -1

    def _fetch(self, size: int | None) -> Sequence[Any]:
        link = self._seat.link
        if link is None or link is not self._link:
            raise errors.InterfaceError(
                0, "the stream's connection went when its scope ended: read it to its end there"
            )
        rows = read_stream(self._wrapper, link, self._result, size)
        self._next += len(rows)
        return converted(tuple(rows), self._result.description)


def read_stream(wrapper: Any, link: Any, result: Any, size: int | None) -> list[Any]:
    """Takes ``size`` rows, None being all, of a result that is still on the server. In a greenlet."""
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

    wrapper.await_reply(link, read())
    if link.stream_unfinished:
        link.pause_reading()
    return rows


def described(result: Any) -> Any:
    """What mysqlclient says of a result's columns, but for the width of what is in them."""
    if result is None or not result.fields:
        return None
    return tuple(
        (field.name, field.type_code, None, size, size, field.scale, int(field.flags % 2 == 0))
        for field in result.fields
        for size in [field.length - (1 << 32) if field.length >= 1 << 31 else field.length]
    )


def flags(result: Any) -> Any:
    """The flags of a result's columns as mysqlclient says them."""
    if result is None or not result.fields:
        return None
    return tuple(field.flags | (_NUMBER_FLAG if field.type_code in _NUMBERS else 0) for field in result.fields)


def text(query: Any) -> str:
    """A statement that may be given as bytes."""
    return query.decode() if isinstance(query, bytes | bytearray) else query
