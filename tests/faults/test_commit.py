"""A COMMIT whose reply is lost is in doubt, and is said to be; whatever is known is said as well."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, func, insert, select, text
from sqlalchemy.exc import DBAPIError, OperationalError

from asyncdb import CommitInDoubt, Database, DatabaseConfig
from asyncdb.events import CommitLeftInDoubt, Event, subscribe
from asyncdb.testing import DatabaseServer, Proxy

from .conftest import comes_true, whole

pytestmark = [pytest.mark.faults, pytest.mark.families("mariadb", "postgresql", "mysql")]
entry = Table("entry", MetaData(), Column("id", Integer, primary_key=True), Column("word", String(40)))


class Ledger:
    """One table behind a proxy, and a way to it that the proxy does not break."""

    def __init__(self, behind: Database, beside: Database, proxy: Proxy, server: DatabaseServer, name: str) -> None:
        self.database, self.beside, self.proxy, self.server, self.name = behind, beside, proxy, server, name

    async def words(self) -> list[str]:
        return await self.beside.fetch_all(select(entry.c.word).order_by(entry.c.id), into=str)


@pytest.fixture
async def ledger(
    proxied: tuple[DatabaseConfig, Proxy], database_config: DatabaseConfig, server: DatabaseServer, database_name: str
) -> AsyncIterator[Ledger]:
    config, proxy = proxied
    async with whole(config, None) as behind, whole(database_config, None) as beside:
        async with beside.atomic() as db:
            await (await db.connection()).run_sync(entry.metadata.create_all)
        yield Ledger(behind, beside, proxy, server, database_name)
        proxy.restore()


async def _write(ledger: Ledger, before_commit: Any) -> None:
    async with ledger.database.atomic() as db:
        await db.execute(insert(entry), {"id": 1, "word": "one"})
        await asyncio.to_thread(before_commit)


@pytest.mark.config(read_timeout=0.5, close_timeout=0.2)
@pytest.mark.contract
async def test_a_commit_whose_reply_is_lost_is_in_doubt(ledger: Ledger) -> None:
    told: list[Event] = []
    end = subscribe(told.append)
    with pytest.raises(CommitInDoubt, match=r"timed out.*not known") as caught:
        await _write(ledger, ledger.proxy.black_hole)
    end()
    assert told == [CommitLeftInDoubt(ledger.database.config.alias, cancelled=False)]
    assert isinstance(caught.value, OperationalError)
    assert caught.value.connection_invalidated
    assert caught.value.__cause__ is not None
    ledger.proxy.restore()
    assert ledger.database.stats().counts.in_doubt == 1
    assert await ledger.database.fetch_val(select(func.count()).select_from(entry)) in (0, 1)


async def test_a_commit_that_was_applied_though_the_reply_was_lost_is_in_doubt(ledger: Ledger) -> None:
    """The control: here the doubt is right, for the row is there."""
    ledger.proxy.delay(30.0)  # the reply is held back

    async def when_applied() -> None:
        while await ledger.words() == []:  # noqa: ASYNC110  (the server has no event to wait for)
            await asyncio.sleep(0.01)
        await asyncio.to_thread(ledger.proxy.reset_connections)

    def slow() -> None:
        ledger.proxy.delay(30.0)

    ledger.proxy.delay(0.0)
    cutting = asyncio.create_task(when_applied(), context=contextvars.Context())
    with pytest.raises(CommitInDoubt, match="connection lost"):
        await _write(ledger, slow)
    await cutting
    assert await ledger.words() == ["one"]


async def test_a_commit_that_was_never_sent_is_an_ordinary_failure(ledger: Ledger) -> None:
    def kill() -> None:
        ledger.server.kill_connections(database=ledger.name)

    with pytest.raises(DBAPIError, match="nothing was committed") as caught:
        await _write(ledger, kill)
    assert not isinstance(caught.value, CommitInDoubt)
    assert caught.value.connection_invalidated
    assert await ledger.words() == []
    assert ledger.database.stats().counts.in_doubt == 0


async def test_a_commit_that_the_server_refuses_is_an_ordinary_failure(ledger: Ledger, family: str) -> None:
    if family != "postgresql":
        pytest.skip("only PostgreSQL defers a constraint to the COMMIT")
    await ledger.beside.execute(text("ALTER TABLE entry ADD CONSTRAINT u UNIQUE (word) DEFERRABLE INITIALLY DEFERRED"))
    with pytest.raises(DBAPIError) as caught:
        async with ledger.database.atomic() as db:
            await db.execute(insert(entry), [{"id": 1, "word": "same"}, {"id": 2, "word": "same"}])
    assert not isinstance(caught.value, CommitInDoubt)
    assert await ledger.words() == []


async def _cancel_amid_commit(ledger: Ledger, fault: Any, *, times: int = 1) -> asyncio.CancelledError:
    at_commit = asyncio.Event()
    loop = asyncio.get_running_loop()

    def last() -> None:
        fault()
        loop.call_soon_threadsafe(at_commit.set)

    task = asyncio.create_task(_write(ledger, last))
    await at_commit.wait()
    await asyncio.sleep(0.1)  # the COMMIT is on its way: nothing here can see that, the proxy holds it or its reply
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0.02)
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    return caught.value


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.contract
async def test_a_cancelled_commit_goes_on_and_its_outcome_is_a_note(ledger: Ledger, times: int) -> None:
    error = await _cancel_amid_commit(ledger, lambda: ledger.proxy.delay(0.5), times=times)
    assert error.__notes__ == ["the transaction on 'default' was committed before this cancellation"]
    assert await ledger.words() == ["one"]
    assert ledger.database.stats().counts.in_doubt == 0


@pytest.mark.config(commit_grace=0.0)
async def test_without_grace_a_cancelled_commit_is_in_doubt(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """The control of the test above."""
    with caplog.at_level(logging.ERROR, "asyncdb.transaction"):
        error = await _cancel_amid_commit(ledger, lambda: ledger.proxy.delay(0.5))
    assert "CommitInDoubt" in error.__notes__[0]
    assert "in doubt" in caplog.text
    assert ledger.database.stats().counts.in_doubt == 1
    assert await comes_true(lambda: True)


@pytest.mark.config(commit_grace=0.3, close_timeout=0.2)
async def test_a_cancelled_commit_without_a_reply_leaves_its_doubt(ledger: Ledger) -> None:
    told: list[Event] = []
    end = subscribe(told.append)
    async with asyncio.timeout(2.0):
        error = await _cancel_amid_commit(ledger, ledger.proxy.black_hole, times=2)
    end()
    assert told == [CommitLeftInDoubt(ledger.database.config.alias, cancelled=True)]
    assert "CommitInDoubt" in error.__notes__[0]
    ledger.proxy.restore()
    assert ledger.database.stats().counts.in_doubt == 1


async def test_a_timeout_around_a_commit_is_a_timeout(ledger: Ledger) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.4):
            await _write(ledger, lambda: ledger.proxy.delay(1.0))
    assert await ledger.words() == ["one"]


# What only read


@pytest.mark.parametrize("fault", ["kill", "cut", "reset_connections"])
async def test_a_block_that_read_returns_its_value_though_the_connection_dies_at_exit(
    ledger: Ledger, fault: str
) -> None:
    def die() -> None:
        if fault == "kill":
            ledger.server.kill_connections(database=ledger.name)
        else:
            getattr(ledger.proxy, fault)()

    await ledger.beside.execute(insert(entry), {"id": 1, "word": "one"})

    async def in_atomic() -> Any:
        async with ledger.database.atomic() as db:
            found = await db.fetch_val(select(entry.c.word))
            await asyncio.to_thread(die)
            return found

    async def in_session() -> Any:
        async with ledger.database.session() as db:
            found = await db.fetch_val(text("SELECT word FROM entry"))
            await asyncio.to_thread(die)
            return found

    async def in_nested() -> Any:
        async with ledger.database.atomic() as db:
            found = await db.fetch_val(select(entry.c.word))
            await asyncio.to_thread(die)
        return found

    for way in (in_atomic, in_session, in_nested):
        assert await way() == "one"
    assert ledger.database.stats().counts.in_doubt == 0


async def test_a_block_that_may_have_written_does_not(ledger: Ledger) -> None:
    """The control of the test above: a function that nobody knows may have written."""
    with pytest.raises(DBAPIError, match="nothing was committed"):
        async with ledger.database.atomic() as db:
            await db.execute(text("SELECT 1"))
            await asyncio.to_thread(ledger.server.kill_connections, database=ledger.name)
