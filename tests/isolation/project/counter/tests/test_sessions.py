"""Sessions and shared transactions in Django's TestCase: one state with the factories, the clients and the ORM."""

import asyncio
import json
from datetime import date
from decimal import Decimal

from asgiref.sync import async_to_sync, sync_to_async
from django.core import mail
from django.db import IntegrityError, connection, transaction
from django.test import AsyncRequestFactory, RequestFactory, TestCase, tag
from sqlalchemy import delete, exc, func, insert, select

from asyncdb import UncommittedWrites
from bookshop.factories import AuthorFactory, BookFactory, OrderFactory, UserFactory
from bookshop.leftovers import StartsEmpty, counts
from catalogue.models import Book
from counter import views
from counter.tables import book, event, order
from counter.views import happened, to_sell
from django_bridge import atomic, database, session
from orders.models import Event, Order
from orders.services import OutOfStock, place_order


def kinds():
    return sorted(Event.objects.values_list("kind", "reference"))


async def count_in_a_session(table=book):
    async with session() as db:
        return await db.fetch_val(select(func.count()).select_from(table))


@tag("reads_in_sessions")
class ReadingTests(StartsEmpty, TestCase):
    """With joining off each of these must fail, and on each server at once: they only read."""

    @classmethod
    def fill(cls):
        cls.momo = BookFactory(title="Momo", price="9.90", published=date(1973, 9, 1), in_print=False)

    def test_the_sync_client_sees_the_row_of_the_class(self):
        self.assertEqual(self.client.get(f"/counter/stock/{self.momo.pk}/").json(), {"title": "Momo", "stock": 3})

    async def test_the_async_client_sees_it(self):
        reply = await self.async_client.get(f"/counter/stock/{self.momo.pk}/")
        self.assertEqual(reply.json(), {"title": "Momo", "stock": 3})

    async def test_a_session_of_the_test_sees_it(self):
        self.assertEqual(await count_in_a_session(), 1)

    async def test_a_transaction_of_the_test_sees_it(self):
        async with atomic() as db:
            self.assertEqual(await db.fetch_val(select(book.c.title)), "Momo")

    async def test_the_verbs_of_the_database_see_it(self):
        self.assertEqual(await database().fetch_all(select(book.c.title), into=str), ["Momo"])

    def test_sync_code_that_waits_for_a_session_sees_it(self):
        self.assertEqual(async_to_sync(count_in_a_session)(), 1)

    def test_a_view_called_by_hand_sees_it(self):
        reply = async_to_sync(views.stock)(RequestFactory().get("/"), pk=self.momo.pk)
        self.assertEqual(json.loads(reply.content)["title"], "Momo")

    async def test_a_view_with_a_request_of_the_factory_sees_it(self):
        reply = await views.titles(AsyncRequestFactory().get("/"))
        self.assertEqual(json.loads(reply.content), {"titles": ["Momo"]})

    async def test_a_row_of_a_factory_in_a_thread_is_seen(self):
        await sync_to_async(BookFactory)(title="Second")
        self.assertEqual(await count_in_a_session(), 2)

    def test_both_orms_of_a_class_based_view_see_the_same(self):
        BookFactory(title="Second")
        titles = ["Momo", "Second"]
        self.assertEqual(self.client.get("/counter/shelf/").json(), {"session": titles, "orm": titles})

    def test_a_view_without_a_session_sees_it(self):
        self.assertEqual(self.client.get("/counter/census/").json(), {"books": 1})

    def test_a_stream_sees_it(self):
        reply = async_to_sync(self._streamed)()
        self.assertEqual(reply, b"Momo\n")

    async def _streamed(self):
        reply = await self.async_client.get("/counter/titles.csv")
        return b"".join([part async for part in reply.streaming_content])

    async def test_a_stream_in_an_async_test_sees_it(self):
        self.assertEqual(await self._streamed(), b"Momo\n")

    async def test_values_have_the_types_that_the_pool_gives(self):
        placed = await sync_to_async(OrderFactory)()
        async with session() as db:
            row = await db.fetch_one(select(book.c.price, book.c.published, book.c.in_print, book.c.stock))
            created = await db.fetch_val(select(order.c.created))
        self.assertEqual(tuple(row), (Decimal("9.90"), date(1973, 9, 1), False, 3))
        self.assertEqual([type(value) for value in row], [Decimal, date, bool, int])
        self.assertEqual(created.replace(tzinfo=None), placed.created.replace(tzinfo=None))


