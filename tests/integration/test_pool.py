"""The pool's policy: order, liveness, lifetime, bounds, statistics."""
# ruff: noqa: ASYNC110  (the pool's state has no event to wait for; pytest's time limit is the bound)

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import event, literal, select, text
from sqlalchemy.exc import DBAPIError

from asyncdb import Database, DatabaseConfig, PoolStats
from asyncdb.testing import DatabaseServer, MariaDBServer, PostgreSQLServer, Proxy

SERVERS = pytest.mark.families("mariadb", "postgresql", "mysql")
Eventually = Callable[..., Awaitable[None]]
Proxied = tuple[DatabaseConfig, Proxy]


@asynccontextmanager
async def _opened(config: DatabaseConfig, **changes: Any) -> AsyncIterator[Database]:
    database = Database(config.model_copy(update=changes))
    try:
        yield database
        assert database.stats().checked_out == 0
    finally:
        await database.close()


async def _id(db: Any) -> int:
    """The server's id of the connection; for SQLite that of the driver's object."""
    family = (db.config if isinstance(db, Database) else db.bind.engine.pool.config).family
    if family == "sqlite":
        if isinstance(db, Database):
            async with db.session() as session:
                return await _id(session)
        raw = await (await db.connection()).get_raw_connection()
        return id(raw.dbapi_connection)
    value: int = await db.fetch_val(text("SELECT CONNECTION_ID()" if family == "mysql" else "SELECT pg_backend_pid()"))
    return value


async def _open_together(database: Database, number: int) -> list[int]:
    async with AsyncExitStack() as stack:
        return [await _id(await stack.enter_async_context(database.session())) for _ in range(number)]


# Order


@pytest.mark.contract
async def test_the_connection_that_came_back_last_goes_out_first(database: Database) -> None:
    first, second, third = await _open_together(database, 3)
    assert len({first, second, third}) == 3
    # The stack of sessions closed the third first and the first last.
    assert [await _id(database) for _ in range(3)] == [first] * 3
    assert await _open_together(database, 2) == [first, second]


@pytest.mark.config(pool_size=1)
async def test_those_who_wait_are_served_in_their_order_and_nobody_pushes_in(database: Database) -> None:
    served: list[int] = []

    async def caller(number: int) -> None:
        await database.fetch_val(select(1))
        served.append(number)

    async with database.session() as holder:
        await holder.execute(select(1))
        tasks = []
        for number in range(6):
            tasks.append(asyncio.create_task(caller(number)))
            while database.stats().waiting <= number:
                await asyncio.sleep(0)
    tasks.append(asyncio.create_task(caller(99)))  # comes when the connection is back, and still is last
    await asyncio.gather(*tasks)
    assert served == [0, 1, 2, 3, 4, 5, 99]
    assert database.stats().counts.connects == 1


@pytest.mark.config(pool_size=2, max_overflow=1, pool_timeout=0.2)
async def test_overflow_is_honoured_and_closed_at_checkin(
    database: Database, server_threads: Callable[[], list[int]], eventually: Eventually
) -> None:
    assert len(set(await _open_together(database, 3))) == 3
    stats = database.stats()
    assert (stats.size, stats.idle, stats.checked_out) == (3, 2, 0)
    if database.config.family != "sqlite":
        await eventually(lambda: len(server_threads()) == 2)
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await (await stack.enter_async_context(database.session())).execute(select(1))
        with pytest.raises(Exception, match="size 3, checked out 3"):
            await database.fetch_val(select(1))


@pytest.mark.config(pool_size=3)
async def test_stats_count_what_happened(database: Database) -> None:
    assert database.stats() == PoolStats(size=3, checked_out=0, idle=0, waiting=0, counts=database.stats().counts)
    async with database.session() as db:
        await db.execute(select(1))
        assert (database.stats().checked_out, database.stats().idle) == (1, 0)
    await database.fetch_val(select(1))
    stats = database.stats()
    assert (stats.checked_out, stats.idle, stats.counts.checkouts, stats.counts.connects) == (0, 1, 2, 1)
    assert stats.counts.connect_ms > 0
    assert stats.counts.waits == stats.counts.wait_ms == 0


async def test_a_users_own_pool_listeners_are_honoured(database_config: DatabaseConfig) -> None:
    database = Database(database_config)
    heard: list[str] = []
    pool = database.engine.sync_engine.pool
    for name in ("connect", "first_connect", "checkout", "checkin", "close", "reset"):
        event.listen(pool, name, lambda *_, name=name, **__: heard.append(name))
    await database.fetch_val(select(1))
    await database.fetch_val(select(1))
    assert [name for name in heard if name in ("connect", "checkout", "checkin")] == [
        "connect", "checkout", "checkin", "checkout", "checkin",
    ]  # fmt: skip
    assert "reset" in heard
    await database.close()
    assert heard[-1] == "close"


