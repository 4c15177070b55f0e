"""Streams: bounded memory, an early end that harms nobody."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable

import pytest
from pydantic import BaseModel
from sqlalchemy import TextClause, insert, literal, select, text
from sqlalchemy.ext.asyncio import AsyncResult

from asyncdb import Database, DatabaseConfig, TransactionMisuse
from asyncdb.testing import Proxy
from tests.tables import SEQUENCE, Book

NUMBERS = {
    "mysql": f"SELECT seq AS id, 'padding padding padding' AS title FROM {SEQUENCE}",
    "postgresql": "SELECT id, 'padding padding padding' AS title FROM generate_series(1, {n}) AS id",
    "sqlite": (
        "WITH RECURSIVE s(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM s WHERE id < {n})"
        " SELECT id, 'padding padding padding' AS title FROM s"
    ),
}


class Line(BaseModel):
    id: int
    title: str


def _numbers(database: Database, n: int) -> TextClause:
    return text(NUMBERS[database.config.family].format(n=n))


def _a_million(database: Database) -> TextClause:
    """A million rows of which the first comes at once: MySQL and MariaDB read a JSON_TABLE whole before that."""
    if database.config.family != "mysql":
        return _numbers(database, 1_000_000)
    thousand = SEQUENCE.format(n=1000)
    more = thousand.replace("AS numbers", "AS more")
    return text(f"SELECT numbers.seq AS id, 'padding padding padding' AS title FROM {thousand}, {more}")


@pytest.mark.contract
async def test_a_stream_gives_each_row_once_in_order(books: Database) -> None:
    assert [row.id async for row in books.stream(_numbers(books, 2500), batch=100)] == list(range(1, 2501))
    assert [line.id async for line in books.stream(_numbers(books, 250), into=Line, batch=7)] == list(range(1, 251))
    assert [n async for n in books.stream(select(Book.id).order_by(Book.id), into=int)] == [1, 2, 3]
    assert [row async for row in books.stream(select(Book.id).where(Book.id < 0))] == []


async def test_orm_objects_are_streamed(books: Database) -> None:
    async with books.session() as db:
        titles = [row[0].title async for row in db.stream(select(Book).order_by(Book.id), batch=2)]
    assert titles[0] == "Momo"
    assert len(titles) == 3


@pytest.mark.contract
async def test_an_early_end_leaves_the_pool_whole_and_the_next_answer_right(
    books: Database, open_transactions: Callable[[], int], eventually: Callable[..., Awaitable[None]]
) -> None:
    for _ in range(4):
        async with books.stream(_numbers(books, 20000), batch=10) as rows:
            async for row in rows:
                if row.id == 15:
                    break
        assert books.stats().checked_out == 0
        assert await books.fetch_val(select(Book.title).where(Book.id == 1)) == "Momo"
    await eventually(lambda: open_transactions() == 0)


async def test_an_error_in_the_loop_leaves_the_pool_whole(books: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with books.stream(_numbers(books, 20000), batch=10) as rows:
            async for row in rows:
                row.id / 0
    assert books.stats().checked_out == 0
    assert await books.fetch_val(select(Book.title).where(Book.id == 1)) == "Momo"


async def test_a_stream_in_a_transaction_that_ends_early_leaves_the_transaction_usable(books: Database) -> None:
    async with books.atomic() as db:
        await db.execute(insert(Book).values(id=10, title="before"))
        async with db.stream(_numbers(books, 5000), batch=10) as rows:
            async for _ in rows:
                break
        await db.execute(insert(Book).values(id=11, title="after"))
        assert await db.fetch_val(select(Book.title).where(Book.id == 10)) == "before"
    assert await books.fetch_all(select(Book.id).where(Book.id > 3).order_by(Book.id), into=int) == [10, 11]


@pytest.mark.families("mariadb", "mysql")
async def test_a_statement_amid_a_stream_is_refused_and_no_row_vanishes(books: Database) -> None:
    seen = []
    async with books.atomic() as db:
        async with db.stream(select(Book.id).order_by(Book.id), into=int, batch=1) as rows:
            async for number in rows:
                seen.append(number)
                if number == 1:
                    with pytest.raises(TransactionMisuse, match="not at its end"):
                        await db.execute(select(1))
        assert await db.fetch_val(select(1)) == 1
    assert seen == [1, 2, 3]


@pytest.mark.families("mariadb", "postgresql", "mysql")
async def test_the_end_of_an_unfinished_stream_is_bounded_when_the_server_is_silent(
    proxied: tuple[DatabaseConfig, Proxy],
) -> None:
    config, proxy = proxied
    database = Database(config.model_copy(update={"read_timeout": 0.5}))
    try:
        async with (
            asyncio.timeout(10),
            database.session() as db,
            db.stream(_a_million(database), batch=10) as rows,
        ):
            async for _ in rows:
                proxy.black_hole()
                break
        proxy.restore()
        assert await database.fetch_val(select(1)) == 1
        assert database.stats().checked_out == 0
    finally:
        proxy.restore()
        await database.close()


async def test_an_async_with_that_is_never_iterated_takes_no_connection(books: Database) -> None:
    checkouts = books.stats().counts.checkouts
    async with books.stream(_numbers(books, 10)):
        pass
    assert books.stats().counts.checkouts == checkouts


async def test_a_stream_of_a_wrong_statement_leaves_the_pool_whole(books: Database) -> None:
    with pytest.raises(Exception, match="no_such_table"):
        async for _ in books.stream(text("SELECT * FROM no_such_table")):
            pass
    assert books.stats().checked_out == 0


@pytest.mark.verify("postgresql")
async def test_streaming_a_hundred_thousand_rows_keeps_memory_bounded(books: Database) -> None:
    async def peak(work: Callable[[], Awaitable[int]]) -> int:
        tracemalloc.clear_traces()
        tracemalloc.reset_peak()
        base = tracemalloc.get_traced_memory()[0]
        assert await work() == 100_000
        return tracemalloc.get_traced_memory()[1] - base

    async def streamed() -> int:
        count = 0
        async for _ in books.stream(_numbers(books, 100_000), batch=500):
            count += 1
        return count

    async def fetched() -> int:
        return len(await books.fetch_all(_numbers(books, 100_000)))

    await books.fetch_val(select(Book.title).where(Book.id == 1))
    running = tracemalloc.is_tracing()
    if not running:
        tracemalloc.start(1)
    try:
        with_stream, without = await peak(streamed), await peak(fetched)
    finally:
        if not running:
            tracemalloc.stop()
    assert without > 5_000_000  # positive control: this is what the rows weigh
    assert with_stream < without / 4


@pytest.mark.families("postgresql")  # MySQL's server sends all rows for one question
async def test_a_stream_on_postgresql_takes_a_round_trip_a_batch(proxied_books: tuple[Database, Proxy]) -> None:
    database, proxy = proxied_books
    async with database.stream(_numbers(database, 1000), batch=100) as rows:
        async for row in rows:
            if row.id == 1:
                begun = proxy.round_trips
            if row.id == 901:
                assert 8 <= proxy.round_trips - begun <= 10


async def test_awaited_on_a_session_it_is_sqlalchemys_own(books: Database) -> None:
    async with books.session() as db:
        result = await db.stream(select(Book.id).order_by(Book.id))
        assert isinstance(result, AsyncResult)
        assert [row.id async for row in result] == [1, 2, 3]
        result = await db.stream(select(Book.id).order_by(Book.id), execution_options={"yield_per": 2})
        assert [len(part) async for part in result.partitions()] == [2, 1]


async def test_awaited_on_the_database_it_is_refused_by_name(books: Database) -> None:
    with pytest.raises(TypeError, match=r"only a session's stream\(\) can be awaited"):
        await books.stream(select(Book.id))
    assert books.stats().checked_out == 0


@pytest.mark.parametrize("batch", [0, -1])
async def test_a_batch_of_nothing_is_refused(books: Database, batch: int) -> None:
    with pytest.raises(ValueError, match="batch"):
        books.stream(select(Book.id), batch=batch)


async def test_a_stream_under_repeatable_read_is_a_read_alone(database_config: DatabaseConfig) -> None:
    database = Database(database_config)
    try:
        async with database.session() as db:
            async for _ in db.stream(_numbers(database, 10)):
                assert not db.has_uncommitted_writes
    finally:
        await database.close()


@pytest.mark.filterwarnings("ignore:.*AsyncServerCursor.*while still open:ResourceWarning")  # psycopg is right
async def test_a_stream_that_somebody_left_open_gives_nobody_else_its_rows(books: Database) -> None:
    """SQLAlchemy's own ``await session.stream()`` without a close: the rest of its rows must not meet the next user."""
    async with books.session() as db:
        result = await db.stream(_numbers(books, 5000))
        await result.fetchone()
    del result
    for number in range(3):
        assert await books.fetch_val(select(literal(number))) == number
    assert books.stats().checked_out == 0
