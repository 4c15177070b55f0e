"""One event loop for the whole run, in each test's own transaction."""

import asyncio

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from sqlalchemy import select

from bookshop.factories import BookFactory
from catalogue.models import Book
from counter.tables import book
from counter.views import to_sell
from django_bridge import atomic, session

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.django_db]


@pytest_asyncio.fixture(loop_scope="session")
async def sold(momo):
    async with session() as db:
        await db.execute(to_sell(momo.pk))
        await db.commit()
    return momo


@pytest.mark.parametrize("number", range(3))
async def test_each_case_starts_alike(async_client, sold, number):
    async with session() as db:
        assert await db.fetch_val(select(book.c.stock)) == 2
    assert (await Book.objects.aget()).stock == 2
    assert (await sync_to_async(Book.objects.get)()).stock == 2
    assert (await async_client.get(f"/counter/stock/{sold.pk}/")).json()["stock"] == 2


async def test_blocks_at_once_lose_nothing(author):
    books = await sync_to_async(BookFactory.create_batch)(3, author=author)

    async def sell(one):
        async with atomic() as db:
            await db.execute(to_sell(one.pk))
            await asyncio.sleep(0)
            assert (await Book.objects.aget(pk=one.pk)).stock == 2

    await asyncio.gather(*map(sell, books))
    assert [one.stock async for one in Book.objects.all()] == [2] * 3
