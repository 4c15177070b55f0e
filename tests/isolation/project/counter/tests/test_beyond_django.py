"""What Django alone cannot do in an async test, where ``connections`` holds another wrapper than the test's own."""

from django.core import mail
from django.test import TestCase
from sqlalchemy import select

from bookshop.factories import BookFactory
from bookshop.leftovers import StartsEmpty
from catalogue.models import Book
from counter.tables import book
from django_bridge import query_budget, session


class AsyncTestTests(StartsEmpty, TestCase):
    @classmethod
    def fill(cls):
        cls.momo = BookFactory(isbn="111")

    async def test_queries_are_counted(self):
        async with query_budget(2, exactly=True):
            async with session() as db:
                await db.fetch_val(select(book.c.title))
            await Book.objects.acount()

    async def test_hooks_are_captured(self):
        with self.captureOnCommitCallbacks() as hooks:
            await self.async_client.post(f"/counter/lend/{self.momo.pk}/")
        self.assertEqual((len(hooks), mail.outbox), (2, []))
