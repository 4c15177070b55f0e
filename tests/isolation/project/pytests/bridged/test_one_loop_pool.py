"""One event loop for the whole run, and so one pool, which outlives the tests and must not outlive their database."""

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.db import connections
from sqlalchemy import select

from catalogue.models import Book
from counter.tables import book
from counter.views import to_sell
from django_bridge import atomic, session

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.django_db(transaction=True)]


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def _closes_the_threads_connections(transactional_db):
    yield
    await sync_to_async(connections.close_all)()


@pytest.mark.parametrize("number", range(3))
async def test_each_case_starts_alike(async_client, momo, number):
    async with atomic() as db:
        await db.execute(to_sell(momo.pk))
        assert (await Book.objects.aget()).stock == 2
    async with session() as db:
        assert await db.fetch_val(select(book.c.stock)) == 2
    assert (await sync_to_async(Book.objects.get)()).stock == 2
    assert (await async_client.get(f"/counter/stock/{momo.pk}/")).json()["stock"] == 2
