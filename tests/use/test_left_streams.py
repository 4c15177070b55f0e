"""Cursors and streams that somebody left: what the collector finds in another thread, what an error's frames keep."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, closing, nullcontext
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.db.utils import InterfaceError
from sqlalchemy import select

from asyncdb.collecting import collecting
from asyncdb.errors import PoolExhaustedByTask, TransactionMisuse
from django_bridge import database, run_django, scope
from django_bridge.errors import ScopeClosed
from tests.bridge.shared import Kind

NUMBER = 60


@pytest.fixture
def no_collector() -> Iterator[None]:
    """The garbage collector does not run by itself."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.fixture
async def kinds(tx: Any, no_collector: None) -> Any:
    """Rows enough for a stream, on a pool of two."""
    tx(async_db={"pool_size": 2, "pool_timeout": 10})
    await ContentType.objects.abulk_create([ContentType(app_label="left", model=str(n)) for n in range(NUMBER)])
    return ContentType.objects.order_by("pk")


# -- cursors that the collector finds ----------------------------------------------------------------------------------


def _in_a_cycle(*things: Any) -> None:
    kept: list[Any] = list(things)
    kept.append(kept)


def _iterator() -> None:
    rows = ContentType.objects.iterator(chunk_size=5)
    next(rows)
    _in_a_cycle(rows)


def _chunked_cursor() -> None:
    cursor = connection.chunked_cursor()
    cursor.execute("SELECT id FROM django_content_type")
    cursor.fetchone()
    _in_a_cycle(cursor)


def _named_cursor() -> None:
    connection.ensure_connection()
    cursor = connection.connection.cursor(name="mine", withhold=True)
    cursor.execute("SELECT id FROM django_content_type")
    cursor.fetchone()
    _in_a_cycle(cursor)


def _unbuffered_cursor() -> None:
    from MySQLdb.cursors import SSCursor

    connection.ensure_connection()
    cursor = connection.connection.cursor(SSCursor)
    cursor.execute("SELECT id FROM django_content_type")
    cursor.fetchone()
    _in_a_cycle(cursor)


LEFT: dict[str, Callable[[], None]] = {
    "iterator": _iterator,
    "chunked_cursor": _chunked_cursor,
    "named_cursor": _named_cursor,
    "unbuffered_cursor": _unbuffered_cursor,
}
OF_POSTGRESQL = ["iterator", "chunked_cursor", "named_cursor"]
OF_MARIADB = ["iterator", "chunked_cursor", "unbuffered_cursor"]


def _collect_in_another_thread() -> None:
    """Blocks this thread, the loop's too, for which the collector must not wait."""
    thread = threading.Thread(target=gc.collect)
    thread.start()
    thread.join(5)
    assert not thread.is_alive(), "the collector waited for the loop"


def _read_all() -> int:
    return sum(1 for _ in ContentType.objects.iterator(chunk_size=5))


async def _leave(door: str, leave: Callable[[], None]) -> None:
    if door == "thread":

        def view() -> int:
            leave()
            _collect_in_another_thread()
            return ContentType.objects.count()  # what was left does not stand in the way of what comes next

        assert await sync_to_async(view)() >= NUMBER
        return
    await run_django(leave)
    _collect_in_another_thread()
    assert await ContentType.objects.acount() >= NUMBER


async def _nobody_meets_it(door: str, what: str, eventually: Any) -> None:
    for _ in range(2):
        async with scope():
            await _leave(door, LEFT[what])
        await eventually(lambda: database().stats().checked_out == 0)
        async with scope():
            assert await sync_to_async(_read_all)() >= NUMBER
        async with scope():
            assert await run_django(_read_all) >= NUMBER
    await eventually(lambda: database().stats().checked_out == 0)


@pytest.mark.families("postgresql")
@pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")
@pytest.mark.parametrize("what", OF_POSTGRESQL)
@pytest.mark.parametrize("door", ["thread", "native"])
async def test_a_cursor_that_a_thread_collects_is_met_by_nobody(
    tx: Any, kinds: Any, door: str, what: str, eventually: Any
) -> None:
    tx(async_db={"pool_size": 1, "pool_timeout": 10})
    await _nobody_meets_it(door, what, eventually)
    async with scope():
        found = await run_django(_open_cursors)
    assert found == []


