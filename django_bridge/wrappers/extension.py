"""What a project's own wrapper class has a say in, and where in the order of classes its say comes.

Django's class is at the bottom, the bridge's mixin above it, the project's classes above that, so that a method of the
project's is called as on stock, and its ``super()`` is answered by the bridge, which has a pooled connection.

The methods that Django calls for each physical connection (``connect``, Django 5.2 and 6.1, ``db/backends/base/
base.py``) are called for each of the pool's; see :func:`unheard`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import CodeType
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["base_of", "calls_for_each_connection", "overrides", "unheard_hooks"]

_FOR_EACH_CONNECTION = frozenset({
    "connect", "get_connection_params", "get_new_connection", "init_connection_state", "_set_autocommit",
    "set_autocommit", "_configure_connection", "_configure_timezone", "_configure_role",
})  # fmt: skip
"""What Django calls of a wrapper with each new physical connection."""
_MUST_LEAD_ON = ("get_new_connection",)
"""What opens a connection of Django's own driver, unless it leads to the method beneath."""


def base_of(project_class: type[Any]) -> type[BaseDatabaseWrapper] | None:
    """The class of ``django.db.backends`` that a project's wrapper class is made of; None where it is made of none."""
    for cls in project_class.__mro__:
        if cls.__module__.startswith("django.db.backends.") and cls is not BaseDatabaseWrapper:
            return cls
    return None


def _own(project_class: type[Any]) -> tuple[type[Any], ...]:
    """The classes of a wrapper that stand above Django's own, GeoDjango's among them."""
    base = base_of(project_class)
    order = project_class.__mro__
    return order[: order.index(base)] if base is not None else ()


def overrides(project_class: type[Any], name: str) -> bool:
    """Whether the project's class, or one that it is made of, has a method of that name in the place of Django's."""
    return any(name in vars(cls) for cls in _own(project_class))


def calls_for_each_connection(project_class: type[Any]) -> bool:
    """Whether the class has something to do with each physical connection."""
    return any(overrides(project_class, name) for name in _FOR_EACH_CONNECTION)


def unheard_hooks(project_class: type[Any]) -> tuple[str, ...]:
    """The methods of a project's wrapper class that are not called with the pool's connections, by qualified name.

    - ``get_new_connection()`` that does not lead to ``super()``: it would open a connection of Django's own driver;
    - ``close()`` and ``_close()`` are called where code closes the connection, not where the pool does;
    - of a class that is made of none of Django's, none is called.
    """
    if base_of(project_class) is None:
        return tuple(
            f"{cls.__module__}.{cls.__qualname__}.{name}()"
            for cls in project_class.__mro__
            if not cls.__module__.startswith("django.") and cls is not object
            for name in ("connect", "get_new_connection", "init_connection_state")
            if name in vars(cls)
        )
    return tuple(_not_leading_on(project_class))


def _not_leading_on(project_class: type[Any]) -> Iterator[str]:
    for name in _MUST_LEAD_ON:
        for cls in _own(project_class):
            if name in vars(cls) and not _leads_on(vars(cls)[name]):
                yield f"{cls.__module__}.{cls.__qualname__}.{name}()"


def _leads_on(method: Any) -> bool:
    """Whether a method reads as one that calls ``super()``; one that cannot be read does."""
    code = getattr(inspect.unwrap(getattr(method, "__func__", method)), "__code__", None)
    return code is None or "super" in _names(code)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