class ClassTests(StartsEmpty, TestCase):
    """The rows of the class are made by sessions."""

    @classmethod
    def fill(cls):
        async def two_orders():
            async with session() as db:
                await db.execute(happened("session", 1))
                await db.commit()
            async with atomic() as db:
                await db.execute(happened("block", 2))

        async_to_sync(two_orders)()

    def test_they_are_there_for_one_test_which_removes_them(self):
        self.assertEqual(kinds(), [("block", "2"), ("session", "1")])
        Event.objects.all().delete()

    async def test_they_are_there_for_another_which_removes_them(self):
        self.assertEqual(await count_in_a_session(event), 2)
        async with session() as db:
            await db.execute(delete(event))
            await db.commit()


class CountingTests(StartsEmpty, TestCase):
    @classmethod
    def fill(cls):
        cls.momo = BookFactory()

    def test_the_queries_of_a_session_are_counted(self):
        with self.assertNumQueries(1):
            self.client.get(f"/counter/stock/{self.momo.pk}/")

    def test_the_queries_of_both_orms_are_counted(self):
        with self.assertNumQueries(2):
            self.client.get("/counter/shelf/")


class WritingTests(StartsEmpty, TestCase):
    @classmethod
    def fill(cls):
        cls.momo = BookFactory(title="Momo", stock=3)
        cls.reader = UserFactory()

    def stock(self):
        return Book.objects.get(pk=self.momo.pk).stock

    def test_a_session_that_commits_is_seen_and_undone_with_the_test(self):
        self.assertEqual(self.client.post(f"/counter/sell/{self.momo.pk}/").status_code, 201)
        self.assertEqual((self.stock(), kinds()), (2, [("sold", str(self.momo.pk))]))

    def test_it_starts_as_the_other_did(self):
        self.assertEqual(self.stock(), 3)
        for left in (2, 1, 0):
            self.client.post(f"/counter/sell/{self.momo.pk}/")
            self.assertEqual(self.stock(), left)
        self.assertEqual(self.client.post(f"/counter/sell/{self.momo.pk}/").status_code, 409)

    async def test_the_async_client_sells_too(self):
        self.assertEqual((await self.async_client.post(f"/counter/sell/{self.momo.pk}/")).status_code, 201)
        self.assertEqual((await Book.objects.aget(pk=self.momo.pk)).stock, 2)
        self.assertEqual(await sync_to_async(self.stock)(), 2)

    def test_a_session_that_rolls_back_keeps_what_it_had_committed(self):
        self.client.post(f"/counter/regret/{self.momo.pk}/")
        self.assertEqual((self.stock(), [kind for kind, _ in kinds()]), (3, ["asked"]))

    def test_a_session_that_rolls_back_loses_nothing_of_the_test(self):
        Event.objects.create(kind="before", reference="")
        self.client.post(f"/counter/regret/{self.momo.pk}/")
        self.assertEqual([kind for kind, _ in kinds()], ["asked", "before"])

    def test_a_forgotten_commit_is_told_and_undone(self):
        with self.assertRaises(UncommittedWrites):
            self.client.post(f"/counter/forget/{self.momo.pk}/")
        self.assertEqual(self.stock(), 3)

    def test_an_inner_block_that_raises_loses_its_own_rows_alone(self):
        Event.objects.create(kind="before", reference="")
        self.client.post("/counter/try/")
        self.assertEqual(kinds(), [("before", ""), ("outer", "core"), ("outer", "orm")])

    async def test_an_inner_block_of_the_test_that_raises_loses_its_own_rows_alone(self):
        async with atomic() as db:
            await db.execute(happened("outer", "core"))
            with self.assertRaises(views.Refused):
                async with atomic() as inner:
                    await inner.execute(happened("inner", "core"))
                    await Event.objects.acreate(kind="inner", reference="orm")
                    raise views.Refused
            await Event.objects.acreate(kind="outer", reference="orm")
        self.assertEqual(await sync_to_async(kinds)(), [("outer", "core"), ("outer", "orm")])

    def test_a_block_that_raises_loses_all_its_rows(self):
        Event.objects.create(kind="before", reference="")
        with self.captureOnCommitCallbacks(execute=True) as hooks:
            self.assertEqual(self.client.post("/counter/refuse/").status_code, 409)
        self.assertEqual((kinds(), hooks, mail.outbox), ([("before", "")], [], []))

    def test_an_error_comes_out_of_the_client_and_the_test_goes_on(self):
        with self.assertRaises(views.Refused):
            self.client.post("/counter/explode/")
        self.assertEqual(kinds(), [])
        self.client.post("/counter/try/")
        self.assertEqual(len(kinds()), 2)

    def test_a_failed_statement_in_an_inner_block_loses_that_block_alone(self):
        async def twice():
            async with atomic() as db:
                await db.execute(happened("outer", "core"))
                with self.assertRaises(exc.IntegrityError):
                    async with atomic() as inner:
                        values = {"title": "x", "isbn": self.momo.isbn, "author_id": self.momo.author_id}
                        await inner.execute(insert(book).values(**values, price=1, in_print=True, stock=1))

        async_to_sync(twice)()
        self.assertEqual((kinds(), Book.objects.count()), ([("outer", "core")], 1))

    def test_a_sync_savepoint_that_raises_takes_the_rows_of_sessions_with_it(self):
        with self.assertRaises(views.Refused), transaction.atomic():
            self.client.post(f"/counter/sell/{self.momo.pk}/")
            self.client.post("/counter/try/")
            BookFactory()
            raise views.Refused
        self.assertEqual((self.stock(), kinds(), Book.objects.count()), (3, [], 1))

    def test_a_failed_write_of_sync_code_leaves_sessions_usable(self):
        with self.assertRaises(IntegrityError), transaction.atomic():
            BookFactory(isbn=self.momo.isbn)
        self.assertEqual(self.client.post(f"/counter/sell/{self.momo.pk}/").status_code, 201)

    def test_the_service_joins_the_transaction_of_the_view(self):
        self.client.force_login(self.reader)
        reply = self.client.post("/counter/checkout/", {self.momo.pk: 1})
        reference = reply.json()["reference"]
        self.assertEqual(kinds(), [("checkout", reference), ("placed", reference)])
        self.assertEqual((self.stock(), self.reader.orders.get().reference), (2, reference))

    def test_the_service_that_refuses_takes_the_view_with_it(self):
        self.client.force_login(self.reader)
        with self.assertRaises(OutOfStock):
            self.client.post("/counter/checkout/", {self.momo.pk: 4})
        self.assertEqual((self.stock(), kinds(), Order.objects.count()), (3, [], 0))

    def test_a_decorated_view_reads_its_own_write_by_the_other_orm(self):
        self.assertEqual(self.client.post(f"/counter/decorated/{self.momo.pk}/").json(), {"left": 2})

    async def test_a_service_in_a_thread_and_a_session_see_each_other(self):
        async with atomic() as db:
            await db.execute(to_sell(self.momo.pk))
            placed = await sync_to_async(place_order)(self.reader, {self.momo.pk: 2})
            self.assertEqual(await db.fetch_val(select(book.c.stock)), 0)
            self.assertEqual(await db.fetch_val(select(event.c.reference)), placed.reference)

    async def test_a_factory_in_a_thread_inside_a_block_is_seen_by_it(self):
        async with atomic() as db:
            await sync_to_async(BookFactory)(author=self.momo.author)
            self.assertEqual(await db.fetch_val(select(func.count()).select_from(book)), 2)


