"""All at once: time-outs, deadlocks, threads, loops and forks."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import threading
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.db.models import Value
from sqlalchemy import insert, literal, select, text
from sqlalchemy.exc import DBAPIError

import django_bridge
from asyncdb import Database, DatabaseConfig, TransactionPoisoned, registry
from asyncdb.testing import DatabaseServer
from django_bridge import run_django, scope
from tests.bridge.shared import Kind
from tests.polling import until

from .conftest import OPEN_TRANSACTIONS, RUNNING, comes_true, count, whole

pytestmark = [pytest.mark.faults, pytest.mark.slow]
SERVERS = pytest.mark.families("mariadb", "postgresql", "mysql")
_numbers = itertools.count(1)


# Acceptance 3: a storm of time-outs


def _word() -> str:
    return f"token-{next(_numbers)}"


async def by_database(word: str, nap: str) -> object:
    return (await django_bridge.database().fetch_all(text(f"SELECT '{word}', {nap}")))[0][0]


async def by_session(word: str, nap: str) -> object:
    async with django_bridge.database().session() as db:
        await db.execute(select(literal("another")))
        await db.execute(text(f"SELECT {nap}"))
        return await db.fetch_val(select(literal(word)))


async def by_block(word: str, nap: str) -> object:
    async with django_bridge.atomic() as db:
        await db.execute(insert(Kind).values(app_label="a", model=word))
        await db.execute(text(f"SELECT {nap}"))
        return await db.fetch_val(select(Kind.model).where(Kind.model == word))


async def by_orm(word: str, nap: str) -> object:
    async with scope():
        return await ContentType.objects.values_list(Value(word), flat=True).afirst()


async def by_stream(word: str, nap: str) -> object:
    found = [one async for one in django_bridge.database().stream(select(literal(word)), into=str)]
    return found[0]


async def by_run_django(word: str, nap: str) -> object:
    def ask() -> object:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT %s, {nap}", [word])
            return cursor.fetchone()[0]

    async with scope():
        return await run_django(ask)


WAYS: list[Callable[[str, str], Awaitable[object]]] = [
    by_database,
    by_session,
    by_block,
    by_orm,
    by_stream,
    by_run_django,
]


async def _storm(family: str, callers: int) -> tuple[int, int, int]:
    """How many of the callers, each with a time-out at random, got their own reply, another's, or none in time."""
    dice = random.Random(20261128)
    sleep = {"postgresql": "pg_sleep({})::text", "sqlite": "{}"}.get(family, "SLEEP({})")
    right = wrong = late = 0
    gate = asyncio.Semaphore(200)

    async def caller(way: Callable[[str, str], Awaitable[object]], nap: float, patience: float) -> None:
        nonlocal right, wrong, late
        async with gate:
            word = _word()
            try:
                async with asyncio.timeout(patience):
                    found = await way(word, sleep.format(nap))
            except TimeoutError:
                late += 1
                return
        right, wrong = right + (found == word), wrong + (found != word)

    jobs = [
        caller(dice.choice(WAYS), 30.0 if dice.random() < 0.05 else dice.random() * 0.004, dice.random() * 1.0)
        for _ in range(callers)
    ]
    await asyncio.gather(*jobs)
    return right, wrong, late


@pytest.mark.timeout(180)
async def test_a_storm_of_timeouts_gives_nobody_anothers_reply_and_leaves_nothing_running(
    tx: Any, project: Any, server: DatabaseServer | None, family: str, eventually: Callable[..., Awaitable[None]]
) -> None:
    project(ASYNC_DB={"default": {"pool_size": 10, "pool_timeout": 60.0, "ping_after": 0.05}})
    await django_bridge.database().execute(insert(Kind).values(app_label="a", model="there"))
    right, wrong, late = await _storm(family, 2000)
    if server is not None:
        assert await comes_true(lambda: count(server, RUNNING) == 0, within=1.0), "a statement of ours still runs"
        assert await comes_true(lambda: count(server, OPEN_TRANSACTIONS) == 0)
    gc.collect()
    assert wrong == 0
    # Some of each; how many is a question of the speed of the machine.
    assert min(right, late) >= 20, (right, late)
    stats = django_bridge.database().stats()
    assert (stats.checked_out, stats.waiting) == (0, 0)
    if server is not None:
        assert stats.counts.invalidated.get("cancelled", 0) > 0
        assert await comes_true(lambda: len(server.connections()) <= 10)
    for _ in range(10):
        word = _word()
        assert await by_database(word, "1") == word


