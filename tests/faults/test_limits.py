"""A statement has a limit: the server stops it where it can, the client in any case."""

from __future__ import annotations

import asyncio
import contextvars
import os
import socket
import time
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, transaction
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from asyncdb import ConfigurationError, Database, DatabaseConfig, statement_limit
from asyncdb.drivers.physical import physical
from asyncdb.testing import DatabaseServer
from django_bridge import atomic, run_django, scope
from django_bridge import database as bridged_database

from .conftest import RUNNING, comes_true, count

pytestmark = [pytest.mark.faults]
SERVERS = pytest.mark.families("mariadb", "postgresql", "mysql")
SLOW = {
    "mysql": "SELECT COUNT(*) FROM information_schema.columns a, information_schema.columns b WHERE SLEEP(0.05) = 0",
    "postgresql": "SELECT pg_sleep(20)",
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
}
STOPPED = r"1969|3024|max_statement_time|interrupted|statement timeout|statement_timeout"


def _slow(database: Database) -> Any:
    return text(SLOW[database.config.family])


@pytest.mark.config(statement_timeout=0.4)
async def test_a_statement_is_stopped_at_its_limit(sound: Database, server: DatabaseServer | None) -> None:
    await sound.fetch_val(select(1))
    begun = time.monotonic()
    with pytest.raises(DBAPIError, match=STOPPED):
        await sound.fetch_all(_slow(sound))
    assert time.monotonic() - begun < 1.4
    if server is not None:
        assert sound.stats().counts.connects == 1, "the server stopped it, and the connection stays"
        assert await comes_true(lambda: count(server, RUNNING) == 0, within=1.0)
    assert await sound.fetch_val(select(2)) == 2


@SERVERS
@pytest.mark.verify("postgresql")
@pytest.mark.config(read_timeout=3.0)
async def test_without_a_limit_it_goes_on_to_read_timeout(sound: Database) -> None:
    """The control of the test above."""
    begun = time.monotonic()
    with pytest.raises(DBAPIError, match="read_timeout"):
        await sound.fetch_all(_slow(sound))
    assert time.monotonic() - begun >= 2.9


async def test_a_limit_holds_for_the_calls_inside(sound: Database) -> None:
    with statement_limit(0.3), pytest.raises(DBAPIError, match=STOPPED):
        await sound.fetch_all(_slow(sound))
    async with sound.atomic() as db:
        with statement_limit(0.3):
            assert await db.fetch_val(select(1)) == 1
        assert await db.fetch_val(select(2)) == 2


@SERVERS
@pytest.mark.config(statement_timeout=0.3, pool_size=1)
async def test_a_longer_limit_is_possible_and_gone_afterwards(sound: Database) -> None:
    nap = text({"mysql": "SELECT SLEEP(0.8)", "postgresql": "SELECT pg_sleep(0.8)"}[sound.config.family])
    with statement_limit(10.0):
        await sound.fetch_all(nap)
    begun = time.monotonic()
    with pytest.raises(DBAPIError, match=STOPPED):
        await sound.fetch_all(_slow(sound))
    assert time.monotonic() - begun < 1.2


@pytest.mark.families("postgresql")
@pytest.mark.config(pool_size=1)
@pytest.mark.parametrize("way", ["transaction", "savepoint"])
async def test_a_limit_that_was_rolled_back_is_told_anew(sound: Database, way: str) -> None:
    """SET is part of the transaction: with its roll-back the old limit is back."""
    shown = text("SELECT current_setting('statement_timeout')")
    with statement_limit(5.0):
        if way == "transaction":
            with pytest.raises(KeyError):
                async with sound.atomic() as db:
                    await db.fetch_val(select(1))
                    with statement_limit(7.0):
                        assert await db.fetch_val(shown) == "7s"
                    raise KeyError
            assert await sound.fetch_val(shown) == "5s"
        else:
            async with sound.atomic() as db:
                await db.fetch_val(select(1))
                with pytest.raises(KeyError):
                    async with sound.atomic():
                        with statement_limit(7.0):
                            assert await db.fetch_val(shown) == "7s"
                        raise KeyError
                assert await db.fetch_val(shown) == "5s"
                with statement_limit(7.0):
                    assert await db.fetch_val(shown) == "7s"
    assert await sound.fetch_val(shown) == "0"


@SERVERS
async def test_a_limit_holds_through_each_door(tx: Any, server: DatabaseServer, family: str) -> None:
    slow = SLOW["postgresql" if family == "postgresql" else "mysql"]

    def ask() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(slow)

    async def in_block() -> None:
        async with atomic() as db:
            await db.fetch_all(text(slow))

    for door in (lambda: run_django(ask), sync_to_async(ask), in_block):
        async with scope():
            begun = time.monotonic()
            with statement_limit(0.3), pytest.raises(Exception, match=STOPPED):
                await door()
            assert time.monotonic() - begun < 1.3
    assert bridged_database().stats().counts.killed == 0
    assert await comes_true(lambda: count(server, RUNNING) == 0, within=1.0)


@SERVERS
@pytest.mark.config(lock_timeout=1.0)
async def test_a_wait_for_a_lock_is_bounded(sound: Database) -> None:
    await sound.execute(text("CREATE TABLE stock (id INTEGER PRIMARY KEY, amount INTEGER)"))
    await sound.execute(text("INSERT INTO stock VALUES (1, 10)"))

    async def second() -> None:
        async with sound.atomic() as db:
            await db.execute(text("UPDATE stock SET amount = 99 WHERE id = 1"))

    async with sound.atomic() as db:
        await db.execute(text("UPDATE stock SET amount = 11 WHERE id = 1"))
        begun = time.monotonic()
        waiting = asyncio.create_task(second(), context=contextvars.Context())
        with pytest.raises(DBAPIError, match=r"1205|lock timeout"):
            await waiting
        assert 0.8 < time.monotonic() - begun < 3.0
    assert await sound.fetch_val(text("SELECT amount FROM stock")) == 11


@SERVERS
@pytest.mark.config(tcp_keepalive=20.0)
async def test_the_system_looks_after_the_peer(sound: Database) -> None:
    async with sound.session() as db:
        link = physical((await db.connection()).sync_connection.connection)  # type: ignore[union-attr]
        raw = link.driver_connection
        fileno = raw.pgconn.socket if hasattr(raw, "pgconn") else raw._transport.get_extra_info("socket").fileno()
        with socket.socket(fileno=os.dup(fileno)) as same:
            assert same.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            found = [
                same.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            ]
    assert found == [20, 10, 3, 50_000]


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="below read_timeout"):
        DatabaseConfig.of(family="mysql", read_timeout=5.0, statement_timeout=5.0)
    with pytest.raises(ConfigurationError, match="busy_timeout"):
        DatabaseConfig.of(family="sqlite", database="x", lock_timeout=5.0)
    with pytest.raises(ValueError, match="positive"), statement_limit(0):
        pass
