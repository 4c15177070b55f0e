"""What goes wrong at the edge of the pool: a clear error each, and the pool whole afterwards."""
# ruff: noqa: ASYNC110  (the pool's state has no event to wait for; pytest's time limit is the bound)

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as SqlalchemyTimeoutError

from asyncdb import (
    ConnectFailed,
    Database,
    DatabaseClosed,
    DatabaseConfig,
    PoolExhaustedByTask,
    PoolOverloaded,
    PoolTimeout,
)
from asyncdb.testing import DatabaseServer, Proxy, free_port
from tests.tables import Book

# Two seconds: MariaDB and MySQL let a statement run on whose client is gone.
SLEEP = {"mysql": "SELECT SLEEP(2)", "postgresql": "SELECT pg_sleep(20)"}
SERVERS = pytest.mark.families("mariadb", "postgresql", "mysql")
Eventually = Callable[..., Awaitable[None]]


@contextlib.asynccontextmanager
async def _opened(config: DatabaseConfig) -> AsyncIterator[Database]:
    database = Database(config)
    try:
        yield database
        assert database.stats().checked_out == 0
    finally:
        await database.close()


# The server cannot be reached or says no


@SERVERS
async def test_a_refused_port_is_a_clear_error(server: DatabaseServer) -> None:
    port = free_port()
    async with _opened(
        DatabaseConfig.of(family=server.family, alias="reports", host="127.0.0.1", port=port)
    ) as database:
        with pytest.raises(
            ConnectFailed, match=rf"cannot connect to 'reports' \(\w+ at 127\.0\.0\.1:{port}\)"
        ) as caught:
            await database.fetch_val(select(1))
        assert isinstance(caught.value, OperationalError)
        assert caught.value.__cause__ is caught.value.orig is not None
        assert database.stats().counts.connect_errors == database.config.connect_attempts


@SERVERS
async def test_an_unknown_host_is_a_clear_error(server: DatabaseServer) -> None:
    async with _opened(DatabaseConfig.of(family=server.family, host="no-such-host.invalid")) as database:
        with pytest.raises(ConnectFailed, match=r"no-such-host\.invalid"):
            await database.fetch_val(select(1))


@pytest.mark.config(connect_timeout=0.3)
async def test_a_black_hole_ends_within_connect_timeout(
    proxied: tuple[DatabaseConfig, Proxy], eventually: Eventually
) -> None:
    config, proxy = proxied
    proxy.black_hole()
    async with _opened(config) as database:
        begun = time.monotonic()
        with pytest.raises(ConnectFailed, match=r"no login to .* within 0\.3 s \(connect_timeout\)"):
            await database.fetch_val(select(1))
        assert time.monotonic() - begun < 3.0
        proxy.restore()
        assert await database.fetch_val(select(1)) == 1
        await eventually(lambda: proxy.connections == 1)


@SERVERS
async def test_a_wrong_password_is_a_clear_error(server: DatabaseServer, database_name: str) -> None:
    config = DatabaseConfig.from_url(server.url(database_name)).model_copy(update={"password": None})
    async with _opened(config) as database:
        with pytest.raises(ConnectFailed, match=r"(?i)cannot connect to 'default'.*(password|denied)"):
            await database.fetch_val(select(1))


@SERVERS
async def test_an_unknown_database_is_named(server: DatabaseServer) -> None:
    async with _opened(DatabaseConfig.from_url(server.url("no_such_database"))) as database:
        with pytest.raises(ConnectFailed, match="no_such_database"):
            await database.fetch_val(select(1))


@pytest.mark.families("sqlite")
async def test_a_sqlite_file_in_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    async with _opened(DatabaseConfig.from_url(f"sqlite:///{tmp_path}/missing/x.sqlite3")) as database:
        with pytest.raises(ConnectFailed, match="unable to open database file"):
            await database.fetch_val(select(1))


async def test_health_tells_instead_of_raising(server_url: str, family: str) -> None:
    async with _opened(DatabaseConfig.from_url(server_url)) as database:
        health = await database.health()
        assert (health.ok, health.alias, health.error) == (True, "default", None)
        assert health.ping_ms is not None
        assert health.server is not None
        assert health.server.startswith(family)


