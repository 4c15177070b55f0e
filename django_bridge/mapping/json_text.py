"""A JSON column read as text on PostgreSQL, for a decoder of the project's own: psycopg would have decoded it already.

Not by ``@compiles``, which would make of each such SELECT a statement that nobody can say is a plain read.
Read in SQLAlchemy 2.1.9 (``sql/visitors.py``: ``_compiler_dispatch``; ``sql/elements.py``: ``ColumnElement``).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeEngine

__all__ = ["JsonText"]


class JsonText(ColumnElement[Any]):
    """``column``, on PostgreSQL as its text."""

    inherit_cache = True
    _traverse_internals: Any = [("element", visitors.InternalTraversal.dp_clauseelement)]  # noqa: RUF012  (as in SQLAlchemy)

    def __init__(self, element: ColumnElement[Any], type_: TypeEngine[Any]) -> None:
        self.element = element
        self.type = type_

    def _compiler_dispatch(self, visitor: Any, **kw: Any) -> str:
        text: str = visitor.process(self.element, **kw)
        return f"{text}::text" if visitor.dialect.name == "postgresql" else text
