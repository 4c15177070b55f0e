"""Each error of the server's: its class, whether its connection goes on, and the next answer right."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError

from asyncdb import Database, DatabaseConfig
from asyncdb.drivers.mysql_errors import ENDS_CONNECTION, ends_connection
from asyncdb.testing import DatabaseServer, HostileMySQLServer, MariaDBServer, Peer

pytestmark = pytest.mark.faults
BREAK = "SELECT 'break'"
READ_ONLY = "The MariaDB server is running with the --read-only option so it cannot execute this statement"
ENDS = [
    *((code, "it ends") for code in ENDS_CONNECTION),
    (1290, READ_ONLY),
    (1290, "The MySQL server is running with the --super-read-only option so it cannot execute this statement"),
    (2006, "said by a server, which may not say it"),
    (2013, "said by a server, which may not say it"),
    (2055, "said by a server, which may not say it"),
]
GOES_ON: list[tuple[int, str, Any]] = [
    (1062, "Duplicate entry 'not connected' for key 'x'", IntegrityError),
    (1062, "Duplicate entry 'already closed' for key 'x'", IntegrityError),
    (1064, "You have an error in your SQL syntax near 'network operation failed'", ProgrammingError),
    (1146, "Table 'x' doesn't exist", ProgrammingError),
    (1205, "Lock wait timeout exceeded; try restarting transaction", OperationalError),
    (1213, "Deadlock found when trying to get lock; try restarting transaction", OperationalError),
    (
        1290,
        "The MySQL server is running with the --secure-file-priv option so it cannot execute this",
        OperationalError,
    ),
    (1317, "Query execution was interrupted", OperationalError),
    (1792, "Cannot execute statement in a READ ONLY transaction", OperationalError),
    (1969, "Query execution was interrupted (max_statement_time exceeded)", OperationalError),
    (3024, "Query execution was interrupted, maximum statement execution time exceeded", OperationalError),
    (3572, "Statement aborted because lock(s) could not be acquired immediately", OperationalError),
    (4025, "CONSTRAINT `c` failed for `x`", OperationalError),
]


def breaks_with(code: int, message: str) -> Callable[[Peer, str], object]:
    return lambda peer, sql: peer.error(code, message) if sql == BREAK else False


async def _met(server: HostileMySQLServer, cls: Any) -> DBAPIError:
    """The error, on a warm pool; afterwards every answer is right."""
    database = Database(DatabaseConfig.from_url(server.url(), pool_size=1))
    try:
        assert await database.fetch_val(text("SELECT 1")) == 1
        with pytest.raises(cls) as caught:
            await database.fetch_val(text(BREAK))
        for token in range(5):
            assert await database.fetch_val(text(f"SELECT {token}")) == token
        assert database.stats().checked_out == 0
        error: DBAPIError = caught.value
        return error
    finally:
        await database.close()


@pytest.mark.parametrize(("code", "message"), ENDS)
async def test_an_error_that_ends_the_connection_is_met_once(code: int, message: str) -> None:
    with HostileMySQLServer(breaks_with(code, message)) as server:
        error = await _met(server, OperationalError)
        assert error.connection_invalidated
        assert error.orig is not None
        assert error.orig.args[0] == code
        assert len(server.peers) == 2
        assert BREAK not in server.peers[1].statements


@pytest.mark.parametrize(("code", "message", "cls"), GOES_ON)
async def test_an_error_of_the_statement_alone_keeps_the_connection(code: int, message: str, cls: Any) -> None:
    with HostileMySQLServer(breaks_with(code, message)) as server:
        error = await _met(server, cls)
        assert not error.connection_invalidated
        assert len(server.peers) == 1


async def test_a_farewell_between_two_statements_is_seen_before_the_next(
    eventually: Callable[..., Awaitable[None]],
) -> None:
    """MySQL 8.0.24 says 4031 to an idle connection, and hangs up; the statement is not sent to it."""

    def farewell(peer: Peer, sql: str) -> object:
        if sql != BREAK:
            return False
        peer.rows(["x"], [["break"]])
        heard = peer.hear()  # COMMIT, after which it is idle
        peer.statements.append(heard[1:].decode())
        peer.status = 2
        peer.ok()
        peer.error(4031, "The client was disconnected by the server because of inactivity.", sequence=0)
        peer.socket.close()
        return True

    with HostileMySQLServer(farewell) as server:
        database = Database(DatabaseConfig.from_url(server.url(), pool_size=1))
        try:
            assert await database.fetch_val(text(BREAK)) == "break"
            await eventually(lambda: server.peers[0].socket.fileno() == -1)
            assert await database.fetch_val(text("SELECT 2")) == 2
            assert "SELECT 2" not in server.peers[0].statements
            assert database.stats().counts.found_dead == 1
            assert database.stats().counts.pings == 0
        finally:
            await database.close()


async def test_without_the_table_the_connection_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the next user of the pool gets the error too, from a server that is shutting down."""
    from asyncdb.drivers import mysql_errors

    monkeypatch.setattr(mysql_errors, "ENDS_CONNECTION", {})

    def shuts_down(peer: Peer, sql: str) -> object:
        down = peer.number == 1 and (sql == BREAK or BREAK in peer.statements)
        return peer.error(1053, "Server shutdown in progress") if down and sql.startswith("SELECT") else False

    with HostileMySQLServer(shuts_down) as server:
        database = Database(DatabaseConfig.from_url(server.url(), pool_size=1))
        try:
            with pytest.raises(OperationalError) as caught:
                await database.fetch_val(text(BREAK))
            assert not caught.value.connection_invalidated
            with pytest.raises(OperationalError, match="1053"):
                await database.fetch_val(text("SELECT 1"))
            monkeypatch.undo()
            with pytest.raises(OperationalError, match="1053"):
                await database.fetch_val(text("SELECT 1"))
            assert await database.fetch_val(text("SELECT 1")) == 1
        finally:
            await database.close()


