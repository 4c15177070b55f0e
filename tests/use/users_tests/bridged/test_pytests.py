"""pytest-django and pytest-asyncio: the same, by fixtures and marks."""

import asyncio
import contextvars

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from channels.testing import HttpCommunicator, WebsocketCommunicator
from django.core.asgi import get_asgi_application
from django.db import connection, connections
from notes.doors import ASYNC, DOORS
from notes.models import Note
from notes.starting import IN_TASKS, LOOPS, THREADS, in_executor_of_the_loop, run
from notes.views import Consumer, texts, write
from sqlalchemy import select

from django_bridge import database, mapped
from django_bridge.errors import JoinRefused

each_door = pytest.mark.parametrize("door", DOORS)
NOT_ALLOWED = "Database access not allowed"


@pytest.fixture
def clean(db):
    assert texts() == [], "an earlier test left rows"


@pytest.fixture
def note(clean):
    write("test")


# In the test's transaction


async def test_a_task_with_an_empty_context_joins_by_every_door(note):
    expected = ["test"]
    for start in IN_TASKS.values():
        for name, door in DOORS.items():
            expected = sorted([*expected, name])
            assert await start(door, name) == expected, (start, name)
    assert await Note.objects.acount() == len(expected)
    assert database().stats().counts.connects == 0


async def test_what_it_wrote_is_gone_again(clean):
    assert await Note.objects.acount() == 0


async def test_tasks_at_once_lose_nothing(clean):
    started = [start(door, name) for start in IN_TASKS.values() for name, door in DOORS.items()]
    await asyncio.gather(*started)
    assert await Note.objects.acount() == len(started)


@pytest.mark.parametrize("content", ["orm", "thread"])
async def test_a_consumer_joins(note, content):
    peer = WebsocketCommunicator(Consumer.as_asgi(), "/")
    assert (await peer.connect(30))[0]
    await peer.send_json_to(content)
    assert await peer.receive_json_from(30) == ["consumer", "test"]
    await peer.disconnect(30)
    assert await Note.objects.acount() == 2


@pytest.mark.parametrize("path", ["/async/", "/sync/"])
async def test_djangos_application_joins(note, path):
    peer = HttpCommunicator(get_asgi_application(), "GET", path, headers=[(b"host", b"testserver")])
    assert (await peer.get_response(30))["body"] == b'{"texts": ["test", "view"]}'
    assert await Note.objects.acount() == 2


async def test_the_session_of_the_fixture_sees_what_an_empty_task_wrote(clean, async_session):
    await IN_TASKS["task"](DOORS["session"], "task")
    assert list(await async_session.scalars(select(mapped(Note).text))) == ["task"]


def test_a_loop_on_the_tests_own_thread_joins(note):
    expected = ["test"]
    for start in (run, LOOPS["empty_task"], LOOPS["async_to_sync"]):
        for name, door in DOORS.items():
            expected = sorted([*expected, name])
            assert start(door, name) == expected, (start, name)
            assert texts() == expected


def test_both_clients(client, note):
    assert client.get("/async/").json() == {"texts": ["test", "view"]}
    assert client.get("/sync/").json() == {"texts": ["test", "view", "view"]}


async def test_the_async_client(async_client, note):
    assert (await async_client.get("/async/")).json() == {"texts": ["test", "view"]}
    assert (await async_client.get("/sync/")).json() == {"texts": ["test", "view", "view"]}


# Refused


@pytest.mark.parametrize("thread", THREADS)
@pytest.mark.parametrize("loop", LOOPS)
def test_an_event_loop_in_another_thread_is_refused_by_every_door(note, thread, loop):
    for name, door in ASYNC.items():
        if loop == "async_to_sync" and name in ("run_django", "sync_session", "scope"):
            continue  # sync code in the thread itself
        with pytest.raises(JoinRefused, match="'default'"):
            THREADS[thread](LOOPS[loop], door, "beside")
    assert texts() == ["test"]


