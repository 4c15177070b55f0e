"""Django's ORM on the loop meets a server with bad intent: Django's own errors, and the next answer right."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from django.db import connection
from django.db.utils import OperationalError, ProgrammingError

from asyncdb import registry
from asyncdb.testing import HostileMySQLServer, Peer
from django_bridge import run_django

pytestmark = [pytest.mark.faults, pytest.mark.native_only("it is about the driver of the loop")]
BREAK = "SELECT 'break'"


@pytest.fixture(autouse=True)
def _database_access(django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield


@asynccontextmanager
async def meeting(server: HostileMySQLServer, default: Callable[..., None]) -> AsyncIterator[None]:
    place = {"HOST": server.host, "PORT": server.port, "USER": server.user, "PASSWORD": server.password}
    default("mysql", **place)
    try:
        assert await run_django(ask, "SELECT 1") == ((1,),)
        yield
        for token in range(5):
            assert await run_django(ask, f"SELECT {token}") == ((token,),)
    finally:
        await registry.close_all()


def ask(sql: str, *params: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, *params)
        return cursor.fetchall()


def once(say: Callable[[Peer], object]) -> Callable[[Peer, str], object]:
    return lambda peer, sql: say(peer) if sql == BREAK else False


def askers(server: HostileMySQLServer) -> list[Peer]:
    """Of the clients those who asked as the ORM did: the check of the settings connects too."""
    return [
        peer for peer in server.peers if any(sql.startswith("SELECT ") and len(sql) < 12 for sql in peer.statements)
    ]


@pytest.mark.parametrize(
    ("code", "message"),
    [(1053, "Server shutdown"), (1290, "running with the --read-only option"), (4031, "inactivity"), (1047, "WSREP")],
)
async def test_an_error_that_ends_the_connection_is_met_once(default: Any, code: int, message: str) -> None:
    with HostileMySQLServer(once(lambda peer: peer.error(code, message))) as server:
        async with meeting(server, default):
            with pytest.raises(OperationalError, match=str(code)):
                await run_django(ask, BREAK)
        assert len(askers(server)) == 2


async def test_an_error_of_the_statement_alone_keeps_the_connection(default: Any) -> None:
    with HostileMySQLServer(once(lambda peer: peer.error(1064, "not connected, already closed"))) as server:
        async with meeting(server, default):
            with pytest.raises(ProgrammingError, match="1064"):
                await run_django(ask, BREAK)
        assert len(askers(server)) == 1


@pytest.mark.parametrize(
    "say",
    [
        lambda peer: peer.say(b"\x01", sequence=7),
        lambda peer: peer.rows(["x"], [[b"\xff\xfe"]]),
        lambda peer: peer.say_raw(b"\x20\x00\x00\x01abc") or peer.socket.close(),
    ],
    ids=["out of order", "no utf-8", "half a packet"],
)
async def test_a_reply_that_cannot_be_read_ends_its_connection(default: Any, say: Any) -> None:
    with HostileMySQLServer(once(say)) as server:
        async with meeting(server, default):
            with pytest.raises(Exception, match=r"sequence|codec|Lost|decode"):
                await run_django(ask, BREAK)
        assert len(askers(server)) == 2


async def test_a_server_that_asks_for_a_file_gets_none(default: Any) -> None:
    with HostileMySQLServer(once(lambda peer: peer.say(b"\xfb/etc/passwd"))) as server:
        async with meeting(server, default):
            with pytest.raises(OperationalError, match="2068"):
                await run_django(ask, BREAK)
        assert b"root:" not in server.received
        assert len(askers(server)) == 2


async def test_nobody_is_asked_for_warnings(default: Any) -> None:
    with HostileMySQLServer(once(lambda peer: peer.rows(["x"], [["break"]], warnings=2))) as server:
        async with meeting(server, default):
            assert await run_django(ask, BREAK) == (("break",),)
        assert [sql for sql in server.statements if "WARNINGS" in sql.upper()] == []


@pytest.mark.families("mariadb", "mysql")
@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        decimal.Decimal("Infinity"),
        datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC),
        "a lone \udc80 surrogate",
    ],
    ids=ascii,
)
async def test_what_has_no_exact_literal_is_refused(bridged: Any, value: Any) -> None:
    with pytest.raises(ProgrammingError, match=r"nan and inf|aware|surrogate"):
        await run_django(ask, "SELECT %s", [value])
    assert await run_django(ask, "SELECT 1") == ((1,),)


@pytest.mark.families("mariadb", "mysql")
async def test_a_second_statement_is_an_error_and_does_not_run(bridged: Any) -> None:
    await run_django(ask, "CREATE TABLE t (id INT)")
    with pytest.raises(ProgrammingError):
        await run_django(ask, "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)")
    assert await run_django(ask, "SELECT COUNT(*) FROM t") == ((0,),)
