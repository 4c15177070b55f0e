"""The models against the live database: which tables and columns are not as Django wants them.

What Django wants comes from the field itself, as its migrations ask it; what is there from ``catalogue``.
Collations, defaults, indexes and constraints are not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import AutoField, BigAutoField, Field, Model

from ..errors import UnmappableField
from .catalogue import FoundColumn, FoundTable, folded, found_tables
from .column_types import normalised

__all__ = ["Difference", "Verified", "WantedColumn", "compare", "verify", "wanted_columns"]

Kind = Literal["missing table", "missing column", "type", "null", "generated", "extra column"]


@dataclass(frozen=True, kw_only=True)
class WantedColumn:
    """A column as its field wants it; ``type`` is None where the field leaves it to the database.

    ``also`` are types that are as good.
    """

    name: str
    type: str | None
    null: bool
    generated: bool = False
    also: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that is not as its model wants it; ``column`` is empty where the table is missing."""

    database: str
    model: str
    table: str
    column: str
    kind: Kind
    wanted: str
    found: str

    @property
    def fails(self) -> bool:
        """A column that no field knows harms nobody who reads; it may harm who writes, and Django's migrations."""
        return self.kind != "extra column"


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What ``verify`` has found on one database; ``tables`` and ``columns`` are how many it compared."""

    database: str
    tables: int
    columns: int
    differences: tuple[Difference, ...]

    @property
    def failures(self) -> tuple[Difference, ...]:
        """The differences that are more than information."""
        return tuple(difference for difference in self.differences if difference.fails)


def verify(models: Iterable[type[Model]], connection: BaseDatabaseWrapper) -> Verified:
    """Compares the tables of ``models`` with those of ``connection``'s database.

    - **shape**: differences in the order of the models and of their fields, extra columns last of each table;
    - **errors**: Django's ``DatabaseError`` and ``InterfaceError`` of the queries; ``UnmappableField`` for a
      field that cannot say its type.
    """
    models = list(models)
    there = found_tables(connection, (model._meta.db_table for model in models))
    differences: list[Difference] = []
    columns = 0
    for model in models:
        wanted = wanted_columns(model, connection)
        columns += len(wanted)
        differences += compare(model, wanted, there.get(model._meta.db_table), connection)
    tables = len({model._meta.db_table for model in models})
    return Verified(database=connection.alias, tables=tables, columns=columns, differences=tuple(differences))


def wanted_columns(model: type[Model], connection: BaseDatabaseWrapper) -> list[WantedColumn]:
    """Returns the columns of the model's own table, without those of its parents' tables."""
    return [
        WantedColumn(
            name=field.column,
            type=_type_of(field, connection),
            null=field.null and not field.primary_key,
            generated=getattr(field, "generated", False),
            also=_other_auto_types(field, connection),
        )
        for field in model._meta.local_concrete_fields
        if field.column is not None
    ]


def _type_of(field: Field[Any, Any], connection: BaseDatabaseWrapper) -> str | None:
    """As migrations ask it; ``db_type()`` alone knows nothing of a generated column's type."""
    try:
        return field.db_parameters(connection=connection)["type"]
    except DatabaseError:
        raise
    except Exception as err:
        raise UnmappableField(
            f"{field.model._meta.label}.{field.name}: its db_type() fails on {connection.alias!r} "
            f"({type(err).__name__}: {err}): correct it, or let the database routers keep the model off that database"
        ) from err


def _other_auto_types(field: Field[Any, Any], connection: BaseDatabaseWrapper) -> tuple[str, ...]:
    """The types of a key that Django numbers in a table that it makes for a many-to-many field.

    Migrations make it as ``DEFAULT_AUTO_FIELD`` said when they ran, the model as its AppConfig says: the through tables
    of django.contrib.auth have a bigint where their model has an AutoField (Django 5.2.19, 6.1.3: AppConfigStub has
    no ``default_auto_field``). Either holds the same numbers.
    """
    if not (field.model._meta.auto_created and isinstance(field, AutoField)):
        return ()
    return tuple(auto().db_type(connection) or "" for auto in (AutoField, BigAutoField))


def compare(
    model: type[Model], wanted: Sequence[WantedColumn], found: FoundTable | None, connection: BaseDatabaseWrapper
) -> Iterator[Difference]:
    """Yields what of one table is not as it is wanted; ``found`` is None where there is no table."""

    def difference(kind: Kind, column: str, wanted: str, found: str) -> Difference:
        return Difference(
            database=connection.alias,
            model=model._meta.label,
            table=model._meta.db_table,
            column=column,
            kind=kind,
            wanted=wanted,
            found=found,
        )

    if found is None:
        yield difference("missing table", "", "a table", "nothing")
        return
    known = set()
    for column in wanted:
        known.add(key := folded(connection, column.name))
        if (there := found.columns.get(key)) is None:
            yield difference("missing column", column.name, column.type or "a column", "nothing")
            continue
        if not _same_type(column, there, found, connection.vendor):
            yield difference("type", column.name, column.type or "", there.type)
        # The columns of a view have no generation of their own, and all of them may be NULL for the catalogue.
        if found.is_view:
            continue
        # Django creates a generated column without NOT NULL, whatever its field says; nobody writes it.
        if column.null != there.null and not column.generated:
            yield difference("null", column.name, _null(null=column.null), _null(null=there.null))
        if column.generated != there.generated:
            yield difference("generated", column.name, _origin(column), _origin(there))
    for key, there in found.columns.items():
        if key not in known:
            yield difference("extra column", there.name, "nothing", there.type)


def _same_type(wanted: WantedColumn, found: FoundColumn, table: FoundTable, vendor: str) -> bool:
    if wanted.type is None or (table.is_view and not found.type):
        return True  # SpatiaLite's geometries, and what a view of SQLite computes
    here = {normalised(vendor, one) for one in (wanted.type, *wanted.also)}
    return normalised(vendor, found.type) in here or (found.is_json and "json" in here)


def _null(*, null: bool) -> str:
    return "NULL" if null else "NOT NULL"


def _origin(column: WantedColumn | FoundColumn) -> str:
    return "generated" if column.generated else "written"
