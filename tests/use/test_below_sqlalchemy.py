"""Statements that go past SQLAlchemy's own way: they are rolled back with the session, and leave nothing behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession

from asyncdb import Database
from asyncdb.engine import pool_of
from asyncdb.errors import TransactionMisuse, UncommittedWrites
from django_bridge import atomic, run_django, scope, session
from django_bridge import database as bridged_database

Use = Callable[[AsyncSession, str], Awaitable[None]]


class Undo(Exception):
    """Leaves a block by force."""


async def raw_of(db: AsyncSession) -> Any:
    return (await (await db.connection()).get_raw_connection()).driver_connection


async def by_driver(db: AsyncSession, statement: str) -> None:
    raw = await raw_of(db)
    if hasattr(raw, "execute_fetchall"):
        await raw.execute(statement)
        return
    async with raw.cursor() as cursor:
        await cursor.execute(statement)


async def by_dbapi(db: AsyncSession, statement: str) -> None:
    def run(sync: Any) -> None:
        cursor = sync.connection().connection.cursor()
        cursor.execute(statement)
        cursor.close()

    await db.run_sync(run)


async def by_dbapi_many(db: AsyncSession, statement: str) -> None:
    def run(sync: Any) -> None:
        cursor = sync.connection().connection.cursor()
        cursor.executemany(statement, [()])
        cursor.close()

    await db.run_sync(run)


async def by_exec_driver_sql(db: AsyncSession, statement: str) -> None:
    await (await db.connection()).exec_driver_sql(statement)


async def by_a_listener(db: AsyncSession, statement: str) -> None:
    """A listener puts it in the place of what was asked."""
    engine = (await db.connection()).engine.sync_engine

    def instead(*args: Any) -> tuple[str, Any]:
        return statement, args[3]

    event.listen(engine, "before_cursor_execute", instead, retval=True)
    try:
        await db.execute(text("SELECT 1"))
    finally:
        event.remove(engine, "before_cursor_execute", instead)


USES = [by_driver, by_dbapi, by_dbapi_many, by_exec_driver_sql, by_a_listener]
INSERT = {
    "sqlite": "INSERT INTO shelf_row (number, text) VALUES (7, 'raw')",
    "postgresql": "INSERT INTO shelf_row (number, text) VALUES (7, 'raw')",
    "mysql": "INSERT INTO shelf_row (number, text) VALUES (7, 'raw')",
}


@pytest.fixture
async def rows(shop: Any) -> Any:
    await shop.create(shop.models.Row)
    return shop.models.Row.objects


async def _roll_back_a_session(use: Use, statement: str) -> None:
    async with session() as db:
        await use(db, statement)
        await db.rollback()


async def _raise_in_a_session(use: Use, statement: str) -> None:
    async with session() as db:
        await use(db, statement)
        raise Undo


async def _forget_to_commit(use: Use, statement: str) -> None:
    with pytest.raises(UncommittedWrites):
        async with session() as db:
            await use(db, statement)


async def _raise_in_a_block(use: Use, statement: str) -> None:
    async with atomic() as db:
        await use(db, statement)
        raise Undo


async def _raise_in_a_block_of_asyncdb(use: Use, statement: str) -> None:
    async with bridged_database().atomic() as db:
        await use(db, statement)
        raise Undo


async def _raise_in_a_nested_block(use: Use, statement: str) -> None:
    async with atomic() as db:
        with suppress(Undo):
            async with atomic():
                await use(db, statement)
                raise Undo


DOORS = [
    _roll_back_a_session,
    _raise_in_a_session,
    _forget_to_commit,
    _raise_in_a_block,
    _raise_in_a_block_of_asyncdb,
    _raise_in_a_nested_block,
]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("use", USES)
async def test_what_was_written_is_rolled_back(door: Any, use: Use, rows: Any, family: str) -> None:
    with suppress(Undo):
        await door(use, INSERT["mysql" if family == "mariadb" else family])
    assert await rows.acount() == 0


@pytest.mark.parametrize("use", USES)
async def test_what_was_written_is_committed(use: Use, rows: Any, family: str) -> None:
    statement = INSERT["mysql" if family == "mariadb" else family]
    async with session() as db:
        await use(db, statement)
        await db.commit()
    async with atomic() as db:
        await use(db, statement)
    assert await rows.acount() == 2


@pytest.mark.families("postgresql")
async def test_a_copy_is_rolled_back_with_its_block(rows: Any) -> None:
    with suppress(Undo):
        async with atomic() as db:
            raw = await raw_of(db)
            async with raw.cursor() as cursor, cursor.copy("COPY shelf_row (number, text) FROM STDIN") as copy:
                await copy.write_row((1, "raw"))
            raise Undo
    assert await rows.acount() == 0


@pytest.mark.families("postgresql")
@pytest.mark.parametrize(
    "copied", ["INSERT INTO shelf_row (number, text) VALUES (1, 'x') RETURNING id", "SELECT 1"], ids=["writes", "reads"]
)
async def test_a_copy_that_was_not_committed_is_an_error_if_it_writes(rows: Any, copied: str) -> None:
    with pytest.raises(UncommittedWrites) if "INSERT" in copied else nullcontext():
        async with (
            session() as db,
            (await raw_of(db)).cursor() as cursor,
            cursor.copy(f"COPY ({copied}) TO STDOUT") as copy,
        ):
            assert [row async for row in copy.rows()]
    assert await rows.acount() == 0


@pytest.mark.families("postgresql")
async def test_a_transaction_of_psycopgs_is_a_savepoint_of_the_block(rows: Any, family: str) -> None:
    with suppress(Undo):
        async with atomic() as db:
            raw = await raw_of(db)
            async with raw.transaction():
                await raw.execute(INSERT[family])
            raise Undo
    assert await rows.acount() == 0


async def test_under_autocommit_no_transaction_is_begun(rows: Any, family: str) -> None:
    engine = bridged_database().engine.execution_options(isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        statement = INSERT["mysql" if family == "mariadb" else family]
        if family == "sqlite":
            await raw.execute(statement)
        else:
            async with raw.cursor() as cursor:
                await cursor.execute(statement)
        assert await rows.acount() == 1
        await connection.rollback()
    assert await rows.acount() == 1


# What is left on the session

LEAVES = {
    "mysql": [
        ("SET SESSION group_concat_max_len = 5", "SELECT @@group_concat_max_len"),
        ("SET @mine = 5", "SELECT @mine"),
        ("CREATE TEMPORARY TABLE mine AS SELECT 5 AS five", "SELECT five FROM mine"),
    ],
    "postgresql": [
        ("SET application_name = 'mine'", "SELECT current_setting('application_name')"),
        ("CREATE TEMPORARY TABLE mine AS SELECT 5 AS five", "SELECT five FROM mine"),
    ],
    "sqlite": [
        ("CREATE TEMPORARY TABLE mine AS SELECT 5 AS five", "SELECT five FROM mine"),
        ("PRAGMA cache_size = -777", "SELECT cache_size FROM pragma_cache_size"),
    ],
}


async def _answer(question: str) -> Any:
    try:
        return await bridged_database().fetch_val(text(question))
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize("use", [use for use in USES if use is not by_dbapi_many])  # SQLite takes rows alone so
async def test_what_was_left_on_the_session_nobody_meets(use: Use, shop: Any, family: str) -> None:
    shop.configure(async_db={"pool_size": 1})
    for statement, question in LEAVES["mysql" if family == "mariadb" else family]:
        before = await _answer(question)
        async with session() as db:
            await use(db, statement)
            assert await db.scalar(text(question)) in {5, "mine", -777}
            await db.commit()
        assert await _answer(question) == before, statement
        async with scope():
            assert await run_django(_ask, question) == before, statement


def _ask(question: str) -> Any:
    from django.db import connection, transaction

    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT 1")  # else what only reads what another has left is refused
            cursor.execute(question)
            return cursor.fetchone()[0]
    except Exception as error:
        return type(error).__name__


# Listeners that come before BEGIN


@pytest.fixture
def listening() -> Any:
    """``listening(target, name, function)``: until the test ends."""
    there: list[Any] = []

    def listen(*what: Any) -> None:
        event.listen(*what)
        there.append(what)

    yield listen
    for what in there:
        event.remove(*what)


@pytest.mark.families("postgresql")
async def test_set_local_in_the_engines_begin_event_is_in_the_transaction(database: Database, listening: Any) -> None:
    def tenant(connection: Any) -> None:
        connection.exec_driver_sql("SET LOCAL application_name = 'tenant'")

    listening(database.engine.sync_engine, "begin", tenant)
    asks = text("SELECT current_setting('application_name')")
    async with database.session() as db:
        assert await db.scalar(asks) == "tenant"
    async with database.atomic() as db:
        assert await db.scalar(asks) == "tenant"
    assert await database.fetch_val(asks) == "tenant"


@pytest.mark.families("postgresql")
async def test_an_isolation_level_that_comes_too_late_is_refused(database: Database, listening: Any) -> None:
    listening(
        database.engine.sync_engine,
        "begin",
        lambda connection: connection.exec_driver_sql("SET LOCAL work_mem = '5MB'"),
    )
    with pytest.raises(TransactionMisuse, match="isolation"):
        async with database.atomic(isolation="SERIALIZABLE") as db:
            await db.execute(text("SELECT 1"))
    async with database.session() as db:
        assert await db.scalar(text("SELECT current_setting('work_mem')")) == "5MB"


@pytest.mark.families("mariadb", "mysql", "postgresql")
async def test_what_a_checkout_listener_sets_ends_with_that_checkout(database: Database, listening: Any) -> None:
    mysql = database.config.family == "mysql"
    sets = "SET @tenant = 5" if mysql else "SET application_name = 'tenant'"
    asks = text("SELECT @tenant" if mysql else "SELECT current_setting('application_name')")

    def take(dbapi_connection: Any, *_: Any) -> None:
        cursor = dbapi_connection.cursor()
        cursor.execute(sets)
        cursor.close()

    pool = pool_of(database.engine)
    event.listen(pool, "checkout", take)
    async with database.session() as db:
        assert await db.scalar(asks) in {5, "tenant"}
    event.remove(pool, "checkout", take)
    listening(pool, "checkout", lambda *_: None)  # SQLAlchemy's own way of a checkout, still
    assert await database.fetch_val(asks) not in {5, "tenant"}
