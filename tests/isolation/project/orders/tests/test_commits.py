"""Tests that commit: TransactionTestCase, with what the migrations have filled, and a live server."""

import json
import threading
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from django.core import mail
from django.db import transaction
from django.test import LiveServerTestCase, TransactionTestCase

from bookshop.factories import BookFactory, UserFactory
from bookshop.leftovers import StartsFlushed
from catalogue.models import Book, Genre
from orders.models import Event, Order
from orders.services import OutOfStock, place_order


class CommittedTests(StartsFlushed, TransactionTestCase):
    def test_hooks_run_after_the_commit(self):
        book = BookFactory()
        with transaction.atomic():
            place_order(UserFactory(), {book.pk: 1}, reference="C1")
            self.assertEqual(mail.outbox, [])
        self.assertEqual([sent.subject for sent in mail.outbox], ["Order C1"])

    def test_a_roll_back_leaves_nothing(self):
        book = BookFactory(stock=1)
        with self.assertRaises(OutOfStock):
            place_order(UserFactory(), {book.pk: 2})
        self.assertEqual((Order.objects.count(), mail.outbox), (0, []))

    def test_the_clients_and_the_test_see_each_other(self):
        book, reader = BookFactory(title="Momo", stock=2), UserFactory()
        self.client.force_login(reader)
        for path in ("/checkout/", "/async/checkout/"):
            self.assertEqual(self.client.post(path, {book.pk: 1}).status_code, 201)
        book.refresh_from_db()
        self.assertEqual((book.stock, len(mail.outbox)), (0, 2))

    async def test_the_async_client_and_the_test_see_each_other(self):
        await self.async_client.post("/async/note/x/")
        self.assertEqual((await Event.objects.aget()).reference, "x")


class SerializedTests(StartsFlushed, TransactionTestCase):
    serialized_rollback = True

    def test_what_the_migrations_have_filled_is_there(self):
        self.assertLessEqual({"Crime", "Poetry", "Travel"}, set(Genre.objects.values_list("name", flat=True)))
        Genre.objects.all().delete()

    async def test_it_is_there_again_for_async_code(self):
        names = {genre.name async for genre in Genre.objects.all()}
        self.assertLessEqual({"Crime", "Poetry", "Travel"}, names)
        await Genre.objects.all().adelete()

    def test_it_is_there_for_the_client(self):
        sent = json.dumps({"title": "x", "isbn": "1", "author": "Anon", "genres": ["Crime"]})
        self.client.post("/async/books/add/", sent, content_type="application/json")
        self.assertEqual(Genre.objects.filter(name="Crime").count(), 1)
        self.assertEqual(Book.objects.get().genres.get().name, "Crime")


class LiveTests(StartsFlushed, LiveServerTestCase):
    def call(self, path, data=None):
        with urlopen(Request(f"{self.live_server_url}{path}", data), timeout=30) as reply:
            return reply.status, reply.read()

    def test_the_server_sees_the_rows_of_the_test(self):
        BookFactory(title="Momo", stock=1)
        for path in ("/books/", "/async/books/"):
            self.assertEqual(json.loads(self.call(path)[1])["books"][0]["title"], "Momo")
        for path in ("/books.csv", "/async/books.csv"):
            self.assertEqual(self.call(path)[1], b"Momo,1\r\n")

    def test_the_test_sees_the_rows_of_the_server(self):
        self.assertEqual(self.call("/async/note/x/", b"")[0], 201)
        self.assertEqual(Event.objects.get().reference, "x")

    def test_a_missing_page_is_missing(self):
        with self.assertRaises(HTTPError) as caught:
            self.call("/async/note/nothing/", b"")
        caught.exception.close()
        self.assertEqual(caught.exception.code, 404)

    def test_several_readers_at_once_are_served(self):
        BookFactory(title="Momo")
        seen = []
        readers = [threading.Thread(target=lambda: seen.append(self.call("/async/books/")[0])) for _ in range(4)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(30)
        self.assertEqual(seen, [200] * 4)
