"""Async tests on the pool: real commits, ``transactional_db``."""

import asyncio

import httpx
import pytest
from django.core import mail
from sqlalchemy import select

from bookshop.asgi import application
from catalogue.models import Book
from counter.tables import book
from counter.views import to_sell
from django_bridge import atomic, session
from orders.models import Event

pytestmark = [pytest.mark.asyncio, pytest.mark.django_db(transaction=True)]


async def test_a_session_sees_the_rows_of_fixtures(momo):
    async with session() as db:
        assert await db.fetch_val(select(book.c.title)) == "Momo"


async def test_both_orms_are_in_one_transaction(momo):
    async with atomic() as db:
        await db.execute(to_sell(momo.pk))
        assert (await Book.objects.aget()).stock == 2
    assert (await Book.objects.aget()).stock == 2


async def test_hooks_run_by_themselves(async_client, momo):
    await async_client.post(f"/counter/lend/{momo.pk}/")
    assert len(mail.outbox) == 2


async def test_clients_at_once_lose_nothing(async_client, momo):
    replies = await asyncio.gather(*(async_client.post(f"/counter/sell/{momo.pk}/") for _ in range(3)))
    assert {reply.status_code for reply in replies} == {201}
    assert ((await Book.objects.aget()).stock, await Event.objects.acount()) == (0, 3)


async def test_asgi_clients_at_once_lose_nothing(momo):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=application), base_url="http://testserver") as http:
        replies = await asyncio.gather(*(http.post(f"/counter/sell/{momo.pk}/") for _ in range(4)))
    assert sorted(reply.status_code for reply in replies) == [201, 201, 201, 409]
    assert ((await Book.objects.aget()).stock, await Event.objects.acount()) == (0, 3)


async def test_an_asgi_client_is_on_the_pool(momo):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=application), base_url="http://testserver") as http:
        assert (await http.post(f"/counter/sell/{momo.pk}/")).status_code == 201
    assert (await Book.objects.aget()).stock == 2
