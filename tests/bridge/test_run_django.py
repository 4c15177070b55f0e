"""``run_django``: any sync Django code on the event loop."""

from __future__ import annotations

import asyncio
import io
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.test import override_settings

from django_bridge import database, run_django, scope


@pytest.fixture
async def migrated(bridged: Any, django_db_blocker: Any) -> AsyncIterator[Any]:
    with django_db_blocker.unblock():
        await run_django(call_command, "migrate", "contenttypes", verbosity=0, interactive=False)
        yield bridged


@pytest.mark.contract
async def test_a_command_runs_on_the_loop(migrated: Any) -> None:
    out = io.StringIO()
    await run_django(call_command, "showmigrations", "contenttypes", stdout=out)
    assert "[X] 0001_initial" in out.getvalue()
    assert database().stats().checked_out == 0


async def test_a_function_gets_its_arguments_and_gives_its_result(migrated: Any) -> None:
    def service(model: str, *, app: str) -> str:
        with transaction.atomic():
            created = ContentType.objects.create(app_label=app, model=model)
        return f"{created.app_label}.{created.model}"

    assert await run_django(service, "book", app="library") == "library.book"
    assert await ContentType.objects.filter(app_label="library").acount() == 1


async def test_an_error_is_the_functions_own_and_nothing_is_left(migrated: Any) -> None:
    def fails() -> None:
        with transaction.atomic():
            ContentType.objects.create(app_label="library", model="page")
            ContentType.objects.create(app_label="library", model="page")

    with pytest.raises(IntegrityError):
        await run_django(fails)
    assert await ContentType.objects.filter(model="page").acount() == 0
    assert database().stats().checked_out == 0


async def test_a_coroutine_function_is_refused_by_name(bridged: Any) -> None:
    async def service() -> None: ...

    with pytest.raises(TypeError, match=r"run_django: .*service is async: await it directly"):
        await run_django(service)


@pytest.mark.families("mariadb", "postgresql", "mysql")
async def test_the_loop_goes_on_while_the_function_waits_for_the_database(migrated: Any, family: str) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.01)

    def slow() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT SLEEP(0.5)" if family in {"mariadb", "mysql"} else "SELECT pg_sleep(0.5)")

    counting = asyncio.create_task(count())
    await run_django(slow)
    counting.cancel()
    assert turns > 10


@pytest.mark.native_only("a thread cannot be cancelled")
@pytest.mark.families("mariadb", "postgresql", "mysql")
@pytest.mark.contract
async def test_a_cancelled_function_is_told_and_its_connection_is_not_used_again(migrated: Any, family: str) -> None:
    told: list[type[BaseException]] = []

    def slow() -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT SLEEP(2)" if family in {"mariadb", "mysql"} else "SELECT pg_sleep(30)")
        except BaseException as err:
            told.append(type(err))
            raise

    async with scope():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await run_django(slow)
        assert told == [asyncio.CancelledError]
        assert database().stats().checked_out == 0
        assert await ContentType.objects.acount() >= 0


@pytest.mark.native_only("in a thread nothing blocks the loop")
@pytest.mark.families("sqlite")
@pytest.mark.parametrize("debug", [True, False])
async def test_under_debug_a_function_that_blocks_the_loop_is_named(
    debug: bool, migrated: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def computes() -> int:
        until = time.monotonic() + 0.15
        while time.monotonic() < until:
            pass
        return ContentType.objects.count()

    asyncio.get_running_loop().slow_callback_duration = 0.1
    with caplog.at_level(logging.WARNING, "django_bridge.native"), override_settings(DEBUG=debug):
        await run_django(computes)
    assert all("computes blocked the event loop" in record.getMessage() for record in caplog.records)
    assert len(caplog.records) == debug


@pytest.mark.families("mariadb", "postgresql", "mysql")
async def test_under_debug_waiting_for_the_database_is_not_blocking(
    migrated: Any, family: str, caplog: pytest.LogCaptureFixture
) -> None:
    def slow() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT SLEEP(0.3)" if family in {"mariadb", "mysql"} else "SELECT pg_sleep(0.3)")

    await ContentType.objects.acount()  # connected before
    asyncio.get_running_loop().slow_callback_duration = 0.25
    with caplog.at_level(logging.WARNING, "django_bridge.native"), override_settings(DEBUG=True):
        await run_django(slow)
    assert not caplog.records
