"""asyncdb's dialects on Django's own connection: the same SQL, the same kinds of statements, other values on the wire.

Read in SQLAlchemy 2.1.9 (``engine/default.py``: ``initialize``, ``do_savepoint``; ``dialects/mysql/types.py``:
``TIME``; ``dialects/postgresql/psycopg.py``: ``initialize``) and Django 5.2 and 6.1
(``db/backends/*/base.py``: what the cursors take and give).
"""

from __future__ import annotations

import datetime
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from django.apps import apps
from sqlalchemy import URL
from sqlalchemy import types as sqltypes
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.mysql import TIME
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from asyncdb.config import DatabaseConfig
from asyncdb.drivers.dialect import PhysicalDialect
from asyncdb.drivers.physical import physical
from asyncdb.errors import TransactionMisuse
from asyncdb.pool import Pool

from .link import Link

__all__ = ["engine_on", "learn"]

if TYPE_CHECKING:
    _Dialect = PhysicalDialect
else:
    _Dialect = object

_learned: dict[tuple[Any, ...], dict[str, Any]] = {}
"""What the dialect of an alias has learned of its server, so that it asks once a process."""


_NOT_LEARNED = frozenset({"_type_memos"})
"""How values are converted, in which a field type holds the settings of its time (``engine/default.py``)."""


class OnDjango(_Dialect):
    """Mixin of a dialect whose connections are Links."""

    is_async = True
    gives_djangos_values = True
    about: tuple[Any, ...] = ()
    """Of which server it has to know."""

    def on_connect(self) -> Any:
        """Django has made its session already."""
        return None

    def initialize(self, connection: Connection) -> None:
        known = _learned.get(self.about)
        if known is not None:
            self.__dict__.update(known)
            return
        link = physical(connection.connection)
        before = dict(self.__dict__)
        link.unlogged = True
        try:
            super().initialize(connection)
        finally:
            link.unlogged = False
        _learned[self.about] = {
            name: value
            for name, value in self.__dict__.items()
            if (name not in before or before[name] is not value) and name not in _NOT_LEARNED
        }

    def do_savepoint(self, connection: Any, name: str) -> None:
        link: Link = physical(connection.connection)
        if link.keeper is not None:
            super().do_savepoint(connection, name)
            return
        link.wrote_before[name] = link.wrote
        link.savepoint(name)

    def do_release_savepoint(self, connection: Any, name: str) -> None:
        link: Link = physical(connection.connection)
        if link.keeper is not None:
            super().do_release_savepoint(connection, name)  # type: ignore[no-untyped-call]  # SQLAlchemy's
        else:
            link.release(name)

    def do_rollback_to_savepoint(self, connection: Any, name: str) -> None:
        link: Link = physical(connection.connection)
        if link.keeper is not None:
            super().do_rollback_to_savepoint(connection, name)
            return
        link.roll_back_to(name)
        link.wrote = link.wrote_before.get(name, link.wrote)

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        return False

    def set_isolation_level(self, dbapi_connection: Any, level: Any) -> NoReturn:
        raise TransactionMisuse("the isolation level is the caller's, whose transaction this session joins")

    def get_driver_connection(self, connection: Any) -> Any:
        return connection.wrapper.connection


class _Time(TIME):
    """Django's mysqlclient gives a ``time``, asyncmy a ``timedelta``."""

    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        parse: Any = super().result_processor(dialect, coltype)
        return lambda value: value if isinstance(value, datetime.time) else parse(value)


def _mysql() -> type[Any]:
    from asyncdb.drivers.mysql_literals import UnsendableParameter, require_exact  # needs asyncmy, an extra

    base: Any = importlib.import_module("asyncdb.drivers.mysql").Dialect

    class MySQL(OnDjango, base):  # type: ignore[misc]  # the base is an extra's
        supports_statement_cache = True
        colspecs = base.colspecs | {sqltypes.Time: _Time, TIME: _Time}

        def do_execute(self, cursor: Any, statement: Any, parameters: Any, context: Any = None) -> None:
            self._require_exact(parameters)
            super().do_execute(cursor, statement, parameters, context)

        def do_executemany(self, cursor: Any, statement: Any, parameters: Any, context: Any = None) -> None:
            for row in parameters:
                self._require_exact(row)
            super().do_executemany(cursor, statement, parameters, context)

        def _require_exact(self, parameters: Any) -> None:
            """Refuses what the async driver refuses: mysqlclient forgets the zone of a datetime."""
            try:
                require_exact(parameters or ())
            except UnsendableParameter as err:
                dbapi: Any = self.dbapi
                raise dbapi.ProgrammingError(str(err)) from None

    return MySQL


def _postgresql() -> type[Any]:
    base: Any = importlib.import_module("asyncdb.drivers.postgresql").Dialect

    class Compiler(base.statement_compiler):  # type: ignore[misc]  # as above
        def render_bind_cast(self, type_: Any, dbapi_type: Any, sqltext: str) -> Any:
            """Django's cursor writes the value into the statement, where a cast binds closer than a minus sign."""
            return super().render_bind_cast(type_, dbapi_type, f"({sqltext})")

    class PostgreSQL(OnDjango, base):  # type: ignore[misc]  # as above
        supports_statement_cache = True
        statement_compiler = Compiler
        gives_djangos_values = False  # its cursors are told to load what the pool's do: link.py, _prepare_psycopg

        def __init__(self, **options: Any) -> None:
            super().__init__(**options | {"use_native_hstore": False})
            self._has_native_hstore = apps.is_installed("django.contrib.postgres")  # whose connections give dicts

    return PostgreSQL


def _sqlite() -> type[Any]:
    base: Any = importlib.import_module("asyncdb.drivers.sqlite").Dialect

    class SQLite(OnDjango, base):  # type: ignore[misc]  # as above
        supports_statement_cache = True
        default_paramstyle = "format"
        detects_types = True

    return SQLite


_MAKERS: dict[str, Callable[[], type[Any]]] = {"mysql": _mysql, "postgresql": _postgresql, "sqlite": _sqlite}
_PARAMSTYLES = {"mysql": "format", "postgresql": "pyformat", "sqlite": "format"}
"""What Django's cursors take."""

for _family in _MAKERS:
    registry.register(f"{_family}.django_bridge", __name__, _family)


def __getattr__(name: str) -> Any:
    """The dialect of a family, made when SQLAlchemy asks for it: its driver is an extra."""
    if name not in _MAKERS:
        raise AttributeError(name)
    made = globals()[name] = _MAKERS[name]()
    return made


def engine_on(wrapper: Any, config: DatabaseConfig, open_link: Callable[[], Link]) -> AsyncEngine:
    """SQLAlchemy's engine on Django's connection ``wrapper``."""
    engine = create_async_engine(
        URL.create(f"{config.family}+django_bridge", database=config.database or None),
        pool=Pool(open_link, config.model_copy(update={"database": "joined"})),  # in memory or not: links are many
        paramstyle=_PARAMSTYLES[config.family],
        hide_parameters=True,
    )
    dialect: Any = engine.dialect
    dialect.alias = config.alias
    dialect.dbapi = wrapper.Database  # whose errors its cursors raise
    dialect.about = (config.alias, config.family, config.host, config.port, config.unix_socket)
    return engine


def learn(engine: AsyncEngine, connection: Connection) -> None:
    """Lets the dialect know its server, where no pool does."""
    engine.dialect.initialize(connection)
