"""A login asks for nothing that other logins wait for; who is who is found out when a kill is due."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from sqlalchemy import text

from asyncdb import Database, DatabaseConfig
from asyncdb.drivers.mysql_kill import Identity
from asyncdb.drivers.physical import physical
from asyncdb.testing import DatabaseServer, PrivateServer, Proxy
from tests.polling import until

pytestmark = pytest.mark.families("mariadb", "mysql")
END_WITHIN = 5.0


@pytest.fixture
def statements(server: DatabaseServer) -> Iterator[Callable[[], list[str]]]:
    """What the tests' user has said to the server since the test began."""
    server.execute("SET GLOBAL log_output = 'TABLE'; SET GLOBAL general_log = ON")

    def said() -> list[str]:
        rows = server.execute(
            "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log"
            f" WHERE command_type = 'Query' AND user_host LIKE '{server.user}[%' ORDER BY event_time"
        )
        return [row[0] or "" for row in rows]

    yield said
    server.execute("SET GLOBAL general_log = OFF; TRUNCATE mysql.general_log; SET GLOBAL log_output = 'FILE'")


@pytest.fixture
def running(server: DatabaseServer) -> Callable[[], list[int]]:
    """The numbers of the connections for which the server is at work."""
    return lambda: [c.id for c in server.connections() if c.user == server.user and c.command == "Query"]


@pytest.fixture(params=["direct", "proxy", "socket"])
def ways(
    request: pytest.FixtureRequest, server: DatabaseServer, database_config: DatabaseConfig
) -> Iterator[DatabaseConfig]:
    """The same database directly, through a proxy that changes the port, and on a Unix socket where that is ours."""
    with ExitStack() as stack:
        if request.param == "direct":
            yield database_config
        elif request.param == "proxy":
            proxy = stack.enter_context(Proxy(server.host, server.port))
            yield database_config.model_copy(update={"host": proxy.host, "port": proxy.port})
        else:
            socket = (
                {"unix_socket": server.unix_socket, "host": None, "port": None}
                if isinstance(server, PrivateServer)
                else {}
            )
            yield database_config.model_copy(update=socket)


async def _identity(database: Database) -> Identity:
    async with database.session() as db:
        found: Any = physical((await db.connection()).sync_connection.connection)  # type: ignore[union-attr]
        identity: Identity = found.identity
        return identity


@pytest.mark.contract
async def test_a_login_does_not_read_the_list_of_connections(
    database: Database, statements: Callable[[], list[str]]
) -> None:
    async def one() -> None:
        async with database.session() as db:
            await db.execute(text("SELECT 'at work'"))
            await asyncio.sleep(0)

    await asyncio.gather(*(one() for _ in range(5)))
    said = statements()
    assert sum("@@hostname" in statement for statement in said) == database.stats().counts.connects
    assert [statement for statement in said if "processlist" in statement.lower()] == []


async def test_a_cancelled_statement_is_ended_on_every_way_to_the_server(
    ways: DatabaseConfig, running: Callable[[], list[int]], eventually: Callable[..., Awaitable[None]]
) -> None:
    database = Database(ways)
    try:
        for turn in (1, 2):
            task = asyncio.create_task(database.execute(text("SELECT SLEEP(30)")))
            await asyncio.to_thread(until, running)
            task.cancel()
            await asyncio.wait([task])
            await asyncio.to_thread(until, lambda: not running(), within=END_WITHIN)
            await eventually(lambda turn=turn: database.stats().counts.killed == turn)
    finally:
        await database.close()


@pytest.mark.parametrize(
    "change",
    [
        {"server": "elsewhere"},
        {"seen_as": None},
        {"own_number": False},
        {"began": (float("-inf"), 0.0)},
    ],
    ids=["another server", "not said", "a number of the proxy's", "from before the restart"],
)
async def test_behind_a_proxy_a_number_alone_is_not_enough(
    proxied: tuple[DatabaseConfig, Proxy], running: Callable[[], list[int]], change: dict[str, Any]
) -> None:
    """Each doubt by itself keeps the statement alive; without any it is ended."""
    database = Database(proxied[0])
    dialect: Any = database.engine.dialect
    try:
        identity = await _identity(database)  # of the one connection of the pool, which the statement takes
        task = asyncio.create_task(database.execute(text("SELECT SLEEP(30)")))
        await asyncio.to_thread(until, running)
        assert running() == [identity.number]
        doubtful = dataclasses.replace(identity, **change)
        assert await dialect.end_running([(database.config, doubtful)]) == 0
        assert running() == [identity.number]
        assert await dialect.end_running([(database.config, identity)]) == 1
        await asyncio.wait([task])
        assert task.exception() is not None
    finally:
        await database.close()


async def test_where_the_port_is_known_another_ones_number_is_not_ended(
    database: Database, running: Callable[[], list[int]]
) -> None:
    """Without a proxy the port decides: nothing makes up for a wrong one."""
    dialect: Any = database.engine.dialect
    async with database.session() as db:
        mine: Any = physical((await db.connection()).sync_connection.connection)  # type: ignore[union-attr]
        task = asyncio.create_task(database.execute(text("SELECT SLEEP(30)")))
        await asyncio.to_thread(until, running)
        [other] = running()
        wrong = dataclasses.replace(mine.identity, number=other)
        assert wrong.own_number
        assert await dialect.end_running([(database.config, wrong)]) == 0
        assert running() == [other]
        task.cancel()
        await asyncio.wait([task])
    await asyncio.to_thread(until, lambda: not running(), within=END_WITHIN)
