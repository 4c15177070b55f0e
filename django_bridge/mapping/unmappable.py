"""Which fields SQLAlchemy cannot be given, and why: the rule of check E020 and of ``table_for``.

Django's compilers ask a field for more than a value: for the SQL around its column (``select_format``, ``get_col``)
and around its parameter (``get_placeholder``, from Django 6.1 ``get_placeholder_sql``). A SQLAlchemy statement does
not ask, so that a field which answers there would be read or written wrongly. No server is asked here.

Read in Django 5.2.19 and 6.1.3: ``db/models/sql/compiler.py``, ``db/models/expressions.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from django.db import router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, Model
from django.db.models.expressions import Col

from asyncdb.errors import ConfigurationError

from .. import conf

__all__ = ["unconnected", "why_unmappable"]

_PLAIN_SELECT = frozenset({"django.db.models.fields.Field"})
_PLAIN_PLACEHOLDERS = frozenset(
    {
        # MySQL's `_binary`: the drivers here say themselves that bytes are bytes.
        "django.db.models.fields.BinaryField",
        # A cast to the column's own type, which a bind of that type has as well.
        "django.contrib.postgres.fields.array.ArrayField",
        "django.contrib.postgres.fields.ranges.RangeField",
    }
)
"""Those of Django's own fields whose answer is known, and needs nothing of a statement."""

_ASSUMED: dict[str, dict[str, Any]] = {
    "mysql": {
        "mysql_server_data": {
            "version": "8.4.0",
            "sql_mode": "",
            "default_storage_engine": "InnoDB",
            "sql_auto_is_null": False,
            "lower_case_table_names": False,
            "has_zoneinfo_database": True,
        }
    },
    "postgresql": {"pg_version": 170000},
    "sqlite": {},
}
"""What a wrapper would ask its server for; whether a field has a type at all does not depend on it."""


class _ServerAsked(Exception):
    """A field wants to know something of the server before it says its type."""


def why_unmappable(field: Field[Any, Any], *, wrappers: Sequence[BaseDatabaseWrapper] | None = None) -> str | None:
    """Says why ``field`` cannot be mapped, and what to do; None if it can, or has no column.

    - **shape**: one sentence about the field, a colon, and the remedy; it does not name the field;
    - **source**: ``wrappers`` are those of ``unconnected()``, given by who asks for many fields.
    """
    if field.column is None or field.many_to_many:  # Django < 6.1 calls a column what a many-to-many field has not
        return None
    return _about_reading(field) or _about_writing(field) or _about_type(field, wrappers)


def unconnected() -> list[BaseDatabaseWrapper]:
    """Makes a wrapper for each bridged alias; none of them ever connects."""
    try:
        found = [conf.wrapper_for(alias) for alias in conf.aliases()]
    except ConfigurationError:
        return []  # E001 or E002 says so
    found = [wrapper for wrapper in found if wrapper.vendor in _ASSUMED]
    for wrapper in found:
        vars(wrapper).update(_ASSUMED[wrapper.vendor], connect=_refuse, ensure_connection=_refuse)
    return found


def _refuse() -> NoReturn:
    raise _ServerAsked


def _about_reading(field: Field[Any, Any]) -> str | None:
    try:
        column = field.get_col(field.model._meta.db_table)
    except Exception as err:
        return f"its get_col() fails ({type(err).__name__}: {err}): correct it, or leave the column to Django's ORM"
    for name in _sql_methods(type(column)):
        if _owner(type(column), name) != _owner(Col, name):
            return (
                f"its get_col() gives a {type(column).__name__} whose {name}() is its own, and SQLAlchemy selects the "
                f"column as it is: convert the value in from_db_value(), or leave the column to Django's ORM"
            )
    for asked in (field, column.output_field):
        if (owner := _owner(type(asked), "select_format")) not in {*_PLAIN_SELECT, None}:
            return (
                f"{owner} has a select_format() of its own, and SQLAlchemy selects the column as it is: convert the "
                f"value in from_db_value(), or leave the column to Django's ORM"
            )
    return None


def _sql_methods(column: type[Any]) -> Iterator[str]:
    """What compiles an expression: ``as_sql``, and ``as_mysql`` and the like where there is one."""
    yield "select_format"
    yield "as_sql"
    yield from (f"as_{vendor}" for vendor in _ASSUMED if hasattr(column, f"as_{vendor}"))


def _about_writing(field: Field[Any, Any]) -> str | None:
    if getattr(field, "generated", False):
        return None
    # Django < 6.1: get_placeholder; 6.1 makes a get_placeholder_sql of it, until Django 2028.
    for name in ("get_placeholder_sql", "get_placeholder"):
        if (owner := _owner(type(field), name)) not in {*_PLAIN_PLACEHOLDERS, None}:
            return (
                f"{owner} has a {name}() of its own, and SQLAlchemy binds the value as it is: convert the value in "
                f"get_db_prep_value(), or leave the column to Django's ORM"
            )
    return None


def _owner(cls: type[Any], name: str) -> str | None:
    """The class that ``cls`` has ``name`` from."""
    return next((f"{base.__module__}.{base.__qualname__}" for base in cls.__mro__ if name in vars(base)), None)


def _about_type(field: Field[Any, Any], wrappers: Sequence[BaseDatabaseWrapper] | None) -> str | None:
    """It is enough that one database on which the model may live can say the column's type."""
    reasons = []
    for wrapper in _homes(field.model, unconnected() if wrappers is None else wrappers):
        try:
            # As Django's migrations ask; db_type() alone knows nothing of a generated column's type.
            if field.db_parameters(connection=wrapper)["type"] is not None:
                return None
        except _ServerAsked:
            return None
        except Exception as err:
            reasons.append(f"its db_type() fails on {wrapper.alias!r} ({type(err).__name__}: {err})")
        else:
            reasons.append(f"its db_type() is None on {wrapper.alias!r}, though it has a column")
    if not reasons:
        return None
    return f"{'; '.join(reasons)}: correct db_type(), or let the database routers keep the model off that database"


def _homes(model: type[Model], wrappers: Sequence[BaseDatabaseWrapper]) -> Sequence[BaseDatabaseWrapper]:
    """The databases that the routers allow the model; all of them where they allow none, as for tables of others."""
    allowed = [wrapper for wrapper in wrappers if router.allow_migrate_model(wrapper.alias, model)]
    return allowed or wrappers
