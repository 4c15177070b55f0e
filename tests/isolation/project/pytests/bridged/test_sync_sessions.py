"""pytest's way, sync, over views with sessions; and the lane that commits."""

import pytest
from asgiref.sync import async_to_sync
from django.core import mail
from sqlalchemy import select

from catalogue.models import Book
from counter.tables import book
from django_bridge import session
from orders.models import Event

pytestmark = pytest.mark.django_db


async def read_title():
    async with session() as db:
        return await db.fetch_val(select(book.c.title))


def test_a_session_sees_the_rows_of_fixtures(client, momo):
    assert async_to_sync(read_title)() == "Momo"
    assert client.get("/counter/titles/").json() == {"titles": ["Momo"]}


@pytest.mark.parametrize("number", range(3))
def test_what_a_session_commits_is_undone_with_the_test(client, momo, number):
    assert client.post(f"/counter/sell/{momo.pk}/").status_code == 201
    momo.refresh_from_db()
    assert (momo.stock, Event.objects.count()) == (2, 1)


def test_hooks_run_when_they_are_captured(client, momo, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        client.post(f"/counter/lend/{momo.pk}/")
    assert mail.outbox[0] == "Thanks to Ende"
    assert mail.outbox[1].subject == "Order 111"


def test_queries_are_counted(client, momo, django_assert_num_queries):
    with django_assert_num_queries(1):
        client.get("/counter/titles/")


@pytest.mark.django_db(transaction=True)
def test_the_pool_commits(client, momo):
    client.post(f"/counter/lend/{momo.pk}/")
    assert Book.objects.get().stock == 2
    assert len(mail.outbox) == 2
