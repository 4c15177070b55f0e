"""After each fault: nothing checked out, no task left, no transaction open, no server thread beyond the pool's cap."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asyncdb import Database, DatabaseConfig
from asyncdb.testing import DatabaseServer

OPEN_TRANSACTIONS = {
    "mysql": (
        "SELECT count(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p"
        " ON p.id = t.trx_mysql_thread_id WHERE p.user = '{user}'"
    ),
    "postgresql": (
        "SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}' AND xact_start IS NOT NULL"
        " AND pid <> pg_backend_pid()"
    ),
}
RUNNING = {
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE user = '{user}' AND command = 'Query'",
    "postgresql": (
        "SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}' AND state = 'active'"
        " AND pid <> pg_backend_pid()"
    ),
}
"""How many statements of the tests' user the server works on."""


async def comes_true(condition: Callable[[], Any], *, within: float = 5.0) -> bool:
    """Whether ``condition``, which may ask a server, holds before ``within`` seconds are over."""
    deadline = time.monotonic() + within
    while not await asyncio.to_thread(condition):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


def count(server: DatabaseServer, queries: dict[str, str]) -> int:
    return int(server.execute(queries[server.family].format(user=server.user))[0][0] or 0)


@asynccontextmanager
async def whole(config: DatabaseConfig, server: DatabaseServer | None) -> AsyncIterator[Database]:
    """A database that must be whole after the fault: the promise of every test in this folder."""
    database = Database(config)
    try:
        yield database
        gc.collect()
        stats = database.stats()
        assert (stats.checked_out, stats.waiting) == (0, 0)
        if server is not None:
            assert await comes_true(lambda: count(server, OPEN_TRANSACTIONS) == 0), "a transaction is left open"
            assert await comes_true(lambda: len(server.connections()) <= stats.size), "more threads than the pool has"
    finally:
        await database.close()
    mine = asyncio.current_task()
    assert {task for task in asyncio.all_tasks() if "asyncdb" in task.get_name()} <= {mine}


@pytest.fixture(autouse=True)
def _no_resource_warning() -> Iterator[None]:
    """Warnings are errors; what is collected late is collected here."""
    yield
    gc.collect()


@pytest.fixture
async def sound(database_config: DatabaseConfig, server: DatabaseServer | None) -> AsyncIterator[Database]:
    """A fresh database whose pool is whole again after the test."""
    async with whole(database_config, server) as database:
        yield database


# Through the bridge's doors

from tests.bridge.conftest import (  # noqa: E402, F401  (a folder's fixtures are its own)
    bridged,
    bridged_now,
    default,
    project,
    tx,
)