class HookTests(StartsEmpty, TestCase):
    @classmethod
    def fill(cls):
        cls.momo = BookFactory(isbn="111", author__name="Ende")

    def said(self):
        return [sent if isinstance(sent, str) else sent.subject for sent in mail.outbox]

    def test_hooks_of_a_view_run_when_they_are_captured(self):
        with self.captureOnCommitCallbacks(execute=True):
            reply = self.client.post(f"/counter/lend/{self.momo.pk}/")
        self.assertEqual(reply.status_code, 201)
        self.assertEqual(self.said(), ["Thanks to Ende", "Order 111"])

    def test_hooks_of_a_view_are_counted_and_not_run(self):
        with self.captureOnCommitCallbacks() as hooks:
            self.client.post(f"/counter/lend/{self.momo.pk}/")
        self.assertEqual((len(hooks), mail.outbox), (2, []))

    def test_hooks_of_a_view_do_not_run_by_themselves(self):
        self.client.post(f"/counter/lend/{self.momo.pk}/")
        self.assertEqual((kinds(), mail.outbox), ([("lent", "111")], []))

    def test_hooks_of_a_lost_savepoint_are_lost(self):
        with (
            self.captureOnCommitCallbacks(execute=True) as hooks,
            self.assertRaises(views.Refused),
            transaction.atomic(),
        ):
            self.client.post(f"/counter/lend/{self.momo.pk}/")
            raise views.Refused
        self.assertEqual((hooks, mail.outbox), ([], []))


