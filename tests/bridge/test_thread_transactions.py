"""What a thread's transaction must survive: cancellation, closing, a pool that is empty. Found in review."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction

from django_bridge import database, run_django, scope

from .content_types import count, create, run

pytestmark = pytest.mark.native_only("it looks at scopes and their pool")


def leave_nothing() -> str:
    """One query, then a transaction that is rolled back: over and over, as a request does it."""
    for number in range(200):
        count("before")
        try:
            with transaction.atomic():
                create(f"outer{number}")
                if not connection.in_atomic_block:
                    return f"round {number}: the block is open and in_atomic_block is False"
                with transaction.atomic():
                    create(f"inner{number}")
                raise LookupError
        except LookupError:
            pass
    return f"{ContentType.objects.filter(app_label='review').count()} rows left"


@pytest.mark.verify("postgresql")
async def test_a_late_settle_does_not_take_the_connection_from_the_transaction_that_a_thread_begins(
    migrated: Any,
) -> None:
    async def busy() -> None:
        while True:
            until = time.perf_counter() + 0.002
            while time.perf_counter() < until:
                pass
            await asyncio.sleep(0.0005)

    keeping_busy = asyncio.create_task(busy())
    try:
        async with scope():
            assert await sync_to_async(leave_nothing)() == "0 rows left"
    finally:
        keeping_busy.cancel()


@pytest.mark.parametrize("close", ["close", "close_if_unusable_or_obsolete"])
async def test_a_connection_closed_in_a_thread_does_not_leave_the_transaction_that_follows(
    close: str, migrated: Any
) -> None:
    def work() -> int:
        lost = 0
        for _ in range(200):
            count("before")
            getattr(connection, close)()
            with transaction.atomic():
                count("within")
                lost += not connection.in_atomic_block
        return lost

    async with scope():
        assert await sync_to_async(work)() == 0


async def test_a_thread_whose_request_was_cancelled_does_not_believe_that_it_committed(migrated: Any) -> None:
    outcome: list[Any] = []
    began, ended = asyncio.Event(), asyncio.Event()
    go_on = threading.Event()
    loop = asyncio.get_running_loop()

    def work() -> None:
        try:
            with transaction.atomic():
                create("lost")
                loop.call_soon_threadsafe(began.set)
                assert go_on.wait(5)
            outcome.append("left normally")
        except Exception as err:
            outcome.append(type(err).__name__)
        loop.call_soon_threadsafe(ended.set)

    async def request() -> None:
        async with scope():
            await sync_to_async(work)()

    task = asyncio.create_task(request())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await asyncio.wait_for(ended.wait(), 5)
    assert (outcome[0] == "left normally") == bool(await run_django(count, "lost"))


@pytest.mark.families("mariadb", "postgresql", "mysql")
async def test_a_scope_that_ends_while_a_thread_waits_for_a_connection_leaks_none(migrated: Any) -> None:
    migrated(async_db={"pool_size": 1, "max_overflow": 0, "pool_timeout": 5})
    async with scope():
        await run_django(transaction.set_autocommit, False)
        await run_django(count, "taken")  # the only connection

        def work() -> None:
            with transaction.atomic():
                create("waits")

        async def request() -> None:
            async with scope():
                await sync_to_async(work)()

        task = asyncio.create_task(request())
        async with asyncio.timeout(4):
            while not database().stats().waiting:  # noqa: ASYNC110  (a state of the pool)
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await run_django(transaction.rollback)
        await run_django(transaction.set_autocommit, True)
    await asyncio.sleep(0.2)
    assert database().stats().checked_out == 0


async def test_a_child_task_that_calls_many_threads_leaves_no_scope_for_each(migrated: Any) -> None:
    async with scope() as place:

        async def consume() -> int:
            for _ in range(20):
                await sync_to_async(count)("x")
            return len(place.guests)

        assert await asyncio.create_task(consume()) <= 1


@pytest.mark.families("postgresql", "sqlite")
async def test_a_child_task_whose_threads_change_the_session_does_not_empty_the_pool(
    migrated: Any, family: str
) -> None:
    migrated(async_db={"pool_size": 3, "max_overflow": 0, "pool_timeout": 1})
    change = "SET work_mem = '5MB'" if family == "postgresql" else "PRAGMA cache_size = 100"
    async with scope():

        async def consume() -> None:
            for _ in range(6):
                await sync_to_async(run)(change)

        await asyncio.create_task(consume())


@pytest.mark.families("mariadb", "postgresql", "mysql")
async def test_a_thread_that_needs_more_connections_than_the_pool_has_is_told_at_once(migrated: Any) -> None:
    migrated(async_db={"pool_size": 1, "max_overflow": 0, "pool_timeout": 3})

    def work() -> float:
        since = time.monotonic()
        try:
            for _ in ContentType.objects.iterator():
                count("x")
        except Exception:
            return time.monotonic() - since
        return 0

    await run_django(create, "row")
    async with scope():
        assert await sync_to_async(work)() < 2


async def test_an_empty_transaction_in_a_thread_gives_its_connection_back(migrated: Any) -> None:
    def work() -> None:
        with transaction.atomic():
            pass

    async with scope():
        await sync_to_async(work)()
        await asyncio.sleep(0.1)
        assert database().stats().checked_out == 0
