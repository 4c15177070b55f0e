"""Django's test cases: whatever a test starts is in its transaction, or refused by name."""

import asyncio

from asgiref.sync import sync_to_async
from channels.testing import HttpCommunicator
from django.core.asgi import get_asgi_application
from django.db import connection, connections, transaction
from django.test import SimpleTestCase, TestCase, TransactionTestCase
from django.test.testcases import DatabaseOperationForbidden
from notes.doors import ASYNC, DOORS
from notes.models import Note
from notes.starting import IN_TASKS, LOOPS, THREADS, as_task, in_executor_of_the_loop, in_plain_thread, run
from notes.views import texts, write
from sqlalchemy import func, select

from django_bridge import atomic, database, mapped, session
from django_bridge import test as bridge_test
from django_bridge.errors import JoinRefused


class Clean:
    def setUp(self):
        self.assertEqual(texts(), [], "an earlier test left rows")


class JoinsTest(Clean, TestCase):
    async def test_a_task_with_an_empty_context_joins_by_every_door(self):
        await Note.objects.acreate(text="test")
        expected = ["test"]
        for start in IN_TASKS.values():
            for name, door in DOORS.items():
                expected = sorted([*expected, name])
                self.assertEqual(await start(door, name), expected, (start, name))
        self.assertEqual(await sync_to_async(texts)(), expected)
        self.assertEqual(database().stats().counts.connects, 0)

    async def test_what_it_wrote_is_gone_again(self):
        self.assertEqual(await Note.objects.acount(), 0)

    async def test_tasks_at_once_lose_nothing(self):
        started = [start(door, name) for start in IN_TASKS.values() for name, door in DOORS.items()]
        await asyncio.gather(*started)
        self.assertEqual(await Note.objects.acount(), len(started))

    async def test_djangos_application_joins_by_sync_and_async_views(self):
        await Note.objects.acreate(text="test")
        for number, path in enumerate(["/async/", "/sync/"] * 2, 1):
            peer = HttpCommunicator(get_asgi_application(), "GET", path, headers=[(b"host", b"testserver")])
            body = (await peer.get_response(30))["body"].decode()
            self.assertEqual(body.count("view"), number)
            self.assertEqual(body.count("test"), 1)
        self.assertEqual(await Note.objects.acount(), 5)

    async def test_a_block_is_a_savepoint_of_the_test(self):
        async def fails(text):
            async with atomic():
                await Note.objects.acreate(text=text)
                raise LookupError

        with self.assertRaises(LookupError):
            await as_task(fails, "lost")
        self.assertEqual(await Note.objects.acount(), 0)

    async def test_hooks_wait_for_the_commit_that_never_comes(self):
        ran = []

        async def hooks(text):
            transaction.on_commit(lambda: ran.append("bare"))
            async with atomic():
                transaction.on_commit(lambda: ran.append("block"))

        with self.captureOnCommitCallbacks() as captured:
            await as_task(hooks, "")
        self.assertEqual((len(captured), ran), (2, []))

    def test_a_loop_on_the_tests_own_thread_joins(self):
        write("test")
        expected = ["test"]
        for start in (run, LOOPS["empty_task"], LOOPS["async_to_sync"]):
            for name, door in DOORS.items():
                expected = sorted([*expected, name])
                self.assertEqual(start(door, name), expected, (start, name))
                self.assertEqual(texts(), expected, (start, name))
        self.assertEqual(connection._thread_sharing_count, 0)

    def test_the_health_of_the_tests_own_connection_is_asked(self):
        async def asks():
            return (await database().health()).ok, database().stats().counts.connects

        self.assertEqual(asyncio.run(asks()), (True, 0))