@SERVERS
async def test_health_of_a_server_that_hangs_up_during_the_ping_is_not_ok(
    proxied: tuple[DatabaseConfig, Proxy],
) -> None:
    config, proxy = proxied
    async with _opened(config) as database:
        await database.fetch_val(select(1))
        proxy.half_reply()
        health = await database.health()
        assert (health.ok, health.error) == (False, "OperationalError")
        assert database.stats().checked_out == 0


@SERVERS
async def test_health_of_an_unreachable_server_is_not_ok(server: DatabaseServer) -> None:
    async with _opened(DatabaseConfig.of(family=server.family, host="127.0.0.1", port=free_port())) as database:
        health = await database.health()
        assert not health.ok
        assert "cannot connect" in (health.error or "")


async def test_health_is_bounded(proxied: tuple[DatabaseConfig, Proxy]) -> None:
    config, proxy = proxied
    proxy.black_hole()
    async with _opened(config) as database:
        begun = time.monotonic()
        health = await database.health(timeout=0.2)
        assert time.monotonic() - begun < 3.0
        assert (health.ok, health.error) == (False, "no answer within 0.2 s")
        proxy.restore()
        assert (await database.health()).ok


async def test_a_failed_creation_wakes_the_next_in_line(proxied: tuple[DatabaseConfig, Proxy]) -> None:
    """With one place and a creation that fails, the waiter tries by itself and does not wait for ever."""
    config, proxy = proxied
    config = config.model_copy(update={"pool_size": 1, "connect_timeout": 0.3, "pool_timeout": 5.0})
    proxy.black_hole()
    async with _opened(config) as database:
        first = asyncio.create_task(database.fetch_val(select(1)))
        while database.stats().checked_out == 0:
            await asyncio.sleep(0)
        second = asyncio.create_task(database.fetch_val(select(2)))
        while database.stats().waiting == 0:
            await asyncio.sleep(0)
        with pytest.raises(ConnectFailed):
            await first
        proxy.restore()
        assert await asyncio.wait_for(second, 5.0) == 2


# A statement goes wrong


async def test_an_error_of_the_server_leaves_the_pool_whole(books: Database) -> None:
    for _ in range(15):  # more than the pool holds
        with pytest.raises(DBAPIError):
            await books.fetch_all(text("SELECT * FROM no_such_table"))
        with pytest.raises((ProgrammingError, OperationalError)):
            async with books.session() as db:
                await db.execute(text("SELEKT"))
    stats = books.stats()
    # SQLite cannot reset a connection on which a text ran that nobody can classify: that one is replaced.
    connects = 15 if books.config.family == "sqlite" else 1
    assert (stats.checked_out, stats.counts.connects, stats.counts.found_dead) == (0, connects, 0)
    assert await books.fetch_val(select(1)) == 1


@pytest.mark.families("postgresql", "sqlite")
async def test_a_wrong_parameter_leaves_the_connection_healthy(books: Database) -> None:
    with pytest.raises(Exception, match=r"(?i)object|adapt|type|encode"):
        await books.fetch_val(text("SELECT :x"), {"x": object()})
    assert await books.fetch_val(select(1)) == 1


# The pool is exhausted


@pytest.mark.config(pool_size=2, pool_timeout=0.2)
async def test_an_exhausted_pool_tells_the_numbers(books: Database) -> None:
    async with books.session() as one, books.session() as two:
        await one.execute(select(1))
        await two.execute(select(1))
        with pytest.raises(PoolTimeout) as caught:
            await asyncio.create_task(books.fetch_val(select(1)))
        assert "no connection for 'default' within 0.2 s (size 2, checked out 2, waiting 0)" in str(caught.value)
        assert isinstance(caught.value, SqlalchemyTimeoutError)
        assert books.stats().counts.timeouts == 1
    assert await books.fetch_val(select(1)) == 1


@pytest.mark.config(pool_size=1, max_waiting=1, pool_timeout=5.0)
async def test_one_more_than_may_wait_is_turned_away_at_once(books: Database) -> None:
    async with books.session() as holder:
        await holder.execute(select(1))
        waiter = asyncio.create_task(books.fetch_val(select(2)))
        while books.stats().waiting == 0:
            await asyncio.sleep(0)
        with pytest.raises(PoolOverloaded, match=r"1 callers wait .*max_waiting 1, size 1, checked out 1"):
            await asyncio.create_task(books.fetch_val(select(3)))
        assert books.stats().counts.overloads == 1
    assert await waiter == 2