# Liveness


@pytest.mark.config(ping_after=0.0)
async def test_ping_after_nought_pings_at_each_checkout(database: Database) -> None:
    await database.fetch_val(select(1))
    assert database.stats().counts.pings == 0  # it is new
    for number in range(1, 4):
        await database.fetch_val(select(1))
        assert database.stats().counts.pings == number


async def test_a_connection_is_pinged_once_it_was_idle_for_ping_after(proxied: Proxied) -> None:
    config, proxy = proxied
    async with _opened(config, ping_after=0.3, isolation_level="READ COMMITTED") as database:
        await database.fetch_val(select(1))
        proxy.reset()
        await database.fetch_val(select(1))
        await database.fetch_val(select(1))
        assert (proxy.round_trips, database.stats().counts.pings) == (2, 0)
        await asyncio.sleep(0.35)
        await database.fetch_val(select(1))
        assert (proxy.round_trips, database.stats().counts.pings) == (4, 1)


@pytest.mark.config(ping_after=0.0, pool_pre_ping=False)
async def test_without_pool_pre_ping_nothing_is_pinged(database: Database) -> None:
    for _ in range(3):
        await database.fetch_val(select(1))
    assert database.stats().counts.pings == 0


@SERVERS
@pytest.mark.config(pool_size=3)
@pytest.mark.contract
async def test_killed_idle_connections_are_found_without_a_ping(
    database: Database, server: DatabaseServer, database_name: str
) -> None:
    await _open_together(database, 3)
    assert await asyncio.to_thread(server.kill_connections, database=database_name) == 3
    assert len(set(await _open_together(database, 3))) == 3  # no error
    counts = database.stats().counts
    assert (counts.pings, counts.found_dead, counts.connects) == (0, 3, 6)


@pytest.mark.parametrize("fault", ["cut", "reset_connections"])
async def test_a_connection_that_was_closed_on_the_way_is_found_without_a_ping(proxied: Proxied, fault: str) -> None:
    config, proxy = proxied
    async with _opened(config) as database:
        for _ in range(5):
            assert await database.fetch_val(select(1)) == 1
            getattr(proxy, fault)()
        assert await database.fetch_val(select(1)) == 1
        counts = database.stats().counts
        assert (counts.pings, counts.found_dead) == (0, 5)


async def test_an_idle_connection_in_a_black_hole_is_replaced_after_ping_timeout(proxied: Proxied) -> None:
    config, proxy = proxied
    async with _opened(config, ping_after=0, ping_timeout=0.2, connect_timeout=5.0) as database:
        await database.fetch_val(select(1))
        proxy.black_hole()
        begun = time.monotonic()
        reading = asyncio.create_task(database.fetch_val(select(2)))
        while database.stats().counts.found_dead == 0:
            assert time.monotonic() - begun < 4.0
            await asyncio.sleep(0.01)
        proxy.restore()
        assert await asyncio.wait_for(reading, 5.0) == 2
        assert database.stats().counts.pings == 1


async def test_one_dead_ping_makes_all_older_connections_suspect(proxied: Proxied) -> None:
    """A silent drop takes all of them; only one caller pays for the discovery."""
    config, proxy = proxied
    async with _opened(config, ping_after=0, ping_timeout=0.2, pool_size=4) as database:
        await _open_together(database, 4)
        proxy.black_hole()
        reading = asyncio.create_task(database.fetch_val(select(2)))
        while database.stats().counts.found_dead == 0:
            await asyncio.sleep(0.01)
        proxy.restore()
        assert await asyncio.wait_for(reading, 5.0) == 2
        pings = database.stats().counts.pings
        await _open_together(database, 4)
        assert database.stats().counts.connects == 8
        assert database.stats().counts.pings <= pings + 1


@pytest.mark.parametrize("kind", ["own_mariadb", "own_postgresql"])
async def test_a_paused_server_is_given_up_after_read_timeout(
    kind: str, request: pytest.FixtureRequest, eventually: Eventually
) -> None:
    server: MariaDBServer | PostgreSQLServer = await asyncio.to_thread(request.getfixturevalue(kind))
    config = DatabaseConfig.from_url(server.url(server.default_database))
    async with _opened(config, read_timeout=0.4, ping_after=0, ping_timeout=0.3, close_timeout=0.2) as database:
        async with database.session() as db:
            assert await db.fetch_val(select(1)) == 1
            await asyncio.to_thread(server.pause)
            try:
                begun = time.monotonic()
                with pytest.raises(DBAPIError, match=r"no reply within 0\.4 s \(read_timeout\)"):
                    await db.fetch_val(select(1))
                assert time.monotonic() - begun < 3.0
            finally:
                await asyncio.to_thread(server.resume)
        assert await database.fetch_val(select(1)) == 1
        assert database.stats().counts.connects == 2
        await eventually(lambda: len(server.connections()) == 1)


