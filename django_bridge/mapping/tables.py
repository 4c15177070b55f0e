"""A Django model as a SQLAlchemy ``Table``: for statements, never to create anything.

Read in SQLAlchemy 2.1.9 (``sql/base.py``: ``ColumnCollection._index``, by which columns are found; they are listed by
another).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db import models
from sqlalchemy import Column, FetchedValue, ForeignKeyConstraint, Index, MetaData, PrimaryKeyConstraint, Table
from sqlalchemy import UniqueConstraint as Unique

from ..errors import UnmappableField
from .defaults import default_of, onupdate_of
from .known import Known, Model, column_of
from .names import exactly, schema_and_table
from .types import type_of
from .unmappable import why_unmappable

__all__ = ["column_fields", "make_table", "tie"]


def column_fields(model: Model) -> list[Any]:
    """The fields that have a column in the model's own table."""
    return [field for field in model._meta.local_concrete_fields if field.column is not None]


def make_table(model: Model, metadata: MetaData) -> Table:
    """Makes the table of a model that is neither abstract nor a proxy; its foreign keys come with :func:`tie`.

    - **errors**: ``UnmappableField``.
    """
    opts = model._meta
    schema, name = schema_and_table(opts.db_table)
    if name in metadata.tables or f"{schema}.{name}" in metadata.tables:
        metadata = MetaData()  # another model's table, as an unmanaged model may have: each has its own columns of it
    columns = {field.attname: _column(field) for field in column_fields(model)}
    key = PrimaryKeyConstraint(*(columns[field.attname] for field in opts.pk_fields if field.attname in columns))
    uniques = [Unique(*group) for group in _unique_groups(model, columns)]
    table = Table(name, metadata, *columns.values(), key, *uniques, schema=schema, info={"model": model})
    for index in opts.indexes:
        if index.fields and not index.expressions:
            ordered = [(columns[_attname(model, one)], order) for one, order in index.fields_orders]
            Index(index.name, *(column.desc() if order else column for column, order in ordered))
    for field in column_fields(model):
        if field.db_index and not field.unique:
            Index(None, columns[field.attname])  # Django makes up its name when it creates it
        for other_name in (field.name, field.column):
            _also_found_as(table, field.attname, other_name)
    return table


def _also_found_as(table: Table, key: str, name: str) -> None:
    index: dict[Any, Any] = table.columns._index
    index.setdefault(name, index[key])


def _unique_groups(model: Model, columns: dict[str, Column[Any]]) -> Iterator[list[Column[Any]]]:
    """The columns of each constraint that SQLAlchemy can say: of fields, for all rows."""
    opts = model._meta
    plain = [
        one.fields
        for one in opts.constraints
        if isinstance(one, models.UniqueConstraint) and one.fields and one.condition is None
    ]
    single = [(field.name,) for field in column_fields(model) if field.unique and not field.primary_key]
    for names in (*single, *opts.unique_together, *plain):
        attnames = [_attname(model, name) for name in names]
        if all(attname in columns for attname in attnames):  # a parent's column is in the parent's table
            yield [columns[attname] for attname in attnames]


def _attname(model: Model, name: str) -> str:
    field: Any = model._meta.get_field(name)
    attname: str = field.attname
    return attname


def _column(field: Any) -> Column[Any]:
    if (reason := why_unmappable(field)) is not None:
        raise UnmappableField(f"{field.model._meta.label}.{field.name}: {reason}")
    return Column(
        exactly(field.column),
        type_of(field),
        key=field.attname,
        nullable=field.null,
        autoincrement=isinstance(field, models.AutoField),  # of which the others are, to isinstance()
        info={"field": field},
        **_given_by(field),
    )


def _given_by(field: Any) -> dict[str, Any]:
    """Who gives the column a value where a statement does not: the database, or Django's rules for it."""
    if field.generated:
        return {"server_default": FetchedValue(), "server_onupdate": FetchedValue(for_update=True)}
    rules = {"default": default_of(field), "onupdate": onupdate_of(field)}
    if field.has_db_default() and rules["default"] is None:
        rules["server_default"] = FetchedValue()  # type: ignore[assignment]  # a value among functions
    return {name: rule for name, rule in rules.items() if rule is not None}


def tie(table: Table, known: Known) -> None:
    """Adds the foreign keys of a table, once all tables are there; one to a model that is not mapped is left out."""
    for column in table.columns:
        field = column.info["field"]
        if not isinstance(field, models.ForeignKey):
            continue
        pointed = field.target_field
        if known.table_of(pointed.model) is not None:
            table.append_constraint(ForeignKeyConstraint([column], [column_of(pointed, known)]))
