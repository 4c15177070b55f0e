"""What Django does with each new physical connection: its SQLite functions, the hooks of the project's own wrapper,
and ``connection_created``.

Private names used here: ``django.db.backends.sqlite3._functions.register`` (Django 5.2 and 6.1),
``aiosqlite.Connection._execute`` and ``._conn`` (aiosqlite 0.22).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import NotSupportedError
from django.db.backends.base.base import RAN_DB_VERSION_CHECK
from django.db.backends.signals import connection_created
from django.db.transaction import TransactionManagementError

from asyncdb.errors import ConnectFailed
from asyncdb.greenlets import greenlet_spawn
from asyncdb.listening import unheard

from .conf import Asked, asked
from .scopes import Scope, entered
from .seats import Seat
from .wrappers.extension import overrides
from .wrappers.families import wrapper_on
from .wrappers.own import HookFailed, Made, Making


def announce(alias: str, dbapi_connection: Any) -> None:
    """Makes a new physical connection known to Django. Runs in SQLAlchemy's greenlet.

    While the project's own wrapper is initialised and the receivers of ``connection_created`` run,
    ``connections[alias]`` is this connection, in this task alone.

    - **errors**: ``ConnectFailed`` that names the receiver, or the method of the project's wrapper, that failed.
    """
    said, known_by = asked.get(), None
    asked.set(None)
    if said is not None and said.config is dbapi_connection.config:
        known_by = said
    with _on(alias, dbapi_connection) as wrapper:
        if wrapper.has_hooks:
            _make_by_hooks(wrapper, dbapi_connection, known_by)
        else:
            wrapper.connect()
            _make_ready(wrapper, wrapper.connection)
            dbapi_connection.left = None
            _check_version(alias, wrapper)
            _send(wrapper)
        if wrapper.in_atomic_block or not wrapper.autocommit or not dbapi_connection.nothing_to_end:
            reason = f"database {alias!r}: a connection_created receiver or its wrapper left a transaction open"
            raise ConnectFailed(reason, TransactionManagementError("a transaction was left open"))
        if dbapi_connection.left is not None:
            dbapi_connection.make_session = None  # what they have set nobody else could set again
        dbapi_connection.execute_wrappers = list(wrapper.execute_wrappers)


@contextmanager
def _on(alias: str, dbapi_connection: Any) -> Iterator[Any]:
    """A wrapper on this physical connection, which is ``connections[alias]`` meanwhile."""
    here = Scope(asyncio.current_task(), asyncio.get_running_loop())
    wrapper = here.wrappers[alias] = wrapper_on(Seat.lent(here, alias, dbapi_connection))
    try:
        with entered(here):
            yield wrapper
        wrapper.unseated()
    finally:
        here.close()


def _send(wrapper: Any) -> None:
    try:
        connection_created.send(sender=wrapper.project_class, connection=wrapper)
    except Exception as err:
        raise ConnectFailed(
            f"database {wrapper.alias!r}: the connection_created receiver {_receiver_in(err.__traceback__)} failed "
            f"with {type(err).__name__}: correct it, or disconnect it from the signal",
            err,
        ) from err


# -- the project's own wrapper ---------------------------------------------------------------------------------------


def _make_by_hooks(wrapper: Any, link: Any, said: Asked | None) -> None:
    """Has the project's wrapper do what it does with each new connection, and keeps what that has made."""
    if said is not None:
        vars(wrapper).update(said.put_on)
    ready = partial(_make_ready, wrapper)

    def created(wrapper: Any) -> None:
        link.left = None  # what was said until here is said again after a reset
        _send(wrapper)

    wrapper.making = Making(created=created, ready=ready, parameters=said.parameters if said is not None else None)
    with _named(wrapper):
        wrapper.connect()
        connection, facade = wrapper.connection, wrapper.facade
        if facade is None or _is_of_a_driver(connection, facade):
            if connection is not None:
                connection.close()
            raise TypeError("get_new_connection() returned a connection of its own driver")
    link.made = Made(connection, facade, dict(wrapper.login_parameters), wrapper.put_on())
    if wrapper.state_by_new_connection:
        link.make_session = None  # nobody can make it again without a new connection
    elif link.make_session is not None and overrides(wrapper.project_class, "init_connection_state"):
        link.make_session = partial(_make_anew, wrapper.alias, link, link.make_session)


