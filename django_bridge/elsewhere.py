"""An alias that stays in Django's threads, reached by code that runs on the event loop.

An alias of another vendor, or one with ``"mode": "threads"``, has its connection in the thread that Django's
``sync_to_async`` uses here, as without the bridge. Sync code in a greenlet (a signal receiver, say) that asks for it
gets this stand-in, each of whose calls that may wait goes to that thread.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Self

from asgiref.sync import sync_to_async
from django.db import connections

from asyncdb.greenlets import await_

__all__ = ["Elsewhere"]

_MAY_WAIT = frozenset(
    """
    cursor chunked_cursor connect ensure_connection close commit rollback savepoint savepoint_commit savepoint_rollback
    set_autocommit get_autocommit close_if_unusable_or_obsolete close_if_health_check_failed is_usable
    check_constraints disable_constraint_checking enable_constraint_checking on_commit run_and_clear_commit_hooks
    prepare_database ensure_timezone get_database_version
    """.split(),
)
_PLAIN = (str, int, float, bool, bytes, type(None))


class Elsewhere:
    """Looks like the wrapper of ``alias`` in the thread."""

    def __init__(self, alias: str) -> None:
        object.__setattr__(self, "_alias", alias)
        object.__setattr__(self, "_wrapper", _in_thread(_connected, alias))

    def __getattr__(self, name: str) -> Any:
        if name == "features":
            return _Features(self._wrapper.features)
        if name not in _MAY_WAIT:
            return getattr(self._wrapper, name)

        def called(*args: Any, **kwargs: Any) -> Any:
            result = _in_thread(getattr(self._wrapper, name), *args, **kwargs)
            return _Cursor(result) if name in ("cursor", "chunked_cursor") else result

        return functools.wraps(getattr(type(self._wrapper), name))(called)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._wrapper, name, value)


class _Features:
    """The features of the server, of which some are asked for in the thread."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        if name in vars(self._real) or isinstance(getattr(type(self._real), name, None), _PLAIN):
            return getattr(self._real, name)
        return _in_thread(getattr, self._real, name)


class _Cursor:
    """A cursor whose calls run in the thread."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._real, name)
        if isinstance(value, _PLAIN) or not callable(value):
            return value

        def called(*args: Any, **kwargs: Any) -> Any:
            result = _in_thread(value, *args, **kwargs)
            return self if result is self._real else result

        return called

    def __iter__(self) -> Iterator[Any]:
        while rows := _in_thread(self._real.fetchmany, 100):
            yield from rows

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        _in_thread(self._real.__exit__, *error)


def _connected(alias: str) -> Any:
    wrapper = connections[alias]
    wrapper.ensure_connection()
    wrapper.get_database_version()  # from which what is asked of it later follows
    return wrapper


def _in_thread(function: Any, *args: Any, **kwargs: Any) -> Any:
    return await_(sync_to_async(function)(*args, **kwargs))