@pytest.mark.config(pool_size=1, max_waiting=0)
async def test_max_waiting_nought_means_that_nobody_waits(books: Database) -> None:
    assert await books.fetch_val(select(1)) == 1
    async with books.session() as holder:
        await holder.execute(select(1))
        with pytest.raises(PoolOverloaded):
            await asyncio.create_task(books.fetch_val(select(1)))


@pytest.mark.config(pool_size=2, pool_timeout=60.0)
async def test_a_task_that_holds_every_connection_is_not_left_waiting_for_itself(books: Database) -> None:
    async with books.session() as one, books.session() as two:
        await one.execute(select(1))
        await two.execute(select(1))
        with pytest.raises(PoolExhaustedByTask, match=r"holds every connection for 'default' \(size 2, checked out 2"):
            await books.fetch_val(select(1))
        others = asyncio.create_task(books.fetch_val(select(7)))
        while books.stats().waiting == 0:
            await asyncio.sleep(0)  # another task may wait
    assert await others == 7


async def test_after_close_every_verb_is_refused(database_config: DatabaseConfig) -> None:
    database = Database(database_config)
    await database.fetch_val(select(1))
    await database.close()
    await database.close()  # twice is no error
    assert database.closed
    for work in (
        lambda: database.fetch_all(select(1)),
        lambda: database.execute(select(1)),
        lambda: database.session().__aenter__(),
        database.health,
    ):
        with pytest.raises(DatabaseClosed, match="'default' is closed"):
            await work()
    with pytest.raises(DatabaseClosed):
        database.atomic()


async def test_a_database_that_was_never_used_is_closed_without_a_connection(database_config: DatabaseConfig) -> None:
    database = Database(database_config)
    await database.close()
    with pytest.raises(DatabaseClosed):
        await database.fetch_val(select(1))


# Cancelled


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10.0)


async def _is_whole(
    database: Database, open_transactions: Callable[[], int], server_threads: Callable[[], list[int]], eventually: Any
) -> None:
    stats = database.stats()
    assert (stats.checked_out, stats.waiting) == (0, 0)
    assert await database.fetch_val(select(7)) == 7
    await eventually(lambda: open_transactions() == 0)
    await eventually(lambda: len(server_threads()) <= stats.size)


@pytest.fixture
async def whole(
    books: Database,
    open_transactions: Callable[[], int],
    server_threads: Callable[[], list[int]],
    eventually: Eventually,
) -> AsyncIterator[Database]:
    """The books, whose pool must be whole after the test."""
    yield books
    await _is_whole(books, open_transactions, server_threads, eventually)


@pytest.mark.config(pool_size=1)
async def test_cancelled_in_line_leaves_the_pool_whole(whole: Database) -> None:
    async with whole.session() as holder:
        await holder.execute(select(1))
        waiters = [asyncio.create_task(whole.fetch_val(select(2))) for _ in range(3)]
        while whole.stats().waiting < 3:
            await asyncio.sleep(0)
        await _cancel(waiters[0])
        await _cancel(waiters[1])
        assert whole.stats().waiting == 1
    assert await waiters[2] == 2


