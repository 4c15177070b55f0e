"""Async tests in the test's own transaction (the fixture ``db``), which Django alone cannot do with pytest-asyncio."""

import asyncio

import httpx
import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.core import mail
from django.db import connection, transaction
from sqlalchemy import func, select

from bookshop.asgi import application
from bookshop.factories import BookFactory
from catalogue.models import Book, Genre
from counter import views
from counter.tables import book
from counter.views import happened, to_sell
from django_bridge import atomic, database, session
from orders.models import Event
from orders.services import OutOfStock, place_order

pytestmark = [pytest.mark.asyncio, pytest.mark.django_db]


def http_client():
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=application), base_url="http://testserver")


def kinds():
    return sorted(Event.objects.values_list("kind", "reference"))


@pytest_asyncio.fixture
async def sold(momo):
    """An async fixture that writes by a session."""
    async with session() as db:
        await db.execute(to_sell(momo.pk))
        await db.commit()
    return momo


async def test_the_orm_sees_the_rows_of_fixtures(momo):
    assert (await Book.objects.select_related("author").aget()).author.name == "Ende"
    assert [found.title async for found in Book.objects.all()] == ["Momo"]


async def test_a_session_sees_them(momo):
    async with session() as db:
        assert await db.fetch_val(select(book.c.title)) == "Momo"
    async with atomic() as db:
        assert await db.fetch_val(select(book.c.title)) == "Momo"
    assert await database().fetch_val(select(book.c.title)) == "Momo"


async def test_a_thread_sees_them(momo):
    assert await sync_to_async(Book.objects.get)() == momo


@pytest.mark.parametrize("path", ["/async/books/{}/", "/books/{}/", "/counter/stock/{}/"])
async def test_the_async_client_sees_them(async_client, momo, path):
    assert (await async_client.get(path.format(momo.pk))).json()["title"] == "Momo"


@pytest.mark.parametrize("path", ["/async/books/{}/", "/books/{}/", "/counter/stock/{}/"])
async def test_an_asgi_client_sees_them(momo, path):
    async with http_client() as http:
        assert (await http.get(path.format(momo.pk))).json()["title"] == "Momo"


async def test_what_an_asgi_client_writes_is_seen_and_undone(momo):
    async with http_client() as http:
        assert (await http.post("/async/note/x/")).status_code == 201
        assert (await http.post(f"/counter/sell/{momo.pk}/")).status_code == 201
        assert (await http.post(f"/counter/lend/{momo.pk}/")).status_code == 201
    assert (await Book.objects.aget()).stock == 1
    assert [kind for kind, _ in await sync_to_async(kinds)()] == ["lent", "note", "sold"]
    assert connection.in_atomic_block


async def test_a_factory_in_a_thread_is_seen_by_everyone(async_client):
    made = await sync_to_async(BookFactory)(title="Momo")
    assert await Book.objects.filter(pk=made.pk).aexists()
    async with session() as db:
        assert await db.fetch_val(select(book.c.id)) == made.pk
    assert (await async_client.get("/counter/census/")).json() == {"books": 1}


async def test_what_the_orm_writes_is_seen_by_everyone(async_client, author):
    made = await Book.objects.acreate(title="Momo", isbn="1", author=author, price=1)
    assert (await async_client.get(f"/counter/stock/{made.pk}/")).json()["title"] == "Momo"
    assert await sync_to_async(Book.objects.count)() == 1


async def test_what_a_session_writes_is_seen_by_everyone(async_client, momo):
    async with session() as db:
        await db.execute(to_sell(momo.pk))
        await db.commit()
    assert (await Book.objects.aget()).stock == 2
    assert (await sync_to_async(Book.objects.get)()).stock == 2
    assert (await async_client.get(f"/books/{momo.pk}/")).json()["stock"] == 2


async def test_an_async_fixture_is_in_the_tests_transaction(sold):
    assert (await Book.objects.aget()).stock == 2


@pytest.mark.parametrize("number", range(3))
async def test_each_case_starts_alike(sold, number):
    await Event.objects.acreate(kind="note", reference=str(number))
    assert (await Book.objects.aget()).stock == 2


