"""The nearest built-in SQLAlchemy type of a Django field: for operators, for casts, and for nothing of its values."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn

from django.db.models import Field
from sqlalchemy import types as sqltypes
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.dialects.postgresql import operators as pg_operators
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import operators
from sqlalchemy.types import TypeEngine

from ..errors import FieldValueError
from .backends import backend_of, vendor_of

__all__ = ["DatabaseType", "Lapse", "impl_for", "impl_of", "is_array", "is_range"]


class Span(sqltypes.BigInteger):
    """A duration in microseconds: longer, shorter, twice, it is one still (``type_api.py``: ``_adapt_expression``)."""

    class Comparator(sqltypes.BigInteger.Comparator[Any]):
        """``column * 2``."""

        def _adapt_expression(self, op: Any, other_comparator: Any) -> Any:
            if op in {operators.add, operators.sub, operators.mul, operators.truediv, operators.floordiv}:
                return op, self.type
            return super()._adapt_expression(op, other_comparator)

    comparator_factory = Comparator


class Array(postgresql.ARRAY[Any]):
    """An array whose items, one by one, are of the field's own base field (``sql/sqltypes.py``: ``_setup_getitem``)."""

    class Comparator(postgresql.ARRAY.Comparator[Any]):
        """``column[1]``."""

        def _setup_getitem(self, index: Any) -> Any:
            if isinstance(index, slice):
                return super()._setup_getitem(index)
            kind: Any = self.type  # a FieldType
            return operators.getitem, index, kind.items

    comparator_factory = Comparator


class Json(sqltypes.JSON[Any]):
    """JSON with the operators of PostgreSQL's ``jsonb`` as well, which no other family knows (``JSONB``)."""

    operator_classes = postgresql.JSONB.operator_classes
    comparator_factory = postgresql.JSONB.Comparator
    astext_type = sqltypes.Text()

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        if op in {pg_operators.PATH_MATCH, pg_operators.PATH_EXISTS}:
            return self.JSONPathType()
        return super().coerce_compared_value(op, value)


class Lapse(sqltypes.Interval):
    """What is added to a date or taken from it, where the database can: MySQL and SQLite would count with a text."""

    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Any:
        def refuse(_: Any) -> NoReturn:
            raise FieldValueError(
                f"{dialect.name} adds no timedelta to a column: use its own function, such as func.timestampadd() on "
                "MySQL and MariaDB, func.datetime() on SQLite",
            )

        return refuse if vendor_of(dialect) in {"mysql", "sqlite"} else super().bind_processor(dialect)


_Maker = Callable[[Any], TypeEngine[Any]]


class DatabaseType(sqltypes.UserDefinedType[Any]):
    """A type of which only the database's name is known, of a custom field."""

    cache_ok = True
    render_bind_cast = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        """The name, as the database knows it."""
        return self.name


def _string(field: Any) -> TypeEngine[Any]:
    collation = getattr(field, "db_collation", None)
    return (
        sqltypes.Text(collation=collation) if field.max_length is None else sqltypes.String(field.max_length, collation)
    )


def _unsigned(generic: type[TypeEngine[Any]], own: type[Any]) -> _Maker:
    return lambda _: generic().with_variant(own(unsigned=True), "mysql", "mariadb")


def _moment(_: Any) -> TypeEngine[Any]:
    return sqltypes.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def _time(_: Any) -> TypeEngine[Any]:
    return sqltypes.Time().with_variant(mysql.TIME(fsp=6), "mysql", "mariadb")


def _numeric(field: Any) -> TypeEngine[Any]:
    # A cast to NUMERIC(10, 2) would round what it is compared with, which Django does not.
    general = sqltypes.Numeric(field.max_digits, field.decimal_places)
    return general.with_variant(postgresql.NUMERIC(), "postgresql")


