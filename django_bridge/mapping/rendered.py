"""What some families want around a column or a parameter.

Not by ``@compiles``, which would make of each such SELECT a statement that nobody can say is a plain read.
Read in SQLAlchemy 2.1.9 (``sql/visitors.py``: ``_compiler_dispatch``; ``sql/elements.py``: ``ColumnElement``).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeEngine

__all__ = ["JsonDocument", "JsonItem", "JsonText", "Number"]


class _Rendered(ColumnElement[Any]):
    """``element``, in another way in the SQL of some families."""

    inherit_cache = True
    _traverse_internals: Any = [("element", visitors.InternalTraversal.dp_clauseelement)]  # noqa: RUF012  (as in SQLAlchemy)

    ways: ClassVar[Mapping[str, str]]

    def __init__(self, element: ColumnElement[Any], type_: TypeEngine[Any]) -> None:
        self.element = element
        self.type = type_

    def _compiler_dispatch(self, visitor: Any, **kw: Any) -> str:
        text: str = visitor.process(self.element, **kw)
        dialect = visitor.dialect
        way = self.ways.get("mariadb" if getattr(dialect, "is_mariadb", False) else dialect.name)
        if way is None or getattr(self.element, "expanding", False):
            return text  # a list for IN may be empty, which is a SELECT
        return way.format(text)


class JsonText(_Rendered):
    """A JSON column as text, for a decoder of the project's own: psycopg would have decoded it already."""

    inherit_cache = True
    ways = MappingProxyType({"postgresql": "{}::text"})


class JsonDocument(_Rendered):
    """A JSON parameter: a text that is compared with JSON is a JSON string to MySQL, and equals no document."""

    inherit_cache = True
    ways = MappingProxyType({"mysql": "JSON_EXTRACT({}, '$')"})


class JsonItem(_Rendered):
    """A JSON parameter that is compared with an item of a column, as Django compares it: in the form that items have.

    MariaDB's ``JSON_EXTRACT`` is a text in quotes, and without them in a comparison.
    """

    inherit_cache = True
    ways = MappingProxyType({"mariadb": "JSON_UNQUOTE(JSON_EXTRACT({}, '$'))", "sqlite": "JSON({})"})


class Number(_Rendered):
    """A decimal parameter, which Django sends to SQLite as text: compared with no column, it would stay text."""

    inherit_cache = True
    ways = MappingProxyType({"sqlite": "CAST({} AS NUMERIC)"})
