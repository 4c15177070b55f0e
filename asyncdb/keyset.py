"""The place of a row in an ORDER BY: what comes after it in SQL, and the cursor that names it as text.

Not `sqlakeyset <https://pypi.org/project/sqlakeyset/>`_, which was tried first (2.0.1787969905, SQLAlchemy 2.1.9): it
works with asyncio and our sessions, but leaves out every row with a NULL in its keys (as its README says: of eight
rows, half of them NULL, ordered by that column, it pages through two ascending and four descending), takes an order
that is not unique in silence, and gives no way to refuse a cursor of another statement.

Private names, read in SQLAlchemy 2.1.9 (``sql/selectable.py``): ``Select._order_by_clauses``, ``_group_by_clauses``,
``_having_criteria``, ``_limit_clause``, ``_offset_clause``, ``_fetch_clause``.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import decimal
import hashlib
import json
import math
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Select, TypeDecorator, and_, false, or_
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.sql.selectable import FromClause, Join

from .errors import InvalidCursor, PageError

_LONGEST: Final = 4096
"""Characters of a cursor: it has to fit into the line of a request."""


def require_order(statement: Any) -> None:
    """Refuses a statement that cannot be cut into pages: without an order, or with a limit of its own."""
    if not isinstance(statement, Select):
        raise PageError(
            f"a page is cut out of a select(), not out of a {type(statement).__name__}: "
            "select from its subquery(), with an ORDER BY",
        )
    if not statement._order_by_clauses:
        raise PageError("a page needs an order, or its rows are any: add order_by(...) to the statement")
    limits = (statement._limit_clause, statement._offset_clause, statement._fetch_clause)
    if any(limit is not None for limit in limits):
        raise PageError("the statement has a LIMIT or OFFSET of its own: leave it out, the page sets both")


@dataclass(frozen=True, slots=True)
class Key:
    """One expression of an ORDER BY, and how the server orders it."""

    expression: ColumnElement[Any]
    descending: bool
    nulls_first: bool
    nullable: bool

    def order(self, dialect: Dialect, *, backwards: bool) -> Iterator[ColumnElement[Any]]:
        """The expressions that order by this key on that server."""
        descending, nulls_first = self.descending ^ backwards, self.nulls_first ^ backwards
        if self.nullable and nulls_first != _native_nulls_first(dialect, descending=descending):
            # MySQL and MariaDB have no NULLS FIRST; what this sorts by is the same everywhere.
            is_null = self.expression.is_(None)
            yield is_null.desc() if nulls_first else is_null.asc()
        yield self.expression.desc() if descending else self.expression.asc()

    def equals(self, value: Any) -> ColumnElement[bool]:
        """Whether a row has this value here."""
        return self.expression.is_(None) if value is None else self.expression == value

    def beyond(self, value: Any, *, backwards: bool) -> ColumnElement[bool]:
        """Whether a row's value comes after this one."""
        descending, nulls_first = self.descending ^ backwards, self.nulls_first ^ backwards
        if value is None:
            return self.expression.is_not(None) if nulls_first else false()
        if isinstance(value, bool):  # SQLAlchemy compares no truth values
            beyond = false() if value is not descending else self.expression == (not descending)
        else:
            beyond = self.expression < value if descending else self.expression > value
        return or_(beyond, self.expression.is_(None)) if self.nullable and not nulls_first else beyond


def _native_nulls_first(dialect: Dialect, *, descending: bool) -> bool:
    """PostgreSQL takes NULL for larger than any value, the others for smaller."""
    return descending if dialect.name == "postgresql" else not descending


def keys_of(statement: Select[Any], dialect: Dialect) -> list[Key]:
    """The keys of the statement's ORDER BY.

    - **errors**: ``PageError`` for a statement that cannot be paged by them.
    """
    require_order(statement)
    if statement._group_by_clauses or statement._having_criteria:
        raise PageError(
            "a grouped statement has no keys of its own: select from its subquery(), and order by its columns"
        )
    froms = statement.order_by(None).get_final_froms()
    may_miss = any(_has_outer_join(source) for source in froms)
    keys = [_key(statement, clause, dialect, may_miss=may_miss) for clause in _flat(statement._order_by_clauses)]
    _require_unique(keys, froms)
    return keys


def _flat(clauses: Sequence[Any]) -> Iterator[Any]:
    for clause in clauses:
        if getattr(clause, "__visit_name__", "") in {"order_by_list", "clauselist"}:
            yield from _flat(clause.clauses)
        else:
            yield clause


