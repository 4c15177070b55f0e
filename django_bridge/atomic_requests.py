"""``ATOMIC_REQUESTS`` for async views, which Django refuses: the view runs inside ``django_bridge.atomic``.

Read in Django 5.2 and 6.1 (``core/handlers/base.py``: ``make_view_atomic``, ``_get_response``,
``_get_response_async``; ``db/transaction.py``: ``non_atomic_requests``). The handler calls what ``make_view_atomic``
gives it in the place of the view, and looks after exceptions, rendering and the body when that has ended: so an
exception has rolled back before ``process_exception`` hears of it, a template is rendered after the commit, and a
streaming body has no part in the transaction.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction
from django.db import connections

from .connections import is_native
from .loops import on_the_loop
from .scopes import enabled, hidden, left_to_django
from .transaction import atomic

__all__ = ["async_views_too"]

_View = Callable[..., Any]


def async_views_too(original: Callable[[Any, _View], _View]) -> Callable[[Any, _View], _View]:
    """``BaseHandler.make_view_atomic`` that takes async views; sync ones stay Django's own."""

    @functools.wraps(original)
    def make_view_atomic(handler: Any, view: _View) -> _View:
        aliases = _atomic_aliases(view)
        if not aliases:
            return original(handler, view)
        outside = getattr(view, "outside_scope", False)
        if iscoroutinefunction(view):
            native = enabled() and all(map(is_native, aliases))
            if native and on_the_loop() and not left_to_django() and not outside:
                # Through what was there before us: tracing libraries put themselves there.
                return original(handler, _left_alone(functools.reduce(_in_block, aliases, view)))
            view = _waited_for(view, aliases)
        made = original(handler, view)
        return _hidden(made) if outside else made

    return make_view_atomic


def _atomic_aliases(view: _View) -> list[str]:
    """In Django's order: the first one's block is the innermost."""
    left_out = getattr(view, "_non_atomic_requests", ())
    databases = connections.settings.items()
    return [alias for alias, database in databases if database["ATOMIC_REQUESTS"] and alias not in left_out]


def _in_block(view: Callable[..., Awaitable[Any]], alias: str) -> Callable[..., Awaitable[Any]]:
    """Not ``atomic(alias)(view)``: a parameter ``db`` is the URL's, or ``with_session``'s; a view may be any object."""

    @functools.wraps(view)
    async def in_transaction(*args: Any, **kwargs: Any) -> Any:
        block = atomic(alias)
        block.of_request = True
        async with block:
            return await view(*args, **kwargs)

    return in_transaction


def _left_alone(view: _View) -> _View:
    view._non_atomic_requests = set(connections.settings)  # type: ignore[attr-defined]  # Django's word for it
    return view


def _waited_for(view: Callable[..., Awaitable[Any]], aliases: list[str]) -> _View:
    """The view for a thread that waits for it; Django's ``Atomic`` there covers what Django's threads do for it.

    So it is where a request is left to Django: under WSGI and in the test client, both of which wait by
    ``async_to_sync``, and where the ORM is in threads. The view's sessions join that block without being asked to, for
    it is the view's own.
    """

    # Without the view's __dict__, in which it may say that it is a coroutine function.
    @functools.wraps(view, updated=())
    def waits(*args: Any, **kwargs: Any) -> Any:
        for alias in aliases:
            connections[alias].atomic_blocks[-1].of_async_view = True  # type: ignore[attr-defined]  # ours
        return async_to_sync(view)(*args, **kwargs)

    waits._non_atomic_requests = getattr(view, "_non_atomic_requests", set())  # type: ignore[attr-defined]  # as above
    return waits


def _hidden(view: _View) -> _View:
    """A block around a view that leaves the scope must be outside of the scope as well."""

    @functools.wraps(view, updated=())
    def left(*args: Any, **kwargs: Any) -> Any:
        with hidden():
            return view(*args, **kwargs)

    return left
