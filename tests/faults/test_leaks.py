"""Who keeps a connection is found, and what became of connections is counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from asyncdb import Database
from asyncdb.testing import DatabaseServer
from django_bridge import atomic, scope
from django_bridge import database as bridged_database

pytestmark = [pytest.mark.faults]
Eventually = Callable[..., Awaitable[None]]


async def keeps_it(database: Database, until: asyncio.Event) -> None:
    async with database.session() as db:
        await db.execute(select(1))
        await until.wait()


@pytest.mark.config(leak_after=0.2)
async def test_a_connection_that_is_kept_is_reported_once_with_the_place(
    sound: Database, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    over = asyncio.Event()
    with caplog.at_level(logging.WARNING, "asyncdb.pool"):
        task = asyncio.create_task(keeps_it(sound, over), name="the keeper")
        await eventually(lambda: sound.stats().counts.leaks == 1)
        for _ in range(4):
            await sound.fetch_val(select(1))  # who gives it back is not reported
            await asyncio.sleep(0.1)
    [report] = caplog.messages
    assert "is held for" in report
    assert "task 'the keeper'" in report
    assert "test_leaks.py" in report
    assert "in keeps_it" in report
    assert sound.stats().counts.leaks == 1
    over.set()
    await task


async def test_nothing_is_reported_or_noted_unless_asked(sound: Database, caplog: pytest.LogCaptureFixture) -> None:
    """The control of the test above."""
    over = asyncio.Event()
    task = asyncio.create_task(keeps_it(sound, over))
    await asyncio.sleep(0.4)
    over.set()
    await task
    assert caplog.messages == []
    assert sound.stats().counts.leaks == 0


@pytest.mark.families("mariadb", "postgresql", "mysql")
@pytest.mark.config(held_idle_after=0.3)
async def test_a_connection_that_is_held_idle_is_reported_and_one_at_work_is_not(
    sound: Database, caplog: pytest.LogCaptureFixture
) -> None:
    nap = text("SELECT SLEEP(0.7)" if sound.config.family == "mysql" else "SELECT pg_sleep(0.7)")
    with caplog.at_level(logging.WARNING, "asyncdb.pool"):
        async with sound.session() as db:
            await db.execute(nap)
            for _ in range(5):
                await db.execute(select(1))
                await asyncio.sleep(0.1)
        assert caplog.messages == []
        async with sound.session() as db:
            await db.execute(select(1))
            await asyncio.sleep(0.6)
    [report] = caplog.messages
    assert "nothing was asked of it" in report
    assert "test_a_connection_that_is_held_idle" in report


async def test_under_debug_a_block_of_the_orm_is_reported(
    tx: Any, project: Any, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    project(DEBUG=True, ASYNC_DB={"default": {"held_idle_after": 0.2}})
    assert bridged_database().config.leak_after == 10.0
    with caplog.at_level(logging.WARNING, "asyncdb.pool"):
        async with scope(), atomic():
            await ContentType.objects.acount()
            await eventually(lambda: caplog.messages != [])
    assert "in test_under_debug_a_block_of_the_orm_is_reported" in caplog.messages[0]


@pytest.mark.families("mariadb", "postgresql", "mysql")
@pytest.mark.config(statement_timeout=None, read_timeout=0.4)
async def test_the_causes_of_lost_connections_are_counted(
    sound: Database, server: DatabaseServer, database_name: str, eventually: Eventually
) -> None:
    nap = text("SELECT SLEEP(20)" if sound.config.family == "mysql" else "SELECT pg_sleep(20)")
    with pytest.raises(DBAPIError, match="read_timeout"):
        await sound.execute(nap)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await sound.execute(nap)
    with pytest.raises(DBAPIError):
        async with sound.atomic() as db:
            await db.execute(text("SELECT 1"))
            await asyncio.to_thread(server.kill_connections, database=database_name)
            await db.execute(text("SELECT 2"))
    counts = sound.stats().counts
    assert counts.invalidated == {"timed out": 1, "cancelled": 1, "lost": 1}
    await eventually(lambda: sound.stats().counts.killed == 2)
    assert counts.invalidated is not sound.stats().counts.invalidated, "a look is a copy"