class GatherTests(StartsEmpty, TestCase):
    """Several tasks of one test: they keep their order, and nothing is lost."""

    @classmethod
    def fill(cls):
        cls.books = BookFactory.create_batch(4, stock=4)

    async def sell(self, one):
        return await views.sell(AsyncRequestFactory().post("/"), one.pk)

    async def test_sessions_that_commit_at_once_lose_nothing(self):
        replies = await asyncio.gather(*(self.sell(self.books[number % 4]) for number in range(8)))
        self.assertEqual({reply.status_code for reply in replies}, {201})
        self.assertEqual([one.stock async for one in Book.objects.order_by("pk")], [2] * 4)
        self.assertEqual(await Event.objects.acount(), 8)

    async def test_clients_at_once_lose_nothing(self):
        replies = await asyncio.gather(
            *(self.async_client.post(f"/counter/sell/{one.pk}/") for one in self.books),
            *(self.async_client.post("/counter/try/") for _ in range(3)),
            *(self.async_client.post(f"/counter/lend/{one.pk}/") for one in self.books),
        )
        self.assertEqual({reply.status_code for reply in replies}, {201})
        self.assertEqual([one.stock async for one in Book.objects.order_by("pk")], [2] * 4)
        self.assertEqual(await Event.objects.acount(), 4 + 6 + 4)

    async def test_a_block_that_fails_among_others_loses_its_own_rows_alone(self):
        async def one(number):
            async with atomic() as db:
                await db.execute(happened("core", number))
                await asyncio.sleep(0)
                await Event.objects.acreate(kind="orm", reference=str(number))
                if number == 2:
                    raise views.Refused

        done = await asyncio.gather(*map(one, range(4)), return_exceptions=True)
        self.assertEqual([type(result) for result in done], [type(None), type(None), views.Refused, type(None)])
        kept = [(kind, str(number)) for kind in ("core", "orm") for number in (0, 1, 3)]
        self.assertEqual(await sync_to_async(kinds)(), kept)

    async def test_readers_and_writers_at_once_see_whole_blocks(self):
        async def pair(number):
            async with atomic() as db:
                await db.execute(happened("first", number))
                await asyncio.sleep(0)
                await db.execute(happened("second", number))

        async def odd():
            await asyncio.sleep(0)
            async with session() as db:
                return await db.fetch_val(select(func.count()).select_from(event)) % 2

        found = await asyncio.gather(pair(0), odd(), pair(1), odd(), pair(2), odd())
        self.assertEqual((found[1::2], await Event.objects.acount()), ([0, 0, 0], 6))

    async def test_a_session_left_open_by_one_task_does_not_stop_the_others_reading(self):
        async with session() as db:
            before = await db.fetch_val(select(func.count()).select_from(book))
            others = await asyncio.gather(*(count_in_a_session() for _ in range(3)))
        self.assertEqual((before, others), (4, [4] * 3))

    async def test_a_group_of_tasks_that_fails_takes_its_blocks_with_it(self):
        begun = asyncio.Event()

        async def endless(number):
            async with atomic() as db:
                await db.execute(happened("endless", number))
                begun.set()
                await asyncio.Event().wait()

        async def fail():
            await begun.wait()
            raise views.Refused

        with self.assertRaises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as tasks:
                for number in range(3):
                    tasks.create_task(endless(number))
                tasks.create_task(fail())
        self.assertEqual([type(error) for error in caught.exception.exceptions], [views.Refused])
        await self.sell(self.books[0])
        self.assertEqual(await sync_to_async(lambda: [kind for kind, _ in kinds()])(), ["sold"])

    async def test_a_block_that_takes_too_long_loses_its_rows(self):
        with self.assertRaises(TimeoutError):
            async with asyncio.timeout(0.1), atomic() as db:
                await db.execute(happened("slow", ""))
                await Event.objects.acreate(kind="slow", reference="orm")
                await asyncio.sleep(30)
        self.assertEqual(await Event.objects.acount(), 0)

    async def test_a_cancelled_block_loses_its_rows_and_the_next_one_goes_on(self):
        begun = asyncio.Event()

        async def endless():
            async with atomic() as db:
                await db.execute(happened("endless", ""))
                begun.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(endless())
        task.add_done_callback(lambda _: begun.set())
        await begun.wait()
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        await self.sell(self.books[0])
        self.assertEqual(await sync_to_async(lambda: [kind for kind, _ in kinds()])(), ["sold"])


