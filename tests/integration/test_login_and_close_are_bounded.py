"""A login takes connect_timeout in all, a close close_timeout, whatever the peer does or leaves undone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from asyncdb import ConnectFailed, Database, DatabaseConfig
from asyncdb.drivers.asyncmy_wire import SafeConnection
from asyncdb.testing import HostileMySQLServer, MariaDBServer, Peer, Proxy

pytestmark = pytest.mark.faults
LIMIT = 0.5


def falls_silent(peer: Peer, *_: object) -> object:
    peer.hear()
    return True


def _silent_at(statement: str) -> Callable[[Peer, str], object]:
    return lambda peer, sql: falls_silent(peer) if sql.startswith(statement) else False


async def _bounded(config: DatabaseConfig, **options: Any) -> None:
    """No connection, within ``connect_timeout``, by one clear error; the pool is whole."""
    database = Database(config, **options)
    try:
        begun = time.monotonic()
        with pytest.raises(ConnectFailed, match=r"within 0\.5 s \(connect_timeout\)"):
            await database.fetch_val(text("SELECT 7"))
        assert time.monotonic() - begun < LIMIT + 1.0
        assert database.stats().checked_out == 0
        begun = time.monotonic()
    finally:
        await database.close()
    assert time.monotonic() - begun < 2.0


@pytest.mark.parametrize("statement", ["SET NAMES", "SELECT @@character_set_client"])
async def test_a_server_that_falls_silent_while_the_session_is_made(statement: str) -> None:
    with HostileMySQLServer(_silent_at(statement)) as server:
        await _bounded(DatabaseConfig.from_url(server.url(), connect_timeout=LIMIT))


async def test_a_server_that_falls_silent_after_the_greeting() -> None:
    with HostileMySQLServer(login=falls_silent) as server:
        await _bounded(DatabaseConfig.from_url(server.url(), connect_timeout=LIMIT))


@pytest.mark.parametrize("mode", ["required", "verify_identity"])
async def test_a_server_that_falls_silent_in_the_tls_handshake(
    mode: str,
) -> None:
    with HostileMySQLServer(also=1 << 11, login=falls_silent) as server:
        await _bounded(DatabaseConfig.from_url(server.url(), connect_timeout=LIMIT, tls=mode))


@pytest.mark.parametrize("statement", ["SET NAMES", "SELECT VERSION()", "SELECT @@lower_case"])
async def test_the_first_questions_of_sqlalchemy_are_within_the_clock(statement: str) -> None:
    with HostileMySQLServer(_silent_at(statement)) as server:
        await _bounded(DatabaseConfig.from_url(server.url(), connect_timeout=LIMIT))


async def test_what_is_done_with_each_new_connection_is_within_the_clock() -> None:
    def asks(link: Any) -> None:
        cursor = link.cursor()
        cursor.execute("SELECT 'new'")
        cursor.close()

    with HostileMySQLServer(_silent_at("SELECT 'new'")) as server:
        await _bounded(DatabaseConfig.from_url(server.url(), connect_timeout=LIMIT), on_connect=asks)


async def test_without_the_clock_read_timeout_alone_bounds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control."""
    from asyncdb.drivers import dialect

    monkeypatch.setattr(dialect, "_login_left", lambda _: None)
    with HostileMySQLServer(_silent_at("SELECT VERSION()")) as server:
        database = Database(DatabaseConfig.from_url(server.url(), connect_timeout=LIMIT, read_timeout=2.0))
        try:
            with pytest.raises(OperationalError, match="read_timeout"):
                await database.fetch_val(text("SELECT 7"))
        finally:
            await database.close()


async def test_a_long_statement_after_the_login_is_not_of_the_login(database_of_mariadb: DatabaseConfig) -> None:
    database = Database(database_of_mariadb.model_copy(update={"connect_timeout": LIMIT}))
    try:
        assert await database.fetch_val(text("SELECT SLEEP(1)")) == 0
    finally:
        await database.close()


# Closing


@pytest.fixture(scope="module")
def tls_server(request: pytest.FixtureRequest) -> Iterator[MariaDBServer]:
    request.getfixturevalue("mariadb")
    with MariaDBServer(tls=True) as server:
        server.create_database("library")
        yield server


@pytest.fixture
def database_of_mariadb(mariadb: MariaDBServer) -> DatabaseConfig:
    return DatabaseConfig.from_url(mariadb.url("mysql"))


async def _fill(database: Database, size: int) -> None:
    async def hold() -> None:
        async with database.session() as db:
            await db.fetch_val(text("SELECT 1"))
            held.append(db)
            await all_held.wait()

    held: list[Any] = []
    all_held = asyncio.Event()
    tasks = [asyncio.create_task(hold()) for _ in range(size)]
    while len(held) < size:  # noqa: ASYNC110  (pytest's time limit is the bound)
        await asyncio.sleep(0.01)
    all_held.set()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("tls", ["disabled", "required"])
@pytest.mark.parametrize("fault", ["hung", "black hole"])
async def test_ten_connections_to_a_hung_server_close_side_by_side(
    tls_server: MariaDBServer, tls: Any, fault: str
) -> None:
    with Proxy(tls_server.host, tls_server.port) as proxy:
        url = tls_server.url("library", port=proxy.port if fault == "black hole" else None)
        database = Database(DatabaseConfig.from_url(url, tls=tls, pool_size=10))
        await _fill(database, 10)
        assert database.stats().idle == 10
        (tls_server.pause if fault == "hung" else proxy.black_hole)()
        try:
            begun = time.monotonic()
            await database.close()
            assert time.monotonic() - begun < 2.0
        finally:
            (tls_server.resume if fault == "hung" else proxy.restore)()


async def test_asyncmys_close_waits_for_the_goodbye_of_tls(tls_server: MariaDBServer) -> None:
    """The control: a hung server is waited for, where ours has gone."""
    raw = SafeConnection(
        host=tls_server.host, port=tls_server.port, user=tls_server.user, password=tls_server.password,
        ssl={"check_hostname": False},
    )  # fmt: skip
    await raw.connect()
    transport = raw._transport
    tls_server.pause()
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await raw.ensure_closed()
    finally:
        transport.abort()
        tls_server.resume()
