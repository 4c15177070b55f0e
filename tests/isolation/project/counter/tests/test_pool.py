"""The lane that exercises the pool: real commits, in TransactionTestCase and on a live server."""

import json
from datetime import date
from decimal import Decimal
from urllib.request import Request, urlopen

from asgiref.sync import async_to_sync
from django.core import mail
from django.db import transaction
from django.test import LiveServerTestCase, TransactionTestCase
from sqlalchemy import func, select

from asyncdb import TransactionMisuse, UncommittedWrites
from bookshop.factories import BookFactory, UserFactory
from bookshop.leftovers import StartsFlushed
from catalogue.models import Book
from counter.tables import book
from django_bridge import session
from orders.models import Event


class PoolTests(StartsFlushed, TransactionTestCase):
    def test_a_session_sees_what_the_test_has_committed_and_the_test_what_the_session_has(self):
        momo = BookFactory(title="Momo")
        self.assertEqual(self.client.get(f"/counter/stock/{momo.pk}/").json(), {"title": "Momo", "stock": 3})
        self.client.post(f"/counter/sell/{momo.pk}/")
        momo.refresh_from_db()
        self.assertEqual(momo.stock, 2)

    def test_hooks_run_by_themselves(self):
        momo = BookFactory(isbn="111", author__name="Ende")
        self.client.post(f"/counter/lend/{momo.pk}/")
        self.assertEqual(mail.outbox[0], "Thanks to Ende")
        self.assertEqual(mail.outbox[1].subject, "Order 111")

    def test_an_inner_block_loses_its_own_rows_alone(self):
        self.client.post("/counter/try/")
        self.assertEqual(sorted(Event.objects.values_list("reference", flat=True)), ["core", "orm"])

    def test_a_block_that_raises_loses_its_rows(self):
        self.assertEqual(self.client.post("/counter/refuse/").status_code, 409)
        self.assertEqual((Event.objects.count(), mail.outbox), (0, []))

    def test_a_forgotten_commit_is_told_and_undone(self):
        momo = BookFactory()
        with self.assertRaises(UncommittedWrites):
            self.client.post(f"/counter/forget/{momo.pk}/")
        self.assertEqual(Book.objects.get().stock, 3)

    def test_the_service_joins_the_transaction_of_the_view(self):
        momo, reader = BookFactory(), UserFactory()
        self.client.force_login(reader)
        self.assertEqual(self.client.post("/counter/checkout/", {momo.pk: 1}).status_code, 201)
        self.assertEqual((Event.objects.count(), reader.orders.count()), (2, 1))

    async def test_the_async_client_is_on_the_pool_too(self):
        self.assertEqual((await self.async_client.post("/counter/try/")).status_code, 201)
        self.assertEqual(await Event.objects.acount(), 2)

    def test_values_have_their_types(self):
        BookFactory(price="9.90", published=date(1973, 9, 1), in_print=False)

        async def read():
            async with session() as db:
                return await db.fetch_one(select(book.c.price, book.c.published, book.c.in_print, book.c.stock))

        self.assertEqual(tuple(async_to_sync(read)()), (Decimal("9.90"), date(1973, 9, 1), False, 3))

    def test_a_session_in_a_transaction_of_the_test_is_refused_as_in_production(self):
        momo = BookFactory()
        with transaction.atomic():
            Book.objects.update(stock=7)
            with self.assertRaises(TransactionMisuse):
                self.client.get(f"/counter/stock/{momo.pk}/")
        self.assertEqual(self.client.get(f"/counter/stock/{momo.pk}/").json()["stock"], 7)

    def test_a_session_joins_a_transaction_of_the_test_when_asked(self):
        async def read():
            async with session(join=True) as db:
                return await db.fetch_val(select(book.c.stock))

        BookFactory()
        with transaction.atomic():
            Book.objects.update(stock=7)
            self.assertEqual(async_to_sync(read)(), 7)
            transaction.set_rollback(True)
        self.assertEqual(Book.objects.get().stock, 3)


class LiveTests(StartsFlushed, LiveServerTestCase):
    def call(self, path, data=None):
        with urlopen(Request(f"{self.live_server_url}{path}", data), timeout=30) as reply:
            return reply.status, reply.read()

    def test_the_server_sees_the_rows_of_the_test_in_its_sessions(self):
        BookFactory(title="Momo")
        self.assertEqual(json.loads(self.call("/counter/titles/")[1]), {"titles": ["Momo"]})
        self.assertEqual(self.call("/counter/titles.csv")[1], b"Momo\n")

    def test_the_test_sees_the_rows_of_the_servers_sessions(self):
        momo = BookFactory()
        self.assertEqual(self.call(f"/counter/sell/{momo.pk}/", b"")[0], 201)
        self.assertEqual(Book.objects.get().stock, 2)

    def test_the_sessions_of_the_test_and_the_server_see_each_other(self):
        async def count():
            async with session() as db:
                return await db.fetch_val(select(func.count()).select_from(book))

        BookFactory()
        self.assertEqual(async_to_sync(count)(), 1)
        self.assertEqual(json.loads(self.call("/counter/census/")[1]), {"books": 1})
