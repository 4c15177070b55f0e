"""What one family alone wants around a column or a parameter.

Not by ``@compiles``, which would make of each such SELECT a statement that nobody can say is a plain read.
Read in SQLAlchemy 2.1.9 (``sql/visitors.py``: ``_compiler_dispatch``; ``sql/elements.py``: ``ColumnElement``).
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeEngine

__all__ = ["JsonText", "Number"]


class _Rendered(ColumnElement[Any]):
    """``element``, in another way in the SQL of one family."""

    inherit_cache = True
    _traverse_internals: Any = [("element", visitors.InternalTraversal.dp_clauseelement)]  # noqa: RUF012  (as in SQLAlchemy)

    family: ClassVar[str]
    way: ClassVar[str]

    def __init__(self, element: ColumnElement[Any], type_: TypeEngine[Any]) -> None:
        self.element = element
        self.type = type_

    def _compiler_dispatch(self, visitor: Any, **kw: Any) -> str:
        text: str = visitor.process(self.element, **kw)
        if visitor.dialect.name != self.family or getattr(self.element, "expanding", False):
            return text  # a list for IN may be empty, which is a SELECT
        return self.way.format(text)


class JsonText(_Rendered):
    """A JSON column as text, for a decoder of the project's own: psycopg would have decoded it already."""

    inherit_cache = True
    family = "postgresql"
    way = "{}::text"


class Number(_Rendered):
    """A decimal parameter, which Django sends to SQLite as text: compared with no column, it would stay text."""

    inherit_cache = True
    family = "sqlite"
    way = "CAST({} AS NUMERIC)"