async def test_an_inner_block_loses_its_own_rows_alone(momo):
    async with atomic() as db:
        await db.execute(happened("outer", "core"))
        with pytest.raises(views.Refused):
            async with atomic() as inner:
                await inner.execute(happened("inner", "core"))
                await Event.objects.acreate(kind="inner", reference="orm")
                raise views.Refused
    assert await sync_to_async(kinds)() == [("outer", "core")]


async def test_a_service_in_a_thread_joins_the_block(momo, reader):
    with pytest.raises(OutOfStock):
        async with atomic() as db:
            await db.execute(happened("outer", "core"))
            await sync_to_async(place_order)(reader, {momo.pk: 9})
    assert await sync_to_async(kinds)() == []


async def test_a_login_is_kept(async_client, momo, reader):
    await async_client.aforce_login(reader)
    for path in ("/checkout/", "/async/checkout/", "/counter/checkout/"):
        assert (await async_client.post(path, {momo.pk: 1})).status_code == 201
    assert (await Book.objects.aget()).stock == 0


async def test_hooks_are_captured_and_do_not_run_by_themselves(async_client, momo, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks() as hooks:
        await async_client.post(f"/counter/lend/{momo.pk}/")
    assert (len(hooks), mail.outbox) == (2, [])


async def test_queries_of_both_orms_are_counted(async_client, momo, async_django_assert_num_queries):
    async with async_django_assert_num_queries(2):
        await async_client.get("/counter/shelf/")


async def test_clients_at_once_lose_nothing(async_client, momo):
    replies = await asyncio.gather(
        *(async_client.post(f"/counter/sell/{momo.pk}/") for _ in range(3)),
        *(async_client.post("/counter/try/") for _ in range(3)),
        *(async_client.post(f"/async/note/{number}/") for number in range(3)),
    )
    assert {reply.status_code for reply in replies} == {201}
    assert (await Book.objects.aget()).stock == 0
    assert await Event.objects.acount() == 12


async def test_asgi_clients_at_once_lose_nothing(momo):
    paths = [f"/counter/sell/{momo.pk}/", f"/counter/lend/{momo.pk}/", "/counter/try/", "/async/note/x/"]
    async with http_client() as http:
        replies = await asyncio.gather(
            *(http.post(path) for path in paths),
            *(http.get("/books/") for _ in range(3)),
            *(http.get("/counter/titles/") for _ in range(3)),
        )
    assert [reply.status_code for reply in replies] == [201] * 4 + [200] * 6
    assert (await Book.objects.aget()).stock == 1
    assert await Event.objects.acount() == 5


async def test_a_failing_block_among_others_loses_its_own_rows_alone(author):
    async def one(number):
        async with atomic() as db:
            await db.execute(happened("core", number))
            await asyncio.sleep(0)
            await Event.objects.acreate(kind="orm", reference=str(number))
            if number == 1:
                raise views.Refused

    done = await asyncio.gather(*map(one, range(4)), return_exceptions=True)
    assert [isinstance(result, views.Refused) for result in done] == [False, True, False, False]
    assert await Event.objects.acount() == 6
    async with session() as db:
        assert await db.fetch_val(select(func.count()).select_from(views.event)) == 6


async def test_the_base_data_of_the_run_are_there():
    assert await Genre.objects.filter(name="House choice").aexists()


async def test_an_error_in_a_view_leaves_the_transaction_whole(async_client, momo):
    with pytest.raises(views.Refused):
        await async_client.post("/counter/explode/")
    await async_client.post(f"/counter/sell/{momo.pk}/")
    assert [kind for kind, _ in await sync_to_async(kinds)()] == ["sold"]


async def test_sync_code_of_the_test_is_in_the_same_transaction(momo):
    def twice():
        with transaction.atomic():
            Event.objects.create(kind="sync", reference="kept")
        try:
            with transaction.atomic():
                Event.objects.create(kind="sync", reference="lost")
                raise OutOfStock
        except OutOfStock:
            pass

    await sync_to_async(twice)()
    assert [event.reference async for event in Event.objects.all()] == ["kept"]
