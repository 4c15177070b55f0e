"""How Django quotes the name of a table, read back into schema and name."""

from __future__ import annotations

from sqlalchemy.sql.elements import quoted_name

__all__ = ["exactly", "schema_and_table"]


def exactly(name: str) -> quoted_name:
    """A name that is always quoted, as Django quotes all of them."""
    return quoted_name(name, quote=True)


def schema_and_table(db_table: str) -> tuple[quoted_name | None, quoted_name]:
    """Splits ``db_table`` where a team names a schema by Django's quoting: ``'"sales"."order"'``, ``'sales"."order'``.

    Django puts quotes around a name that does not begin and end with them, and leaves it alone otherwise (Django 5.2
    and 6.1, ``DatabaseOperations.quote_name``).
    """
    for quote in ('"', "`"):
        if f"{quote}.{quote}" in db_table:
            schema, _, table = db_table.strip(quote).partition(f"{quote}.{quote}")
            return exactly(schema), exactly(table)
    if len(db_table) > 2 and db_table[0] == db_table[-1] and db_table[0] in {'"', "`"}:
        db_table = db_table[1:-1]
    return None, exactly(db_table)
