"""Channels' consumers in Django's test cases, by channels' own communicators.

Without the bridge Django 5.2 closes the test's connection where a consumer has done its work.
"""

import asyncio

from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.test import TestCase, TransactionTestCase
from notes.models import Note
from notes.views import Consumer, texts


class Clean:
    def setUp(self):
        self.assertEqual(texts(), [], "an earlier test left rows")


class ConsumerTest(Clean, TestCase):
    async def talk(self, content):
        peer = WebsocketCommunicator(Consumer.as_asgi(), "/")
        self.assertTrue((await peer.connect(30))[0])
        await peer.send_json_to(content)
        found = await peer.receive_json_from(30)
        await peer.disconnect(30)
        return found

    async def test_a_consumer_sees_and_writes(self):
        await Note.objects.acreate(text="test")
        self.assertEqual(await self.talk("orm"), ["consumer", "test"])
        self.assertEqual(await sync_to_async(texts)(), ["consumer", "test"])

    async def test_a_consumer_in_a_thread_sees_and_writes(self):
        await Note.objects.acreate(text="test")
        self.assertEqual(await self.talk("thread"), ["consumer", "test"])
        self.assertEqual(await Note.objects.acount(), 2)

    async def test_consumers_at_once(self):
        for found in await asyncio.gather(*(self.talk(content) for content in ("orm", "thread", "orm", "thread"))):
            self.assertIn("consumer", found)
        self.assertEqual(await Note.objects.acount(), 4)


class CommittedConsumerTest(Clean, TransactionTestCase):
    async def test_a_consumer_commits(self):
        await Note.objects.acreate(text="test")
        peer = WebsocketCommunicator(Consumer.as_asgi(), "/")
        await peer.connect(30)
        await peer.send_json_to("orm")
        self.assertEqual(await peer.receive_json_from(30), ["consumer", "test"])
        await peer.disconnect(30)
