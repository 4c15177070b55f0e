"""Orders: a service in a transaction, hooks after the commit, an async receiver, views behind a login."""

import asyncio
from functools import partial

from asgiref.sync import sync_to_async
from django.core import mail
from django.db import transaction
from django.test import AsyncRequestFactory, TestCase

from bookshop.factories import BookFactory, LineFactory, OrderFactory, UserFactory
from bookshop.leftovers import StartsEmpty
from catalogue.models import Book
from orders.models import Event, Line, Order
from orders.services import OutOfStock, place_order
from orders.signals import order_placed
from orders.views import anote


class CheckoutTests(StartsEmpty, TestCase):
    @classmethod
    def fill(cls):
        cls.reader = UserFactory()
        cls.momo = BookFactory(title="Momo", stock=3)

    def stock(self):
        return Book.objects.get(pk=self.momo.pk).stock

    def test_the_service_writes_and_its_async_receiver_too(self):
        order = place_order(self.reader, {self.momo.pk: 2})
        self.assertEqual(self.stock(), 1)
        self.assertEqual(Event.objects.get().reference, order.reference)
        self.assertEqual(mail.outbox, [])

    def test_the_service_in_a_test_runs_no_hook(self):
        place_order(self.reader, {self.momo.pk: 1})
        self.assertEqual(mail.outbox, [])

    def test_captured_hooks_are_run(self):
        with self.captureOnCommitCallbacks(execute=True) as hooks:
            place_order(self.reader, {self.momo.pk: 1}, reference="A1")
        self.assertEqual(len(hooks), 1)
        self.assertEqual([sent.subject for sent in mail.outbox], ["Order A1"])

    def test_captured_hooks_are_not_run_unless_asked(self):
        with self.captureOnCommitCallbacks() as hooks:
            place_order(self.reader, {self.momo.pk: 1})
        self.assertEqual((len(hooks), mail.outbox), (1, []))

    def test_a_refused_order_leaves_nothing(self):
        with self.captureOnCommitCallbacks(execute=True) as hooks, self.assertRaises(OutOfStock):
            place_order(self.reader, {self.momo.pk: 4})
        self.assertEqual((Order.objects.count(), Line.objects.count(), hooks, self.stock()), (0, 0, [], 3))

    def test_both_checkouts_sell_to_the_one_who_is_logged_in(self):
        self.client.force_login(self.reader)
        for number, path in enumerate(["/checkout/", "/async/checkout/"], 1):
            with self.captureOnCommitCallbacks(execute=True):
                reply = self.client.post(path, {self.momo.pk: 1})
            self.assertEqual(reply.status_code, 201)
            self.assertEqual((self.stock(), len(mail.outbox)), (3 - number, number))
            self.assertEqual(Order.objects.get(reference=reply.json()["reference"]).customer, self.reader)

    async def test_both_checkouts_sell_by_the_async_client(self):
        await self.async_client.aforce_login(self.reader)
        for path in ("/checkout/", "/async/checkout/"):
            reply = await self.async_client.post(path, {self.momo.pk: 1})
            self.assertEqual(reply.status_code, 201)
        self.assertEqual((await Book.objects.aget(pk=self.momo.pk)).stock, 1)
        self.assertEqual(await self.reader.orders.acount(), 2)
        self.assertEqual(mail.outbox, [])

    def test_more_than_there_is_is_refused_and_the_test_goes_on(self):
        self.client.force_login(self.reader)
        for path in ("/checkout/", "/async/checkout/"):
            self.assertEqual(self.client.post(path, {self.momo.pk: 4}).status_code, 409)
        self.assertEqual((Order.objects.count(), self.stock()), (0, 3))

    def test_a_stranger_is_sent_to_the_login(self):
        for path in ("/checkout/", "/async/checkout/", "/orders/x/", "/async/orders/x/"):
            reply = self.client.post(path)
            self.assertRedirects(reply, f"/login/?next={path}", fetch_redirect_response=False)

    async def test_a_stranger_is_sent_to_the_login_by_the_async_client(self):
        reply = await self.async_client.post("/async/checkout/")
        self.assertEqual(reply.status_code, 302)

    def test_the_order_is_shown_to_its_customer_alone(self):
        mine, other = LineFactory(order__customer=self.reader, book=self.momo, quantity=2), OrderFactory()
        self.client.force_login(self.reader)
        for path in ("/orders/", "/async/orders/"):
            reply = self.client.get(f"{path}{mine.order.reference}/")
            self.assertEqual(reply.json(), {"lines": [["Momo", 2]]})
            self.assertEqual(self.client.get(f"{path}{other.reference}/").status_code, 404)

    async def test_a_line_is_added_through_the_related_manager(self):
        order = await sync_to_async(OrderFactory)(customer=self.reader)
        await self.async_client.aforce_login(self.reader)
        path = f"/async/orders/{order.reference}/lines/"
        reply = await self.async_client.post(path, {self.momo.pk: 2})
        self.assertEqual(reply.json(), {"lines": 1})
        self.assertEqual((await order.lines.aget()).quantity, 2)

    def test_a_login_by_form_and_a_logout_are_seen(self):
        self.assertTrue(self.client.login(username=self.reader.username, password="secret"))
        self.assertEqual(self.client.post("/async/checkout/", {self.momo.pk: 1}).status_code, 201)
        self.client.logout()
        self.assertEqual(self.client.post("/async/checkout/", {self.momo.pk: 1}).status_code, 302)

    async def test_an_async_login_and_logout_are_seen(self):
        self.assertTrue(await self.async_client.alogin(username=self.reader.username, password="secret"))
        self.assertEqual((await self.async_client.post("/async/checkout/", {self.momo.pk: 1})).status_code, 201)
        await self.async_client.alogout()
        self.assertEqual((await self.async_client.post("/async/checkout/", {self.momo.pk: 1})).status_code, 302)


