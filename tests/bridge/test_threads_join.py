"""Threads inside ``atomic()``: they join its transaction, and are refused when nobody waits for them any more."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.contenttypes.models import ContentType
from django.db import Error, connection, transaction

from asyncdb import AsyncDBError
from django_bridge import atomic, database, scope
from tests.bridge.shared import create_without_savepoint, models, object_writes, orm_reads, outside, session_writes

pytestmark = pytest.mark.native_only("in threads the ORM's calls are Django's own")


async def test_a_service_in_a_thread_is_rolled_back_with_the_block(tx: Any) -> None:
    def service() -> list[str]:
        with transaction.atomic():
            ContentType.objects.create(app_label="a", model="two")
        return models()

    with pytest.raises(LookupError):
        async with atomic() as db:
            await session_writes(db, "one")
            assert await sync_to_async(service)() == ["one", "two"]
            raise LookupError
    assert await outside() == []


async def test_the_session_is_used_by_async_code_that_the_thread_waits_for(tx: Any) -> None:
    def service(db: Any) -> None:
        async_to_sync(session_writes)(db, "one")
        with transaction.atomic():
            async_to_sync(object_writes)(db, "two")
            async_to_sync(block)("three")
        assert models() == ["one", "three", "two"]

    async def block(model: str) -> None:
        async with atomic() as db:
            await session_writes(db, model)

    async with atomic() as db:
        await sync_to_async(service)(db)
        assert await outside() == []
    assert await outside() == ["one", "three", "two"]


async def test_a_cancelled_owner_is_rolled_back_and_its_thread_refused(tx: Any, eventually: Any) -> None:
    wrote, go_on = threading.Event(), threading.Event()
    told: list[BaseException] = []

    def service() -> None:
        create_without_savepoint("one")
        wrote.set()
        go_on.wait(10)
        try:
            create_without_savepoint("two")
        except BaseException as err:
            told.append(err)

    async def owner() -> None:
        async with atomic():
            await sync_to_async(service)()

    task = asyncio.create_task(owner())
    await eventually(wrote.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await outside() == []
    async with scope(), atomic() as db:  # the next transaction, into which the thread must not write
        await session_writes(db, "three")
        go_on.set()
        await eventually(lambda: told)
        assert await orm_reads(db) == ["three"]
    assert isinstance(told[0], AsyncDBError | Error)
    assert await outside() == ["three"]


@pytest.mark.families("mariadb", "postgresql", "mysql")
async def test_an_owner_cancelled_amid_its_threads_statement_is_rolled_back(
    tx: Any, family: str, eventually: Any
) -> None:
    about_to = threading.Event()
    told: list[BaseException] = []

    def service() -> None:
        create_without_savepoint("one")
        about_to.set()
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT SLEEP(1)" if family in {"mariadb", "mysql"} else "SELECT pg_sleep(1)")
            create_without_savepoint("two")
        except BaseException as err:
            told.append(err)

    async def owner() -> None:
        async with atomic():
            await sync_to_async(service)()

    async with scope():
        task = asyncio.create_task(owner())
        await eventually(about_to.is_set)
        await asyncio.sleep(0.1)  # the statement is on its way
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: told)
    assert isinstance(told[0], AsyncDBError | Error)
    await eventually(lambda: database().stats().checked_out == 0)
    assert await outside() == []