async def test_so_is_one_in_an_executor_of_the_loop(clean):
    for door in ASYNC.values():
        with pytest.raises(JoinRefused):
            await in_executor_of_the_loop(run, door, "beside")
    assert await Note.objects.acount() == 0


# Forbidden


@each_door
@pytest.mark.parametrize("start", [None, *IN_TASKS])
async def test_every_door_is_stopped_without_the_mark(door, start):
    with pytest.raises(RuntimeError, match=NOT_ALLOWED):
        await (IN_TASKS[start](DOORS[door], "never") if start else DOORS[door]("never"))
    assert database().stats().counts.connects == 0


async def test_health_is_stopped_without_the_mark():
    with pytest.raises(RuntimeError, match=NOT_ALLOWED):
        await database().health()


@pytest.mark.parametrize("loop", LOOPS)
def test_loops_of_sync_tests_are_stopped_without_the_mark(loop):
    for door in ASYNC.values():
        with pytest.raises(RuntimeError, match=NOT_ALLOWED):
            LOOPS[loop](door, "never")
        for thread in THREADS.values():
            with pytest.raises(RuntimeError, match=NOT_ALLOWED):
                thread(LOOPS[loop], door, "never")


@pytest.mark.asyncio(loop_scope="session")
class TestOneLoop:
    async def test_a_pool_that_is_warm(self, transactional_db):
        assert await database().fetch_val(select(1)) == 1
        assert database().stats().idle == 1

    async def test_is_stopped_all_the_same_without_the_mark(self):
        idle = database().stats().idle
        for door in ASYNC.values():
            with pytest.raises(RuntimeError, match=NOT_ALLOWED):
                await door("never")
        assert database().stats().idle == idle == 1

    async def test_and_is_not_used_beside_a_test_that_rolls_back(self, note):
        before = database().stats().counts.checkouts
        assert await IN_TASKS["task"](DOORS["session"], "task") == ["task", "test"]
        assert database().stats().counts.checkouts == before

    async def test_a_task_that_lives_on_is_in_each_test_as_that_is(self, clean):
        asked, told = asyncio.Queue(), asyncio.Queue()
        TestOneLoop.queues = asked, told

        async def lives():
            while (text := await asked.get()) is not None:
                await told.put(await DOORS["both_orms"](text))

        TestOneLoop.living = await _in_an_empty_context(lives)
        await asked.put("first")
        assert await _told(told) == ["first"]

    async def test_it_sees_the_next_tests_rows(self, note):
        asked, told = self.queues
        await asked.put("second")
        assert await _told(told) == ["second", "test"]

    async def test_it_commits_in_one_that_commits(self, transactional_db):
        asked, told = self.queues
        before = database().stats().counts.checkouts
        await asked.put("third")
        assert await _told(told) == ["third"]
        assert await asyncio.to_thread(_texts_in_a_thread) == ["third"]
        assert database().stats().counts.checkouts > before

    async def test_it_ends(self):
        await self.queues[0].put(None)
        await self.living


async def _told(queue):
    async with asyncio.timeout(20):  # a task that has failed tells nothing
        return await queue.get()


async def _in_an_empty_context(work):
    return asyncio.create_task(work(), context=contextvars.Context())


def _texts_in_a_thread():
    try:
        return texts()
    finally:
        connection.close()


# Committed


@pytest_asyncio.fixture
async def committed(transactional_db):
    """What sync code opened in threads is its own to close, or the database cannot be dropped."""
    yield
    for start in (IN_TASKS["task"], lambda close, _: close("")):
        await start(lambda _: sync_to_async(connections.close_all)(), "")


async def test_each_door_commits_from_wherever_it_is(committed):
    for start in IN_TASKS.values():
        for name, door in DOORS.items():
            assert name in await start(door, name)
    assert await Note.objects.acount() == len(IN_TASKS) * len(DOORS)
