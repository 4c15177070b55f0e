"""The server dies, freezes, or is out of reach: an error by name, in time, and no storm when it is back."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Column, Integer, LargeBinary, MetaData, Table, insert, literal, select, text
from sqlalchemy.exc import DBAPIError

from asyncdb import ConnectFailed, Database, DatabaseConfig, PoolTimeout
from asyncdb.testing import MariaDBServer, PostgreSQLServer, Proxy, cancelled_everywhere, free_port

from .conftest import comes_true

pytestmark = [pytest.mark.faults, pytest.mark.slow]
KINDS = pytest.mark.parametrize("kind", ["own_mariadb", "own_postgresql"])
FIRST_KIND = pytest.mark.parametrize("kind", ["own_mariadb", pytest.param("own_postgresql", marks=pytest.mark.verify)])
Server = MariaDBServer | PostgreSQLServer
page = Table("page", MetaData(), Column("id", Integer, primary_key=True), Column("body", LargeBinary(2**25)))


@pytest.fixture
async def own(request: pytest.FixtureRequest, kind: str) -> Callable[..., Any]:
    """Starts a server of the test's own."""
    start = request.getfixturevalue(kind)

    async def started(**options: Any) -> Server:
        server: Server = await asyncio.to_thread(start, **options)
        await asyncio.to_thread(server.create_database, "own")
        return server

    return started


def _config(server: Server, *, port: int | None = None, **options: Any) -> DatabaseConfig:
    return DatabaseConfig.from_url(server.url("own", port=port), **options)


# Acceptance 4: kill -9 under load


@FIRST_KIND
async def test_a_killed_server_costs_a_pool_of_operations_and_nothing_once_it_is_back(own: Any) -> None:
    server: Server = await own()
    size, limit = 5, 2.0
    database = Database(_config(server, pool_size=size, pool_timeout=limit, connect_timeout=1.0, isolation_level=None))
    over = asyncio.Event()
    log: list[tuple[float, float, BaseException | None]] = []  # begun, ended, error
    answered = 0

    async def caller(number: int) -> None:
        nonlocal answered
        turn = 0
        while not over.is_set():
            turn += 1
            word, begun, error = f"{number}-{turn}", time.monotonic(), None
            try:
                assert await database.fetch_val(select(literal(word))) == word
                answered += 1
            except (DBAPIError, ConnectFailed) as err:
                error = err
            log.append((begun, time.monotonic(), error))
            await asyncio.sleep(0.005)

    tasks = [asyncio.create_task(caller(number)) for number in range(50)]
    await asyncio.sleep(1.0)
    killed = time.monotonic()
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(3.0)
    down = database.stats().counts.connect_errors
    await asyncio.to_thread(server.start)
    back = time.monotonic()
    await asyncio.sleep(2.5)
    over.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 10.0)
    try:
        assert answered > 100
        assert all(error is None for _, ended, error in log if ended < killed)
        broken = [error for _, _, error in log if error is not None and not isinstance(error, ConnectFailed)]
        assert len(broken) <= size, broken
        late = [ended - begun for begun, ended, error in log if error is not None and ended - begun > limit + 1.5]
        assert late == []
        assert any(isinstance(error, ConnectFailed) for _, _, error in log)
        assert [error for begun, _, error in log if begun > back + 1.0 and error is not None] == []
        assert any(begun > back + 1.0 for begun, _, _ in log)
        assert down <= 30, "an outage of three seconds is a storm of logins"
        assert database.stats().checked_out == 0
        assert await comes_true(lambda: len(server.connections()) <= size)
    finally:
        await database.close()