def _open_cursors() -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_cursors WHERE is_holdable")
        found: list[Any] = cursor.fetchall()
        return found


@pytest.mark.families("mariadb")
@pytest.mark.parametrize("what", OF_MARIADB)
@pytest.mark.parametrize("door", ["thread", "native"])
async def test_an_unread_result_that_a_thread_collects_is_met_by_nobody(
    tx: Any, kinds: Any, door: str, what: str, eventually: Any
) -> None:
    tx(async_db={"pool_size": 1, "pool_timeout": 10})
    await _nobody_meets_it(door, what, eventually)


def _generator_with(make_cursor: Callable[[], Any]) -> Any:
    """Leaves a generator whose cursor something else keeps: it is alive, and a collection ends its generator."""

    def read() -> Iterator[Any]:
        with closing(make_cursor()) as cursor:
            yield cursor
            cursor.execute("SELECT id FROM django_content_type")
            yield cursor.fetchone()

    connection.ensure_connection()
    rows = read()
    cursor = next(rows)
    next(rows)
    _in_a_cycle(rows)
    return cursor


def _unread() -> Any:
    if connection.vendor == "postgresql":
        return _generator_with(connection.chunked_cursor)
    from MySQLdb.cursors import SSCursor

    return _generator_with(lambda: connection.connection.cursor(SSCursor))


@pytest.mark.families("mariadb", "postgresql")
async def test_a_collection_in_the_thread_of_the_request_waits_for_nothing(kinds: Any) -> None:
    loop = asyncio.get_running_loop()
    blocked, collected = threading.Event(), threading.Event()
    came: list[bool] = []

    def block() -> None:
        blocked.set()
        came.append(collected.wait(5))

    def view() -> int:
        cursor = _unread()
        loop.call_soon_threadsafe(block)
        assert blocked.wait(5)
        gc.collect()
        collected.set()
        del cursor
        return ContentType.objects.count()

    async with scope():
        assert await sync_to_async(view)() >= NUMBER
    assert came == [True]


@pytest.mark.families("mariadb", "postgresql")
async def test_a_collection_amid_a_native_call_asks_the_server_nothing(kinds: Any) -> None:
    def view() -> list[bool]:
        cursor = _unread()
        link = connection.seat.link
        since = link.asked_at
        gc.collect()
        del cursor
        return [link.asked_at == since, link.stream_unfinished]

    async with scope():
        assert await run_django(view) == [True, connection.vendor == "mysql"]
        assert await ContentType.objects.acount() >= NUMBER


@pytest.mark.families("mariadb", "postgresql")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_a_collection_on_the_loop_gives_nothing_back_amid_what_it_interrupts(kinds: Any, eventually: Any) -> None:
    async def waits() -> None:
        async with scope():
            rows = aiter(_aiterator())
            await anext(rows)
            taken.set()
            await asyncio.get_running_loop().create_future()

    taken = asyncio.Event()
    task = asyncio.create_task(waits())
    await taken.wait()
    _in_a_cycle(task)
    del task
    assert database().stats().checked_out == 1
    gc.collect()
    assert database().stats().checked_out == 1
    await eventually(lambda: database().stats().checked_out == 0)


@pytest.mark.families("postgresql")
async def test_a_cursor_closed_by_hand_in_its_thread_is_closed_there_and_then(kinds: Any) -> None:
    def view() -> list[Any]:
        rows = ContentType.objects.iterator(chunk_size=5)
        next(rows)
        rows.close()
        return _open_cursors()

    resets = database().stats().counts.reset
    async with scope():
        assert await sync_to_async(view)() == []
    async with scope():
        assert await run_django(view) == []
    assert database().stats().counts.reset == resets


