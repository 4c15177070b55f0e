"""One event loop for the whole run, as teams have it whose clients and caches live on a loop."""

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.db import connections

from bookshop.factories import BookFactory
from catalogue.models import Book
from orders.models import Event

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.django_db(transaction=True)]


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def _closes_the_threads_connections(transactional_db):
    yield
    await sync_to_async(connections.close_all)()


@pytest.mark.parametrize("number", range(3))
async def test_each_case_starts_alike(async_client, momo, number):
    await async_client.post(f"/async/note/{number}/")
    assert (await Event.objects.aget()).reference == str(number)
    assert (await async_client.get(f"/async/books/{momo.pk}/")).json()["title"] == "Momo"


async def test_a_factory_in_a_thread_is_seen():
    book = await sync_to_async(BookFactory)()
    assert await Book.objects.filter(pk=book.pk).aexists()
