"""What nobody waits for any more ends on the server, and nothing else does."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text

from asyncdb import Database, DatabaseConfig
from asyncdb.drivers.physical import physical
from asyncdb.testing import DatabaseServer, Proxy
from tests.polling import until
from tests.tables import SEQUENCE

from .conftest import RUNNING, comes_true, count

pytestmark = [pytest.mark.faults, pytest.mark.families("mariadb", "postgresql", "mysql")]
Eventually = Callable[..., Awaitable[None]]
SLEEP = {"mysql": "SELECT SLEEP({})", "postgresql": "SELECT pg_sleep({})"}


def _sleep(database: Database, seconds: float) -> Any:
    return text(SLEEP[database.config.family].format(seconds))


async def _cancelled_amid(database: Database, server: DatabaseServer, statement: Any) -> None:
    await database.fetch_val(text("SELECT 1"))  # a login asks the server too, and is not what is cancelled here
    assert await comes_true(lambda: count(server, RUNNING) == 0), "what another test has given up still runs"
    task = asyncio.create_task(database.execute(statement))
    assert await comes_true(lambda: count(server, RUNNING) > 0)
    task.cancel()
    begun = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begun < 1.0, "the cancellation waited for the server"


async def _ended_within_a_second(server: DatabaseServer) -> bool:
    return await comes_true(lambda: count(server, RUNNING) == 0, within=1.0)


@pytest.mark.contract
async def test_a_cancelled_statement_ends_on_the_server(
    sound: Database, server: DatabaseServer, eventually: Eventually
) -> None:
    await _cancelled_amid(sound, server, _sleep(sound, 30))
    assert await _ended_within_a_second(server)
    await eventually(lambda: sound.stats().counts.killed == 1)


async def test_without_the_side_connection_it_goes_on(
    sound: Database, server: DatabaseServer, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    from asyncdb.ending import Ending

    monkeypatch.setattr(Ending, "soon", lambda *_: None)
    await _cancelled_amid(sound, server, _sleep(sound, 30))
    assert not await _ended_within_a_second(server)
    await asyncio.to_thread(server.kill_connections, database=database_name)


@pytest.mark.families("postgresql")
async def test_a_statement_that_the_server_reads_after_the_first_request_ends_too(
    sound: Database, server: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL forgets a request that reaches a process before the statement does: that is the control here."""
    from asyncdb.drivers import psycopg_cancel

    monkeypatch.setattr(psycopg_cancel, "_AGAIN_AFTER", 1.0)
    process = await sound.fetch_val(text("SELECT pg_backend_pid()"), into=int)
    os.kill(process, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await sound.execute(_sleep(sound, 30))
        await asyncio.sleep(0.5)  # the first request has come
    finally:
        os.kill(process, signal.SIGCONT)
    assert await comes_true(lambda: count(server, RUNNING) == 1, within=0.4), "the first request has ended it"
    assert await comes_true(lambda: count(server, RUNNING) == 0, within=1.5)


@pytest.mark.config(read_timeout=0.5)
async def test_a_statement_that_was_given_up_ends_on_the_server(sound: Database, server: DatabaseServer) -> None:
    with pytest.raises(Exception, match="read_timeout"):
        await sound.execute(_sleep(sound, 30))
    assert await _ended_within_a_second(server)


async def test_a_cancelled_update_that_waits_for_a_lock_is_never_applied(
    sound: Database, server: DatabaseServer
) -> None:
    await sound.execute(text("CREATE TABLE stock (id INTEGER PRIMARY KEY, amount INTEGER)"))
    await sound.execute(text("INSERT INTO stock VALUES (1, 10)"))
    async with sound.atomic() as db:
        await db.execute(text("UPDATE stock SET amount = amount + 1 WHERE id = 1"))
        waiting = asyncio.create_task(
            sound.execute(text("UPDATE stock SET amount = 99 WHERE id = 1")), context=contextvars.Context()
        )
        assert await comes_true(lambda: count(server, RUNNING) > 0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await _ended_within_a_second(server)
    assert await sound.fetch_val(text("SELECT amount FROM stock")) == 11


@pytest.mark.config(pool_size=20)
async def test_many_are_ended_over_few_side_connections(
    sound: Database, server: DatabaseServer, eventually: Eventually
) -> None:
    tasks = [asyncio.create_task(sound.execute(_sleep(sound, 30))) for _ in range(20)]
    assert await comes_true(lambda: count(server, RUNNING) == 20)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    # Twenty logins of side connections are a question of the machine's speed, and thirty seconds are not.
    assert await comes_true(lambda: count(server, RUNNING) == 0)
    await eventually(lambda: sound.stats().counts.killed == 20)


_STREAM = {
    "mysql": f"SELECT REPEAT('x', 20000), IF(seq > 3, SLEEP(30), 0) FROM {SEQUENCE.format(n=10)}",
    "postgresql": "SELECT repeat('x', 20000), CASE WHEN n > 3 THEN pg_sleep(30)::text END FROM generate_series(1, 9) n",
}


async def _leaves_a_stream(database: Database) -> None:
    async with database.stream(text(_STREAM[database.config.family]), batch=1) as rows:
        async for _ in rows:
            break


async def test_a_stream_that_is_left_early_ends_on_the_server(sound: Database, server: DatabaseServer) -> None:
    await _leaves_a_stream(sound)
    assert await _ended_within_a_second(server)


@pytest.mark.families("mariadb", "mysql")
async def test_without_the_side_connection_its_rows_are_made_for_nobody(
    sound: Database, server: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above; on PostgreSQL nothing runs between two batches."""
    from asyncdb.ending import Ending

    monkeypatch.setattr(Ending, "soon", lambda *_: None)
    await _leaves_a_stream(sound)
    assert not await _ended_within_a_second(server)
    await asyncio.to_thread(server.kill_connections)


async def test_close_ends_what_it_cuts(database_config: DatabaseConfig, server: DatabaseServer) -> None:
    database = Database(database_config)
    task = asyncio.create_task(database.execute(_sleep(database, 30)))
    assert await comes_true(lambda: count(server, RUNNING) == 1)
    await database.close(timeout=0.3)
    assert await _ended_within_a_second(server)
    with pytest.raises(Exception, match=r"lost|closed|2013|2006|gone|not open"):
        await task


@pytest.mark.verify("mariadb")
async def test_close_does_not_wait_for_a_server_that_is_not_reached(
    database_name: str, server: DatabaseServer, config_options: Any
) -> None:
    with Proxy(server.host, server.port) as proxy:
        config = DatabaseConfig.from_url(server.url(database_name, port=proxy.port), close_timeout=0.3)
        database = Database(config)
        task = asyncio.create_task(database.execute(_sleep(database, 3)))
        assert await comes_true(lambda: count(server, RUNNING) == 1)
        proxy.black_hole()
        task.cancel()
        await asyncio.wait([task])
        begun = time.monotonic()
        await database.close(timeout=1.0)
        assert time.monotonic() - begun < 2.0
        proxy.restore()


@pytest.mark.families("mariadb", "mysql")
@pytest.mark.parametrize("change", ["server", "seen_as", "nobody"])
async def test_what_is_not_certain_is_not_killed(sound: Database, server: DatabaseServer, change: str) -> None:
    """Another server, another client behind the same number, or a number that the list has not."""
    bystander = asyncio.create_task(sound.execute(_sleep(sound, 1.2)))
    async with sound.session() as db:
        link = physical((await db.connection()).sync_connection.connection)  # type: ignore[union-attr]
        mine = link.identity
    assert await comes_true(lambda: count(server, RUNNING) == 1)
    [other] = [c for c in server.connections() if c.command == "Query"]
    forged = {
        "server": dataclasses.replace(mine, number=other.id, seen_as=f"{other.user}@{other.host}", server="elsewhere"),
        "seen_as": dataclasses.replace(mine, number=other.id),
        "nobody": dataclasses.replace(mine, number=2**31 - 1),
    }[change]
    assert await sound.engine.dialect.end_running([(sound.config, forged)]) == 0  # type: ignore[attr-defined]
    await bystander
    victim = asyncio.create_task(sound.execute(_sleep(sound, 30)))
    assert await comes_true(lambda: count(server, RUNNING) == 1)
    [other] = [c for c in server.connections() if c.command == "Query"]
    right = dataclasses.replace(mine, number=other.id, seen_as=f"{other.user}@{other.host}")
    assert await sound.engine.dialect.end_running([(sound.config, right)]) == 1  # type: ignore[attr-defined]
    with pytest.raises(Exception, match=r"\b(2013|2006|1927|1317)\b"):
        await victim


async def test_a_connection_that_goes_back_is_never_touched(sound: Database, server: DatabaseServer) -> None:
    for _ in range(5):
        await _cancelled_amid(sound, server, _sleep(sound, 5))
        assert await sound.fetch_val(text("SELECT 42")) == 42
    assert await _ended_within_a_second(server)
    assert await sound.fetch_val(text("SELECT 43")) == 43
    assert sound.stats().counts.connects == 6


def test_what_is_cancelled_as_the_loop_ends_is_ended_too(
    database_config: DatabaseConfig, server: DatabaseServer
) -> None:
    """``asyncio.run`` cancels every task, that of the side connection too."""

    async def main() -> None:
        database = Database(database_config)
        try:
            async with asyncio.timeout(0.3):
                await database.execute(_sleep(database, 30))
        finally:
            database.retire()

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    until(lambda: count(server, RUNNING) == 0, within=1.0)