@pytest.mark.families("postgresql")
async def test_a_cursor_kept_beyond_its_scope_closes_no_cursor_of_the_next_user(tx: Any, kinds: Any) -> None:
    tx(async_db={"pool_size": 1, "pool_timeout": 10})
    kept: list[Any] = []

    def opens() -> None:
        cursor = connection.connection.cursor(name="mine", withhold=True)
        cursor.execute("SELECT id FROM django_content_type")
        kept.append(cursor)

    def goes_on() -> int:
        mine = connection.connection.cursor(name="mine", withhold=True)
        mine.execute("SELECT id FROM django_content_type")
        kept.pop().close()
        with mine:
            return len(mine.fetchall())

    async with scope():
        await run_django(lambda: connection.ensure_connection() or opens())
    async with scope():
        assert await run_django(lambda: connection.ensure_connection() or goes_on()) >= NUMBER


def test_what_the_collector_calls_knows_it() -> None:
    class Seen:
        def __del__(self) -> None:
            found.append(collecting())

    found: list[bool] = []
    _in_a_cycle(Seen())
    gc.collect()
    dropped = Seen()
    del dropped
    assert found == [True, False]
    assert not collecting()


# -- streams that a task left ------------------------------------------------------------------------------------------


async def _raises_with_it_in_a_frame(open_rows: Callable[[], Any]) -> None:
    async def handle(rows: Any) -> None:
        async for _ in rows:
            raise KeyError

    await handle(open_rows())


async def _raises_beside_it(open_rows: Callable[[], Any]) -> None:
    rows = aiter(open_rows())
    await anext(rows)
    raise KeyError


async def _asks_within_a_time(open_rows: Callable[[], Any]) -> None:
    await asyncio.wait_for(anext(aiter(open_rows())), 5)


async def _asks_in_a_child(open_rows: Callable[[], Any]) -> None:
    rows = aiter(open_rows())
    await asyncio.create_task(anext(rows))


async def _asks_in_a_gather(open_rows: Callable[[], Any]) -> None:
    rows = aiter(open_rows())
    await asyncio.gather(anext(rows))


async def _a_child_reads(open_rows: Callable[[], Any]) -> None:
    async def read() -> None:
        async for _ in rows:
            break

    rows = aiter(open_rows())
    await asyncio.create_task(read())


async def _keeps_it(open_rows: Callable[[], Any]) -> None:
    rows = aiter(open_rows())
    kept.append(rows)
    await anext(rows)


kept: list[Any] = []
LEAVES = [
    _raises_with_it_in_a_frame,
    _raises_beside_it,
    _asks_within_a_time,
    _asks_in_a_child,
    _asks_in_a_gather,
    _a_child_reads,
    _keeps_it,
]


def _stream() -> AsyncIterator[int]:
    return aiter(database().stream(select(Kind.id), into=int, batch=5))


def _aiterator() -> AsyncIterator[int]:
    return ContentType.objects.values_list("pk", flat=True).aiterator(chunk_size=5)


@pytest.mark.families("mariadb", "postgresql")
@pytest.mark.verify("postgresql")
@pytest.mark.parametrize("leaves", LEAVES)
@pytest.mark.parametrize("scoped", [False, True], ids=["bare", "scope"])
@pytest.mark.parametrize("open_rows", [_stream, _aiterator])
async def test_a_stream_ends_with_the_task_that_opened_it(
    kinds: Any, open_rows: Any, scoped: bool, leaves: Callable[[Any], Awaitable[None]], eventually: Any
) -> None:
    async def task() -> None:
        if scoped:
            async with scope():
                await leaves(open_rows)
        else:
            await leaves(open_rows)

    outcomes = []  # which keep the errors with all their frames
    for _ in range(4):
        outcomes += await asyncio.gather(asyncio.create_task(task()), return_exceptions=True)
        await eventually(lambda: database().stats().checked_out == 0)
    assert {type(outcome) for outcome in outcomes} <= {type(None), KeyError}
    if kept:
        with pytest.raises((TransactionMisuse, ScopeClosed, InterfaceError), match=r"task that opened it|its stream"):
            while True:
                await anext(kept[0])
        kept.clear()
    assert await ContentType.objects.acount() >= NUMBER


