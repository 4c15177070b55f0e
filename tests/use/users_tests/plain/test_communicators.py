"""Tests as teams write them, of Django alone: they pass without the bridge, and with it unchanged."""

import asyncio
import contextvars
import threading

from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.testing import HttpCommunicator
from django.core.asgi import get_asgi_application
from django.db import connection
from django.test import TestCase, TransactionTestCase
from notes.models import Note
from notes.views import texts


class Clean:
    def setUp(self):
        self.assertEqual(texts(), [], "an earlier test left rows")


class CommunicatorTest(Clean, TestCase):
    async def test_an_application_sees_and_writes(self):
        async def application(scope, receive, send):
            await receive()
            await Note.objects.acreate(text="application")
            await send({"text": await sync_to_async(texts)()})

        await Note.objects.acreate(text="test")
        peer = ApplicationCommunicator(application, {"type": "websocket"})
        await peer.send_input({"type": "websocket.connect"})
        self.assertEqual((await peer.receive_output(30))["text"], ["application", "test"])
        await peer.wait(30)
        self.assertEqual(await Note.objects.acount(), 2)

    async def test_a_task_with_an_empty_context(self):
        await asyncio.create_task(Note.objects.acreate(text="task"), context=contextvars.Context())
        self.assertEqual(await sync_to_async(texts)(), ["task"])

    async def test_both_clients(self):
        await self.async_client.get("/async/")
        await self.async_client.get("/sync/")
        self.assertEqual(await Note.objects.acount(), 2)

    def test_the_sync_client(self):
        self.client.get("/async/")
        self.client.get("/sync/")
        self.assertEqual(texts(), ["view", "view"])

    def test_a_plain_thread_has_a_connection_of_its_own(self):
        seen = []

        def look():
            seen.append(connection.in_atomic_block)
            connection.close()

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        self.assertEqual(seen, [False])


class CommittedTest(Clean, TransactionTestCase):
    async def test_djangos_application_commits(self):
        peer = HttpCommunicator(get_asgi_application(), "GET", "/async/", headers=[(b"host", b"testserver")])
        self.assertEqual((await peer.get_response(30))["body"], b'{"texts": ["view"]}')
        self.assertEqual(await Note.objects.acount(), 1)