@FIRST_KIND
async def test_without_taking_turns_an_outage_is_a_storm_of_logins(own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above."""
    from asyncdb.opening import Opening

    server: Server = await own()
    await asyncio.to_thread(server.kill)

    async def logins() -> int:
        database = Database(_config(server, pool_size=5, pool_timeout=1.0, connect_timeout=1.0, connect_attempts=1))
        ends = time.monotonic() + 2.0

        async def caller() -> None:
            while time.monotonic() < ends:
                with pytest.raises((ConnectFailed, PoolTimeout)):
                    await database.fetch_val(select(1))

        await asyncio.gather(*(caller() for _ in range(10)))
        tried = database.stats().counts.connect_errors
        await database.close()
        return tried

    in_turns = await logins()
    monkeypatch.setattr(Opening, "_note_outage", lambda *_: None)
    assert await logins() > 2 * in_turns


async def test_who_waits_for_his_turn_may_be_cancelled_anywhere() -> None:
    config = DatabaseConfig.of(family="postgresql", host="127.0.0.1", port=free_port(), user="nobody")
    database = Database(config)

    async def two() -> None:
        await asyncio.gather(*(database.fetch_val(select(1)) for _ in range(2)), return_exceptions=True)

    await two()
    points = 0
    async for _ in cancelled_everywhere(two):
        points += 1
        assert database.stats().checked_out == 0
        async with asyncio.timeout(2.0):
            with pytest.raises(ConnectFailed):
                await database.fetch_val(select(1))
        if points == 5:
            break
    await database.close()


# Acceptance 5: a peer that is there and says nothing


@contextmanager
def accepts_and_says_nothing() -> Iterator[int]:
    """A port on which somebody accepts and is silent."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        kept: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    kept.append(listening.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5.0)
            for one in kept:
                one.close()


@pytest.mark.parametrize("tls", [None, "required"])
@pytest.mark.parametrize("spoken", ["mysql", "postgresql"])
async def test_a_peer_that_accepts_and_says_nothing_is_given_up(spoken: Any, tls: Any) -> None:
    with accepts_and_says_nothing() as port:
        config = DatabaseConfig.of(
            family=spoken, host="127.0.0.1", port=port, user="nobody", connect_timeout=0.5, tls=tls
        )
        database = Database(config)
        begun = time.monotonic()
        with pytest.raises(ConnectFailed, match="connect_timeout"):
            await database.fetch_val(select(1))
        assert time.monotonic() - begun < 1.5
        begun = time.monotonic()
        await database.close()
        assert time.monotonic() - begun < 2.0


@KINDS
@pytest.mark.parametrize(
    ("fault", "tls"),
    [
        ("freeze", None),
        pytest.param("black hole", "required", marks=pytest.mark.verify),
        pytest.param("freeze", "required", marks=pytest.mark.verify),
        pytest.param("black hole", None, marks=pytest.mark.verify),
    ],
)
@pytest.mark.parametrize("work", ["read", "write 24 MB"])
async def test_a_peer_that_falls_silent_is_given_up(own: Any, kind: str, tls: Any, fault: str, work: str) -> None:
    options = {"max_allowed_packet": "64M"} if kind == "own_mariadb" else {}
    server: Server = await own(tls=tls is not None, options=options)
    limit = 1.0
    with Proxy(server.host, server.port) as proxy:
        database = Database(_config(server, port=proxy.port, read_timeout=limit, tls=tls, pool_size=2))
        async with database.atomic() as db:
            await (await db.connection()).run_sync(page.metadata.create_all)

        async def ask() -> None:
            if work == "read":
                await database.fetch_val(select(literal(1)))
            else:
                await database.execute(insert(page), {"id": 1, "body": bytes(24 * 2**20)})

        await ask() if work == "read" else await database.fetch_val(select(1))
        await asyncio.to_thread(server.pause if fault == "freeze" else proxy.black_hole)
        try:
            begun = time.monotonic()
            with pytest.raises(DBAPIError, match="no reply within"):
                await ask()
            assert time.monotonic() - begun < limit + 1.0
            assert database.stats().checked_out == 0
            begun = time.monotonic()
            await database.close()
            assert time.monotonic() - begun < 2.0
        finally:
            await asyncio.to_thread(server.resume if fault == "freeze" else proxy.restore)


@FIRST_KIND
async def test_a_24_mb_write_is_cancelled_at_once_though_nobody_reads_it(own: Any, kind: str) -> None:
    server: Server = await own(options={"max_allowed_packet": "64M"} if kind == "own_mariadb" else {})
    database = Database(_config(server))
    async with database.atomic() as db:
        await (await db.connection()).run_sync(page.metadata.create_all)
    await asyncio.to_thread(server.pause)
    try:
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await database.execute(insert(page), {"id": 1, "body": bytes(24 * 2**20)})
        assert time.monotonic() - begun < 1.5
        begun = time.monotonic()
        await database.close(timeout=1.0)
        assert time.monotonic() - begun < 2.0
    finally:
        await asyncio.to_thread(server.resume)
    assert await comes_true(lambda: server.connections() == [])


# Acceptance 1: idle connections that ended meanwhile


@KINDS
@pytest.mark.parametrize("fault", ["kill", "cut", "reset_connections", "wait_timeout"])
async def test_idle_connections_that_ended_cost_no_error_and_at_most_one_ping(own: Any, kind: str, fault: str) -> None:
    options: dict[str, Any] = {}
    if fault == "wait_timeout":
        options = {"wait_timeout": 1} if kind == "own_mariadb" else {"options": {"idle_session_timeout": "1s"}}
    server: Server = await own(**options)
    with Proxy(server.host, server.port) as proxy:
        database = Database(_config(server, port=proxy.port, pool_size=3))
        for _ in range(3):
            async with database.session() as one, database.session() as two, database.session() as three:
                for db in (one, two, three):
                    assert await db.fetch_val(text("SELECT 1")) == 1
            if fault == "kill":
                await asyncio.to_thread(server.kill_connections)
            elif fault == "wait_timeout":
                assert await comes_true(lambda: server.connections() == [])
            else:
                await asyncio.to_thread(getattr(proxy, fault))
        assert await database.fetch_val(select(1)) == 1
        assert database.stats().counts.pings <= 1
        await database.close()
