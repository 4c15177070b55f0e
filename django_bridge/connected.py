"""What Django does with each new physical connection: its SQLite functions, and ``connection_created``.

Private names used here: ``django.db.backends.sqlite3._functions.register`` (Django 5.2 and 6.1),
``aiosqlite.Connection._execute`` and ``._conn`` (aiosqlite 0.22).
"""

from __future__ import annotations

import functools
import math
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, cast

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.transaction import TransactionManagementError

from asyncdb.errors import ConnectFailed

from .conf import wrapper_for

if TYPE_CHECKING:
    _Wrapper = BaseDatabaseWrapper
else:
    _Wrapper = object

T = TypeVar("T")


def announce(alias: str, dbapi_connection: Any) -> None:
    """Makes a new physical connection known to Django. Runs in SQLAlchemy's greenlet.

    While the receivers of ``connection_created`` run, ``connections[alias]`` is this connection, in this task alone.

    - **errors**: ``ConnectFailed`` that names the receiver that failed.
    """
    wrapper = wrapper_for(alias)
    project_class = type(wrapper)
    lent: Any = _lent_class(project_class)(wrapper.settings_dict, alias)
    lent.lend(dbapi_connection)
    if lent.vendor == "sqlite":
        _make_sqlite_ready(lent)
    with _as_djangos_own(alias, lent):
        try:
            connection_created.send(sender=project_class, connection=lent)
        except Exception as err:
            raise ConnectFailed(
                f"database {alias!r}: the connection_created receiver {_receiver_in(err.__traceback__)} failed with "
                f"{type(err).__name__}: correct it, or disconnect it from the signal",
                err,
            ) from err


@contextmanager
def _as_djangos_own(alias: str, lent: BaseDatabaseWrapper) -> Iterator[None]:
    before = [connection for connection in connections.all(initialized_only=True) if connection.alias == alias]
    connections[alias] = lent
    try:
        yield
    finally:
        if before:
            connections[alias] = before[0]
        else:
            del connections[alias]


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


class _Lent(_Wrapper):
    """Mixin of the project's own wrapper: its cursors run on a connection that asyncdb owns."""

    autocommit: bool

    def lend(self, dbapi_connection: Any) -> None:
        """Takes the connection for as long as the receivers run."""
        self._adapted = dbapi_connection
        self.autocommit = True
        if self.vendor == "postgresql":
            self.connection = dbapi_connection.driver_connection  # psycopg's adapters are registered on it
        elif self.vendor == "sqlite":
            self.connection = _InThread(dbapi_connection, dbapi_connection.driver_connection._conn)
        else:
            self.connection = dbapi_connection
            # Django maps errors by the names of its DB-API module, and these errors are asyncmy's.
            self.Database = dbapi_connection.dbapi

    def cursor(self) -> Any:
        with self.wrap_database_errors:
            return cast("Any", self)._prepare_cursor(self.create_cursor())

    def create_cursor(self, name: str | None = None) -> Any:
        if self.vendor == "sqlite":
            return super().create_cursor(name)
        cursor = self._adapted.cursor()
        if self.vendor == "mysql":
            from django.db.backends.mysql.base import CursorWrapper

            return CursorWrapper(cursor)
        return cursor

    def ensure_connection(self) -> None:
        """It is there."""

    def connect(self) -> NoReturn:
        self._refuse("be connected again")

    def close(self) -> NoReturn:
        self._refuse("be closed")

    def set_autocommit(self, autocommit: bool, *args: Any, **kwargs: Any) -> None:  # noqa: FBT001  (Django's signature)
        if not autocommit:
            self._refuse("be in a transaction")

    def get_autocommit(self) -> bool:
        return True

    def commit(self) -> None:
        """Each statement of a receiver is committed by itself."""

    def rollback(self) -> NoReturn:
        self._refuse("roll back")

    def _refuse(self, what: str) -> NoReturn:
        raise TransactionManagementError(
            f"a connection of asyncdb's pool cannot {what} in a connection_created receiver ({self.alias!r}): "
            "only run statements there",
        )


_lent_classes: dict[type[BaseDatabaseWrapper], type[BaseDatabaseWrapper]] = {}


def _lent_class(project_class: type[BaseDatabaseWrapper]) -> type[BaseDatabaseWrapper]:
    if (found := _lent_classes.get(project_class)) is None:
        found = type(f"Lent{project_class.__name__}", (_Lent, project_class), {"__module__": __name__})
        _lent_classes[project_class] = found
    return found


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


class _InThread:
    """A ``sqlite3`` connection or cursor whose every method runs in aiosqlite's thread, and is waited for."""

    def __init__(self, adapted: Any, real: Any) -> None:
        self._adapted = adapted
        self._real = real

    def in_thread(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Calls ``function(real, ...)`` there."""
        call = functools.partial(function, self._real, *args, **kwargs)
        result: T = self._adapted.run_async(lambda driver: driver._execute(call))
        return result

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._real, name)
        if not callable(value):
            return value

        @functools.wraps(value)
        def called(*args: Any, **kwargs: Any) -> Any:
            return self._wrapped(self.in_thread(lambda _: value(*args, **kwargs)))

        return called

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchall())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Each statement was committed by itself."""

    def _wrapped(self, result: Any) -> Any:
        if result is self._real:
            return self
        return _InThread(self._adapted, result) if isinstance(result, sqlite3.Cursor) else result
