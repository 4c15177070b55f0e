"""Every operator of SQLAlchemy on a column of each Django field, beside SQLAlchemy's own type for the same column."""

# ruff: noqa: ARG005  (each operator takes the same three)

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, time, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    and_,
    case,
    cast,
    extract,
    false,
    func,
    literal,
    not_,
    null,
    or_,
    select,
    true,
    tuple_,
    type_coerce,
)
from sqlalchemy import types as sqltypes
from sqlalchemy.dialects import mysql, postgresql

Operator = Callable[[Any, Any, Any], Any]
"""Makes an expression of a column, a value that its first row has, and one that its second row has."""


@dataclass
class Kind:
    """A column, two values of it as Django has them and as SQLAlchemy's own type takes them, and that type."""

    first: Any
    second: Any
    own: dict[str, sqltypes.TypeEngine[Any]]
    taken: Callable[[Any], Any] = lambda value: value
    more: tuple[str, ...] = ()
    """Groups of operators beside those of all columns."""


def _everywhere(own: Any, **others: Any) -> dict[str, Any]:
    return {"sqlite": own, "mysql": own, "postgresql": own, **others}


def _naive(value: Any) -> Any:
    return value.replace(tzinfo=None)


def _microseconds(value: timedelta) -> int:
    return value // timedelta(microseconds=1)


NUMBERS = ("arithmetic",)
WHOLE = ("arithmetic", "whole")
KINDS: dict[str, Kind] = {
    "binary": Kind(b"\x00a", b"b'", _everywhere(sqltypes.LargeBinary())),
    "boolean": Kind(True, False, _everywhere(sqltypes.Boolean()), more=("boolean",)),
    "big": Kind(3, 40, _everywhere(sqltypes.BigInteger()), more=WHOLE),
    "date": Kind(date(2024, 2, 28), date(2024, 3, 1), _everywhere(sqltypes.Date()), more=("dates",)),
    "moment": Kind(
        datetime.datetime(2024, 2, 28, 23, 59, 0, 5, tzinfo=UTC),
        datetime.datetime(2024, 3, 1, 0, 0, 0, 1, tzinfo=UTC),
        _everywhere(sqltypes.DateTime(), mysql=mysql.DATETIME(fsp=6), postgresql=sqltypes.DateTime(timezone=True)),
        _naive,
        more=("dates",),
    ),
    "decimal": Kind(Decimal("1.500000"), Decimal("20.250000"), _everywhere(sqltypes.Numeric(20, 6)), more=NUMBERS),
    "duration": Kind(
        timedelta(hours=1),
        timedelta(days=2, microseconds=5),
        _everywhere(sqltypes.BigInteger(), postgresql=sqltypes.Interval()),
        _microseconds,
        more=("spans",),
    ),
    "double": Kind(1.5, 20.25, _everywhere(sqltypes.Float(53)), more=NUMBERS),
    "address": Kind("10.0.0.1", "192.168.0.20", _everywhere(sqltypes.String(39), postgresql=postgresql.INET())),
    "json": Kind(
        {"a": 1, "b": [1, {"c": "x"}], "t": True, "n": None},
        [1, 2],
        _everywhere(sqltypes.JSON(none_as_null=True), postgresql=postgresql.JSONB(none_as_null=True)),
        more=("json",),
    ),
    "text": Kind("a%b", "Zoë", _everywhere(sqltypes.String(200)), more=("text",)),
    "time": Kind(time(1, 2, 3, 4), time(20, 0, 0, 1), _everywhere(sqltypes.Time(), mysql=mysql.TIME(fsp=6))),
    "uuid": Kind(uuid.UUID(int=1), uuid.UUID(int=2**127), _everywhere(sqltypes.Uuid())),
}

