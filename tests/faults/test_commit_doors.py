"""The doubt of a COMMIT, as the ORM, ``run_django`` and the shared block tell it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import OperationalError, transaction
from sqlalchemy import insert

import asyncdb
from asyncdb.testing import DatabaseServer, Proxy
from django_bridge import atomic, database, errors, run_django, scope
from tests.bridge.shared import Kind, outside

pytestmark = [pytest.mark.faults, pytest.mark.families("mariadb", "postgresql", "mysql")]
Door = Callable[[Callable[[], None]], Awaitable[None]]


async def by_session(fault: Callable[[], None]) -> None:
    async with database().atomic() as db:
        await db.execute(insert(Kind).values(app_label="a", model="one"))
        await asyncio.to_thread(fault)


async def by_shared_block(fault: Callable[[], None]) -> None:
    async with atomic():
        await ContentType.objects.acreate(app_label="a", model="one")
        await asyncio.to_thread(fault)


async def by_run_django(fault: Callable[[], None]) -> None:
    def write() -> None:
        with transaction.atomic():
            ContentType.objects.create(app_label="a", model="one")
            fault()

    async with scope():
        await run_django(write)


DOORS = [by_session, by_shared_block, by_run_django]


@pytest.fixture
async def broken(tx: Any, server: DatabaseServer, project: Any) -> AsyncIterator[Proxy]:
    """The way of the bridge to its database leads through a proxy."""
    with Proxy(server.host, server.port) as proxy:
        options = {"read_timeout": 0.5, "close_timeout": 0.2}
        tx(PORT=proxy.port)
        project(ASYNC_DB={"default": options})
        yield proxy
        proxy.restore()
        assert database().stats().checked_out == 0


@pytest.mark.parametrize("door", DOORS)
async def test_each_door_says_that_a_commit_is_in_doubt(broken: Proxy, door: Door) -> None:
    with pytest.raises(asyncdb.CommitInDoubt) as caught:
        await door(broken.black_hole)
    if door is not by_session:
        assert isinstance(caught.value, errors.CommitInDoubt)
        assert isinstance(caught.value, OperationalError)
    broken.restore()
    assert database().stats().counts.in_doubt == 1


@pytest.mark.parametrize("door", DOORS)
async def test_each_door_says_that_a_commit_was_never_sent(
    broken: Proxy, server: DatabaseServer, database_name: str, door: Door
) -> None:
    with pytest.raises(Exception, match="nothing was committed") as caught:
        await door(partial(server.kill_connections, database=database_name))
    assert not isinstance(caught.value, asyncdb.CommitInDoubt)
    assert database().stats().counts.in_doubt == 0
    assert await outside() == []


async def test_no_hook_runs_after_a_commit_in_doubt(broken: Proxy) -> None:
    ran: list[str] = []

    async def write() -> None:
        async with atomic():
            transaction.on_commit(partial(ran.append, "hook"))
            await ContentType.objects.acreate(app_label="a", model="one")
            await asyncio.to_thread(broken.black_hole)

    with pytest.raises(asyncdb.CommitInDoubt):
        await write()
    assert ran == []


async def test_a_block_of_the_orm_that_read_returns_its_value_though_the_connection_dies(
    broken: Proxy, server: DatabaseServer, database_name: str
) -> None:
    async def read() -> int:
        async with atomic():
            found = await ContentType.objects.filter(model="one").acount()
            await asyncio.to_thread(server.kill_connections, database=database_name)
            return found

    def read_now() -> int:
        with transaction.atomic():
            found = ContentType.objects.filter(model="one").count()
            server.kill_connections(database=database_name)
            return found

    assert await read() == 0
    async with scope():
        assert await run_django(read_now) == 0
    assert await outside() == []
