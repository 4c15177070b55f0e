"""How a parameter is written into the text of a statement, for ``literal_binds``.

Read in psycopg 3.3.9 (``psycopg/sql.py``: ``Literal``) and SQLAlchemy 2.1.9 (``sql/sqltypes.py``: ``String``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy import types as sqltypes

from .backends import vendor_of

__all__ = ["literal_of"]


def literal_of(dialect: Dialect) -> Callable[[Any], str]:
    """Makes what writes a value, as a field has prepared it, into a statement."""
    text: Any = sqltypes.String().literal_processor(dialect)
    on_postgresql = vendor_of(dialect) == "postgresql"

    def write(sent: Any) -> str:
        if sent is None:
            return "NULL"
        if isinstance(sent, bool) and dialect.supports_native_boolean:
            return "true" if sent else "false"
        if isinstance(sent, int | float):
            return repr(sent + 0)
        if isinstance(sent, str):
            return str(text(sent))
        if on_postgresql:
            return _of_psycopg(sent, dialect)
        if isinstance(sent, bytes | memoryview):
            return f"X'{bytes(sent).hex()}'"
        return str(text(str(sent)))

    return write


def _of_psycopg(sent: Any, dialect: Dialect) -> str:
    """What psycopg would send: JSON, ranges, arrays and bytes are its own types, made by Django."""
    from psycopg.sql import Literal  # an extra

    written = Literal(sent).as_string(None)
    return written.replace("%", "%%") if dialect.paramstyle in {"format", "pyformat"} else written
