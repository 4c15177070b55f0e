"""``FieldType``: the Django field is the SQLAlchemy type.

Read in SQLAlchemy 2.1.9 (``sql/type_api.py``: ``TypeDecorator``; ``sql/operators.py``).
"""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import Any, NoReturn

from sqlalchemy import Dialect, false, literal, true
from sqlalchemy import types as sqltypes
from sqlalchemy.dialects.postgresql import operators as pg_operators
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from ..errors import GeneratedColumn
from .impls import Lapse, impl_for, impl_of, is_range
from .literals import literal_of
from .no_values import is_no_value
from .rendered import JsonDocument, JsonItem, JsonText, Number
from .values import binder, reader, sent_as_they_are

__all__ = ["FieldType", "type_of"]

_NOT_OF_THE_FIELD = frozenset(
    {
        operators.like_op,
        operators.not_like_op,
        operators.ilike_op,
        operators.not_ilike_op,
        operators.contains_op,
        operators.not_contains_op,
        operators.startswith_op,
        operators.not_startswith_op,
        operators.endswith_op,
        operators.not_endswith_op,
        operators.icontains_op,
        operators.not_icontains_op,
        operators.istartswith_op,
        operators.not_istartswith_op,
        operators.iendswith_op,
        operators.not_iendswith_op,
        operators.regexp_match_op,
        operators.not_regexp_match_op,
        operators.regexp_replace_op,
        operators.match_op,
        operators.not_match_op,
        operators.concat_op,
        operators.add,
        operators.sub,
        operators.mul,
        operators.truediv,
        operators.floordiv,
        operators.mod,
        operators.getitem,
        operators.json_getitem_op,
        operators.json_path_getitem_op,
        pg_operators.HAS_KEY,
        pg_operators.PATH_EXISTS,
        pg_operators.PATH_MATCH,
    },
)
"""Where the other side is no value of the field: a pattern, a summand, a path."""


class Subject:
    """The field of a type, in a thing that is itself alone: SQLAlchemy's cache compares it by identity."""

    __slots__ = ("field", "items")

    def __init__(self, field: Any) -> None:
        self.field = field
        self.items: FieldType | None = None


class _Comparator(TypeDecorator.Comparator[Any]):
    """``IS`` takes a constant, and no parameter, on any family but SQLite."""

    __slots__ = ()

    def operate(self, op: Any, *other: Any, **kwargs: Any) -> ColumnElement[Any]:
        if isinstance(self.type, JsonType):
            if op in _COMPARES and _is_item(self.expr):
                other = tuple(map(self._one, other))
            elif op in _IN and isinstance(other[0], list | tuple | set | frozenset):
                other = ([self._one(value) for value in other[0]],)
        if op in _IS and isinstance(other[0], bool):
            if self.type.is_plain:  # type: ignore[attr-defined]  # a FieldType
                other = (true() if other[0] else false(),)
            else:
                op = _IS[op]  # a field that says in its own way what is true
        return super().operate(op, *other, **kwargs)

    def _one(self, value: Any) -> Any:
        """A parameter of its own, since of a list SQLAlchemy renders no expression around each."""
        if value is None or is_no_value(value):
            return value
        document = literal(value, self.type)
        return JsonItem(document, self.type) if _is_item(self.expr) else document

    def __reduce__(self) -> Any:
        return _compared, (type(self).__bases__[1], self.expr)


def _compared(comparator: Any, expr: Any) -> Any:
    return _comparator(comparator)(expr)


@functools.cache
def _comparator(comparator: Any) -> Any:
    """The operators of a built-in type, for a field (``type_api.py``: ``TypeDecorator.comparator_factory``)."""
    return type("FieldComparator", (_Comparator, comparator), {"__slots__": ()})


def _is_item(expr: Any) -> bool:
    """Whether it is what an index has taken out of a JSON column."""
    return getattr(expr, "operator", None) in {operators.json_getitem_op, operators.json_path_getitem_op}


_COMPARES = frozenset(
    {
        operators.eq,
        operators.ne,
        operators.lt,
        operators.le,
        operators.gt,
        operators.ge,
        operators.is_distinct_from,
        operators.is_not_distinct_from,
        operators.between_op,
        operators.not_between_op,
    },
)
_IN = frozenset({operators.in_op, operators.not_in_op})
_IS = {operators.is_: operators.is_not_distinct_from, operators.is_not: operators.is_distinct_from}