@pytest.mark.config(pool_size=1)
async def test_cancelled_when_handed_a_connection_gives_it_on(whole: Database) -> None:
    """The trap of direct hand-over: the connection is the waiter's already when the cancellation comes."""
    holder = whole.session()
    session = await holder.__aenter__()
    await session.execute(select(1))
    waiters = [asyncio.create_task(whole.fetch_val(select(n))) for n in range(5)]
    while whole.stats().waiting < 5:
        await asyncio.sleep(0)
    line = whole.engine.sync_engine.pool._pool  # type: ignore[attr-defined]
    first = line._waiters[0]
    await holder.__aexit__(None, None, None)
    assert first.done()
    assert first.result() is not None  # it was handed over, and the waiter has not run since
    waiters[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiters[0]
    assert await asyncio.wait_for(asyncio.gather(*waiters[1:]), 5.0) == [1, 2, 3, 4]
    assert whole.stats().counts.connects == 1


@pytest.mark.config(pool_size=2)
async def test_cancelled_while_connecting_leaves_the_pool_whole(
    proxied: tuple[DatabaseConfig, Proxy], server_threads: Callable[[], list[int]], eventually: Eventually
) -> None:
    config, proxy = proxied
    proxy.black_hole()
    async with _opened(config) as database:
        for _ in range(4):
            task = asyncio.create_task(database.fetch_val(select(1)))
            accepted = proxy.accepted
            await eventually(lambda: proxy.accepted > accepted)  # noqa: B023
            await _cancel(task)
            assert database.stats().checked_out == 0
        proxy.restore()
        assert await database.fetch_val(select(1)) == 1
        await eventually(lambda: len(server_threads()) == 1)


@SERVERS
@pytest.mark.parametrize("where", ["verb", "session", "atomic"])
async def test_cancelled_during_a_statement_drops_the_connection(
    whole: Database, server: DatabaseServer, eventually: Eventually, where: str, database_name: str
) -> None:
    async def work() -> None:
        sleep = text(SLEEP[whole.config.family])
        if where == "verb":
            await whole.fetch_val(sleep)
        else:
            async with whole.session() if where == "session" else whole.atomic() as db:
                await db.execute(insert(Book).values(id=99, title="never"))
                await db.execute(sleep)

    task = asyncio.create_task(work())
    await eventually(lambda: _is_sleeping(server, database_name))
    await _cancel(task)
    assert await whole.fetch_val(select(Book.id).where(Book.id == 99).with_only_columns(text("count(*)"))) == 0


def _is_sleeping(server: DatabaseServer, name: str) -> bool:
    return any(
        connection.command in ("Query", "active") and connection.database == name for connection in server.connections()
    )


async def test_cancelled_during_commit_drops_the_connection(
    proxied_books: tuple[Database, Proxy], open_transactions: Callable[[], int], eventually: Eventually
) -> None:
    database, proxy = proxied_books
    at_commit = asyncio.Event()

    async def work() -> None:
        async with database.atomic() as db:
            await db.execute(insert(Book).values(id=99, title="perhaps"))
            proxy.delay(0.5)
            at_commit.set()

    task = asyncio.create_task(work())
    await at_commit.wait()
    for _ in range(5):
        await asyncio.sleep(0)  # COMMIT is on its way
    assert not task.done()
    await _cancel(task)
    proxy.restore()
    assert database.stats().checked_out == 0
    assert await database.fetch_val(select(text("count(*)")).select_from(Book)) in (3, 4)
    await eventually(lambda: open_transactions() == 0)


@pytest.mark.config(pool_size=2)
async def test_cancelled_in_the_midst_of_a_stream_drops_the_connection(whole: Database) -> None:
    async with whole.atomic() as db:
        await db.execute(insert(Book), [{"id": n, "title": "x" * 90} for n in range(100, 3000)])
    begun = asyncio.Event()

    async def work() -> None:
        async with whole.stream(select(Book.id, Book.title), batch=10) as rows:
            async for _ in rows:
                begun.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    await _cancel(task)
    del task
    gc.collect()


async def test_a_time_out_around_a_session_leaves_the_pool_whole(whole: Database) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1), whole.session() as db:
            await db.execute(insert(Book).values(id=99, title="never"))
            await asyncio.Event().wait()
    assert await whole.fetch_one_or_none(select(Book).where(Book.id == 99)) is None


@pytest.mark.families("mariadb", "postgresql")
async def test_the_frames_of_a_failed_login_hold_no_password(server_url: str) -> None:
    """Django's error report shows the local variables of every frame."""
    config = DatabaseConfig.from_url(server_url, password="no-such-secret")
    database = Database(config)
    with pytest.raises(ConnectFailed) as failed:
        await database.fetch_val(select(1))
    await database.close()
    error: BaseException | None = failed.value
    while error is not None:
        traceback = error.__traceback__
        while traceback is not None:
            shown = {name: repr(value) for name, value in traceback.tb_frame.f_locals.items()}
            assert not [name for name, value in shown.items() if "no-such-secret" in value and name != "server_url"]
            traceback = traceback.tb_next
        error = error.__cause__ or error.__context__