@pytest.mark.families("mariadb", "postgresql")
@pytest.mark.parametrize("open_rows", [_stream, _aiterator])
async def test_a_stream_that_another_task_reads_outlives_the_one_that_opened_it(
    kinds: Any, open_rows: Any, eventually: Any
) -> None:
    rows = aiter(open_rows())
    begun, taken = asyncio.Event(), asyncio.Event()

    async def opens() -> None:
        await anext(rows)
        begun.set()
        await taken.wait()

    async def reads() -> int:
        await begun.wait()
        number = 1
        for _ in range(10):
            await anext(rows)
            number += 1
        taken.set()
        await first
        await asyncio.sleep(0)
        async for _ in rows:
            number += 1
        return number

    first = asyncio.create_task(opens())
    assert await asyncio.create_task(reads()) >= NUMBER
    await eventually(lambda: database().stats().checked_out == 0)


async def test_no_spare_wrapper_keeps_the_error_of_a_task(kinds: Any) -> None:
    class Kept:
        pass

    async def fails() -> None:
        here = Kept()
        gone.append(weakref.ref(here))
        await ContentType.objects.acount()
        raise KeyError

    gone: list[weakref.ref[Kept]] = []
    for scoped in (False, True):
        try:
            await asyncio.create_task(_in_a_scope(fails()) if scoped else fails())
        except KeyError:
            await asyncio.sleep(0)  # this turn of the loop has the task in its hands
    gc.collect()
    assert [one() for one in gone] == [None, None]


async def _in_a_scope(work: Awaitable[None]) -> None:
    async with scope():
        await work


async def test_a_stream_that_was_read_leaves_nothing_on_its_task(kinds: Any) -> None:
    since = time.monotonic()
    for _ in range(3):
        assert len([row async for row in _aiterator()]) >= NUMBER
        async for _ in _aiterator():
            break
    task: Any = asyncio.current_task()
    while any("Opener" in repr(callback) for callback, _ in task._callbacks or ()):
        await asyncio.sleep(0)
        assert time.monotonic() - since < 10
    assert database().stats().checked_out <= 1


# -- who asks at once after he has left a stream -----------------------------------------------------------------------


async def _left_by_break(rows: Any) -> None:
    async for _ in rows.aiterator(chunk_size=5):
        break


async def _closed(rows: Any) -> None:
    async with aclosing(rows.aiterator(chunk_size=5)) as read:
        await anext(read)


async def _left_through_a_generator(rows: Any) -> None:
    async def passed_on() -> AsyncIterator[Any]:
        async for row in rows.aiterator(chunk_size=5):
            yield row

    async for _ in passed_on():
        break


async def _a_stream_through_a_generator(_: Any) -> None:
    async def passed_on() -> AsyncIterator[Any]:
        async for row in database().stream(select(Kind.id), into=int, batch=5):
            yield row

    async for _ in passed_on():
        break


LEAVES_IT = [_left_by_break, _closed, _left_through_a_generator, _a_stream_through_a_generator]


@pytest.mark.parametrize("opens", [scope, nullcontext], ids=["scope", "bare"])
@pytest.mark.parametrize("leave", LEAVES_IT)
async def test_who_has_left_a_stream_may_ask_at_once_though_the_pool_has_no_other_connection(
    tx: Any, leave: Callable[[Any], Awaitable[None]], opens: Any
) -> None:
    tx(async_db={"pool_size": 1, "pool_timeout": 10})
    await ContentType.objects.abulk_create([ContentType(app_label="left", model=str(n)) for n in range(NUMBER)])
    async with opens():
        await leave(ContentType.objects.order_by("pk"))
        assert await ContentType.objects.acount() >= NUMBER


async def test_who_holds_a_stream_still_is_told_at_once(tx: Any) -> None:
    tx(async_db={"pool_size": 1, "pool_timeout": 10})
    await ContentType.objects.abulk_create([ContentType(app_label="left", model=str(n)) for n in range(NUMBER)])
    begun = time.monotonic()
    async with database().stream(select(Kind.id), into=int, batch=5) as read:
        await anext(aiter(read))
        with pytest.raises(PoolExhaustedByTask):
            await database().fetch_val(select(1))
    assert time.monotonic() - begun < 5.0
