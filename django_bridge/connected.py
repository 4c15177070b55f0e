"""What Django does with each new physical connection: its SQLite functions, and ``connection_created``.

Private names used here: ``django.db.backends.sqlite3._functions.register`` (Django 5.2 and 6.1),
``aiosqlite.Connection._execute`` and ``._conn`` (aiosqlite 0.22).
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from django.db import NotSupportedError
from django.db.backends.base.base import RAN_DB_VERSION_CHECK
from django.db.backends.signals import connection_created
from django.db.transaction import TransactionManagementError

from asyncdb.errors import ConnectFailed

from .scopes import Scope, entered
from .seats import Seat
from .wrappers.families import wrapper_on


def announce(alias: str, dbapi_connection: Any) -> None:
    """Makes a new physical connection known to Django. Runs in SQLAlchemy's greenlet.

    While the receivers of ``connection_created`` run, ``connections[alias]`` is this connection, in this task alone.

    - **errors**: ``ConnectFailed`` that names the receiver that failed.
    """
    here = Scope(asyncio.current_task(), asyncio.get_running_loop())
    seat = Seat.lent(here, alias, dbapi_connection)
    wrapper = here.wrappers[alias] = wrapper_on(seat)
    wrapper.connect()
    if wrapper.vendor == "sqlite":
        _make_sqlite_ready(wrapper)
    dbapi_connection.left = None
    with entered(here):
        _check_version(alias, wrapper)
        try:
            connection_created.send(sender=wrapper.project_class, connection=wrapper)
        except Exception as err:
            raise ConnectFailed(
                f"database {alias!r}: the connection_created receiver {_receiver_in(err.__traceback__)} failed with "
                f"{type(err).__name__}: correct it, or disconnect it from the signal",
                err,
            ) from err
    if wrapper.in_atomic_block or not wrapper.autocommit or not dbapi_connection.nothing_to_end:
        reason = f"database {alias!r}: a connection_created receiver left a transaction open"
        raise ConnectFailed(reason, TransactionManagementError("a transaction was left open"))
    if dbapi_connection.left is not None:
        dbapi_connection.make_session = None  # what they have set nobody else could set again
    dbapi_connection.execute_wrappers = list(wrapper.execute_wrappers)
    wrapper.unseated()


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


def _make_sqlite_ready(wrapper: Any) -> None:
    from django.db.backends.sqlite3._functions import register

    # SQLAlchemy 2.1.9 puts math.floor in the place of SQLite's FLOOR, which cannot come back; it fails on NULL.
    wrapper.connection.create_function("floor", 1, _floor, deterministic=True)
    wrapper.connection.in_thread(register)
    if libraries := getattr(wrapper, "lib_spatialite_paths", None):  # contrib.gis's wrapper
        wrapper.connection.in_thread(_load_spatialite, wrapper.alias, libraries)


def _load_spatialite(real: sqlite3.Connection, alias: str, libraries: Sequence[str]) -> None:
    """What contrib.gis does at connect (Django 5.2 and 6.1, ``gis/db/backends/spatialite/base.py``)."""
    problem: Exception = LookupError("no library named")
    try:
        real.enable_load_extension(True)  # noqa: FBT003  (sqlite3's signature)
        for library in libraries:
            try:
                return real.load_extension(library)
            except sqlite3.Error as err:
                problem = err
    except AttributeError as err:  # a Python built without extension loading
        problem = err
    raise ConnectFailed(
        f"database {alias!r}: SpatiaLite cannot be loaded (tried {', '.join(libraries)}): install it, "
        "set SPATIALITE_LIBRARY_PATH, and use a Python whose sqlite3 loads extensions",
        problem,
    ) from problem


def _floor(value: Any) -> float | None:
    """SQLite's own FLOOR (SQLite manual, "Built-In Mathematical SQL Functions")."""
    try:
        number = value if isinstance(value, int | float) else float(value)
        return number if isinstance(number, int) or not math.isfinite(number) else float(math.floor(number))
    except (TypeError, ValueError):
        return None
