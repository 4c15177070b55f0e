"""Django's side of a dialect: the wrapper that fields ask how values look on the wire.

Read in SQLAlchemy 2.1.9 (``engine/default.py``: ``server_version_info``).
"""

from __future__ import annotations

from typing import Any, NoReturn
from weakref import WeakKeyDictionary

from django.conf import settings
from sqlalchemy.engine import Dialect

from ..errors import MappingError
from ..wrappers.families import project_class
from .unconnected import unconnected_wrapper

__all__ = ["backend_of", "vendor_of"]

_backends: WeakKeyDictionary[Dialect, Any] = WeakKeyDictionary()
_VENDORS = {"mysql": "mysql", "mariadb": "mysql", "postgresql": "postgresql", "sqlite": "sqlite"}


def vendor_of(dialect: Dialect) -> str | None:
    """Django's word for the family of a dialect; None: it has none."""
    return _VENDORS.get(dialect.name)


def backend_of(dialect: Dialect) -> Any:
    """Django's wrapper for the database of ``dialect``, with the server's version as SQLAlchemy has learned it.

    - **errors**: ``MappingError`` for a dialect of no family among ``DATABASES``.
    """
    known = _backends.get(dialect)
    if known is not None:
        return known
    alias = getattr(dialect, "alias", None)
    if alias not in settings.DATABASES:
        alias = _alias_like(dialect)
    if dialect.server_version_info is None:
        return unconnected_wrapper(alias, _refuse)  # nobody has connected: SQL is only printed
    made = _backends[dialect] = unconnected_wrapper(alias, _refuse, _version(dialect))
    return made


def _version(dialect: Dialect) -> str:
    numbers = [part for part in dialect.server_version_info or () if isinstance(part, int)]
    version = ".".join(map(str, (*numbers, 0, 0)[:3]))
    return f"{version}-MariaDB" if getattr(dialect, "is_mariadb", False) else version


def _alias_like(dialect: Dialect) -> str:
    """An engine that somebody made himself belongs to the first alias of its family."""
    for alias in settings.DATABASES:
        if project_class(alias).vendor == vendor_of(dialect):
            return alias
    raise MappingError(
        f"none of DATABASES is a {dialect.name} database: mapped classes are for sessions of the project's databases",
    )


def _refuse() -> NoReturn:
    raise MappingError(
        "a field asked the database while its value was converted, where no connection is: see the traceback"
    )