async def test_read_timeout_does_not_touch_a_reply_in_time(proxied: Proxied) -> None:
    config, proxy = proxied
    async with _opened(config, read_timeout=2.0) as database:
        await database.fetch_val(select(1))
        proxy.delay(0.2)
        assert await database.fetch_val(select(2)) == 2
        proxy.delay(0.0)
        assert await database.fetch_val(select(3)) == 3
        assert database.stats().counts.connects == 1


@SERVERS
@pytest.mark.contract
async def test_killed_in_the_midst_of_a_transaction_is_an_error_and_the_next_is_well(
    database: Database, server: DatabaseServer, database_name: str
) -> None:
    with pytest.raises(DBAPIError) as caught:
        async with database.atomic() as db:
            await db.execute(text("SELECT 1"))
            await asyncio.to_thread(server.kill_connections, database=database_name)
            await db.execute(text("SELECT 2"))
    assert caught.value.connection_invalidated
    assert await database.fetch_val(select(3)) == 3
    assert database.stats().checked_out == 0


async def test_half_a_reply_drops_the_connection(proxied: Proxied) -> None:
    config, proxy = proxied
    async with _opened(config, retry_lost_reads=False, isolation_level="READ COMMITTED") as database:
        await database.fetch_val(select(1))
        proxy.half_reply()
        with pytest.raises(DBAPIError):
            await database.fetch_val(select(literal("x" * 3000)))
        assert await database.fetch_val(select(2)) == 2
        assert database.stats().counts.connects == 2


# Lifetime


async def test_a_connection_is_replaced_after_pool_recycle(database_config: DatabaseConfig) -> None:
    async with _opened(database_config, pool_recycle=0.4) as database:
        first = await _id(database)
        assert await _id(database) == first
        await asyncio.sleep(0.45)
        if database.config.family != "sqlite":  # an address may be used again
            assert await _id(database) != first
        await database.fetch_val(select(1))
        counts = database.stats().counts
        assert (counts.recycled, counts.connects, counts.found_dead) == (1, 2, 0)


@pytest.mark.config(pool_recycle=1000.0, pool_size=10)
async def test_lifetimes_lie_in_the_last_tenth_and_differ(database: Database) -> None:
    begun = time.monotonic()
    await _open_together(database, 10)
    ended = time.monotonic()
    expiries = [record.info["asyncdb.expires"] for record in database.engine.sync_engine.pool._records]  # type: ignore[attr-defined]
    assert len(expiries) == 10
    assert begun + 900 <= min(expiries)
    assert max(expiries) <= ended + 1000
    assert len({round(expiry, 3) for expiry in expiries}) > 5
    assert max(expiries) - min(expiries) > 1.0


@pytest.mark.config(pool_recycle=-1)
async def test_without_pool_recycle_the_servers_own_limit_holds(database: Database, family: str) -> None:
    await database.fetch_val(select(1))
    (record,) = database.engine.sync_engine.pool._records  # type: ignore[attr-defined]
    lifetime = record.info["asyncdb.expires"] - time.monotonic()
    if family in ("mariadb", "mysql"):
        assert 0.8 * 28800 < lifetime <= 28800
    else:
        assert lifetime == float("inf")


@pytest.mark.parametrize("idle", [2.5])
async def test_no_connection_outlives_the_servers_wait_timeout(
    own_mariadb: Callable[..., MariaDBServer], idle: float
) -> None:
    server = await asyncio.to_thread(own_mariadb, wait_timeout=2)
    async with _opened(DatabaseConfig.from_url(server.url("mysql")), pool_size=2) as database:
        await _open_together(database, 2)
        await asyncio.sleep(1.9)  # older than 0.9 of the limit, and the server has not closed it yet
        assert await database.fetch_val(select(1)) == 1
        counts = database.stats().counts
        assert (counts.recycled, counts.found_dead) == (1, 0)
        await asyncio.sleep(idle)  # the server has closed them
        assert await database.fetch_val(select(1)) == 1
        assert database.stats().counts.pings == 0


