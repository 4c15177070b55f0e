"""What one user leaves on a connection, the next does not meet, through whichever door."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from sqlalchemy import literal, select, text
from sqlalchemy.exc import DBAPIError

from asyncdb import Database, DatabaseConfig
from asyncdb.drivers.physical import PhysicalConnection
from django_bridge import database, run_django, scope, session

pytestmark = [pytest.mark.faults]
ONE = {"pool_size": 1}


LEAVES: dict[str, list[tuple[str, str, Any]]] = {
    "mysql": [
        ("SET @mine = 5", "SELECT COUNT(@mine)", 0),
        ("SET SESSION sql_mode = ''", "SELECT @@sql_mode = ''", 0),
        ("SET time_zone = '+03:00'", "SELECT @@time_zone = '+03:00'", 0),
        ("SELECT GET_LOCK('mine', 0)", "SELECT IS_FREE_LOCK('mine')", 1),
        ("CREATE TEMPORARY TABLE mine (id int)", "SELECT COUNT(*) FROM mine", ("refused", 1146)),
        ("PREPARE mine FROM 'SELECT 1'", "EXECUTE mine", ("refused", 1243)),
        ("USE information_schema", "SELECT DATABASE() = 'information_schema'", 0),
    ],
    "postgresql": [
        ("SET search_path = pg_catalog", "SELECT (current_setting('search_path') = 'pg_catalog')::int", 0),
        ("SELECT set_config('my.own', 'x', false)", "SELECT coalesce(current_setting('my.own', true), '')", ""),
        ("SELECT pg_advisory_lock(7)", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", 0),
        ("CREATE TEMPORARY TABLE mine (id int)", "SELECT count(*) FROM pg_class WHERE relname = 'mine'", 0),
        ("PREPARE mine AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements WHERE name = 'mine'", 0),
        ("LISTEN mine", "SELECT count(*) FROM pg_listening_channels()", 0),
    ],
    "sqlite": [
        ("CREATE TEMP TABLE mine (id int)", "SELECT COUNT(*) FROM sqlite_temp_master", 0),
        ("PRAGMA query_only = ON", "SELECT query_only FROM pragma_query_only", 0),
    ],
}


async def by_session(statement: str) -> None:
    async with database().session() as db:
        await db.execute(text(statement))
        await db.commit()


async def by_verb(statement: str) -> None:
    await database().execute(text(statement))


async def by_run_django(statement: str) -> None:
    await run_django(_by_cursor, statement)


async def by_thread(statement: str) -> None:
    await sync_to_async(_by_cursor)(statement)


def _by_cursor(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


DOORS: list[Callable[[str], Awaitable[None]]] = [by_session, by_verb, by_run_django, by_thread]


@pytest.mark.parametrize("door", DOORS)
async def test_the_next_user_does_not_meet_it(tx: Any, project: Any, door: Any) -> None:
    project(ASYNC_DB={"default": ONE})
    for leaves, question, answer in LEAVES[database().config.family]:
        async with scope():
            await door(leaves)
        assert await asked(question) == answer, leaves
    assert database().stats().checked_out == 0


async def asked(question: str) -> Any:
    try:
        async with session() as db:
            answer = await db.scalar(text(question))
            await db.commit()
            return answer
    except DBAPIError as err:
        return "refused", err.orig.args[0]


async def test_without_the_reset_he_does(tx: Any, project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above, for each thing that may be left."""
    from asyncdb.pool import Pool

    monkeypatch.setattr(Pool, "_wash", lambda *_: None)
    project(ASYNC_DB={"default": ONE})
    for leaves, question, answer in LEAVES[database().config.family]:
        await by_session(leaves)
        assert await asked(question) != answer, leaves
        await database().close()  # the next thing is left on a connection of its own
        project(ASYNC_DB={"default": ONE})


INIT = {
    "mysql": ("SET @a = 1; SET @b = 2", "SET @a = 7", "SELECT @a + @b", 3),
    "postgresql": ("SET work_mem = '7MB'; SET my.own = 'x'", "SET work_mem = '8MB'", "SHOW work_mem", "7MB"),
}


@pytest.mark.families("mariadb", "postgresql", "mysql")
async def test_what_the_init_command_made_is_there_again_after_a_reset(server_url: str) -> None:
    family = DatabaseConfig.from_url(server_url).family
    init, changes, question, answer = INIT[family]
    database = Database(DatabaseConfig.from_url(server_url, init_command=init, pool_size=1))
    try:
        async with database.session() as db:
            await db.execute(text(changes))
            assert await db.scalar(text(question)) != answer
            await db.commit()
        assert await database.fetch_val(text(question)) == answer
        assert (database.stats().counts.reset, database.stats().counts.connects) == (1, 1)
    finally:
        await database.close()


@pytest.mark.families("mariadb", "postgresql", "mysql")
@pytest.mark.config(pool_size=1)
async def test_a_reset_connection_stays_and_has_its_settings(database: Database, monkeypatch: Any) -> None:
    async with database.session() as db:
        before = await db.scalar(text(_ID[database.config.family]))
        await db.execute(text(LEAVES[database.config.family][0][0]))
        await db.commit()
    assert await database.fetch_val(text(_ID[database.config.family])) == before
    counts = database.stats().counts
    assert counts.reset >= 1
    assert counts.connects == 1


_ID = {"mysql": "SELECT CONNECTION_ID()", "postgresql": "SELECT pg_backend_pid()"}


@pytest.mark.config(pool_size=1)
async def test_a_connection_on_which_nothing_was_left_is_never_reset(database: Database) -> None:
    for _ in range(10):
        await database.fetch_val(select(literal(1)))
    assert database.stats().counts.reset == 0
    assert database.stats().counts.connects == 1


@pytest.mark.families("mariadb", "postgresql", "mysql")
@pytest.mark.config(pool_size=1)
async def test_a_reset_that_fails_costs_the_connection_and_nothing_else(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(self: PhysicalConnection) -> None:
        raise self.dbapi.OperationalError("no")

    await database.execute(text(LEAVES[database.config.family][0][0]))
    link: Any = type(database.engine.sync_engine.pool._pool.idle[-1].dbapi_connection)  # type: ignore[attr-defined]
    monkeypatch.setattr(link, "has_forgotten", fails)
    assert await database.fetch_val(select(literal(1))) == 1
    assert database.stats().counts.connects == 2
