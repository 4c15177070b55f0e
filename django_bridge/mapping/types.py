"""``FieldType``: the Django field is the SQLAlchemy type.

Read in SQLAlchemy 2.1.9 (``sql/type_api.py``: ``TypeDecorator``; ``sql/operators.py``).
"""

from __future__ import annotations

from typing import Any, NoReturn

from sqlalchemy import Dialect
from sqlalchemy import types as sqltypes
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from ..errors import GeneratedColumn
from .impls import impl_for, impl_of
from .json_text import JsonText
from .values import binder, reader

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
    },
)
"""Where the other side is no value of the field: a pattern, a summand, a path."""


class Subject:
    """The field of a type, in a thing that is itself alone: SQLAlchemy's cache compares it by identity."""

    __slots__ = ("field",)

    def __init__(self, field: Any) -> None:
        self.field = field


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
    def python_type(self) -> type[Any]:
        """The type of its values, as far as the nearest built-in type knows."""
        return self.general.python_type

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return impl_for(_output(self.field), dialect, self.general)

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        if op in _NOT_OF_THE_FIELD:
            return self.general.coerce_compared_value(op, value)
        return self

    def bind_processor(self, dialect: Dialect) -> Any:
        return binder(self.field, dialect)

    def literal_processor(self, dialect: Dialect) -> Any:
        bind = binder(self.field, dialect)
        text: Any = sqltypes.String().literal_processor(dialect)

        def process(value: Any) -> str:
            sent = bind(value)
            if sent is None:
                return "NULL"
            if isinstance(sent, bool) and dialect.supports_native_boolean:
                return "true" if sent else "false"
            if isinstance(sent, int | float):
                return repr(sent + 0)
            return text(str(sent)) if not isinstance(sent, bytes | memoryview) else f"X'{bytes(sent).hex()}'"

        return process

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        return reader(self.field, dialect)


class TextReadType(FieldType):
    """The type of a JSON field with a decoder of its own, which wants the text."""

    cache_ok = True

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        return JsonText(column, self)


class GeneratedType(FieldType):
    """The type of a column that the database computes: read and compared as the field, and never written."""

    cache_ok = True

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        compared = FieldType(self.subject)
        return compared.coerce_compared_value(op, value)

    def bind_processor(self, dialect: Dialect) -> Any:
        def refuse(value: Any) -> NoReturn:
            raise GeneratedColumn(
                f"{self.field.model._meta.label}.{self.field.name} is computed by the database and cannot be written: "
                "write the columns that it is computed from",
            )

        return refuse


def type_of(field: Any) -> FieldType:
    """The type of a column of ``field``."""
    if field.generated:
        return GeneratedType(field)
    of_values = _output(field)
    wants_text = of_values.get_internal_type() == "JSONField" and of_values.decoder is not None
    return (TextReadType if wants_text else FieldType)(field)


def _output(field: Any) -> Any:
    """The field that says what its values are: a foreign key's is what it points to in the end."""
    while True:
        if getattr(field, "generated", False):
            field = field.output_field
        elif getattr(field, "many_to_one", False) or getattr(field, "one_to_one", False):
            field = field.target_field
        else:
            return field
