"""SQLite: a file, memory, WAL, locks."""
# ruff: noqa: ASYNC110  (the pool's state has no event to wait for; pytest's time limit is the bound)

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import OperationalError

from asyncdb import Database, DatabaseConfig
from tests.tables import Book, create_tables

pytestmark = pytest.mark.usefixtures("_sqlite_is_chosen")


@pytest.fixture
def _sqlite_is_chosen() -> None:
    from tests.conftest import _require

    _require("sqlite")


@asynccontextmanager
async def _opened(place: Any, **options: Any) -> AsyncIterator[Database]:
    database = Database(DatabaseConfig.of(family="sqlite", database=str(place), **options))
    try:
        await create_tables(database.engine)
        yield database
        assert database.stats().checked_out == 0
    finally:
        await database.close()


def _row(number: int) -> Any:
    return insert(Book).values(id=number, title="x")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "books.sqlite3"


async def _count(database: Database) -> int:
    return len(await database.fetch_all(select(Book.id)))


# Memory


async def test_memory_is_one_database_for_all_callers() -> None:
    async with _opened(":memory:") as database:
        await asyncio.gather(*(database.execute(_row(number)) for number in range(20)))
        assert await _count(database) == 20
        assert database.stats().size == 1


async def test_two_databases_in_memory_do_not_meet() -> None:
    async with _opened(":memory:") as one, _opened(":memory:") as two:
        await one.execute(_row(1))
        assert (await _count(one), await _count(two)) == (1, 0)


async def test_memory_survives_a_cancelled_statement() -> None:
    endless = text("WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s) SELECT count(*) FROM s")
    async with _opened(":memory:") as database:
        await database.execute(_row(1))
        task = asyncio.create_task(database.fetch_val(endless))
        while database.stats().checked_out == 0:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5.0)
        assert await asyncio.wait_for(_count(database), 5.0) == 1


async def test_memory_outlives_pool_recycle() -> None:
    async with _opened(":memory:", pool_recycle=0.05) as database:
        await database.execute(_row(1))
        await asyncio.sleep(0.1)
        assert await _count(database) == 1


async def test_memory_is_gone_after_close() -> None:
    async with _opened("file:shared-name?mode=memory&cache=shared") as database:
        await database.execute(_row(1))
    async with _opened("file:shared-name?mode=memory&cache=shared") as database:
        assert await _count(database) == 0


# Files


async def test_a_file_is_seen_by_everybody(file: Path) -> None:
    async with _opened(file) as database:
        await database.execute(_row(1))
        with sqlite3.connect(file) as other:
            assert other.execute("SELECT id FROM book").fetchall() == [(1,)]
        other.close()


async def test_wal_lets_readers_read_while_somebody_writes(file: Path) -> None:
    async with _opened(file, session_settings={"journal_mode": "WAL"}) as database:
        async with database.atomic() as db:
            await db.execute(_row(1))
            async with database.session() as one, database.session() as two:
                assert await one.fetch_all(select(Book.id)) == []
                assert await two.fetch_all(select(Book.id)) == []
                assert database.stats().checked_out == 3
        assert await _count(database) == 1
        assert await database.fetch_val(text("PRAGMA journal_mode")) == "wal"


async def test_readers_read_at_the_same_time(file: Path) -> None:
    async with _opened(file) as database:
        await database.execute(_row(1))
        found = await asyncio.gather(*(_count(database) for _ in range(20)))
        assert found == [1] * 20
        assert 1 < database.stats().counts.connects <= 10


async def test_a_second_writer_waits_for_the_first(file: Path) -> None:
    async with _opened(file, busy_timeout=10.0) as database:
        written = asyncio.Event()

        async def first() -> None:
            async with database.atomic() as db:
                await db.execute(_row(1))
                written.set()
                await asyncio.sleep(0.2)

        async def second() -> None:
            await written.wait()
            async with database.atomic() as db:
                await db.execute(_row(2))

        await asyncio.gather(first(), second())
        assert await _count(database) == 2