async def test_postgresqls_idle_session_timeout_is_heeded(
    own_postgresql: Callable[..., PostgreSQLServer],
) -> None:
    server = await asyncio.to_thread(own_postgresql, options={"idle_session_timeout": "2s"})
    async with _opened(DatabaseConfig.from_url(server.url("postgres"))) as database:
        await database.fetch_val(select(1))
        [record] = database.engine.sync_engine.pool._records  # type: ignore[attr-defined]
        assert 1.0 < record.info["asyncdb.expires"] - time.monotonic() <= 1.8


# Closing


@SERVERS
async def test_close_waits_for_those_at_work(database_config: DatabaseConfig) -> None:
    database = Database(database_config)
    at_work, go_on = asyncio.Event(), asyncio.Event()

    async def work() -> int:
        async with database.session() as db:
            await db.execute(select(1))
            at_work.set()
            await go_on.wait()
            value: int = await db.fetch_val(select(5))
            return value

    task = asyncio.create_task(work())
    await at_work.wait()
    closing = asyncio.create_task(database.close(timeout=10.0))
    await asyncio.sleep(0)
    assert not closing.done()
    go_on.set()
    assert await task == 5
    await asyncio.wait_for(closing, 5.0)


@SERVERS
async def test_close_cuts_what_is_left_after_its_timeout(
    database_config: DatabaseConfig, server_threads: Callable[[], list[int]], eventually: Eventually
) -> None:
    database = Database(database_config)
    async with database.session() as db:
        await db.execute(select(1))
        begun = time.monotonic()
        await database.close(timeout=0.2)
        assert time.monotonic() - begun < 3.0
        await eventually(lambda: server_threads() == [])
        with pytest.raises(DBAPIError):
            await db.execute(select(2))


@SERVERS
async def test_a_cancelled_close_cuts_at_once(
    database_config: DatabaseConfig, server_threads: Callable[[], list[int]], eventually: Eventually
) -> None:
    database = Database(database_config)
    async with database.session() as db:
        await db.execute(select(1))
        closing = asyncio.create_task(database.close(timeout=60.0))
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await eventually(lambda: server_threads() == [])


@pytest.mark.config(pool_size=1)
async def test_close_sends_those_in_line_away(database_config: DatabaseConfig) -> None:
    from asyncdb import DatabaseClosed

    database = Database(database_config)
    async with database.session() as db:
        await db.execute(select(1))
        waiting = asyncio.create_task(database.fetch_val(select(1)))
        while database.stats().waiting == 0:
            await asyncio.sleep(0)
        closing = asyncio.create_task(database.close())
        with pytest.raises(DatabaseClosed):
            await asyncio.wait_for(waiting, 5.0)
    await closing


async def test_close_in_a_black_hole_is_bounded(proxied: Proxied) -> None:
    config, proxy = proxied
    database = Database(config.model_copy(update={"close_timeout": 0.2}))
    await database.fetch_val(select(1))
    proxy.black_hole()
    begun = time.monotonic()
    await database.close(timeout=1.0)
    assert time.monotonic() - begun < 4.0


# All at once


@pytest.mark.slow
@pytest.mark.config(pool_size=5, pool_timeout=30.0)
async def test_a_storm_with_cancellations_gives_nobody_anothers_reply(
    database: Database,
    server_threads: Callable[[], list[int]],
    open_transactions: Callable[[], int],
    eventually: Eventually,
) -> None:
    dice = random.Random(20250101)
    right = wrong = cancelled = 0

    async def caller(token: str) -> None:
        nonlocal right, wrong
        for turn in range(3):
            mine = f"{token}-{turn}"
            way = dice.randrange(4)
            if way == 0:
                found = await database.fetch_val(select(literal(mine)))
            elif way == 1:
                async with database.session() as db:
                    found = (await db.execute(text("SELECT :mine"), {"mine": mine})).scalar_one()
            elif way == 2:
                async with database.atomic() as db:
                    await db.execute(text("SELECT 'other'"))
                    found = await db.fetch_val(select(literal(mine)))
            else:
                (found,) = [row async for row in database.stream(select(literal(mine)), into=str)]
            right, wrong = right + (found == mine), wrong + (found != mine)

    tasks = [asyncio.create_task(caller(f"task{number}")) for number in range(300)]
    victims = dice.sample(tasks, 100)
    while victims:
        await asyncio.sleep(dice.random() * 0.01)
        victims.pop().cancel()
    for outcome in await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60.0):
        if isinstance(outcome, asyncio.CancelledError):
            cancelled += 1
        elif isinstance(outcome, BaseException):
            raise outcome
    gc.collect()
    assert wrong == 0
    assert right >= 600
    assert cancelled > 0
    stats = database.stats()
    assert (stats.checked_out, stats.waiting, stats.counts.timeouts) == (0, 0, 0)
    await eventually(lambda: len(server_threads()) <= 5)
    await eventually(lambda: open_transactions() == 0)
