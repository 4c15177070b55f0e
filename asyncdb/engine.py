"""``DatabaseConfig`` to ``AsyncEngine``, on our pool and our dialects."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from sqlalchemy import URL
from sqlalchemy.dialects import registry
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from .config import DatabaseConfig, Family
from .drivers.dialect import PhysicalDialect
from .drivers.physical import PhysicalConnection
from .errors import DriverNotInstalled
from .pool import Pool

_DRIVERS: dict[Family, tuple[str, str]] = {
    "mysql": ("asyncmy", "mysql"),
    "postgresql": ("psycopg", "postgresql"),
    "sqlite": ("aiosqlite", "sqlite"),
}

for _family in _DRIVERS:
    registry.register(f"{_family}.asyncdb", f"{__package__}.drivers.{_family}", "Dialect")


def create_engine(
    config: DatabaseConfig,
    *,
    source: Callable[[], DatabaseConfig] | None = None,
    on_connect: Callable[[Any], None] | None = None,
) -> AsyncEngine:
    """Builds the engine of ``config`` for the running event loop; connects to nothing yet.

    ``source`` is asked before each physical connection for where and as whom to connect. ``on_connect`` is called
    in SQLAlchemy's greenlet with each new physical connection, when its session settings are made.

    - **errors**: ``DriverNotInstalled``, ``ConfigurationError``.
    """
    check(config)

    def open_connection() -> PhysicalConnection:
        begun = time.monotonic()
        connection: PhysicalConnection = dialect.open(source() if source is not None else config)
        connection.login_began = begun
        return connection

    async def end_running(running: Sequence[Any]) -> int:
        return await dialect.end_running(running)

    pool = Pool(open_connection, config, end_running)
    engine = create_async_engine(
        URL.create(f"{config.family}+asyncdb", host=config.host, port=config.port, database=config.database or None),
        pool=pool,
        hide_parameters=True,
    )
    pool.listeners_of_ours = len(list(pool.dispatch.connect))
    dialect = dialect_of(engine)
    dialect.on_new_connection, dialect.alias = on_connect, config.alias
    return engine


def check(config: DatabaseConfig) -> None:
    """Makes sure, without connecting, that the driver is installed and can honour ``config``.

    - **errors**: ``DriverNotInstalled``; ``ConfigurationError`` for ``driver_options`` that it does not know and for
      TLS files that cannot be read.
    """
    module, extra = _DRIVERS[config.family]
    try:
        importlib.import_module(module)
    except ImportError as err:
        raise DriverNotInstalled(
            f"database {config.alias!r}: {module} is not installed: pip install 'django-asyncdb[{extra}]'",
        ) from err
    importlib.import_module(f"{__package__}.drivers.{config.family}").connect_arguments(config)


def dialect_of(engine: AsyncEngine) -> PhysicalDialect:
    """The engine's dialect, as what it is."""
    return cast("PhysicalDialect", engine.dialect)


def pool_of(engine: AsyncEngine) -> Pool:
    """The engine's pool, as what it is."""
    pool = engine.sync_engine.pool
    assert isinstance(pool, Pool)
    return pool