def _key(statement: Select[Any], clause: Any, dialect: Dialect, *, may_miss: bool) -> Key:
    descending, nulls_first = False, None
    while True:
        modifier = getattr(clause, "modifier", None)
        if modifier is operators.desc_op:
            descending = True
        elif modifier in {operators.nulls_first_op, operators.nulls_last_op}:
            nulls_first = modifier is operators.nulls_first_op
        elif modifier is not operators.asc_op and getattr(clause, "__visit_name__", "") not in {
            "label",
            "label_reference",
        }:
            break
        clause = clause.element
    if getattr(clause, "__visit_name__", "") == "textual_label_reference":
        clause = _named(statement, clause.element)
    if not isinstance(clause, ColumnElement) or getattr(clause, "__visit_name__", "") == "textclause":
        raise PageError("the order of a keyset is made of columns and expressions: text() is none")
    if _is_inexact(clause, dialect):
        raise PageError(
            f"{_describe(clause)} is a single-precision number, which no server finds again by its value: "
            "order by another column, or by a cast"
        )
    native = _native_nulls_first(dialect, descending=descending)
    nullable = may_miss or getattr(clause, "nullable", None) is not False
    return Key(clause, descending, native if nulls_first is None else nulls_first, nullable)


def _named(statement: Select[Any], name: str) -> Any:
    try:
        column = statement.selected_columns[name]
    except KeyError:
        raise PageError(f"the statement orders by {name!r}, which is not the name of a column of it") from None
    return getattr(column, "element", column)


def _is_inexact(expression: ColumnElement[Any], dialect: Dialect) -> bool:
    try:
        name = expression.type.compile(dialect).upper()
    except Exception:  # a type without DDL, as that of a bare function
        return False
    bits = re.fullmatch(r"FLOAT\((\d+)\)", name)
    if dialect.name == "postgresql":
        return name == "REAL" or (bits is not None and int(bits[1]) <= 24)
    return dialect.name in {"mysql", "mariadb"} and name.startswith("FLOAT") and (bits is None or int(bits[1]) <= 24)


def _has_outer_join(source: FromClause) -> bool:
    if not isinstance(source, Join):
        return False
    return source.isouter or source.full or _has_outer_join(source.left) or _has_outer_join(source.right)


def _require_unique(keys: Sequence[Key], froms: Sequence[FromClause]) -> None:
    """A place in the order must be one row: the keys hold a primary key, or unique columns that are never NULL."""
    given = {_identity(key.expression) for key in keys}
    sources = [source for each in froms for source in _sources(each)]
    if any(ids and ids <= given for source in sources for ids in _unique_sets(source)):
        return
    raise PageError(
        f"rows may be alike in their order ({', '.join(_describe(key.expression) for key in keys)}), and a page that "
        "ends between two of them would lose one: add the primary key as the last of order_by(...)",
    )


def _sources(source: FromClause) -> Iterator[FromClause]:
    if isinstance(source, Join):
        yield from _sources(source.left)
        yield from _sources(source.right)
    else:
        yield source


def _unique_sets(source: FromClause) -> Iterator[set[Any]]:
    yield {_identity(column) for column in source.primary_key}
    for column in source.columns:
        if getattr(column, "unique", None) and not getattr(column, "nullable", True):
            yield {_identity(column)}
    constraints = getattr(getattr(source, "element", source), "constraints", ())
    for constraint in constraints:
        columns = [source.columns.get(column.key) for column in getattr(constraint, "columns", ())]
        if type(constraint).__name__ == "UniqueConstraint" and all(
            column is not None and not getattr(column, "nullable", True) for column in columns
        ):
            yield {_identity(column) for column in columns}


def _identity(expression: Any) -> Any:
    """The same for the column of a table and for the mapped attribute of it."""
    table = getattr(expression, "table", None)
    if table is None:
        return expression
    name = getattr(table, "fullname", None) or getattr(table, "name", None) or id(table)
    return (name, getattr(expression, "key", None))


def _describe(expression: ClauseElement) -> str:
    return getattr(expression, "name", None) or type(expression).__name__


# Places


class Place(NamedTuple):
    """Where a page begins: at the row with these keys, after it or before it, that row itself included or not."""

    values: tuple[Any, ...]
    backwards: bool
    inclusive: bool


def beyond(keys: Sequence[Key], place: Place) -> ColumnElement[bool]:
    """Whether a row comes after the place, in the direction that it has.

    In the nested form, whose first condition lets a server start in the middle of an index.
    """
    condition: ColumnElement[bool] | None = (
        and_(*(key.equals(value) for key, value in zip(keys[-1:], place.values[-1:], strict=True)))
        if place.inclusive
        else None
    )
    for key, value in reversed(list(zip(keys, place.values, strict=True))):
        after = key.beyond(value, backwards=place.backwards)
        if condition is None:
            condition = after
        elif key is keys[-1]:
            condition = or_(after, condition)
        else:
            condition = or_(after, and_(key.equals(value), condition))
    assert condition is not None
    first, value = keys[0], place.values[0]
    if len(keys) > 1 and value is not None and not first.nullable and not isinstance(value, bool):
        edge = first.expression <= value if first.descending ^ place.backwards else first.expression >= value
        return and_(edge, condition)
    return condition