OPERATORS: dict[str, dict[str, Operator]] = {
    "all": {
        "==": lambda c, a, b: c == a,
        "!=": lambda c, a, b: c != a,
        "<": lambda c, a, b: c < b,
        "<=": lambda c, a, b: c <= a,
        ">": lambda c, a, b: c > a,
        ">=": lambda c, a, b: c >= b,
        "value ==": lambda c, a, b: literal(a, c.type) == c,
        "value <": lambda c, a, b: a < c,
        "== None": lambda c, a, b: c == None,  # noqa: E711
        "!= None": lambda c, a, b: c != None,  # noqa: E711
        "== null()": lambda c, a, b: c == null(),
        "is_(None)": lambda c, a, b: c.is_(None),
        "is_not(None)": lambda c, a, b: c.is_not(None),
        "is_(null())": lambda c, a, b: c.is_(null()),
        "~is_(None)": lambda c, a, b: ~c.is_(None),
        "in_": lambda c, a, b: c.in_([a, b]),
        "in_ one": lambda c, a, b: c.in_([b]),
        "in_ none": lambda c, a, b: c.in_([]),
        "not_in": lambda c, a, b: c.not_in([a]),
        "not_in none": lambda c, a, b: c.not_in([]),
        "~in_": lambda c, a, b: ~c.in_([a]),
        "in_ with None": lambda c, a, b: c.in_([a, None]),
        "in_ select": lambda c, a, b: c.in_(select(literal(a, c.type))),
        "tuple": lambda c, a, b: tuple_(c, literal(1)).in_([(a, 1)]),
        "between": lambda c, a, b: c.between(a, b),
        "~between": lambda c, a, b: ~c.between(a, a),
        "is_distinct_from": lambda c, a, b: c.is_distinct_from(a),
        "is_not_distinct_from": lambda c, a, b: c.is_not_distinct_from(a),
        "is_distinct_from None": lambda c, a, b: c.is_distinct_from(None),
        "is_not_distinct_from None": lambda c, a, b: c.is_not_distinct_from(None),
        "column == column": lambda c, a, b: c == c,  # noqa: PLR0124
        "and_": lambda c, a, b: and_(c == a, c != b),
        "or_": lambda c, a, b: or_(c == a, c == b),
        "not_": lambda c, a, b: not_(c == a),
        "& |": lambda c, a, b: (c == a) & (c != b) | (c == b),
        "and_ true": lambda c, a, b: and_(true(), c == a),
        "or_ false": lambda c, a, b: or_(false(), c == a),
        "case": lambda c, a, b: case((c == a, c), else_=literal(b, c.type)),
        "case by value": lambda c, a, b: case({a: "first"}, value=c, else_="other"),
        "case compared": lambda c, a, b: case((c == a, c), else_=literal(b, c.type)) == b,
        "coalesce": lambda c, a, b: func.coalesce(c, a),
        "coalesce compared": lambda c, a, b: func.coalesce(c, a) == a,
        "nullif": lambda c, a, b: func.nullif(c, a).is_(None),
        "max": lambda c, a, b: select(func.max(c.table.c[c.name])).scalar_subquery(),
        "min compared": lambda c, a, b: select(func.min(c.table.c[c.name])).scalar_subquery() == c,
        "count": lambda c, a, b: select(func.count(c.table.c[c.name])).scalar_subquery(),
        "count distinct": lambda c, a, b: select(func.count(c.table.c[c.name].distinct())).scalar_subquery(),
        "cast text": lambda c, a, b: cast(c, sqltypes.String(50)).is_(None),
        "cast own": lambda c, a, b: cast(c, c.type) == c,
        "cast value": lambda c, a, b: c == cast(a, c.type),
        "type_coerce": lambda c, a, b: type_coerce(a, c.type) == c,
        "label": lambda c, a, b: c.label("labelled"),
        "collected": lambda c, a, b: select(c.table.c[c.name]).where(c.table.c.id == 1).scalar_subquery() == a,
    },
    "ordering": {
        "asc": lambda c, a, b: c.asc(),
        "desc": lambda c, a, b: c.desc(),
        "desc nulls_last": lambda c, a, b: c.desc().nulls_last(),
        "nulls_first": lambda c, a, b: c.nulls_first(),
    },
    "boolean": {
        "bare": lambda c, a, b: c,
        "~": lambda c, a, b: ~c,
        "not_": lambda c, a, b: not_(c),
        "is_(True)": lambda c, a, b: c.is_(True),
        "is_(False)": lambda c, a, b: c.is_(False),
        "is_not(True)": lambda c, a, b: c.is_not(True),
        "is_not(False)": lambda c, a, b: c.is_not(False),
        "is_(true())": lambda c, a, b: c.is_(true()),
        "is_not(false())": lambda c, a, b: c.is_not(false()),
        "~is_(True)": lambda c, a, b: ~c.is_(True),
        "== True": lambda c, a, b: c == True,  # noqa: E712
        "!= True": lambda c, a, b: c != True,  # noqa: E712
        "== true()": lambda c, a, b: c == true(),
        "!= false()": lambda c, a, b: c != false(),
        "== column is_": lambda c, a, b: c == (c.table.c.id == 1),
        "is_distinct_from(True)": lambda c, a, b: c.is_distinct_from(True),
        "is_not_distinct_from(False)": lambda c, a, b: c.is_not_distinct_from(False),
        "is_distinct_from(true())": lambda c, a, b: c.is_distinct_from(true()),
        "and": lambda c, a, b: and_(c, c == True),  # noqa: E712
        "or": lambda c, a, b: c | ~c,
        "and true": lambda c, a, b: c & true(),
        "or literal": lambda c, a, b: c | literal(True),
        "in_ column": lambda c, a, b: literal(True).in_([c]),
        "case": lambda c, a, b: case((c, 1), else_=0),
        "case of it": lambda c, a, b: case((c.is_(None), False), else_=c),
        "not coalesce": lambda c, a, b: ~func.coalesce(c, False),
        "coalesce bare": lambda c, a, b: func.coalesce(c, True),
        "filter": lambda c, a, b: select(func.count().filter(c.table.c[c.name])).scalar_subquery(),
        "cast int": lambda c, a, b: cast(c, sqltypes.Integer),
    },
    "arithmetic": {
        "+": lambda c, a, b: c + b,
        "-": lambda c, a, b: c - a,
        "*": lambda c, a, b: c * 2,
        "/": lambda c, a, b: c / 2,
        "r+": lambda c, a, b: 1 + c,
        "r-": lambda c, a, b: 100 - c,
        "r*": lambda c, a, b: 2 * c,
        "r/": lambda c, a, b: 100 / c,
        "neg": lambda c, a, b: -c,
        "column + column": lambda c, a, b: c + c,
        "column - column": lambda c, a, b: c - c,
        "* compared": lambda c, a, b: c * 2 == a * 2,
        "+ compared": lambda c, a, b: c + a > b,
        "sum": lambda c, a, b: select(func.sum(c.table.c[c.name])).scalar_subquery(),
        "abs": lambda c, a, b: func.abs(c),
        "is_distinct_from number": lambda c, a, b: c.is_distinct_from(0),
        "cast int": lambda c, a, b: cast(c, sqltypes.Integer),
        "between numbers": lambda c, a, b: c.between(1, 3),
        "float": lambda c, a, b: c > 2.5,
    },
    "whole": {
        "%": lambda c, a, b: c % 2,
        "r%": lambda c, a, b: 100 % c,
        "//": lambda c, a, b: c // 2,
        "bitwise_and": lambda c, a, b: c.bitwise_and(2),
        "bitwise_or": lambda c, a, b: c.bitwise_or(8),
        "bitwise_xor": lambda c, a, b: c.bitwise_xor(1),
        "bitwise_not": lambda c, a, b: c.bitwise_not().bitwise_and(7),
        "bitwise_lshift": lambda c, a, b: c.bitwise_lshift(1),
        "bitwise_rshift": lambda c, a, b: c.bitwise_rshift(1),
        "* float": lambda c, a, b: c * 1.5,
        "* decimal": lambda c, a, b: c * Decimal("1.5"),
        "is_(True)": lambda c, a, b: c.is_(True),
        "is_not(False)": lambda c, a, b: c.is_not(False),
    },
    "dates": {
        "- column": lambda c, a, b: c - c,
        "extract": lambda c, a, b: extract("year", c),
        "extract compared": lambda c, a, b: extract("month", c) == 2,
        "+ interval": lambda c, a, b: c + timedelta(days=1),
        "- interval": lambda c, a, b: c - timedelta(days=1),
        "+ interval compared": lambda c, a, b: c + timedelta(days=1) > a,
        "- value": lambda c, a, b: c - a,
        "cast date": lambda c, a, b: cast(c, sqltypes.Date) == cast(c, sqltypes.Date),
    },
    "spans": {
        "+": lambda c, a, b: c + b,
        "-": lambda c, a, b: c - a,
        "*": lambda c, a, b: c * 2,
        "r*": lambda c, a, b: 2 * c,
        "/": lambda c, a, b: c / 2,
        "+ column": lambda c, a, b: c + c,
        "sum": lambda c, a, b: select(func.sum(c.table.c[c.name])).scalar_subquery(),
    },
    "text": {
        "like": lambda c, a, b: c.like("a%"),
        "not_like": lambda c, a, b: c.not_like("a%"),
        "like escape": lambda c, a, b: c.like("a/%%", escape="/"),
        "ilike": lambda c, a, b: c.ilike("zO%"),
        "not_ilike": lambda c, a, b: c.not_ilike("zO%"),
        "~like": lambda c, a, b: ~c.like("a%"),
        "contains": lambda c, a, b: c.contains("%", autoescape=True),
        "icontains": lambda c, a, b: c.icontains("OË"),
        "startswith": lambda c, a, b: c.startswith("a"),
        "istartswith": lambda c, a, b: c.istartswith("A%", autoescape=True),
        "endswith": lambda c, a, b: c.endswith("b"),
        "iendswith": lambda c, a, b: c.iendswith("B"),
        "contains column": lambda c, a, b: c.contains(c),
        "like column": lambda c, a, b: literal("a%b").like(c),
        "regexp_match": lambda c, a, b: c.regexp_match("^a"),
        "~regexp_match": lambda c, a, b: ~c.regexp_match("^a"),
        "regexp_replace": lambda c, a, b: c.regexp_replace("a", "b"),
        "+": lambda c, a, b: c + "!",
        "r+": lambda c, a, b: "!" + c,
        "+ column": lambda c, a, b: c + c,
        "concat": lambda c, a, b: c.concat("!"),
        "+ compared": lambda c, a, b: c + "!" == "a%b!",
        "lower": lambda c, a, b: func.lower(c),
        "lower compared": lambda c, a, b: func.lower(c) == "zoë",
        "length": lambda c, a, b: func.length(c),
        "substr": lambda c, a, b: func.substr(c, 1, 1) == "a",
        "distinct": lambda c, a, b: select(func.count(c.table.c[c.name].distinct())).scalar_subquery(),
    },
    "json": {
        "['a']": lambda c, a, b: c["a"],
        "['b', 1, 'c']": lambda c, a, b: c["b", 1, "c"],
        "[0]": lambda c, a, b: c[0],
        "as_integer": lambda c, a, b: c["a"].as_integer() == 1,
        "as_string": lambda c, a, b: c[("b", 1, "c")].as_string() == "x",
        "as_string selected": lambda c, a, b: c[("b", 1, "c")].as_string(),
        "as_boolean": lambda c, a, b: c["t"].as_boolean(),
        "as_boolean is_": lambda c, a, b: c["t"].as_boolean().is_(True),
        "as_boolean == True": lambda c, a, b: c["t"].as_boolean() == True,  # noqa: E712
        "as_float": lambda c, a, b: c["a"].as_float() > 0.5,
        "as_numeric": lambda c, a, b: c["a"].as_numeric(10, 2) > Decimal("0.5"),
        "as_json": lambda c, a, b: c["b"].as_json(),
        "item is None": lambda c, a, b: c["zz"].is_(None),
        "item == value": lambda c, a, b: c["a"] == 1,
        "item == text": lambda c, a, b: c["b"] == [1, {"c": "x"}],
        "item in_": lambda c, a, b: c["a"].in_([1, 2]),
        "nested": lambda c, a, b: c["b"][1]["c"].as_string() == "x",
        "cast text like": lambda c, a, b: cast(c, sqltypes.Text).like("%c%"),
        "== JSON.NULL": lambda c, a, b: c == sqltypes.JSON.NULL,
        "is_ null": lambda c, a, b: c.is_(null()),
        "== True": lambda c, a, b: c == True,  # noqa: E712
        "item == True": lambda c, a, b: c["t"] == True,  # noqa: E712
        "in_ dicts": lambda c, a, b: c.in_([a]),
    },
    "jsonb": {
        "contains": lambda c, a, b: c.contains({"a": 1}),
        "contained_by": lambda c, a, b: c.contained_by({"a": 1, "b": [1, {"c": "x"}], "t": True, "n": None, "z": 1}),
        "has_key": lambda c, a, b: c.has_key("a"),
        "has_any": lambda c, a, b: c.has_any(postgresql.array(["a", "z"])),
        "has_all": lambda c, a, b: c.has_all(postgresql.array(["a", "b"])),
        "path_exists": lambda c, a, b: c.path_exists("$.a"),
        "path_match": lambda c, a, b: c.path_match("$.a == 1"),
        "delete_path": lambda c, a, b: c.delete_path(["b", "1"]),
        "- key": lambda c, a, b: c - "a",
        "||": lambda c, a, b: c.op("||")({"z": 1}),
        "+": lambda c, a, b: c + {"z": 1},
        "astext": lambda c, a, b: c["a"].astext,
        "astext compared": lambda c, a, b: c["b", "1", "c"].astext == "x",
        "astext cast": lambda c, a, b: c["a"].astext.cast(sqltypes.Integer) == 1,
    },
    "array": {
        "[1]": lambda c, a, b: c[1],
        "[1] compared": lambda c, a, b: c[1] == a[0],
        "[1:2]": lambda c, a, b: c[1:2],
        "[1:2] compared": lambda c, a, b: c[1:2] == a[:2],
        "any": lambda c, a, b: c.any(a[0]),
        "all": lambda c, a, b: c.all(a[0]),
        "any_": lambda c, a, b: literal(a[0]) == c.any_(),
        "a == any_": lambda c, a, b: a[0] == c.any_(),
        "all_": lambda c, a, b: literal(a[0]) == c.all_(),
        "contains": lambda c, a, b: c.contains(a[:1]),
        "contained_by": lambda c, a, b: c.contained_by([*a, *b]),
        "overlap": lambda c, a, b: c.overlap(b),
        "+": lambda c, a, b: c + b,
        "r+": lambda c, a, b: literal(b, c.type) + c,
        "concat": lambda c, a, b: c.concat(b),
        "concat item": lambda c, a, b: func.array_append(c, a[0]),
        "length": lambda c, a, b: func.array_length(c, 1),
        "cardinality": lambda c, a, b: func.cardinality(c) > 1,
        "position": lambda c, a, b: func.array_position(c, a[0]),
        "in unnest": lambda c, a, b: literal(a[0]).in_(select(func.unnest(c.table.c[c.name]))),
    },
    "range": {
        "contains": lambda c, a, b: c.contains(a),
        "contained_by": lambda c, a, b: c.contained_by(a),
        "overlaps": lambda c, a, b: c.overlaps(a),
        "strictly_left_of": lambda c, a, b: c.strictly_left_of(b),
        "strictly_right_of": lambda c, a, b: c.strictly_right_of(a),
        "adjacent_to": lambda c, a, b: c.adjacent_to(b),
        "not_extend_left_of": lambda c, a, b: c.not_extend_left_of(a),
        "not_extend_right_of": lambda c, a, b: c.not_extend_right_of(b),
        "+": lambda c, a, b: c + a,
        "*": lambda c, a, b: c * a,
        "-": lambda c, a, b: c - a,
        "lower": lambda c, a, b: func.lower(c),
        "isempty": lambda c, a, b: func.isempty(c),
        "@> item": lambda c, a, b: c.contains(a.lower),
    },
    "hstore": {
        "['a']": lambda c, a, b: c["a"],
        "['a'] compared": lambda c, a, b: c["a"] == "1",
        "has_key": lambda c, a, b: c.has_key("a"),
        "has_all": lambda c, a, b: c.has_all(postgresql.array(["a"])),
        "contains": lambda c, a, b: c.contains({"a": "1"}),
        "contained_by": lambda c, a, b: c.contained_by({"a": "1", "b": None, "z": "1"}),
        "defined": lambda c, a, b: c.defined("a"),
        "keys": lambda c, a, b: c.keys(),
        "vals": lambda c, a, b: c.vals(),
        "delete": lambda c, a, b: c.delete("a"),
        "slice": lambda c, a, b: c.slice(postgresql.array(["a"])),
        "concat": lambda c, a, b: c.concat({"z": "1"}),
        "+": lambda c, a, b: c + {"z": "1"},
    },
}


