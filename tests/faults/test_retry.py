"""Transactions that are tried again: the conflicts of the table, and nothing else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import literal, select, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from asyncdb import Database, DatabaseConfig, Session, TransactionMisuse, retried
from asyncdb.codes import code_of
from asyncdb.session import SyncSession
from asyncdb.testing import DatabaseServer, Proxy

from .conftest import whole

pytestmark = pytest.mark.faults
SERVERS = pytest.mark.families("mariadb", "postgresql", "mysql")
ACCOUNTS, SUM = 8, 8000


async def _accounts(database: Database) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(text("CREATE TABLE account (id integer PRIMARY KEY, balance integer NOT NULL)"))
        await connection.execute(
            text("INSERT INTO account VALUES " + ", ".join(f"({n}, {SUM // ACCOUNTS})" for n in range(ACCOUNTS)))
        )


async def _transfer(source: int, target: int, *, db: AsyncSession) -> None:
    await db.execute(text("UPDATE account SET balance = balance - 1 WHERE id = :id"), {"id": source})
    await asyncio.sleep(0)
    await db.execute(text("UPDATE account SET balance = balance + 1 WHERE id = :id"), {"id": target})


async def _storm(database: Database, *, attempts: int | None) -> int:
    """Three hundred transfers that get in each other's way, at once; how many of them failed."""
    chosen = random.Random(6)
    pairs = [chosen.sample(range(ACCOUNTS), 2) for _ in range(300)]
    done = await asyncio.gather(
        *(database.retry(_transfer, *pair, attempts=attempts) for pair in pairs), return_exceptions=True
    )
    failed = [one for one in done if one is not None]
    assert all(isinstance(one, DBAPIError) for one in failed), failed
    return len(failed)


@SERVERS
@pytest.mark.verify("postgresql")
@pytest.mark.config(pool_size=20, pool_timeout=60)
async def test_of_300_transfers_that_conflict_98_per_cent_succeed_and_the_sum_is_intact(
    database: Database, server: DatabaseServer
) -> None:
    if server.family == "postgresql":  # which looks for a deadlock after a second only: the storm would last minutes
        server.execute(f"ALTER DATABASE {database.config.database} SET deadlock_timeout = '50ms'")
    await _accounts(database)
    failed = await _storm(database, attempts=None)
    assert failed <= 6
    assert await database.fetch_val(text("SELECT SUM(balance) FROM account"), into=int) == SUM
    # The control: without retries far more of them fail, and nothing is lost either.
    assert await _storm(database, attempts=1) > 6
    assert await database.fetch_val(text("SELECT SUM(balance) FROM account"), into=int) == SUM


def _conflict(database: Database) -> int | str:
    return {"mysql": 1213, "postgresql": "40P01", "sqlite": "SQLITE_BUSY"}[database.config.family]


class _Conflicts:
    """Writes, then raises what a conflict raises, as often as it is told."""

    def __init__(self, database: Database, times: int) -> None:
        self.left, self.calls, self.hooks = times, 0, 0
        self._database = database

    async def __call__(self, *, db: Session) -> int:
        self.calls += 1
        db.on_commit(self._hook)
        await db.execute(text("INSERT INTO account VALUES (:id, 0)"), {"id": 100 + self.calls})
        if self.left:
            self.left -= 1
            error = _driver_error(self._database)
            raise OperationalError("a statement", None, error)
        return self.calls

    def _hook(self) -> None:
        self.hooks += 1


def _driver_error(database: Database) -> Exception:
    dbapi: Any = database.engine.dialect.dbapi
    if database.config.family == "postgresql":
        import psycopg

        return psycopg.errors.DeadlockDetected()
    error: Exception = dbapi.OperationalError(1213, "Deadlock found")
    if database.config.family == "sqlite":
        error.sqlite_errorname = "SQLITE_BUSY"  # type: ignore[attr-defined]
    return error


@pytest.mark.contract
async def test_of_a_failed_attempt_nothing_stays_and_no_hook_runs(database: Database) -> None:
    await _accounts(database)
    conflicts = _Conflicts(database, 2)
    assert await database.retry(conflicts) == 3
    assert conflicts.hooks == 1
    assert await database.fetch_all(text("SELECT id FROM account WHERE id > 100")) == [(103,)]
    assert database.stats().counts.retried == 2


async def test_the_last_attempts_error_goes_on(database: Database) -> None:
    await _accounts(database)
    conflicts = _Conflicts(database, 99)
    with pytest.raises(DBAPIError) as caught:
        await database.retry(conflicts, attempts=3)
    assert (conflicts.calls, conflicts.hooks, code_of(caught.value)) == (3, 0, _conflict(database))
    assert await database.fetch_all(text("SELECT id FROM account WHERE id > 100")) == []


async def test_a_hook_that_fails_after_the_commit_is_no_reason_to_repeat_it(database: Database) -> None:
    await _accounts(database)
    calls = 0

    @retried(database)
    async def work(*, db: Session) -> None:
        nonlocal calls
        calls += 1

        def hook() -> None:
            raise OperationalError("a statement", None, _driver_error(database))

        db.on_commit(hook)
        await db.execute(text("INSERT INTO account VALUES (500, 0)"))

    with pytest.raises(DBAPIError):
        await work()
    assert calls == 1
    assert await database.fetch_all(text("SELECT id FROM account WHERE id = 500")) == [(500,)]


async def test_an_error_of_no_database_is_never_tried_again(database: Database) -> None:
    calls = 0

    async def work() -> None:
        nonlocal calls
        calls += 1
        raise LookupError(1213)

    with pytest.raises(LookupError):
        await database.retry(work)
    assert calls == 1


