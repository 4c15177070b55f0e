"""An async SQLAlchemy pool for a Django project.

The names below are imported when they are first used, because settings may import this package
before Django is configured.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .budget import query_budget
    from .databases import database
    from .mapping.instances import as_django
    from .mapping.mapped import mapped, table_for
    from .mapping.pydantic_models import pydantic_model
    from .middleware import outside_scope
    from .native import run_django
    from .scopes import scope
    from .sync_session import sync_session
    from .transaction import atomic, retried, session, with_session

__all__ = [
    "as_django",
    "atomic",
    "database",
    "mapped",
    "outside_scope",
    "pydantic_model",
    "query_budget",
    "retried",
    "run_django",
    "scope",
    "session",
    "sync_session",
    "table_for",
    "with_session",
]

_HOMES = {
    "as_django": "mapping.instances",
    "atomic": "transaction",
    "database": "databases",
    "mapped": "mapping.mapped",
    "outside_scope": "middleware",
    "pydantic_model": "mapping.pydantic_models",
    "query_budget": "budget",
    "retried": "transaction",
    "run_django": "native",
    "scope": "scopes",
    "session": "transaction",
    "sync_session": "sync_session",
    "table_for": "mapping.mapped",
    "with_session": "transaction",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ._foundation import require_asyncdb

    require_asyncdb()
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