def postgres() -> dict[str, tuple[Any, Kind]]:
    """Columns that PostgreSQL alone has: the field, and the rest."""
    from django.contrib.postgres import fields
    from django.db import models
    from psycopg.types.range import Range

    integer, text, array = sqltypes.Integer(), sqltypes.String(50), postgresql.ARRAY
    own: Callable[[Any], dict[str, Any]] = lambda type_: {"postgresql": type_}  # noqa: E731
    return {
        "numbers": (
            fields.ArrayField(models.IntegerField(null=True), null=True),
            Kind([1, 2], [3, 3], own(array(integer)), more=("array",)),
        ),
        "words": (
            fields.ArrayField(models.CharField(max_length=50), null=True),
            Kind(["a", "b"], ["c"], own(array(text)), more=("array",)),
        ),
        "decimals": (
            fields.ArrayField(models.DecimalField(max_digits=10, decimal_places=2), null=True),
            Kind([Decimal("1.50")], [Decimal("2.00")], own(array(sqltypes.Numeric(10, 2))), more=("array",)),
        ),
        "days": (
            fields.ArrayField(models.DateField(), null=True),
            Kind([date(2024, 2, 28)], [date(2024, 3, 1)], own(array(sqltypes.Date())), more=("array",)),
        ),
        "ids": (
            fields.ArrayField(models.UUIDField(), null=True),
            Kind([uuid.UUID(int=1)], [uuid.UUID(int=2)], own(array(sqltypes.Uuid())), more=("array",)),
        ),
        "flags": (
            fields.ArrayField(models.BooleanField(), null=True),
            Kind([True, True], [False], own(array(sqltypes.Boolean())), more=("array",)),
        ),
        "span": (
            fields.IntegerRangeField(null=True),
            Kind(Range(1, 5), Range(10, 20), own(postgresql.INT4RANGE()), more=("range",)),
        ),
        "season": (
            fields.DateRangeField(null=True),
            Kind(
                Range(date(2024, 1, 1), date(2024, 2, 1)),
                Range(date(2024, 3, 1), date(2024, 4, 1)),
                own(postgresql.DATERANGE()),
                more=("range",),
            ),
        ),
        "store": (
            fields.HStoreField(null=True),
            Kind({"a": "1", "b": None}, {"c": "x"}, own(postgresql.HSTORE()), more=("hstore",)),
        ),
    }


_PLAIN_VALUES = {"case by value", "coalesce", "coalesce compared", "nullif"}
"""A value in a function that names no column goes as its Python type says, as for each type of a project's own."""
_LAPSES = {"+ interval", "- interval", "+ interval compared"}
"""SQLAlchemy's own type adds a text to a date on MySQL and SQLite; ours refuses."""
_OF_BOTH = {
    *(f"{name} {operator}" for name in ("date", "moment") for operator in _LAPSES),
    *(f"duration {operator}" for operator in _PLAIN_VALUES),
    "duration /",  # a span has no half microseconds
}
DIFFERENCES: dict[str, set[str]] = {
    # JSON compared with a value is compared as JSON.
    "sqlite": _OF_BOTH | {"json item == value", "json item == text", "json item in_"},
    "mysql": _OF_BOTH
    | {f"moment {operator}" for operator in _PLAIN_VALUES}  # an aware one, which is refused
    | {f"{name} {operator}" for name in ("date", "moment") for operator in ("case", "coalesce")},  # text to the others
    "postgresql": set(),
}
"""What differs where SQLAlchemy's own type gives an answer, by family, as docs/how-to/map-models.md says."""
