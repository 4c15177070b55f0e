"""A server for each family, quick rather than durable, and Django's settings for it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asyncdb.testing import DatabaseServer, MariaDBServer, PostgreSQLServer

FAMILIES = ("sqlite", "postgresql", "mariadb")

_MARIADB: dict[str, str | int] = {
    "innodb_flush_log_at_trx_commit": 0,
    "innodb_buffer_pool_size": "192M",
    "innodb_log_file_size": "96M",
    "innodb_stats_persistent": "OFF",
}
_POSTGRESQL: dict[str, str | int] = {"synchronous_commit": "off", "shared_buffers": "64MB", "max_wal_size": "1GB"}
_ENGINES = {"mariadb": "mysql", "postgresql": "postgresql", "sqlite": "sqlite3"}


@contextmanager
def server_of(family: str) -> Iterator[DatabaseServer | None]:
    """Runs a server of the family for both ways; SQLite needs none."""
    if family == "sqlite":
        yield None
    elif family == "mariadb":
        with MariaDBServer(options=_MARIADB) as server:
            _load_time_zones(server)
            yield server
    else:
        with PostgreSQLServer(options=_POSTGRESQL) as server:
            # Tests of contrib.postgres create extensions.
            server.execute(f"ALTER ROLE {server.user} SUPERUSER")
            yield server


def _load_time_zones(server: MariaDBServer) -> None:
    """Where the system has them. Without them Django's tests of time zones fail, in both ways."""
    for program in ("mariadb-tzinfo-to-sql", "mysql_tzinfo_to_sql"):
        if (found := shutil.which(program)) is not None:
            made = subprocess.run([found, "/usr/share/zoneinfo"], capture_output=True, text=True, check=False)
            server.execute(made.stdout, database="mysql", timeout=120.0)
            return


def databases(family: str, server: DatabaseServer | None, name: str) -> dict[str, dict[str, Any]]:
    """Returns ``DATABASES`` with the two aliases that Django's tests want; ``name`` keeps runs apart."""
    engine = {"ENGINE": f"django.db.backends.{_ENGINES[family]}"}
    if server is None:
        return {"default": dict(engine), "other": dict(engine)}
    place = {"HOST": server.host, "PORT": server.port, "USER": server.user, "PASSWORD": server.password}
    return {alias: {**engine, **place, "NAME": f"{name}_{alias}"} for alias in ("default", "other")}
