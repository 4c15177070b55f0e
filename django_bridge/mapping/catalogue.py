"""What columns a live database has, read from its catalogue over Django's own connection.

MySQL and MariaDB: ``information_schema``; PostgreSQL: ``pg_attribute``; SQLite: ``pragma_table_xinfo``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from django.db.backends.base.base import BaseDatabaseWrapper

from .names import schema_and_table

__all__ = ["FoundColumn", "FoundTable", "found_tables"]

_MYSQL = """
SELECT c.table_name, c.column_name, c.column_type, c.is_nullable = 'YES', c.generation_expression <> '',
    t.table_type LIKE '%%VIEW'
FROM information_schema.columns c
JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name
WHERE c.table_schema = COALESCE(%s, DATABASE())
ORDER BY c.table_name, c.ordinal_position
"""
_MARIADB_JSON = """
SELECT table_name, constraint_name FROM information_schema.check_constraints
WHERE constraint_schema = COALESCE(%s, DATABASE()) AND check_clause LIKE '%%json_valid(%%'
"""
_POSTGRESQL = """
SELECT asked.name, a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, a.attgenerated <> '',
    c.relkind IN ('v', 'm')
FROM unnest(%s::text[]) AS asked(name)
JOIN pg_class c ON c.oid = to_regclass(asked.name)
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY asked.name, a.attnum
"""
_SQLITE = """
SELECT x.name, x.type, NOT (x."notnull" OR (x.pk AND lower(x.type) = 'integer')), x.hidden IN (2, 3)
FROM pragma_table_xinfo(%s, %s) x WHERE x.hidden <> 1 ORDER BY x.cid
"""


@dataclass(frozen=True, kw_only=True)
class FoundColumn:
    """A column as the catalogue describes it; ``is_json``: text that a check keeps to JSON, MariaDB's own ``json``."""

    name: str
    type: str
    null: bool
    generated: bool = False
    is_json: bool = False


@dataclass(frozen=True, kw_only=True)
class FoundTable:
    """A table or view; ``columns`` are under the names that compare equal on this vendor."""

    is_view: bool
    columns: dict[str, FoundColumn] = field(default_factory=dict)


def folded(connection: BaseDatabaseWrapper, column: str) -> str:
    """Returns a column's name as it is compared: only PostgreSQL tells capital letters from small ones."""
    return column if connection.vendor == "postgresql" else column.casefold()


def found_tables(connection: BaseDatabaseWrapper, names: Iterable[str]) -> Mapping[str, FoundTable]:
    """Reads the tables of these ``db_table`` names; those that are not there are left out.

    - **errors**: Django's ``DatabaseError`` and ``InterfaceError``.
    """
    read = {"mysql": _of_mysql, "postgresql": _of_postgresql, "sqlite": _of_sqlite}[connection.vendor]
    return read(connection, sorted(set(names)))


def _parts(name: str) -> tuple[str | None, str]:
    schema, table = schema_and_table(name)
    return None if schema is None else str(schema), str(table)


def _of_mysql(connection: BaseDatabaseWrapper, names: list[str]) -> dict[str, FoundTable]:
    found: dict[str, FoundTable] = {}
    by_schema: dict[str | None, dict[str, str]] = {}
    for name in names:
        schema, table = _parts(name)
        by_schema.setdefault(schema, {})[name] = table
    for schema, tables in by_schema.items():
        there = _schema_of_mysql(connection, schema)
        if connection.features.ignores_table_name_case:
            there = {table.casefold(): what for table, what in there.items()}
            tables = {name: table.casefold() for name, table in tables.items()}  # noqa: PLW2901 (the same, folded)
        found |= {name: there[table] for name, table in tables.items() if table in there}
    return found


def _schema_of_mysql(connection: BaseDatabaseWrapper, schema: str | None) -> dict[str, FoundTable]:
    json = set()
    found: dict[str, FoundTable] = {}
    with connection.cursor() as cursor:
        if connection.mysql_is_mariadb:  # type: ignore[attr-defined]  # of MySQL's wrapper
            cursor.execute(_MARIADB_JSON, [schema])
            json = {(table, column.casefold()) for table, column in cursor.fetchall()}
        cursor.execute(_MYSQL, [schema])
        for table, name, kind, null, generated, is_view in cursor.fetchall():
            key = folded(connection, name)
            found.setdefault(table, FoundTable(is_view=bool(is_view))).columns[key] = FoundColumn(
                name=name,
                type=kind if isinstance(kind, str) else kind.decode(),
                null=bool(null),
                generated=bool(generated),
                is_json=(table, key) in json,
            )
    return found


def _of_postgresql(connection: BaseDatabaseWrapper, names: list[str]) -> dict[str, FoundTable]:
    quoted = {connection.ops.quote_name(name): name for name in names}
    found: dict[str, FoundTable] = {}
    with connection.cursor() as cursor:
        cursor.execute(_POSTGRESQL, [list(quoted)])
        for table, name, kind, null, generated, is_view in cursor.fetchall():
            there = found.setdefault(quoted[table], FoundTable(is_view=is_view))
            if name is not None:
                there.columns[name] = FoundColumn(name=name, type=kind, null=null, generated=generated)
    return found


def _of_sqlite(connection: BaseDatabaseWrapper, names: list[str]) -> dict[str, FoundTable]:
    found: dict[str, FoundTable] = {}
    with connection.cursor() as cursor:
        for name in names:
            schema, table = _parts(name)
            master = f"{connection.ops.quote_name(schema)}.sqlite_master" if schema else "sqlite_master"
            cursor.execute(
                f"SELECT type = 'view' FROM {master} WHERE type IN ('table', 'view') AND lower(name) = lower(%s)",  # noqa: S608 (quoted)
                [table],
            )
            if (row := cursor.fetchone()) is None:
                continue
            there = found[name] = FoundTable(is_view=bool(row[0]))
            cursor.execute(_SQLITE, [table, schema])
            for column, kind, null, generated in cursor.fetchall():
                there.columns[folded(connection, column)] = FoundColumn(
                    name=column, type=kind, null=bool(null), generated=bool(generated)
                )
    return found
