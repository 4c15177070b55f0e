"""Is the database there? One bounded question."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncEngine

from .config import DatabaseConfig
from .drivers.physical import PhysicalConnection, physical
from .engine import pool_of
from .errors import AsyncDBError, PoolError


@dataclass(frozen=True, slots=True)
class Health:
    """What :meth:`asyncdb.Database.health` found.

    - **units**: ``ping_ms`` is the round trip of one ping, in milliseconds.
    """

    alias: str
    ok: bool
    """Whether the server answered."""
    state: Literal["ok", "busy", "away"]
    """``busy``: every connection of the pool was in use, so that nothing was asked; ``away``: there was no answer."""
    ping_ms: float | None = None
    server: str | None = None
    """The server's family and version, ``mariadb 10.11.6``."""
    error: str | None = None
    """Why it is not ``ok``, without a value or a password."""


async def check(engine: AsyncEngine, config: DatabaseConfig, *, timeout: float) -> Health:
    """Checks a connection out, pings, and gives it back, in at most ``timeout`` seconds; never raises."""
    asked = False
    try:
        async with asyncio.timeout(timeout), engine.connect() as connection:
            asked = True
            link: PhysicalConnection = physical(await connection.get_raw_connection())
            begun = time.perf_counter()
            await link.prove_alive(within=timeout)
            ping_ms = round((time.perf_counter() - begun) * 1000, 3)
            return Health(config.alias, ok=True, state="ok", ping_ms=ping_ms, server=_server(engine))
    except PoolError as err:
        return Health(config.alias, ok=False, state="busy", error=str(err))
    except TimeoutError:
        if not asked and (pool := pool_of(engine)).is_exhausted:
            return Health(config.alias, ok=False, state="busy", error=pool.why_exhausted(timeout))
        return Health(config.alias, ok=False, state="away", error=f"no answer within {timeout:g} s")
    except Exception as err:  # the driver's own too: a ping is not SQLAlchemy's
        message = str(err) if isinstance(err, AsyncDBError) else type(err).__name__
        return Health(config.alias, ok=False, state="away", error=message)


def _server(engine: AsyncEngine) -> str:
    dialect = engine.dialect
    version = ".".join(str(part) for part in dialect.server_version_info or ())
    family = "mariadb" if getattr(dialect, "is_mariadb", False) else dialect.name
    return f"{family} {version}".strip()