# Cursors


def fingerprint(keys: Sequence[Key]) -> str:
    """Which order a cursor belongs to; no secret."""
    text = ";".join(f"{key.expression}|{key.descending:d}{key.nulls_first:d}" for key in keys)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def write_cursor(keys: Sequence[Key], place: Place) -> str:
    """The place as text: letters, digits, ``-`` and ``_``.

    - **errors**: ``PageError`` for a key that cannot be written.
    """
    values = [_pack(value) for value in place.values]
    flags = 2 * place.backwards + place.inclusive
    text = json.dumps([1, fingerprint(keys), flags, values], separators=(",", ":"), allow_nan=False)
    cursor = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    if len(cursor) > _LONGEST:
        raise PageError(f"a cursor would have {len(cursor)} characters, over {_LONGEST}: order by shorter columns")
    return cursor


def read_cursor(keys: Sequence[Key], cursor: str) -> Place:
    """The place that :func:`write_cursor` wrote.

    - **errors**: ``InvalidCursor`` for anything else, and for a cursor of another order.
    """
    if not isinstance(cursor, str) or len(cursor) > _LONGEST:
        raise InvalidCursor("this is no cursor: pass on what the page before gave, unchanged")
    try:
        text = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        version, order, flags, packed = json.loads(text)
        if version != 1 or flags not in {0, 1, 2, 3} or not isinstance(packed, list):
            raise ValueError(flags)
        values = tuple(_unpack(item) for item in packed)
    except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError, binascii.Error):
        raise InvalidCursor("this is no cursor: pass on what the page before gave, unchanged") from None
    if order != fingerprint(keys) or len(values) != len(keys):
        raise InvalidCursor("the cursor belongs to another statement, or to another order of this one: begin anew")
    for key, value in zip(keys, values, strict=True):
        _require_type(key, value)
    return Place(values, flags >= 2, bool(flags & 1))


def _require_type(key: Key, value: Any) -> None:
    """A value of another type, in a cursor that somebody made, would be the server's error."""
    if isinstance(key.expression.type, TypeDecorator):  # which says the type of what is stored
        return
    try:
        wanted = key.expression.type.python_type
    except NotImplementedError:
        return
    numbers = {int, float, decimal.Decimal, bool}
    if value is None or wanted is object or isinstance(value, wanted) or (wanted in numbers and type(value) in numbers):
        return
    raise InvalidCursor("the cursor has a value of another type than its column: pass on what the page before gave")


def _text(value: str) -> str:
    value.encode()  # half a surrogate pair is no text to any server
    return value


def _integer(value: Any) -> int:
    if type(value) is not int or abs(value) >= 2**64:
        raise ValueError(value)
    return value


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError(value)
    return value


def _duration(value: Any) -> datetime.timedelta:
    days, seconds, microseconds = map(_integer, value)
    return datetime.timedelta(days, seconds, microseconds)


def _finite(value: str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


_TYPES: Final[dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]]] = {
    "b": (bool, _truth, _truth),
    "i": (int, int, _integer),
    "f": (float, repr, _finite),
    "n": (decimal.Decimal, str, decimal.Decimal),
    "s": (str, str, _text),
    "t": (datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    "d": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "h": (datetime.time, datetime.time.isoformat, datetime.time.fromisoformat),
    "l": (datetime.timedelta, lambda value: [value.days, value.seconds, value.microseconds], _duration),
    "u": (uuid.UUID, str, uuid.UUID),
    "y": (bytes, lambda value: base64.b64encode(value).decode(), lambda value: base64.b64decode(value, validate=True)),
}
"""For each letter of a cursor: the type, and the way there and back. A subclass comes before its base."""


def _pack(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, memoryview | bytearray):
        value = bytes(value)
    for letter, (kind, write, _) in _TYPES.items():
        if type(value) is kind:
            return [letter, write(value)]
    for letter, (kind, write, _) in _TYPES.items():
        if isinstance(value, kind) and not hasattr(value, "_member_map_"):
            return [letter, write(value)]
    raise PageError(f"a {type(value).__name__} has no place in a cursor: order by another column, or by a cast")


def _unpack(item: Any) -> Any:
    if item is None:
        return None
    letter, written = item
    value = _TYPES[letter][2](written)
    if isinstance(value, decimal.Decimal) and not value.is_finite():
        raise ValueError(letter)
    return value