async def test_inside_another_transaction_it_is_refused(database: Database) -> None:
    async def nothing() -> None:
        raise AssertionError("it must not run")

    async with database.atomic():
        with pytest.raises(TransactionMisuse, match="inside of another transaction"):
            await database.retry(nothing)


async def test_a_cancelled_attempt_is_not_made_again(database: Database) -> None:
    calls, begun = 0, asyncio.Event()

    async def work() -> None:
        nonlocal calls
        calls += 1
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(database.retry(work))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls == 1


def test_retried_refuses_what_is_not_async() -> None:
    with pytest.raises(TypeError, match="not 'async def'"):
        retried(Database(DatabaseConfig.of(family="sqlite", database=":memory:")))(lambda: None)  # type: ignore[arg-type]


Proxied = tuple[DatabaseConfig, Proxy]
Reads = Callable[[Database, Any], Awaitable[Any]]


async def by_verb(database: Database, statement: Any) -> Any:
    return await database.fetch_val(statement)


async def by_session(database: Database, statement: Any) -> Any:
    async with database.session() as db:
        return await db.scalar(statement)


async def by_block(database: Database, statement: Any) -> Any:
    async with database.atomic() as db:
        return (await db.scalars(statement)).one()


async def _while_it_breaks(database: Database, proxy: Proxy, work: Awaitable[Any]) -> Any:
    """What comes of ``work`` whose first word to the server, on an idle connection, gets no answer but a reset."""
    await database.fetch_val(select(literal(1)))  # warm
    proxy.delay(0.3)
    working = asyncio.ensure_future(work)
    while not database.stats().checked_out:  # noqa: ASYNC110  (there is no event to wait for)
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    await asyncio.to_thread(proxy.reset_connections)
    proxy.restore()
    return await working


@SERVERS
@pytest.mark.parametrize("door", [by_verb, by_session, by_block])
async def test_a_select_whose_reply_was_lost_is_sent_once_more(proxied: Proxied, door: Reads) -> None:
    config, proxy = proxied
    async with whole(config.model_copy(update={"isolation_level": "READ COMMITTED"}), None) as database:
        assert await _while_it_breaks(database, proxy, door(database, select(literal(7)))) == 7
        assert database.stats().counts.retried == 1


@SERVERS
@pytest.mark.parametrize("door", [by_verb, by_session, by_block])
@pytest.mark.parametrize("statement", [select(literal(7)), text("SELECT 7")])
async def test_without_that_or_as_text_it_fails(
    proxied: Proxied, statement: Any, door: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above; and text may do what its words do not tell."""
    config, proxy = proxied
    as_text = isinstance(statement, type(text("")))
    off = config.model_copy(update={"retry_lost_reads": as_text, "isolation_level": "READ COMMITTED"})
    if door is by_block or (as_text and door is by_session):
        monkeypatch.setattr(SyncSession, "_did_nothing", lambda *_: False)  # BEGIN was lost, and is sent again
    async with whole(off, None) as database:
        with pytest.raises(DBAPIError):
            await _while_it_breaks(database, proxy, door(database, statement))
        assert database.stats().counts.retried == 0


async def _writes_by_verb(database: Database) -> None:
    await database.execute(text("INSERT INTO account VALUES (200, 0)"))


async def _writes_in_a_session(database: Database) -> None:
    async with database.session() as db:
        await db.execute(text("INSERT INTO account VALUES (200, 0)"))
        await db.commit()


async def _writes_in_a_block(database: Database) -> None:
    async with database.atomic() as db:
        await db.execute(text("INSERT INTO account VALUES (200, 0)"))
        async with database.atomic():
            await db.execute(text("INSERT INTO account VALUES (201, 0)"))


_WRITES = pytest.mark.parametrize("writes", [_writes_by_verb, _writes_in_a_session, _writes_in_a_block])


@SERVERS
@_WRITES
async def test_a_transaction_whose_begin_was_lost_begins_again(proxied: Proxied, writes: Any) -> None:
    config, proxy = proxied
    async with whole(config, None) as database:
        await database.execute(text("CREATE TABLE account (id integer primary key, balance integer)"))
        await _while_it_breaks(database, proxy, writes(database))
        assert await database.fetch_val(text("SELECT COUNT(*) FROM account WHERE id = 200")) == 1
        assert database.stats().counts.retried == 1


@SERVERS
@_WRITES
async def test_unless_it_is_not_known_to_be_lost_before_anything_was_done(
    proxied: Proxied, writes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    config, proxy = proxied
    monkeypatch.setattr(SyncSession, "_did_nothing", lambda *_: False)
    async with whole(config, None) as database:
        await database.execute(text("CREATE TABLE account (id integer primary key, balance integer)"))
        with pytest.raises(DBAPIError):
            await _while_it_breaks(database, proxy, writes(database))
        assert database.stats().counts.retried == 0


@SERVERS
async def test_a_write_that_was_sent_is_not_sent_again(proxied: Proxied) -> None:
    config, proxy = proxied
    async with whole(config, None) as database:
        await database.execute(text("CREATE TABLE account (id integer primary key, balance integer)"))

        async def works() -> None:
            async with database.atomic() as db:
                await db.execute(text("INSERT INTO account VALUES (200, 0)"))
                proxy.delay(0.3)
                later = asyncio.create_task(_resets(proxy))
                try:
                    await db.execute(text("INSERT INTO account VALUES (201, 0)"))
                finally:
                    await later

        with pytest.raises(DBAPIError):
            await works()
        assert await database.fetch_val(text("SELECT COUNT(*) FROM account")) == 0
        assert database.stats().counts.retried == 0


async def _resets(proxy: Proxy) -> None:
    await asyncio.sleep(0.1)
    await asyncio.to_thread(proxy.reset_connections)
    proxy.restore()