class SignalTests(StartsEmpty, TestCase):
    def test_a_signal_sent_in_sync_code_reaches_the_async_receiver(self):
        order_placed.send(sender=Order, order=Order(reference="S"))
        self.assertEqual(Event.objects.get().reference, "S")

    async def test_a_signal_sent_in_async_code_reaches_it_too(self):
        await order_placed.asend(sender=Order, order=Order(reference="A"))
        self.assertEqual((await Event.objects.aget()).reference, "A")


class HookTests(StartsEmpty, TestCase):
    def test_hooks_of_nested_blocks_come_in_order_and_those_of_a_lost_block_never(self):
        done = []
        with self.captureOnCommitCallbacks(execute=True):
            with transaction.atomic():
                transaction.on_commit(partial(done.append, "outer"))
                try:
                    with transaction.atomic():
                        transaction.on_commit(partial(done.append, "lost"))
                        raise OutOfStock
                except OutOfStock:
                    pass
            self.client.post("/async/note/x/")
            transaction.on_commit(partial(done.append, "last"))
        self.assertEqual(done, ["outer", "last"])


class GatherTests(StartsEmpty, TestCase):
    """Several tasks in one test: whatever order they take, nothing is lost."""

    async def test_views_that_write_at_once_lose_nothing(self):
        async def note(number):
            return await anote(AsyncRequestFactory().post("/"), str(number))

        replies = await asyncio.gather(*map(note, range(6)))
        self.assertEqual({reply.status_code for reply in replies}, {201})
        self.assertEqual(await Event.objects.acount(), 6)

    async def test_orders_in_threads_at_once_lose_nothing(self):
        reader = await sync_to_async(UserFactory)()
        books = await sync_to_async(BookFactory.create_batch)(4, stock=1)
        placed = await asyncio.gather(
            *(sync_to_async(place_order)(reader, {book.pk: number % 2 + 1}) for number, book in enumerate(books)),
            return_exceptions=True,
        )
        self.assertEqual([isinstance(one, OutOfStock) for one in placed], [False, True, False, True])
        self.assertEqual(await Order.objects.acount(), 2)
        self.assertEqual([book.stock async for book in Book.objects.order_by("pk")], [0, 1, 0, 1])

    async def test_clients_at_once_lose_nothing(self):
        replies = await asyncio.gather(*(self.async_client.post(f"/async/note/{number}/") for number in range(6)))
        self.assertEqual({reply.status_code for reply in replies}, {201})
        self.assertEqual(await Event.objects.acount(), 6)
