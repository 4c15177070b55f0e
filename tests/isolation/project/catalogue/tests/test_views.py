"""TestCase as it has always been written: rows of the class, both clients, queries counted."""

import json

from asgiref.sync import async_to_sync, sync_to_async
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.test import AsyncRequestFactory, RequestFactory, SimpleTestCase, TestCase
from django.urls import resolve

from bookshop.factories import AuthorFactory, BookFactory, UserFactory
from bookshop.leftovers import StartsEmpty
from catalogue import views
from catalogue.models import Author, Book, Genre

in_request = connection.settings_dict["ATOMIC_REQUESTS"]


class ShelfTests(StartsEmpty, TestCase):
    @classmethod
    def fill(cls):
        cls.genre, _ = Genre.objects.get_or_create(name="Poetry")
        cls.author = AuthorFactory(name="Ende")
        cls.momo = BookFactory(title="Momo", author=cls.author, genres=[cls.genre])
        cls.other = BookFactory(title="Jim Knopf", author=cls.author, stock=0)

    def test_the_sync_client_sees_the_rows_of_the_class(self):
        found = self.client.get("/books/").json()["books"]
        self.assertEqual([(book["title"], book["genres"]) for book in found], [("Momo", ["Poetry"]), ("Jim Knopf", [])])

    def test_the_sync_client_sees_them_in_an_async_view(self):
        self.assertEqual(self.client.get("/async/books/").json(), self.client.get("/books/").json())

    async def test_the_async_client_sees_them_in_an_async_view(self):
        found = (await self.async_client.get("/async/books/")).json()["books"]
        self.assertEqual([book["title"] for book in found], ["Momo", "Jim Knopf"])

    async def test_the_async_client_sees_them_in_a_sync_view(self):
        found = (await self.async_client.get(f"/books/{self.momo.pk}/")).json()
        self.assertEqual((found["title"], found["author"], found["genres"]), ("Momo", "Ende", ["Poetry"]))

    async def test_the_orm_sees_them_in_an_async_test(self):
        self.assertEqual([book.title async for book in Book.objects.order_by("pk")], ["Momo", "Jim Knopf"])
        self.assertEqual(await self.author.books.acount(), 2)
        self.assertTrue(await self.momo.genres.acontains(self.genre))

    def test_a_row_of_the_test_is_seen_by_both_clients_calls(self):
        BookFactory(title="Third")
        self.assertEqual(len(self.client.get("/books/").json()["books"]), 3)
        self.assertEqual(len(self.client.get("/async/books/").json()["books"]), 3)

    async def test_a_factory_called_in_a_thread_is_seen_by_everyone(self):
        book = await sync_to_async(BookFactory)(title="Third", author=self.author)
        self.assertEqual((await Book.objects.aget(pk=book.pk)).title, "Third")
        self.assertEqual((await self.async_client.get(f"/async/books/{book.pk}/")).json()["author"], "Ende")
        self.assertEqual(await sync_to_async(Book.objects.count)(), 3)

    def test_an_async_view_that_writes_is_seen_by_sync_code(self):
        sent = json.dumps({"title": "Krabat", "isbn": "1", "author": "Preußler", "genres": ["Crime", "Travel"]})
        reply = self.client.post("/async/books/add/", sent, content_type="application/json")
        book = Book.objects.get(pk=reply.json()["id"])
        self.assertEqual((book.author.name, book.genres.count()), ("Preußler", 2))

    async def test_two_async_clients_write_one_after_the_other(self):
        for number in range(2):
            sent = json.dumps({"title": "x", "isbn": f"x{number}", "author": "Anon"})
            reply = await self.async_client.post("/async/books/add/", sent, content_type="application/json")
            self.assertEqual(reply.status_code, 201)
        self.assertEqual(await Author.objects.filter(name="Anon").acount(), 1)

    def test_queries_are_counted_in_sync_and_async_views(self):
        for path in ("/books/", "/async/books/"):
            with self.subTest(path), self.assertNumQueries(2 + (2 if in_request and path == "/books/" else 0)):
                self.client.get(path)

    def test_the_queries_of_a_thread_are_counted(self):
        with self.assertNumQueries(1):
            async_to_sync(self._count)()

    async def _count(self):
        return await Book.objects.acount()

    def test_a_class_based_async_view_reads_and_writes(self):
        path = f"/async/authors/{self.author.pk}/"
        self.assertEqual(self.client.get(path).json(), {"titles": ["Momo", "Jim Knopf"]})
        self.assertEqual(self.client.post(path, {"title": "Third", "isbn": "3"}).json()["books"], 3)

    def test_an_async_view_called_by_hand(self):
        request = RequestFactory().get("/")
        reply = async_to_sync(views.abook_detail)(request, pk=self.momo.pk)
        self.assertEqual(json.loads(reply.content)["title"], "Momo")

    async def test_an_async_view_called_with_a_request_of_the_factory(self):
        reply = await views.abook_detail(AsyncRequestFactory().get("/"), pk=self.momo.pk)
        self.assertEqual(json.loads(reply.content)["genres"], ["Poetry"])

    def test_a_missing_book_is_a_404(self):
        self.assertEqual(self.client.get("/books/0/").status_code, 404)
        self.assertEqual(self.client.get("/async/books/0/").status_code, 404)

    def test_a_sync_stream_is_read(self):
        reply = self.client.get("/books.csv")
        self.assertEqual(b"".join(reply.streaming_content), b"Momo,3\r\nJim Knopf,0\r\n")

    async def test_an_async_stream_is_read(self):
        reply = await self.async_client.get("/async/books.csv")
        self.assertEqual(b"".join([part async for part in reply.streaming_content]), b"Momo,3\r\nJim Knopf,0\r\n")

    def test_a_failed_write_in_a_savepoint_loses_nothing_else(self):
        BookFactory(title="Third")
        with self.assertRaises(IntegrityError), transaction.atomic():
            BookFactory(isbn=self.momo.isbn)
        self.assertEqual(self.client.get("/async/books/").json()["books"][-1]["title"], "Third")

    def test_rows_of_a_sync_savepoint_are_rolled_back_with_those_of_an_async_view(self):
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            self.client.post(f"/async/authors/{self.author.pk}/", {"title": "Lost", "isbn": "4"})
            BookFactory(title="Lost too")
            1 / 0  # noqa: B018
        self.assertEqual(Book.objects.count(), 2)

    def test_the_command_fills_the_shelf_again(self):
        with self.assertNumQueries(6):  # savepoint, select, update, insert, release; and the count
            call_command("restock", stdout=_nowhere())
            self.assertEqual(Book.objects.filter(stock=10).count(), 1)

    async def test_the_command_is_called_from_async_code(self):
        await sync_to_async(call_command)("restock", stdout=_nowhere())
        self.assertEqual((await Book.objects.aget(pk=self.other.pk)).stock, 10)

    def test_the_rows_of_the_class_are_this_tests_own_copies(self):
        self.momo.title = "Changed"
        self.momo.save()
        self.assertEqual(self.client.get(f"/async/books/{self.momo.pk}/").json()["title"], "Changed")

    def test_the_rows_of_the_class_are_whole_again(self):
        self.momo.refresh_from_db()
        self.assertEqual((self.momo.title, self.momo.stock), ("Momo", 3))


class AdminTests(StartsEmpty, TestCase):
    @classmethod
    def fill(cls):
        cls.admin = UserFactory(is_staff=True, is_superuser=True)
        cls.author = AuthorFactory()

    def test_a_book_is_added_in_the_admin_and_seen_in_an_async_view(self):
        self.client.force_login(self.admin)
        sent = {"title": "Momo", "isbn": "1", "author": self.author.pk, "price": "1.00", "stock": "1"}
        reply = self.client.post("/admin/catalogue/book/add/", sent)
        self.assertRedirects(reply, "/admin/catalogue/book/")
        self.assertEqual(self.client.get("/async/books/").json()["books"][0]["title"], "Momo")

    async def test_the_admin_answers_the_async_client(self):
        await self.async_client.aforce_login(self.admin)
        reply = await self.async_client.get("/admin/catalogue/book/")
        self.assertContains(reply, "0 books")


class AddressTests(SimpleTestCase):
    def test_addresses_lead_to_their_views(self):
        self.assertIs(resolve("/async/books.csv").func, views.aexport)

    async def test_an_async_test_needs_no_database(self):
        self.assertEqual((await self.async_client.get("/nowhere/")).status_code, 404)


def _nowhere():
    from io import StringIO

    return StringIO()