@SERVERS
async def test_without_the_side_connection_a_storm_leaves_statements_running(
    tx: Any, project: Any, server: DatabaseServer, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    from asyncdb.ending import Ending

    monkeypatch.setattr(Ending, "soon", lambda *_: None)
    project(ASYNC_DB={"default": {"pool_size": 10, "pool_timeout": 60.0}})
    await _storm(family, 100)
    assert not await comes_true(lambda: count(server, RUNNING) == 0, within=1.0)
    await asyncio.to_thread(server.kill_connections)


# Acceptance 8: a storm of deadlocks


@pytest.fixture
async def bank(
    family: str, database_config: DatabaseConfig, server: DatabaseServer, own_postgresql: Callable[..., Any]
) -> AsyncIterator[Database]:
    """Four accounts; on PostgreSQL on a server that looks for deadlocks at once, where others wait for a second."""
    config = database_config.model_copy(update={"pool_size": 16, "pool_timeout": 60.0})
    if family == "postgresql":
        server = await asyncio.to_thread(own_postgresql, options={"deadlock_timeout": "20ms"})
        await asyncio.to_thread(server.create_database, "own")
        config = DatabaseConfig.from_url(server.url("own"), pool_size=16, pool_timeout=60.0)
    async with whole(config, server) as database:
        await database.execute(text("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)"))
        await database.execute(text("INSERT INTO account VALUES (1, 1000), (2, 1000), (3, 1000), (4, 1000)"))
        yield database


@SERVERS
@pytest.mark.timeout(180)
async def test_a_storm_of_deadlocks_leaves_the_sum_intact_and_nobody_goes_on(bank: Database) -> None:
    dice = random.Random(8)
    moved = failed = refused = 0

    async def transfer(source: int, target: int, amount: int) -> None:
        nonlocal moved, failed, refused
        try:
            async with bank.atomic() as db:
                step = text("UPDATE account SET balance = balance + :by WHERE id = :id")
                try:
                    await db.execute(step, {"by": -amount, "id": source})
                    await asyncio.sleep(0.002)
                    await db.execute(step, {"by": amount, "id": target})
                except DBAPIError as error:
                    if error.connection_invalidated:
                        raise
                    # Goes on, as careless code does: the first half is gone, and this must not become half a transfer.
                    with pytest.raises((TransactionPoisoned, DBAPIError)):
                        await db.execute(step, {"by": amount, "id": target})
                    refused += 1
        except (TransactionPoisoned, DBAPIError):
            failed += 1
        else:
            moved += 1

    pairs = [dice.sample([1, 2, 3, 4], 2) for _ in range(300)]
    await asyncio.gather(*(transfer(source, target, dice.randint(1, 20)) for source, target in pairs))
    assert await bank.fetch_val(text("SELECT SUM(balance) FROM account")) == 4000
    assert failed == refused > 0
    assert moved > 0
    assert moved + failed == 300


@pytest.mark.families("mariadb", "mysql")
@pytest.mark.config(pool_size=16, pool_timeout=60.0)
async def test_without_the_poison_half_a_transfer_is_committed(
    sound: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    from asyncdb.drivers.mysql import Connection

    monkeypatch.setattr(Connection, "ends_transaction", lambda *_: False)
    await sound.execute(text("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)"))
    await sound.execute(text("INSERT INTO account VALUES (1, 1000), (2, 1000)"))

    async def transfer(source: int, target: int) -> None:
        async with sound.atomic() as db:
            step = text("UPDATE account SET balance = balance + :by WHERE id = :id")
            await db.execute(step, {"by": -10, "id": source})
            await asyncio.sleep(0.002)
            try:
                await db.execute(step, {"by": 10, "id": target})
            except DBAPIError:
                await db.execute(step, {"by": 10, "id": target})

    for _ in range(50):
        await asyncio.gather(transfer(1, 2), transfer(2, 1), return_exceptions=True)
        if await sound.fetch_val(text("SELECT SUM(balance) FROM account")) != 2000:
            return
    pytest.fail("no deadlock in fifty tries, or no harm done")


# Acceptance 13: threads, loops, forks


async def _reads(config: DatabaseConfig) -> None:
    database = registry.get(config.alias, lambda: Database(config))
    words = [_word() for _ in range(3)]
    assert await asyncio.gather(*(database.fetch_val(select(literal(word))) for word in words)) == words


def test_a_hundred_loops_in_sequence_leave_nothing(
    database_config: DatabaseConfig, server: DatabaseServer | None, database_name: str
) -> None:
    before = threading.active_count()
    for _ in range(100):
        asyncio.run(_reads(database_config))
        assert registry.databases() == []
    if server is not None:
        until(lambda: [one for one in server.connections() if one.database == database_name] == [])
    until(lambda: threading.active_count() <= before)


@SERVERS
def test_six_threads_with_a_loop_each_under_cancellations_do_not_meet(
    database_config: DatabaseConfig, server: DatabaseServer
) -> None:
    errors: list[str] = []
    # Not SLEEP(): all of MariaDB's share one mutex, for which each KILL waits up to two seconds if others kill too.
    nap = text("SELECT BENCHMARK(1e9, 1 + 1)" if database_config.family == "mysql" else "SELECT pg_sleep(5)")

    async def work() -> None:
        database = registry.get(database_config.alias, lambda: Database(database_config))
        for _ in range(10):
            await _reads(database_config)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await database.execute(nap)
        assert database.stats().checked_out == 0

    def thread() -> None:
        try:
            asyncio.run(work())
        except BaseException:
            errors.append(traceback.format_exc())

    threads = [threading.Thread(target=thread) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60.0)
    assert not errors, "\n".join(errors)
    assert registry.databases() == []
    until(lambda: count(server, RUNNING) == 0, within=1.0)


@SERVERS
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_amid_statements_leaves_the_parent_unharmed(database_config: DatabaseConfig) -> None:
    """The child neither ends nor kills what its parent has on its way."""
    from tests.integration.test_loops import _in_forked_child

    nap = text("SELECT SLEEP(1.5)" if database_config.family == "mysql" else "SELECT pg_sleep(1.5)")

    async def in_child() -> None:
        await _reads(database_config)
        await registry.close_all()

    async def in_parent() -> None:
        database = registry.get(database_config.alias, lambda: Database(database_config))
        await _reads(database_config)
        on_its_way = asyncio.create_task(database.execute(nap))
        await asyncio.sleep(0.2)
        begun = time.monotonic()
        assert not (trouble := await asyncio.to_thread(_in_forked_child, in_child)), trouble
        await on_its_way
        await _reads(database_config)
        counts = database.stats().counts
        assert (counts.killed, counts.found_dead, counts.invalidated) == (0, 0, {})
        assert time.monotonic() - begun < 10.0

    asyncio.run(in_parent())
