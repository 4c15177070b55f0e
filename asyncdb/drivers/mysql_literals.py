"""One parameter as a literal of MySQL's SQL: what may be sent, and how no value can end its own literal.

asyncmy 0.2.18 puts parameters into the statement's text. Its own writing is not used, for it lets ``bytes`` end their
literal under NO_BACKSLASH_ESCAPES, and writes whatever ``__str__`` says of any object (``converters.pyx``,
``escape_bytes_prefixed``, ``escape_item``). May go when statements are prepared on the server.
"""

from __future__ import annotations

import datetime
import math
import uuid
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, NoReturn

from asyncmy import errors
from asyncmy.converters import escape_string

NO_BACKSLASH_ESCAPES = 0x0200
"""The bit of the server's status that says how strings are read (MySQL manual, "Server SQL Modes")."""
_ESCAPED = (
    (b"\\", rb"\\"), (b"\0", rb"\0"), (b"\n", rb"\n"), (b"\r", rb"\r"),
    (b"\x1a", rb"\Z"), (b'"', rb"\""), (b"'", rb"\'"),
)  # fmt: skip
"""What ``mysql_real_escape_string()`` writes; the backslash first, for the others bring some."""
_PLAIN = ((b"'", b"''"),)


class BinaryParameter(bytes):
    """Bytes of which the statement says that they are no text, as it says of a column of bytes."""


class UnsendableParameter(errors.ProgrammingError):
    """A parameter that MySQL has no exact literal for; nothing was sent, and the connection is whole."""


def refuse_type(value: Any, *, plain: bool) -> NoReturn:
    """Raises ``UnsendableParameter`` that names the type of ``value``, never the value."""
    raise UnsendableParameter(
        f"a parameter of type {type(value).__qualname__!r} has no literal in MySQL: convert it first, or give the "
        "column a type (sqlalchemy.types.TypeDecorator) that does",
    )


def literal(value: Any, *, plain: bool = False, otherwise: Callable[..., str] = refuse_type) -> str:
    """Writes one parameter as an SQL literal; ``plain``: the session knows no backslash escapes.

    Bytes are the string that they spell, as with mysqlclient. Bytes that are no UTF-8, a ``BinaryParameter`` and other
    buffers are ``_binary X'…'``: a string too, in which no byte can end the literal, and which comes back as bytes.
    ``X'31'`` alone is the number 49 where MySQL wants a number (MySQL manual, "Hexadecimal Literals"). ``otherwise`` is
    asked for what is of no type that is known here.

    - **errors**: ``UnsendableParameter`` for an unknown type, a lone surrogate, NaN and infinity, an aware datetime or
      time: of the last MySQL would keep the digits and forget the zone.
    """
    kind = type(value)
    if kind is str:
        return quoted(value, plain=plain)
    if value is None:
        return "NULL"
    if kind is int:
        return int.__repr__(value)
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            _refuse_not_finite()
        text = float.__repr__(value)
        return text if "e" in text else f"{text}e0"
    if isinstance(value, Decimal):
        if not value.is_finite():
            _refuse_not_finite()
        return Decimal.__format__(value, "f")
    if isinstance(value, bytes | bytearray | memoryview):
        return _of_bytes(value, plain=plain)
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            _refuse_aware("datetime")
        return f"'{datetime.datetime.isoformat(value, ' ')}'"
    if isinstance(value, datetime.date):
        return f"'{datetime.date.isoformat(value)}'"
    if isinstance(value, datetime.time):
        if value.tzinfo is not None:
            _refuse_aware("time")
        return f"'{datetime.time.isoformat(value)}'"
    if isinstance(value, datetime.timedelta):
        return f"'{_interval(value)}'"
    if isinstance(value, str):
        return quoted(str.__str__(value), plain=plain)
    if isinstance(value, uuid.UUID):
        return f"'{uuid.UUID.__str__(value)}'"  # SQLAlchemy leaves it to the driver for MariaDB's UUID
    if isinstance(value, list | tuple | set | frozenset):
        return f"({', '.join([literal(part, plain=plain, otherwise=otherwise) for part in value])})"
    return otherwise(value, plain=plain)


def require_exact(values: Iterable[Any]) -> None:
    """Refuses what :func:`literal` would refuse, where another driver writes the literals and is less strict.

    - **errors**: ``UnsendableParameter``.
    """
    for value in values:
        if not isinstance(value, str | bytes | int | None):
            literal(value)


def quoted(text: str, *, plain: bool) -> str:
    """Writes a string as a literal; the connection speaks utf8mb4, in which no byte of a character is a quote."""
    if not text.isascii():
        as_utf8(text)
    return "'" + (text.replace("'", "''") if plain else escape_string(text)) + "'"


def _of_bytes(value: bytes | bytearray | memoryview, *, plain: bool) -> str:
    if isinstance(value, bytes) and not isinstance(value, BinaryParameter):
        try:
            return quoted(value.decode(), plain=plain)
        except UnicodeDecodeError:
            pass
    return f"_binary X'{value.hex()}'"


def quoted_bytes(value: bytes, *, plain: bool) -> bytes:
    """Writes bytes as mysqlclient does, also those that are no UTF-8.

    The connection speaks utf8mb4: MySQL takes the bytes of what is no character one by one, and sees a quote or a
    backslash behind any of them (``my_ismbchar``).
    """
    for byte, escaped in _PLAIN if plain else _ESCAPED:
        if byte in value:
            value = value.replace(byte, escaped)
    return b"'" + value + b"'"


def as_utf8(text: str) -> bytes:
    """Encodes ``text``, or raises ``UnsendableParameter`` without a word of it."""
    try:
        return text.encode()
    except UnicodeEncodeError as err:
        where = err.start
    # Outside of the handler: the error above holds the whole string.
    raise UnsendableParameter(
        f"a string of {len(text)} characters has a lone surrogate at {where}, which UTF-8 cannot say",
    )


def _refuse_not_finite() -> NoReturn:
    raise UnsendableParameter("nan and inf can not be used with MySQL")


def _refuse_aware(kind: str) -> NoReturn:
    raise UnsendableParameter(
        f"an aware {kind} cannot be kept by MySQL, which would forget its zone: convert it to the zone that the column "
        "is meant in, and make it naive: value.astimezone(UTC).replace(tzinfo=None)",
    )


def _interval(value: datetime.timedelta) -> str:
    sign, rest = ("-", -value) if value.days < 0 else ("", value)
    minutes, seconds = divmod(rest.days * 86400 + rest.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{hours:02}:{minutes:02}:{seconds:02}.{rest.microseconds:06}"