async def _make_anew(alias: str, link: Any, make_session: Callable[[], Awaitable[Any]]) -> None:
    """Makes the session settings of a connection that was reset, those of the project's wrapper as well."""
    await make_session()
    await greenlet_spawn(_initialise_again, alias, link)


def _initialise_again(alias: str, link: Any) -> None:
    with unheard(), _on(alias, link) as wrapper, _named(wrapper):
        wrapper.connect()
        wrapper.init_connection_state()
        link.made.attributes.update(wrapper.put_on())
        if not link.nothing_to_end:
            raise TransactionManagementError("init_connection_state() left a transaction open")


@contextmanager
def _named(wrapper: Any) -> Iterator[None]:
    try:
        yield
    except ConnectFailed:
        raise
    except Exception as err:
        words = f": {err}" if isinstance(err, ImproperlyConfigured) else ""
        raise HookFailed(
            f"database {wrapper.alias!r}: {_method_in(err.__traceback__)} of its wrapper failed for a new connection "
            f"with {type(err).__name__}{words}",
            err,
        ) from err


def _method_in(traceback: TracebackType | None) -> str:
    """The project's function in which the error came up: the last outside of Django, its drivers and the bridge."""
    name = "a method"
    while traceback is not None:
        frame = traceback.tb_frame
        module = str(frame.f_globals.get("__name__"))
        if module.partition(".")[0] not in {"django_bridge", "django", "asyncdb", "psycopg", "asyncmy", "aiosqlite"}:
            name = f"{module}.{frame.f_code.co_qualname}"
        traceback = traceback.tb_next
    return name


def _is_of_a_driver(connection: Any, facade: Any) -> bool:
    """Whether the project's wrapper has opened a connection itself. (A proxy around the one that it got is fine.)"""
    if connection is facade:
        return False
    return connection is None or type(connection).__module__.partition(".")[0] in {"psycopg", "MySQLdb", "sqlite3"}


def _check_version(alias: str, wrapper: Any) -> None:
    """What Django does at its first connection of an alias (Django 5.2 and 6.1, ``init_connection_state``)."""
    if alias not in RAN_DB_VERSION_CHECK:
        try:
            wrapper.check_database_version_supported()
        except NotSupportedError as err:
            raise ConnectFailed(f"database {alias!r}: {err}", err) from err
        RAN_DB_VERSION_CHECK.add(alias)


def _receiver_in(traceback: TracebackType | None) -> str:
    """The function that Django's dispatcher called last before the error."""
    name, called = "(unknown)", False
    while traceback is not None:
        frame = traceback.tb_frame
        module = str(frame.f_globals.get("__name__"))
        if module == "django.dispatch.dispatcher":
            called = True
        elif called:
            name, called = f"{module}.{frame.f_code.co_qualname}", False
        traceback = traceback.tb_next
    return "(an async one, which cannot run here: make it a sync function)" if name.startswith("asgiref.") else name


def _make_ready(wrapper: Any, connection: Any) -> None:
    """What Django's own ``get_new_connection()`` does with a connection, as far as its session does not tell."""
    if wrapper.vendor != "sqlite":
        return
    from django.db.backends.sqlite3._functions import register

    # SQLAlchemy 2.1.9 puts math.floor in the place of SQLite's FLOOR, which cannot come back; it fails on NULL.
    connection.create_function("floor", 1, _floor, deterministic=True)
    connection.in_thread(register)


def _floor(value: Any) -> float | None:
    """SQLite's own FLOOR (SQLite manual, "Built-In Mathematical SQL Functions")."""
    try:
        number = value if isinstance(value, int | float) else float(value)
        return number if isinstance(number, int) or not math.isfinite(number) else float(math.floor(number))
    except (TypeError, ValueError):
        return None
