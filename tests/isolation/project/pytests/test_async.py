"""pytest's way, async, as it is written today: with real commits, because Django's async calls have another thread."""

import httpx
import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.core import mail
from django.db import connections

from bookshop.asgi import application
from bookshop.factories import BookFactory, OrderFactory
from catalogue.models import Book
from orders.models import Event, Order
from orders.services import place_order

pytestmark = [pytest.mark.asyncio, pytest.mark.django_db(transaction=True)]


@pytest_asyncio.fixture(autouse=True)
async def _closes_the_threads_connections(transactional_db):
    """As many projects have it, or the test database cannot be dropped."""
    yield
    await sync_to_async(connections.close_all)()


async def test_the_async_client_sees_the_rows_of_fixtures(async_client, momo):
    found = (await async_client.get("/async/books/")).json()["books"]
    assert [book["title"] for book in found] == ["Momo"]


async def test_the_async_client_sees_them_in_a_sync_view(async_client, momo):
    assert (await async_client.get(f"/books/{momo.pk}/")).json()["title"] == "Momo"


async def test_the_orm_sees_them(momo):
    assert (await Book.objects.select_related("author").aget()).author.name == "Ende"
    assert [book.title async for book in Book.objects.all()] == ["Momo"]


async def test_a_factory_in_a_thread_is_seen():
    book = await sync_to_async(BookFactory)()
    assert await Book.objects.filter(pk=book.pk).aexists()


async def test_the_clients_write_is_seen_by_everyone(async_client):
    await async_client.post("/async/note/x/")
    assert (await Event.objects.aget()).reference == "x"
    assert await sync_to_async(Event.objects.count)() == 1


async def test_a_reader_buys(async_client, momo, reader):
    await async_client.aforce_login(reader)
    for path in ("/checkout/", "/async/checkout/"):
        assert (await async_client.post(path, {momo.pk: 1})).status_code == 201
    await momo.arefresh_from_db()
    assert (momo.stock, len(mail.outbox)) == (1, 2)


async def test_a_service_in_a_thread_commits(momo, reader):
    await sync_to_async(place_order)(reader, {momo.pk: 1})
    assert (await Order.objects.acount(), len(mail.outbox)) == (1, 1)


async def test_an_asgi_client_sees_the_rows_of_fixtures(momo):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=application), base_url="http://testserver") as http:
        assert (await http.get("/async/books/")).json()["books"][0]["title"] == "Momo"
        assert (await http.get(f"/books/{momo.pk}/")).json()["title"] == "Momo"
        assert (await http.post("/async/note/x/")).status_code == 201
    assert (await Event.objects.aget()).reference == "x"


async def test_related_managers_write(reader, momo):
    order = await sync_to_async(OrderFactory)(customer=reader)
    await order.books.aadd(momo, through_defaults={"quantity": 2})
    assert await order.lines.acount() == 1


async def test_an_async_test_without_the_client_leaves_nothing():
    await Event.objects.acreate(kind="note", reference="x")
    assert await Event.objects.acount() == 1
