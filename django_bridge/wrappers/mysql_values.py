"""Parameters written and rows read as mysqlclient does it for Django.

Read in mysqlclient 2.3.1 (``converters.py``, ``times.py``, ``connections.py``: ``literal``; ``_mysql.c``:
``_escape_item``) and Django 5.2 and 6.1 (``db/backends/mysql/base.py``: ``django_conversions``).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from asyncmy import errors
from asyncmy.constants import FIELD_TYPE
from django.db.backends.utils import typecast_time

from asyncdb.drivers.mysql_literals import as_utf8, quoted, quoted_bytes
from asyncdb.drivers.mysql_literals import literal as drivers_literal

_TIMES = (FIELD_TYPE.TIME,)
_DATES = (FIELD_TYPE.DATE, FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP)
_TO_CONVERT = frozenset((*_TIMES, *_DATES))
_AS_THE_DRIVER = frozenset({float, Decimal, datetime.datetime, datetime.date, datetime.time})


def bound(query: str, args: Any, *, plain: bool) -> bytes:
    """The statement with its parameters as literals; ``plain``: the session knows no backslash escapes."""
    statement = as_utf8(query)
    if args is None:
        return statement
    values: Any
    if type(args) is not tuple and isinstance(args, Mapping):
        values = {
            key.encode() if isinstance(key, str) else key: literal(value, plain=plain) for key, value in args.items()
        }
    else:
        values = tuple([literal(value, plain=plain) for value in args])
    try:
        return bytes(statement % values)
    except TypeError as err:
        raise errors.ProgrammingError(str(err)) from err


def literal(value: Any, *, plain: bool = False) -> bytes:
    """One parameter as an SQL literal; what is of no type that mysqlclient knows, subclasses too, is its text.

    - **errors**: ``UnsendableParameter`` for what MySQL would keep as something else: an aware datetime or time, NaN,
      infinity, a lone surrogate; ``TypeError`` for a set of anything but strings.
    """
    kind = type(value)
    if kind is str:
        return quoted(value, plain=plain).encode()
    if value is None:
        return b"NULL"
    if kind is int:
        return b"%d" % value
    if kind is bool:
        return b"1" if value else b"0"
    if isinstance(value, bytes | bytearray | memoryview):
        return quoted_bytes(bytes(value), plain=plain)
    if kind is tuple or kind is list:
        return b"(%s)" % b",".join([literal(part, plain=plain) for part in value])
    if kind is set or kind is frozenset:
        if not all(isinstance(part, str) for part in value):
            raise TypeError("set elements must be strings")
        return quoted(",".join(value), plain=plain).encode()
    if isinstance(value, float | Decimal | datetime.datetime | datetime.time):
        written = drivers_literal(value)  # which refuses what has no exact literal
        if kind in _AS_THE_DRIVER:
            return written.encode()
    if kind is datetime.timedelta:
        return _interval(value).encode()
    return quoted(str(value), plain=plain).encode()


def _interval(value: datetime.timedelta) -> str:
    sign, rest = ("-", -value) if value.days < 0 else ("", value)
    minutes, seconds = divmod(rest.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{rest.microseconds:06}" if rest.microseconds else ""
    return f"'{sign}{rest.days} {hours}:{minutes}:{seconds}{fraction}'"


def converted(rows: Sequence[Any], description: Any) -> Sequence[Any]:
    """Rows as mysqlclient gives them to Django: TIME as ``time``, dates that are none as None.

    - **errors**: ``ValueError`` for a TIME that is no time of day, as Django's own converter.
    """
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
        return typecast_time(value) if isinstance(value, str) else value
    sign, rest = (-1, -value) if value.days < 0 else (1, value)
    minutes, seconds = divmod(rest.days * 86400 + rest.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return datetime.time(sign * hours, minutes, seconds, rest.microseconds)


def as_dict(row: Sequence[Any], fields: Sequence[Any], *, always_with_table: bool = False) -> dict[str, Any]:
    """One row by its columns' names; of two with one name the later has its table's name before it."""
    found: dict[str, Any] = {}
    for value, field in zip(row, fields, strict=True):
        name = field.name
        if name in found or (always_with_table and field.table_name):
            name = f"{field.table_name}.{name}"
        found[name] = value
    return found