def test_the_words_of_an_error_decide_nothing() -> None:
    from asyncmy.errors import IntegrityError as Duplicate

    assert not ends_connection(Duplicate(1062, "Duplicate entry 'MySQL Connection not available' for key 'name'"))


# Real servers


@pytest.mark.families("mariadb", "mysql")
async def test_a_killed_session_is_replaced(database: Database, server: DatabaseServer, database_name: str) -> None:
    async with database.session() as db:
        await db.fetch_val(text("SELECT 1"))
        server.kill_connections(database=database_name)
        with pytest.raises(OperationalError) as caught:
            await db.fetch_val(text("SELECT 2"))
        assert caught.value.connection_invalidated
    assert await database.fetch_val(text("SELECT 3")) == 3


@pytest.mark.slow
async def test_a_primary_that_becomes_read_only_is_left(own_mariadb: Callable[..., MariaDBServer]) -> None:
    server = own_mariadb()
    server.create_database("library")
    database = Database(DatabaseConfig.from_url(server.url("library"), pool_size=2))
    try:
        await database.execute(text("CREATE TABLE t (id INT)"))
        before = database.stats().counts.connects
        server.execute("SET GLOBAL read_only = ON")
        with pytest.raises(OperationalError, match="1290") as caught:
            await database.execute(text("INSERT INTO t VALUES (1)"))
        assert caught.value.connection_invalidated
        server.execute("SET GLOBAL read_only = OFF")
        await database.execute(text("INSERT INTO t VALUES (2)"))
        assert await database.fetch_val(text("SELECT sum(id) FROM t")) == 2
        assert database.stats().counts.connects == before + 1
    finally:
        await database.close()


@pytest.mark.slow
async def test_a_server_that_stops_politely_and_comes_back_is_met_once(
    own_mariadb: Callable[..., MariaDBServer],
) -> None:
    server = own_mariadb()
    server.create_database("library")
    database = Database(DatabaseConfig.from_url(server.url("library"), pool_size=2))
    try:
        async with database.session() as db:
            await db.fetch_val(text("SELECT 1"))
            server.restart()
            with pytest.raises(OperationalError) as caught:
                await db.fetch_val(text("SELECT 2"))
            assert caught.value.connection_invalidated
        for token in range(5):
            assert await database.fetch_val(text(f"SELECT {token}")) == token
    finally:
        await database.close()