class SyncSessionTests(StartsEmpty, TestCase):
    @classmethod
    def fill(cls):
        cls.momo = BookFactory(title="Momo")

    def test_a_sync_session_sees_the_rows_of_the_factories(self):
        from django_bridge import sync_session

        AuthorFactory()
        BookFactory(title="Second")
        with sync_session() as db:
            self.assertEqual(db.scalars(select(book.c.title).order_by(book.c.id)).all(), ["Momo", "Second"])

    def test_what_a_sync_session_writes_is_seen_and_undone(self):
        from django_bridge import sync_session

        with transaction.atomic(), sync_session() as db:
            db.execute(to_sell(self.momo.pk))
        self.momo.refresh_from_db()
        self.assertEqual(self.momo.stock, 2)
        self.assertEqual(self.client.get(f"/counter/stock/{self.momo.pk}/").json()["stock"], 2)


class PerRequestTests(StartsEmpty, TestCase):
    """An async view that does not care: with ATOMIC_REQUESTS it is in the request's transaction."""

    def test_a_request_that_fails_keeps_its_rows_only_without_atomic_requests(self):
        self.assertEqual(self.client.get("/counter/per-request/missing/").status_code, 404)
        self.assertEqual(Event.objects.count(), 0 if connection.settings_dict["ATOMIC_REQUESTS"] else 1)

    async def test_a_request_that_succeeds_keeps_its_rows(self):
        self.assertEqual((await self.async_client.get("/counter/per-request/kept/")).status_code, 201)
        self.assertEqual((await Event.objects.aget()).kind, "kept")
        self.assertEqual(await sync_to_async(counts)(), {"Event": 1})
