"""Threads that work for the owner of a scope, which waits for them: whom they work for is known to the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, transaction

from asyncdb import registry
from django_bridge import ownership, run_django, scope

pytestmark = pytest.mark.native_only("threads of a scope")


@pytest.fixture
async def visits(project: Any, tmp_path: Any, django_db_blocker: Any) -> AsyncIterator[None]:
    """An SQLite file with the empty table ``visit``."""
    project(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "visits"}})
    with django_db_blocker.unblock():
        await run_django(_execute, "CREATE TABLE visit (number INTEGER)")
        yield
    await registry.close_all()


def _execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def _count() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM visit")
        return int(cursor.fetchone()[0])


async def _add() -> None:
    """Async code beneath a sync middleware, which asks a sync function: that one runs in the middleware's thread."""
    await sync_to_async(_execute)("INSERT INTO visit VALUES (1)")


async def test_a_thread_asks_again_after_async_code_beneath_it_used_it(visits: None) -> None:
    def middleware() -> int:
        async_to_sync(_add)()
        return _count()

    async with scope():
        assert await sync_to_async(middleware)() == 1


async def test_a_thread_runs_async_code_twice_in_its_transaction(visits: None) -> None:
    def middleware() -> int:
        with transaction.atomic():
            async_to_sync(_add)()
            async_to_sync(_add)()
            counted = _count()
            transaction.set_rollback(True)
        return counted

    async with scope():
        assert await sync_to_async(middleware)() == 2
        assert await run_django(_count) == 0


def test_the_caller_beneath_is_seen_where_asgiref_keeps_it() -> None:
    async def has_caller() -> bool:
        return ownership.has_sync_caller()

    assert async_to_sync(has_caller)()
    assert not asyncio.run(has_caller())
    assert ownership._in_this_context is not object, (
        "asgiref keeps it elsewhere: each call of the ORM asks the long way"
    )
