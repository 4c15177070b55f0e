"""What the integration tests of the core share: tables in a fresh database, and a warm pool behind a proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import insert, select

from asyncdb import Database, DatabaseConfig
from asyncdb.testing import DatabaseServer, Proxy
from tests.tables import Author, Book, create_tables

TITLES = ("Momo", "Die unendliche Geschichte", "Jim Knopf")


@pytest.fixture
async def books(database: Database) -> Database:
    """A database with one author and three books."""
    await create_tables(database.engine)
    await fill(database)
    return database


async def fill(database: Database) -> None:
    async with database.atomic() as db:
        await db.execute(insert(Author), [{"id": 1, "name": "Michael Ende"}])
        await db.execute(insert(Book), [{"id": n, "title": title, "author_id": 1} for n, title in enumerate(TITLES, 1)])


@pytest.fixture
async def proxied_books(proxied: tuple[DatabaseConfig, Proxy]) -> AsyncIterator[tuple[Database, Proxy]]:
    """The same database behind a counting proxy, on a warm pool of READ COMMITTED; the counter stands at nought."""
    config, proxy = proxied
    database = Database(DatabaseConfig.of(**{"isolation_level": "READ COMMITTED", **_options(config)}))
    try:
        await create_tables(database.engine)
        await fill(database)
        await database.fetch_val(select(1))
        proxy.reset()
        yield database, proxy
        assert database.stats().checked_out == 0, "the test kept a connection"
    finally:
        await database.close()


def _options(config: DatabaseConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.model_fields_set}


@pytest.fixture
def open_transactions(server: DatabaseServer | None, database_name: str) -> Callable[[], int]:
    """How many transactions are open on the server in the test's database; always 0 for SQLite."""

    def count() -> int:
        if server is None:
            return 0
        if server.family == "postgresql":
            sql = (
                "SELECT count(*) FROM pg_stat_activity"
                f" WHERE datname = '{database_name}' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
            )
        else:
            sql = (
                "SELECT count(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p"
                f" ON p.id = t.trx_mysql_thread_id WHERE p.db = '{database_name}'"
            )
        return int(server.execute(sql)[0][0] or 0)

    return count


@pytest.fixture
def server_threads(server: DatabaseServer | None, database_name: str) -> Callable[[], list[int]]:
    """The ids of the server's connections to the test's database."""

    def ids() -> list[int]:
        if server is None:
            return []
        return [connection.id for connection in server.connections() if connection.database == database_name]

    return ids