_BY_INTERNAL_TYPE: dict[str, _Maker] = {
    **dict.fromkeys(("AutoField", "IntegerField"), lambda _: sqltypes.Integer()),
    **dict.fromkeys(("SmallAutoField", "SmallIntegerField"), lambda _: sqltypes.SmallInteger()),
    **dict.fromkeys(("BigAutoField", "BigIntegerField"), lambda _: sqltypes.BigInteger()),
    "PositiveIntegerField": _unsigned(sqltypes.Integer, mysql.INTEGER),
    "PositiveSmallIntegerField": _unsigned(sqltypes.SmallInteger, mysql.SMALLINT),
    "PositiveBigIntegerField": _unsigned(sqltypes.BigInteger, mysql.BIGINT),
    **dict.fromkeys(("CharField", "SlugField", "FileField", "FilePathField", "TextField"), _string),
    "BooleanField": lambda _: sqltypes.Boolean(),
    "BinaryField": lambda _: sqltypes.LargeBinary(),
    "DateField": lambda _: sqltypes.Date(),
    "DateTimeField": _moment,
    "TimeField": _time,
    "DurationField": lambda _: Span().with_variant(postgresql.INTERVAL(), "postgresql"),
    "DecimalField": _numeric,
    "FloatField": lambda _: sqltypes.Float(53),
    "UUIDField": lambda _: sqltypes.Uuid(),
    **dict.fromkeys(
        ("IPAddressField", "GenericIPAddressField"),
        lambda _: sqltypes.String(39).with_variant(postgresql.INET(), "postgresql"),
    ),
    "JSONField": lambda _: Json(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
}
_BY_DB_TYPE: dict[str, type[TypeEngine[Any]]] = {
    "hstore": postgresql.HSTORE,
    "int4range": postgresql.INT4RANGE,
    "int8range": postgresql.INT8RANGE,
    "numrange": postgresql.NUMRANGE,
    "daterange": postgresql.DATERANGE,
    "tstzrange": postgresql.TSTZRANGE,
    "tsvector": postgresql.TSVECTOR,
}
"""Types of ``django.contrib.postgres``, which no other family has."""

_PRECISION = re.compile(r"\(\s*\d+\s*(?:,\s*\d+\s*)?\)")
_ONE_LONG = {"char": "bpchar", "character": "bpchar", "bit": "varbit"}
"""Without a length these are one character or one bit long (PostgreSQL manual, "Character Types")."""


def is_array(field: Any) -> bool:
    """Whether ``field`` is ``django.contrib.postgres``'s ``ArrayField``, told without importing it."""
    return any(cls.__name__ == "ArrayField" and _is_of_postgres(cls) for cls in type(field).__mro__)


def is_range(field: Any) -> bool:
    """The same for its ``RangeField``."""
    return any(cls.__name__ == "RangeField" and _is_of_postgres(cls) for cls in type(field).__mro__)


def impl_of(field: Any) -> TypeEngine[Any]:
    """The type whose operators a column of ``field`` has, whatever the database."""
    if is_array(field):
        item, dimensions = field.base_field, 1
        while is_array(item):  # an array of arrays is one of more dimensions, to PostgreSQL and to SQLAlchemy
            item, dimensions = item.base_field, dimensions + 1
        return Array(impl_of(item), dimensions=dimensions)
    for cls in type(field).__mro__:
        if _is_of_postgres(cls) and "db_type" in vars(cls):
            name: Any = vars(cls)["db_type"](field, None)  # they ask no connection
            return _BY_DB_TYPE.get(name, sqltypes.NullType)()
    maker = _BY_INTERNAL_TYPE.get(field.get_internal_type())
    return maker(field) if maker is not None else DatabaseType("")


def impl_for(field: Any, dialect: Dialect, general: TypeEngine[Any]) -> TypeEngine[Any]:
    """The same for one database: on PostgreSQL a custom field's parameters are cast to its type, as Django's are."""
    if vendor_of(dialect) != "postgresql" or is_array(field) or type(field).db_type is Field.db_type:
        return general
    if not isinstance(general, DatabaseType) and any(map(_is_of_postgres, type(field).__mro__)):
        return general
    name = field.cast_db_type(backend_of(dialect))
    if not name:
        return general
    bare = _PRECISION.sub("", name).strip()  # a cast to varchar(5) would cut in silence what an INSERT refuses
    return DatabaseType(_ONE_LONG.get(bare.lower(), bare))


def _is_of_postgres(cls: type[Any]) -> bool:
    return cls.__module__.startswith("django.contrib.postgres.")
