"""Defects that a review of the shared transaction found, each by name."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.contenttypes.models import ContentType
from django.db import Error, IntegrityError, connection, transaction
from sqlalchemy import exc as sa_exc
from sqlalchemy import select, text, update

from asyncdb import AsyncDBError, TransactionMisuse, TransactionPoisoned
from django_bridge import atomic, database, run_django, scope
from tests.bridge.shared import (
    Kind,
    create_without_savepoint,
    object_writes,
    orm_reads,
    orm_writes,
    outside,
    session_reads,
    session_writes,
)

pytestmark = pytest.mark.native_only("in threads the session and the ORM have transactions of their own")


async def test_a_thread_that_was_given_up_amid_its_own_block_leaves_the_next_transaction_alone(
    tx: Any, eventually: Any
) -> None:
    wrote, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def service() -> None:
        try:
            with transaction.atomic():
                create_without_savepoint("one")
                wrote.set()
                go_on.wait(10)
        finally:
            over.set()

    async with scope():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3), atomic():
                await sync_to_async(service)()
        assert wrote.is_set()
        async with atomic() as db:
            await session_writes(db, "three")
            go_on.set()
            await eventually(over.is_set)
            assert connection.in_atomic_block
            await orm_writes(db, "four")
            assert await outside() == []
        assert await outside() == ["four", "three"]


async def test_a_thread_that_was_given_up_does_not_roll_back_the_next_transaction(tx: Any, eventually: Any) -> None:
    wrote, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def service() -> None:
        try:
            with transaction.atomic():
                create_without_savepoint("one")
                wrote.set()
                go_on.wait(10)
                raise LookupError
        finally:
            over.set()

    async with scope():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3), atomic():
                await sync_to_async(service)()
        async with atomic() as db, atomic():
            await session_writes(db, "three")
            go_on.set()
            await eventually(over.is_set)
            await orm_writes(db, "four")
        assert await outside() == ["four", "three"]


async def test_get_without_autoflush_keeps_what_was_changed(tx: Any) -> None:
    async with atomic() as db:
        await orm_writes(db, "one")
        row = (await db.scalars(select(Kind))).one()
        with db.no_autoflush:
            row.app_label = "changed"
            await db.get(Kind, row.id)
            assert row.app_label == "changed"
    assert (await database().fetch_one(select(Kind.app_label)))[0] == "changed"


async def test_a_statement_without_autoflush_keeps_what_was_changed(tx: Any) -> None:
    async with atomic() as db:
        await orm_writes(db, "one")
        row = (await db.scalars(select(Kind))).one()
        row.app_label = "changed"
        await db.scalars(select(Kind).execution_options(autoflush=False))
        assert row.app_label == "changed"
    assert (await database().fetch_one(select(Kind.app_label)))[0] == "changed"


async def test_a_failed_flush_is_sqlalchemys_error_in_nested_blocks_too(tx: Any) -> None:
    async with atomic() as db:
        await session_writes(db, "one")
        with pytest.raises(sa_exc.IntegrityError):
            async with atomic():
                await object_writes(db, "one")


async def test_an_open_savepoint_of_the_sessions_does_not_hide_the_error(tx: Any) -> None:
    with pytest.raises(LookupError):
        async with atomic() as db:
            await db.begin_nested()
            await session_writes(db, "one")
            raise LookupError
    async with atomic() as db:
        await db.begin_nested()
        await session_writes(db, "two")
    assert await outside() == ["two"]
    with pytest.raises(LookupError):
        async with atomic() as db, atomic():
            await db.begin_nested()
            await session_writes(db, "one")
            raise LookupError
    async with atomic() as db, atomic():
        await db.begin_nested()
        await session_writes(db, "three")
    assert await outside() == ["three", "two"]


async def test_another_task_registers_no_hook_in_this_transaction(tx: Any) -> None:
    ran: list[str] = []

    async def other() -> None:
        transaction.on_commit(lambda: ran.append("other"))

    async with atomic() as db:
        await orm_writes(db, "one")
        with pytest.raises(AsyncDBError):
            await asyncio.create_task(other())
    assert ran == []


async def test_another_task_does_not_have_this_transaction_rolled_back(tx: Any) -> None:
    async def other() -> None:
        transaction.set_rollback(True)

    async with atomic() as db:
        await orm_writes(db, "one")
        with pytest.raises(AsyncDBError):
            await asyncio.create_task(other())
    assert await outside() == ["one"]


async def test_an_async_hook_outside_of_a_block_is_awaited_or_refused(tx: Any) -> None:
    ran: list[str] = []

    async def hook() -> None:
        ran.append("ran")

    def register() -> None:
        transaction.on_commit(hook)

    async with scope():
        await run_django(register)
        assert ran == ["ran"]
        await sync_to_async(register)()
        assert ran == ["ran", "ran"]


async def test_an_async_hook_registered_in_a_hook_is_awaited(tx: Any) -> None:
    ran: list[str] = []

    async def inner() -> None:
        ran.append("inner")

    def hook() -> None:
        transaction.on_commit(inner)

    async with atomic():
        transaction.on_commit(hook)
    assert ran == ["inner"]


@pytest.mark.families("postgresql")
async def test_a_raw_statement_that_failed_is_no_silent_commit(tx: Any) -> None:
    ran: list[str] = []

    def bad() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1/0")

    with pytest.raises((TransactionPoisoned, transaction.TransactionManagementError)):
        async with atomic() as db:
            transaction.on_commit(lambda: ran.append("ran"))
            await session_writes(db, "one")
            with pytest.raises(Exception, match="zero"):
                await run_django(bad)
    assert ran == []
    assert await outside() == []


@pytest.mark.families("postgresql")
async def test_a_read_of_the_sessions_that_failed_is_no_silent_commit(tx: Any) -> None:
    ran: list[str] = []
    with pytest.raises((TransactionPoisoned, transaction.TransactionManagementError)):
        async with atomic() as db:
            transaction.on_commit(lambda: ran.append("ran"))
            await session_writes(db, "one")
            with pytest.raises(Exception, match="zero"):
                await db.execute(select(text("1/0")))
    assert ran == []
    assert await outside() == []


async def test_a_connection_closed_inside_is_no_silent_commit(tx: Any) -> None:
    ran: list[str] = []
    async with scope():
        with pytest.raises(TransactionPoisoned, match="closed"):
            async with atomic() as db:
                transaction.on_commit(lambda: ran.append("ran"))
                await session_writes(db, "one")
                await run_django(connection.close)
                with pytest.raises(AsyncDBError):
                    await session_writes(db, "two")
                with pytest.raises(Error):
                    await orm_writes(db, "two")
        assert ran == []
        async with atomic() as db:
            await orm_writes(db, "three")
            await session_writes(db, "four")
    assert await outside() == ["four", "three"]
    assert ran == []


@pytest.mark.families("mariadb", "postgresql", "mysql")
async def test_a_killed_connection_is_no_silent_commit(tx: Any, family: str) -> None:
    ran: list[str] = []
    ask = "SELECT CONNECTION_ID()" if family in {"mariadb", "mysql"} else "SELECT pg_backend_pid()"
    kill = "KILL {}" if family in {"mariadb", "mysql"} else "SELECT pg_terminate_backend({})"
    async with scope():
        with pytest.raises(Error):
            async with atomic() as db:
                transaction.on_commit(lambda: ran.append("ran"))
                await session_writes(db, "one")
                number = (await db.execute(text(ask))).scalar()
                async with database().engine.connect() as other:
                    await other.execute(text(kill.format(number)))
                with pytest.raises(Error):
                    await orm_reads(db)
        assert ran == []
        async with atomic() as db:
            await orm_writes(db, "three")
            await session_writes(db, "four")
    assert await outside() == ["four", "three"]


@pytest.mark.families("mariadb", "mysql")
async def test_ddl_inside_a_nested_block_leaks_nothing(tx: Any) -> None:
    async with scope():
        with pytest.raises(Error, match="1305"):
            async with atomic() as db:
                await session_writes(db, "one")
                async with atomic():
                    await orm_writes(db, "two")
                    await db.execute(text("CREATE TABLE x (id INT)"))
        assert not connection.in_atomic_block
        async with atomic() as db:
            await orm_writes(db, "three")
    assert "three" in await outside()


@pytest.mark.families("postgresql", "sqlite")
async def test_a_stream_of_the_sessions_and_the_orm_between_its_rows(tx: Any) -> None:
    await ContentType.objects.abulk_create([ContentType(app_label="a", model=f"{n:04}") for n in range(500)])
    async with atomic() as db:
        rows = 0
        async for _ in await db.stream_scalars(select(Kind.model).execution_options(yield_per=50)):
            rows += 1
            if rows == 10:
                await orm_writes(db, "new")
        assert rows in {500, 501}
    assert "new" in await outside()


async def test_a_stream_of_the_orms_and_the_session_between_its_rows(tx: Any) -> None:
    await ContentType.objects.abulk_create([ContentType(app_label="a", model=f"{n:04}") for n in range(500)])
    async with atomic() as db:
        rows = 0
        async for one in ContentType.objects.order_by("model").aiterator(chunk_size=50):
            rows += 1
            if rows % 100 == 0:
                await db.execute(update(Kind).where(Kind.id == one.pk).values(app_label="b"))
                async with atomic():
                    await session_writes(db, f"n{rows}")
        assert rows == 500
    assert len(await outside()) == 505


async def test_a_stream_left_unfinished_does_not_hinder_the_block(tx: Any) -> None:
    await ContentType.objects.abulk_create([ContentType(app_label="a", model=f"{n:04}") for n in range(500)])
    async with atomic() as db:
        async for _ in ContentType.objects.order_by("model").aiterator(chunk_size=50):
            break
        await session_writes(db, "new")
    assert "new" in await outside()


@pytest.mark.families("postgresql")
async def test_what_a_do_block_of_the_orms_wrote_is_loaded_anew(tx: Any) -> None:
    def write() -> None:
        with connection.cursor() as cursor:
            cursor.execute("DO $$ BEGIN UPDATE django_content_type SET app_label = 'b'; END $$")

    async with atomic() as db:
        await session_writes(db, "one")
        row = (await db.scalars(select(Kind))).one()
        await run_django(write)
        row = (await db.scalars(select(Kind))).one()
        assert row.app_label == "b"


async def test_a_block_leaves_nothing_for_the_collector(tx: Any) -> None:
    async def once() -> Any:
        async with atomic() as db:
            await session_writes(db, "x")
            await orm_reads(db)
            transaction.set_rollback(True)
            return weakref.ref(db.sync_session), weakref.ref(db)

    await once()
    gc.collect()
    gc.disable()
    try:
        kept = await once()
        assert [one() for one in kept] == [None, None]
    finally:
        gc.enable()


async def test_database_atomic_inside_and_around(tx: Any) -> None:
    with pytest.raises(LookupError):
        async with atomic() as db:
            await orm_writes(db, "one")
            async with database().atomic() as inner:
                assert inner is db
                await session_writes(inner, "two")
            raise LookupError
    assert await outside() == []
    with pytest.raises(TransactionMisuse, match="no part"):
        async with database().atomic(), atomic() as db:
            await orm_writes(db, "three")
    assert await outside() == []


async def test_a_timeout_amid_an_inner_block_fails_the_outer_one(tx: Any, family: str) -> None:
    sleep = {"mariadb": "SELECT SLEEP(2)", "postgresql": "SELECT pg_sleep(2)"}.get(family)
    if sleep is None:
        return
    with pytest.raises((Error, TransactionPoisoned)):
        async with atomic() as db:
            await orm_writes(db, "one")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2), atomic():
                    await db.execute(text(sleep))
    assert await outside() == []


async def test_set_rollback_in_an_inner_block_takes_its_rows_and_hooks_alone(tx: Any) -> None:
    ran: list[str] = []
    async with atomic() as db:
        await object_writes(db, "one")
        transaction.on_commit(lambda: ran.append("outer"))
        async with atomic():
            await object_writes(db, "two")
            await orm_writes(db, "three")
            transaction.on_commit(lambda: ran.append("inner"))
            transaction.set_rollback(True)
        assert await session_reads(db) == ["one"]
        async with atomic(savepoint=False):
            await orm_writes(db, "four")
            db.on_commit(lambda: ran.append("flat"))
    assert await outside() == ["four", "one"]
    assert ran == ["outer", "flat"]


async def test_hooks_after_savepoints_by_hand(tx: Any) -> None:
    ran: list[str] = []
    async with atomic() as db:
        sid = await run_django(connection.savepoint)
        await object_writes(db, "one")
        db.on_commit(lambda: ran.append("one"))
        await run_django(transaction.savepoint_rollback, sid)
        db.on_commit(lambda: ran.append("two"))
        nested = await db.begin_nested()
        db.on_commit(lambda: ran.append("three"))
        await nested.rollback()
        sid = await run_django(connection.savepoint)
        await object_writes(db, "four")
        db.on_commit(lambda: ran.append("four"))
        await run_django(transaction.savepoint_commit, sid)
    assert ran == ["two", "four"]
    assert await outside() == ["four"]


async def test_a_caught_orm_error_without_a_savepoint(tx: Any) -> None:
    ran: list[str] = []
    await orm_writes(None, "one")
    with pytest.raises(TransactionPoisoned):  # Django's own block would end well, with nothing saved
        async with atomic() as db:
            await session_writes(db, "two")
            transaction.on_commit(lambda: ran.append("ran"))
            with pytest.raises(IntegrityError):
                await orm_writes(db, "one")
            with pytest.raises(TransactionPoisoned):
                await session_reads(db)
    assert ran == []
    assert await outside() == ["one"]