async def test_a_writer_gives_up_after_busy_timeout(file: Path) -> None:
    async with _opened(file, busy_timeout=0.2) as database:
        async with database.atomic() as db:
            await db.execute(_row(1))
            begun = time.monotonic()
            with pytest.raises(OperationalError, match="database is locked"):
                async with database.session() as other:
                    await other.execute(_row(2))
            assert 0.1 < time.monotonic() - begun < 5.0
        assert await _count(database) == 1
        await database.execute(_row(2))


async def test_a_block_takes_the_write_lock_at_its_first_statement(file: Path) -> None:
    """BEGIN IMMEDIATE: two blocks that read first and write later do not end in SQLITE_BUSY."""
    async with _opened(file, busy_timeout=10.0) as database:
        await database.execute(_row(1))

        async def work(number: int) -> None:
            async with database.atomic() as db:
                count = len(await db.fetch_all(select(Book.id)))
                await asyncio.sleep(0)
                await db.execute(_row(100 * number + count))

        await asyncio.gather(*(work(number) for number in range(1, 7)))
        assert await _count(database) == 7


async def test_a_session_that_writes_begins_immediately_and_one_that_reads_locks_nobody(file: Path) -> None:
    async with _opened(file, busy_timeout=0.2) as database:
        async with database.session() as reader:
            await reader.fetch_all(select(Book.id))
            await reader.fetch_all(text("SELECT id FROM book"))
            await database.execute(_row(1))
        async with database.session() as writer:
            await writer.execute(_row(2))
            other = sqlite3.connect(file, timeout=0, isolation_level=None)
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
            other.close()
            await writer.commit()


async def test_transaction_mode_deferred_is_honoured(file: Path) -> None:
    options = {"transaction_mode": "DEFERRED"}
    async with _opened(file, driver_options=options, busy_timeout=0.2) as database, database.atomic() as db:
        await db.fetch_all(select(Book.id))
        other = sqlite3.connect(file, timeout=0, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # a deferred block that only read holds no write lock
        other.execute("ROLLBACK")
        other.close()


async def test_read_only_blocks_do_not_wait_for_the_writer(file: Path) -> None:
    async with _opened(file, session_settings={"journal_mode": "WAL"}, busy_timeout=0.2) as database:
        writing, reading = asyncio.Event(), asyncio.Event()

        async def writer() -> None:
            async with database.atomic() as db:
                await db.execute(_row(1))
                writing.set()
                await reading.wait()

        task = asyncio.create_task(writer())
        await writing.wait()
        async with database.atomic(read_only=True) as db:
            assert await db.fetch_all(select(Book.id)) == []
        reading.set()
        await task


async def test_a_connection_left_behind_does_not_stay_query_only(file: Path) -> None:
    async with _opened(file, pool_size=1) as database:
        async with database.atomic(read_only=True) as db:
            await db.fetch_all(select(Book.id))
        await database.execute(_row(1))
        with pytest.raises(ZeroDivisionError):
            async with database.atomic(read_only=True) as db:
                await db.fetch_all(select(Book.id))
                raise ZeroDivisionError
        await database.execute(_row(2))
        assert await _count(database) == 2
        assert database.stats().counts.connects == 1


async def test_a_read_only_block_whose_commit_fails_does_not_leave_its_connection_query_only(file: Path) -> None:
    async with _opened(file, pool_size=1) as database:
        with pytest.raises(OperationalError, match="no transaction is active"):
            async with database.atomic(read_only=True) as db:
                await db.fetch_all(select(Book.id))
                raw = await (await db.connection()).get_raw_connection()
                await raw.dbapi_connection.raw.execute_fetchall("ROLLBACK")  # type: ignore[union-attr]
        await database.execute(_row(1))
        assert database.stats().counts.connects == 1
