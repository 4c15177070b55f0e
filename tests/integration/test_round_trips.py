"""Round trips, counted at a proxy before the server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from asyncdb import Database, DatabaseConfig
from asyncdb.testing import Proxy
from tests.tables import Book

Warm = tuple[Database, Proxy]
TITLE = select(Book.title).where(Book.id == 1)


async def _session_execute(database: Database) -> Any:
    async with database.session() as db:
        return (await db.execute(TITLE)).scalar_one()


async def _session_scalars(database: Database) -> Any:
    async with database.session() as db:
        return (await db.scalars(select(Book).where(Book.id == 1))).one().title


async def _session_get(database: Database) -> Any:
    async with database.session() as db:
        return (await db.get_one(Book, 1)).title


async def _session_fetch(database: Database) -> Any:
    async with database.session() as db:
        return await db.fetch_one(TITLE, into=str)


READS: dict[str, Callable[[Database], Awaitable[Any]]] = {
    "fetch_all": lambda database: database.fetch_all(TITLE, into=str),
    "fetch_one": lambda database: database.fetch_one(TITLE),
    "fetch_one_or_none": lambda database: database.fetch_one_or_none(TITLE),
    "fetch_val": lambda database: database.fetch_val(TITLE),
    "execute": lambda database: database.execute(TITLE),
    "session.execute": _session_execute,
    "session.scalars": _session_scalars,
    "session.get": _session_get,
    "session.fetch_one": _session_fetch,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
async def test_a_read_outside_a_transaction_costs_one_round_trip(proxied_books: Warm, read: Any) -> None:
    database, proxy = proxied_books
    assert await read(database)
    assert proxy.round_trips == 1


async def test_reads_in_one_session_cost_one_round_trip_each(proxied_books: Warm) -> None:
    database, proxy = proxied_books
    async with database.session() as db:
        for number in range(1, 5):
            await db.execute(select(Book.title).where(Book.id == number))
            assert proxy.round_trips == number
    assert proxy.round_trips == 4


async def test_commit_after_reads_alone_costs_nothing(proxied_books: Warm) -> None:
    database, proxy = proxied_books
    async with database.session() as db:
        await db.execute(TITLE)
        await db.commit()
    assert proxy.round_trips == 1


async def test_reads_with_known_functions_cost_one_round_trip(proxied_books: Warm) -> None:
    database, proxy = proxied_books
    assert await database.fetch_val(select(func.count(Book.id)).where(func.lower(Book.title) != "")) == 3
    assert proxy.round_trips == 1


async def _three_writes(db: AsyncSession) -> None:
    await db.execute(insert(Book).values(id=10, title="one"))
    await db.execute(update(Book).where(Book.id == 10).values(title="two"))
    await db.execute(update(Book).where(Book.id == 10).values(title="three"))


async def test_atomic_with_three_writes_costs_five_round_trips(proxied_books: Warm) -> None:
    database, proxy = proxied_books
    async with database.atomic() as db:
        await _three_writes(db)
    assert proxy.round_trips == 5
    assert await database.fetch_val(select(Book.title).where(Book.id == 10)) == "three"


async def test_a_session_with_three_writes_and_commit_costs_five_round_trips(proxied_books: Warm) -> None:
    database, proxy = proxied_books
    async with database.session() as db:
        await _three_writes(db)
        await db.commit()
    assert proxy.round_trips == 5
    assert await database.fetch_val(select(Book.title).where(Book.id == 10)) == "three"


async def test_an_empty_atomic_costs_nothing(proxied_books: Warm) -> None:
    database, proxy = proxied_books
    async with database.atomic():
        pass
    assert proxy.round_trips == 0


async def test_atomic_begins_before_a_read(proxied_books: Warm) -> None:
    database, proxy = proxied_books
    async with database.atomic() as db:
        await db.execute(TITLE)
        assert proxy.round_trips == 2
    assert proxy.round_trips == 3


async def test_a_write_of_its_own_costs_begin_write_commit(proxied_books: Warm) -> None:
    database, proxy = proxied_books
    await database.execute(insert(Book).values(id=11, title="eleven"))
    assert proxy.round_trips == 3


async def test_a_savepoint_costs_two_round_trips_more(proxied_books: Warm) -> None:
    database, proxy = proxied_books
    async with database.atomic() as db:
        await db.execute(insert(Book).values(id=12, title="outer"))
        async with database.atomic():
            await db.execute(insert(Book).values(id=13, title="inner"))
    assert proxy.round_trips == 6  # BEGIN, INSERT, SAVEPOINT, INSERT, RELEASE, COMMIT


async def test_a_nested_block_without_savepoint_costs_nothing_more(proxied_books: Warm) -> None:
    database, proxy = proxied_books
    async with database.atomic() as db:
        await db.execute(insert(Book).values(id=12, title="outer"))
        async with database.atomic(savepoint=False):
            await db.execute(insert(Book).values(id=13, title="inner"))
    assert proxy.round_trips == 4


@pytest.mark.parametrize(
    "statement",
    [text("SELECT title FROM book"), TITLE.with_for_update(), select(func.some_lookup(Book.title)).where(Book.id == 1)],
    ids=["text", "for update", "unknown function"],
)
async def test_what_may_lock_or_write_runs_in_a_transaction(proxied_books: Warm, statement: Any) -> None:
    database, proxy = proxied_books
    await _create_function(database)
    async with database.session() as db:
        (await db.execute(statement)).all()  # the server is asked once about a function that is not its own
    await database.fetch_val(select(1))  # the reset that it has cost is over
    resets = database.stats().counts.reset
    proxy.reset()
    async with database.session() as db:
        (await db.execute(statement)).all()
        assert proxy.round_trips == 2
    assert proxy.round_trips in {3, 3 + database.stats().counts.reset - resets}  # as below


async def _create_function(database: Database) -> None:
    if database.config.family == "mysql":
        body = "CREATE FUNCTION some_lookup(t TEXT) RETURNS TEXT DETERMINISTIC RETURN t"
    else:
        body = "CREATE FUNCTION some_lookup(t TEXT) RETURNS TEXT LANGUAGE sql AS 'SELECT t'"
    await database.execute(text(body))


async def test_the_ninth_transaction_costs_what_the_first_did(proxied_books: Warm) -> None:
    # psycopg prepares a statement at its sixth execution, with a round trip more; BEGIN and COMMIT are none of its.
    database, proxy = proxied_books
    for number in range(9):
        async with database.atomic() as db:
            await db.execute(text(f"SELECT {number}"))
    assert proxy.round_trips == 27


@pytest.mark.config(isolation_level="REPEATABLE READ")
async def test_repeatable_read_needs_a_transaction_for_reads(proxied_books: Warm) -> None:
    database, proxy = proxied_books
    async with database.session() as db:
        await db.execute(TITLE)
        await db.execute(TITLE)
    assert proxy.round_trips == 4  # BEGIN, two reads, ROLLBACK


@pytest.mark.families("postgresql", "mysql", "mariadb")
async def test_a_level_of_its_own_costs_mysql_one_round_trip_and_postgresql_none(proxied_books: Warm) -> None:
    database, proxy = proxied_books
    async with database.atomic(isolation="SERIALIZABLE") as db:
        await db.execute(TITLE)
    assert proxy.round_trips == (4 if database.config.family == "mysql" else 3)


@pytest.mark.config(ping_after=0)
async def test_a_ping_costs_one_round_trip_at_checkout(proxied_books: Warm) -> None:
    database, proxy = proxied_books
    pings = database.stats().counts.pings
    await database.fetch_val(TITLE)
    assert (proxy.round_trips, database.stats().counts.pings - pings) == (2, 1)


@pytest.fixture
async def stock(proxied: tuple[DatabaseConfig, Proxy]) -> AsyncIterator[tuple[AsyncEngine, Proxy]]:
    """SQLAlchemy's own engine as it is by default."""
    config, proxy = proxied
    driver = "mysql+asyncmy" if config.family == "mysql" else "postgresql+psycopg"
    password = config.password.get_secret_value() if config.password else ""
    engine = create_async_engine(f"{driver}://{config.user}:{password}@{config.host}:{config.port}/{config.database}")
    async with engine.connect() as connection:
        await connection.execute(select(1))
    proxy.reset()
    yield engine, proxy
    await engine.dispose()


async def test_the_proxy_counts_more_for_a_stock_engine(stock: tuple[AsyncEngine, Proxy]) -> None:
    engine, proxy = stock
    async with AsyncSession(engine) as session:
        await session.execute(select(1))
    assert proxy.round_trips >= 2


@pytest.mark.parametrize(
    "statement",
    [text("SELECT title FROM book"), TITLE.with_for_update(), select(func.some_lookup(Book.title)).where(Book.id == 1)],
    ids=["text", "for update", "unknown function"],
)
async def test_a_verb_of_the_database_reads_in_one_round_trip_whatever_it_reads(
    proxied_books: Warm, statement: Any
) -> None:
    """One statement is a transaction by itself: at its end it lets go of its locks, and what it called is committed."""
    database, proxy = proxied_books
    await _create_function(database)
    await database.fetch_all(statement)  # the server is asked once about a function that is not its own
    await database.fetch_val(select(1))
    resets = database.stats().counts.reset
    proxy.reset()
    await database.fetch_all(statement)
    # The reset that an unknown function has cost is on its way too, and nobody waits for it.
    assert proxy.round_trips in {1, 1 + database.stats().counts.reset - resets}
