"""Nothing ends well that was rolled back: errors that somebody caught, cancellations, a pool that is only busy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.contenttypes.models import ContentType
from django.db import DatabaseError, IntegrityError, connection, transaction
from sqlalchemy import insert, select, text
from sqlalchemy.exc import SQLAlchemyError

from asyncdb import Database, DatabaseConfig, Session
from asyncdb.ending import Ending
from asyncdb.errors import TransactionPoisoned
from django_bridge import atomic, database, run_django, sync_session
from tests.bridge.shared import Kind, outside

REFUSED = (TransactionPoisoned, transaction.TransactionManagementError)


@pytest.fixture
async def there(tx: Any) -> None:
    await ContentType.objects.acreate(app_label="a", model="there")


async def _fails() -> None:
    """An error of the database in the ORM, which somebody catches."""
    try:
        await ContentType.objects.acreate(app_label="a", model="there")
    except IntegrityError:
        return
    pytest.fail("there was no error to catch")


def _fails_in_sync_code() -> None:
    try:
        ContentType.objects.create(app_label="a", model="there")
    except IntegrityError:
        return
    pytest.fail("there was no error to catch")


def _raw() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _by_sync_session() -> None:
    with sync_session() as db:
        db.add(Kind(app_label="a", model="after"))


async def _pending(db: Session) -> None:
    db.add(Kind(app_label="a", model="after"))


async def _flushes(db: Session) -> None:
    db.add(Kind(app_label="a", model="after"))
    await db.flush()


async def _streams(db: Session) -> None:
    async for _ in db.stream(select(1)):
        pass


async def _nests(db: Session) -> None:
    async with atomic():
        await ContentType.objects.acreate(app_label="a", model="after")


async def _commits_a_savepoint(db: Session) -> None:
    async with db.begin_nested():
        await db.execute(insert(Kind).values(app_label="a", model="after"))


async def _on_its_connection(db: Session) -> None:
    await (await db.connection()).execute(select(1))


DOORS: dict[str, Callable[[Session], Awaitable[Any]]] = {
    "nothing": lambda _: asyncio.sleep(0),
    "pending object": _pending,
    "flush": _flushes,
    "execute": lambda db: db.execute(insert(Kind).values(app_label="a", model="after")),
    "select": lambda db: db.scalar(select(Kind.id).limit(1)),
    "get": lambda db: db.get(Kind, 1),
    "stream": _streams,
    "connection": _on_its_connection,
    "begin_nested": _commits_a_savepoint,
    "database": lambda _: database().fetch_val(select(1)),
    "orm": lambda _: ContentType.objects.acreate(app_label="a", model="after"),
    "orm read": lambda _: ContentType.objects.filter(model="there").aexists(),
    "run_django": lambda _: run_django(ContentType.objects.count),
    "thread": lambda _: sync_to_async(ContentType.objects.count)(),
    "raw cursor": lambda _: run_django(_raw),
    "sync_session": lambda _: run_django(_by_sync_session),
    "nested block": _nests,
}


@pytest.mark.parametrize("door", DOORS)
async def test_after_a_caught_error_of_the_orm_nothing_more_runs_by_any_door(there: None, door: str) -> None:
    with pytest.raises(REFUSED):
        async with atomic() as db:
            await _fails()
            await DOORS[door](db)
    assert await outside() == ["there"]


@pytest.mark.parametrize("door", DOORS)
async def test_a_block_raises_at_its_end_although_the_refusal_was_caught_too(there: None, door: str) -> None:
    with pytest.raises(TransactionPoisoned):
        async with atomic() as db:
            await ContentType.objects.acreate(app_label="a", model="before")
            await _fails()
            with suppress(SQLAlchemyError, DatabaseError):
                await DOORS[door](db)
    assert await outside() == ["there"]


async def test_an_error_that_sync_code_caught_counts_as_well(there: None) -> None:
    for call in (run_django, lambda function: sync_to_async(function)()):
        with pytest.raises(TransactionPoisoned):
            async with atomic():
                await call(_fails_in_sync_code)
    assert await outside() == ["there"]


async def test_a_nested_block_takes_the_blame_and_the_outer_one_goes_on(there: None) -> None:
    async with atomic() as db:
        await db.execute(insert(Kind).values(app_label="a", model="outer"))
        with pytest.raises(TransactionPoisoned):
            async with atomic():
                await ContentType.objects.acreate(app_label="a", model="inner")
                await _fails()
        await ContentType.objects.acreate(app_label="a", model="later")
    assert await outside() == ["later", "outer", "there"]


async def test_a_nested_block_whose_error_was_raised_leaves_the_outer_one_usable(there: None) -> None:
    async with atomic() as db:
        with pytest.raises(IntegrityError):
            async with atomic():
                await ContentType.objects.acreate(app_label="a", model="there")
        await db.execute(insert(Kind).values(app_label="a", model="later"))
    assert await outside() == ["later", "there"]


async def test_a_nested_block_without_a_savepoint_takes_the_outer_one_along(there: None) -> None:
    with pytest.raises(TransactionPoisoned):
        async with atomic():
            with pytest.raises(TransactionPoisoned):
                async with atomic(savepoint=False):
                    await _fails()
    assert await outside() == ["there"]


async def test_a_rollback_that_was_asked_for_is_no_error_as_in_django(there: None) -> None:
    async with atomic():
        await ContentType.objects.acreate(app_label="a", model="gone")
        await run_django(transaction.set_rollback, True)
    async with atomic():
        await _fails()
        await run_django(transaction.set_rollback, True)
    with pytest.raises(TransactionPoisoned):  # what was asked of one block is forgotten in the next
        async with atomic():
            await _fails()
    assert await outside() == ["there"]


async def test_an_error_of_the_session_that_was_caught_is_refused_alike(there: None) -> None:
    for door in DOORS.values():
        with pytest.raises(REFUSED):
            async with atomic() as db:
                with pytest.raises(SQLAlchemyError):
                    await db.execute(insert(Kind).values(app_label="a", model="there"))
                await door(db)
    assert await outside() == ["there"]


async def test_a_failed_flush_that_was_caught_ends_a_block_of_asyncdb_badly(there: None) -> None:
    with pytest.raises(SQLAlchemyError):
        async with database().atomic() as db:
            await db.execute(insert(Kind).values(app_label="a", model="before"))
            db.add(Kind(app_label="a", model="there"))
            with pytest.raises(SQLAlchemyError):
                await db.flush()
    assert await outside() == ["there"]


async def test_a_savepoint_of_asyncdb_keeps_its_outer_block_usable(there: None) -> None:
    async with database().atomic() as db:
        with pytest.raises(SQLAlchemyError):
            async with database().atomic():
                await db.execute(insert(Kind).values(app_label="a", model="there"))
        await db.execute(insert(Kind).values(app_label="a", model="later"))
    assert await outside() == ["later", "there"]


@pytest.mark.families("postgresql")
async def test_a_transaction_that_the_server_aborted_never_ends_well(there: None) -> None:
    for block in (atomic, database().atomic):
        with pytest.raises(TransactionPoisoned):
            async with block() as db:
                with pytest.raises(SQLAlchemyError):
                    await db.execute(text("SELECT 1 / 0"))
    assert await outside() == ["there"]


async def test_a_block_of_sync_session_ends_badly_after_a_caught_error(there: None) -> None:
    def block() -> None:
        with sync_session():
            _fails_in_sync_code()

    with pytest.raises(TransactionPoisoned, match="was caught"):
        await run_django(block)


async def test_a_cancellation_that_comes_while_a_pool_drains_is_seen() -> None:
    stuck, began = asyncio.Event(), asyncio.Event()

    async def ends(_: Any) -> int:
        began.set()
        try:
            await stuck.wait()
        finally:
            await asyncio.shield(asyncio.ensure_future(late()))
        return 0

    async def late() -> None:
        closing.cancel()

    ending = Ending("default", ends)
    ending.soon(object())
    await began.wait()
    closing = asyncio.create_task(ending.drain(0.01))
    with pytest.raises(asyncio.CancelledError):
        await closing
    stuck.set()


async def test_health_tells_a_busy_pool_from_a_server_that_is_away(database_config: DatabaseConfig) -> None:
    one = database_config.model_copy(update={"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.1})
    small = Database(one)
    try:
        assert (await small.health()).state == "ok"
        async with small.session() as db:
            await db.execute(select(1))
            for timeout in (0.05, 5.0):
                busy = await asyncio.create_task(small.health(timeout=timeout))
                assert (busy.ok, busy.state) == (False, "busy")
                assert "checked out 1" in (busy.error or "")
            assert (await small.health()).state == "busy"
        assert (await small.health()).ok
    finally:
        await small.close()


@pytest.mark.families("mariadb", "mysql", "postgresql")
async def test_health_says_away_where_nothing_answers(proxied: Any) -> None:
    config, proxy = proxied
    proxy.black_hole()
    gone = Database(config.model_copy(update={"pool_size": 1, "max_overflow": 0}))
    try:
        assert (await gone.health(timeout=0.2)).state == "away"
    finally:
        proxy.restore()
        await gone.close()