class RefusedTest(Clean, TestCase):
    def test_an_event_loop_in_another_thread_is_refused_by_every_door(self):
        write("test")
        for thread in THREADS.values():
            for kind, loop in LOOPS.items():
                for name, door in ASYNC.items():
                    if kind == "async_to_sync" and name in ("run_django", "sync_session", "scope"):
                        continue  # sync code in the thread itself
                    with self.assertRaisesRegex(JoinRefused, "'default'.*TransactionTestCase", msg=(kind, name)):
                        thread(loop, door, "beside")
        self.assertEqual(texts(), ["test"])

    async def test_so_is_one_in_an_executor_of_the_loop(self):
        for door in ASYNC.values():
            with self.assertRaises(JoinRefused):
                await in_executor_of_the_loop(run, door, "beside")
        self.assertEqual(await Note.objects.acount(), 0)

    def test_what_was_refused_is_nowhere(self):
        self.assertEqual(texts(), [])


FORBIDDEN = (DatabaseOperationForbidden, RuntimeError)
"""Under pytest a connection that is open already is forbidden by pytest-django instead."""


class ForbiddenTest(SimpleTestCase):
    async def test_every_door_is_stopped(self):
        for door in DOORS.values():
            for start in (lambda door, text: door(text), *IN_TASKS.values()):
                with self.assertRaisesRegex(FORBIDDEN, "not allowed"):
                    await start(door, "never")
        with self.assertRaises(FORBIDDEN):
            await database().health()
        self.assertEqual(database().stats().counts.connects, 0)

    def test_so_it_is_on_loops_of_its_own(self):
        for door in ASYNC.values():
            for loop in LOOPS.values():
                with self.assertRaisesRegex(FORBIDDEN, "not allowed"):
                    loop(door, "never")
                for thread in THREADS.values():
                    with self.assertRaisesRegex(FORBIDDEN, "not allowed"):
                        thread(loop, door, "never")


class OfOneAlias:
    databases = {"default"}

    async def test_another_alias_is_stopped(self):
        async def by_session():
            async with session("other") as db:
                await db.execute(select(1))

        async def by_atomic():
            async with atomic("other") as db:
                await db.execute(select(1))

        async def by_database():
            await database("other").fetch_val(select(1))

        async def by_the_orm():
            await Note.objects.using("other").acount()

        async def by_health():
            await database("other").health()

        for door in (by_session, by_atomic, by_database, by_the_orm, by_health):
            with self.assertRaisesRegex(DatabaseOperationForbidden, "'other'"):
                await door()
        await Note.objects.acreate(text="allowed")
        await database().fetch_val(select(1))


class OfOneAliasTest(OfOneAlias, TestCase):
    pass


class OfOneAliasCommittedTest(OfOneAlias, TransactionTestCase):
    pass


class OfOneAliasOnThePoolTest(OfOneAlias, bridge_test.TransactionTestCase):
    pass


class BothAliasesTest(Clean, TestCase):
    databases = {"default", "other"}

    async def test_an_empty_task_joins_both(self):
        async def work(text):
            await Note.objects.using("other").acreate(text=text)
            async with session("other") as db:
                return await db.scalar(select(func.count()).select_from(mapped(Note)))

        self.assertEqual(await as_task(work, "other"), 1)
        self.assertEqual(await Note.objects.acount(), 0)


class Commits(Clean):
    async def test_each_door_commits_from_wherever_it_is(self):
        for start in IN_TASKS.values():
            for name, door in DOORS.items():
                await start(door, name)
        self.assertEqual(await Note.objects.acount(), len(DOORS) * len(IN_TASKS))

    def test_threads_and_their_loops_commit(self):
        for loop in LOOPS.values():
            for name, door in ASYNC.items():
                self.assertIn(name, in_plain_thread(closing, loop, door, name))
        self.assertEqual(Note.objects.count(), len(LOOPS) * len(ASYNC))


def closing(loop, door, text):
    """The thread's own connection is its own to close."""
    try:
        return loop(door, text)
    finally:
        asyncio.run(sync_to_async(connections.close_all)())
        connections.close_all()


class CommittedTest(Commits, TransactionTestCase):
    pass


class CommittedOnThePoolTest(Commits, bridge_test.TransactionTestCase):
    pass
