"""A prefix lookup that an index can answer on MariaDB too."""

from __future__ import annotations

from typing import Any

from django.db.models import CharField
from django.db.models.lookups import StartsWith


@CharField.register_lookup
class Prefix(StartsWith):
    """``search_name__prefix="par"`` as a plain LIKE.

    Django's ``startswith`` is ``LIKE BINARY`` on MySQL, which no index serves. A search name holds nothing
    but lower-case ASCII, so that the collation has no say in what is equal.
    """

    lookup_name = "prefix"

    def get_rhs_op(self, connection: Any, rhs: str) -> str:
        """Returns the right-hand side; Django has escaped the value with backslashes."""
        return f"LIKE {rhs} ESCAPE '\\'" if connection.vendor == "sqlite" else f"LIKE {rhs}"