class FieldType(TypeDecorator[Any]):
    """A Django field as a SQLAlchemy type: ``column.type.field`` is the field.

    - **shape**: a parameter is prepared as ``save()`` prepares it; a value is read as the ORM reads it, by the
      backend's converters and then the field's own. Operators are those of the nearest built-in type.
    - **errors**: ``FieldValueError`` for a parameter that the field cannot take.
    - **source**: Django 5.2 and 6.1, ``Field.get_db_prep_save``, ``get_db_converters``.
    """

    impl = sqltypes.NullType  # of each instance's own, below
    cache_ok = True

    def __init__(self, subject: Any) -> None:
        self.subject = subject if isinstance(subject, Subject) else Subject(subject)
        field = self.field
        self.general = impl_of(_output(field))
        self.impl = self.impl_instance = self.general  # type: ignore[assignment]  # SQLAlchemy's __init__ does the same
        self.hashable = self.general.hashable

    @property
    def field(self) -> Any:
        """The Django field."""
        return self.subject.field

    @property
    def comparator_factory(self) -> Any:  # type: ignore[override]  # a property in SQLAlchemy's TypeDecorator too
        """The operators of the nearest built-in type."""
        return _comparator(self.general.comparator_factory)  # type: ignore[arg-type]  # a class, of each of ours

    @property
    def is_plain(self) -> bool:
        """Whether its values are sent as they are."""
        return sent_as_they_are(_output(self.field)) is not None

    @property
    def python_type(self) -> type[Any]:
        """The type of its values, as far as the nearest built-in type knows."""
        return self.general.python_type

    @property
    def items(self) -> FieldType:
        """The type of one of the values that an array or a range is made of; the same at each call."""
        if self.subject.items is None:
            base = _output(self.field).base_field
            self.subject.items = type_of(base() if isinstance(base, type) else base)
        found: FieldType = self.subject.items
        return found

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return impl_for(_output(self.field), dialect, self.general)

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        if op in _NOT_OF_THE_FIELD:
            if _output(self.field).get_internal_type() == "DurationField":
                return self if isinstance(value, timedelta) else literal(value).type  # a span, or how many of them
            if isinstance(value, timedelta):
                return Lapse()
            return self.general.coerce_compared_value(op, value)
        if is_range(_output(self.field)) and not isinstance(value, str | list | tuple) and not _is_range_value(value):
            return self.items  # what may lie in the range
        return self

    def bind_processor(self, dialect: Dialect) -> Any:
        return binder(self.field, dialect)

    def literal_processor(self, dialect: Dialect) -> Any:
        bind = binder(self.field, dialect)
        write = literal_of(dialect)
        return lambda value: write(bind(value))

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        return reader(self.field, dialect)


class JsonType(FieldType):
    """The type of a JSON field."""

    cache_ok = True

    def bind_expression(self, bindvalue: Any) -> ColumnElement[Any]:
        return JsonDocument(bindvalue, self)


class TextReadType(JsonType):
    """The type of a JSON field with a decoder of its own, which wants the text."""

    cache_ok = True

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        return JsonText(column, self)


class GeneratedType(FieldType):
    """The type of a column that the database computes: read and compared as the field, and never written."""

    cache_ok = True

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        compared = _class_for(self.field)(self.subject)
        return compared.coerce_compared_value(op, value)

    def bind_processor(self, dialect: Dialect) -> Any:
        def refuse(value: Any) -> NoReturn:
            raise GeneratedColumn(
                f"{self.field.model._meta.label}.{self.field.name} is computed by the database and cannot be written: "
                "write the columns that it is computed from",
            )

        return refuse


class NumberType(FieldType):
    """The type of a decimal field."""

    cache_ok = True

    def bind_expression(self, bindvalue: Any) -> ColumnElement[Any]:
        return Number(bindvalue, self)


class GeneratedJsonType(GeneratedType, JsonType):
    """The same of a JSON field."""

    cache_ok = True


class GeneratedTextType(GeneratedType, TextReadType):
    """The same of a JSON field with a decoder of its own."""

    cache_ok = True


_GENERATED: dict[type[FieldType], type[GeneratedType]] = {JsonType: GeneratedJsonType, TextReadType: GeneratedTextType}


def type_of(field: Any) -> FieldType:
    """The type of a column of ``field``."""
    of_values = _class_for(field)
    if field.generated:
        return _GENERATED.get(of_values, GeneratedType)(field)
    return of_values(field)


def _class_for(field: Any) -> type[FieldType]:
    of_values = _output(field)
    kind = of_values.get_internal_type()
    if kind == "JSONField":
        return JsonType if of_values.decoder is None else TextReadType
    return NumberType if kind == "DecimalField" else FieldType


def _is_range_value(value: Any) -> bool:
    """Psycopg's ranges and SQLAlchemy's, told without importing an extra."""
    return value is None or hasattr(value, "lower_inc") or hasattr(value, "bounds")


def _output(field: Any) -> Any:
    """The field that says what its values are: a foreign key's is what it points to in the end."""
    while True:
        if getattr(field, "generated", False):
            field = field.output_field
        elif getattr(field, "many_to_one", False) or getattr(field, "one_to_one", False):
            field = field.target_field
        else:
            return field
