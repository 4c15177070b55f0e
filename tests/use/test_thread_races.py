"""A sync view's thread and the loop: nothing is taken away between two of the thread's steps."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from django.db import close_old_connections, connection, transaction
from django.http import HttpResponse, StreamingHttpResponse

from asyncdb.engine import pool_of
from django_bridge import database, run_django, scope
from tests.bridge.site import PREFIX, SCOPED, around, get, site

REQUESTS = 12


@pytest.fixture(params=[None, 1e-6], ids=["ordinary", "racing"])
def _switching(request: pytest.FixtureRequest) -> Iterator[None]:
    before = sys.getswitchinterval()
    if request.param is not None:
        sys.setswitchinterval(request.param)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def asked(number: int = 1) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {number}")
        return int(cursor.fetchone()[0])


def busy() -> None:
    sum(range(5000))


async def answers(project: Callable[..., None], view: Callable[..., Any], *, at_once: int = 1) -> list[Any]:
    site(project=project, middleware=[SCOPED], view=view)
    found = []
    for _ in range(REQUESTS // at_once):
        found += await asyncio.gather(*(get("/view") for _ in range(at_once)))
    return found


@pytest.mark.usefixtures("_switching")
async def test_an_empty_block_after_a_query(shop: Any, project: Any) -> None:
    def view(request: Any) -> HttpResponse:
        asked()
        with transaction.atomic():
            pass
        with transaction.atomic(), transaction.atomic():
            pass
        return HttpResponse(str(asked(2)))

    assert await answers(project, view) == [(200, b"2")] * REQUESTS


@pytest.mark.usefixtures("_switching")
async def test_many_queries_with_work_between_them(shop: Any, project: Any) -> None:
    def view(request: Any) -> HttpResponse:
        total = 0
        for number in range(20):
            total += asked(number)
            busy()
        return HttpResponse(str(total))

    assert await answers(project, view, at_once=4) == [(200, b"190")] * REQUESTS


@pytest.mark.usefixtures("_switching")
async def test_blocks_that_write_and_blocks_that_are_rolled_back(shop: Any, project: Any) -> None:
    await shop.create(shop.models.Row)
    rows = shop.models.Row.objects

    def view(request: Any) -> HttpResponse:
        rows.count()
        with transaction.atomic():
            rows.create(text="kept")
            busy()
        try:
            with transaction.atomic():
                rows.create(text="undone")
                raise LookupError
        except LookupError:
            busy()
        with transaction.atomic():
            pass
        transaction.set_autocommit(False)
        rows.create(text="undone")
        transaction.rollback()
        transaction.set_autocommit(True)
        return HttpResponse(str(rows.filter(text="undone").count()))

    assert await answers(project, view) == [(200, b"0")] * REQUESTS
    assert await rows.filter(text="kept").acount() == REQUESTS


async def test_a_thread_that_calls_async_code_that_asks(shop: Any, project: Any) -> None:
    await shop.create(shop.models.Row)

    async def count() -> int:
        return int(await shop.models.Row.objects.acount())

    def view(request: Any) -> HttpResponse:
        for _ in range(5):
            asked()
            async_to_sync(count)()
            with transaction.atomic():
                pass
        return HttpResponse("ok")

    assert await answers(project, view) == [(200, b"ok")] * REQUESTS


async def test_a_thread_of_an_async_view(shop: Any, project: Any) -> None:
    def work() -> int:
        asked()
        with transaction.atomic():
            pass
        return asked(3)

    async def view(request: Any) -> HttpResponse:
        first = await sync_to_async(work)()
        return HttpResponse(str(first + await sync_to_async(work)()))

    assert await answers(project, view) == [(200, b"6")] * REQUESTS


async def test_a_streamed_body_in_a_thread(shop: Any, project: Any) -> None:
    def body() -> Iterator[bytes]:
        for number in range(5):
            yield str(asked(number)).encode()
            with transaction.atomic():
                pass

    def view(request: Any) -> StreamingHttpResponse:
        asked()
        return StreamingHttpResponse(body())

    with pytest.warns(Warning, match="must consume synchronous iterators"):
        assert await answers(project, view) == [(200, b"01234")] * REQUESTS


async def test_the_connection_goes_back_when_the_call_ends(shop: Any) -> None:
    held: list[int] = []
    pool = pool_of(database().engine)

    def work() -> None:
        asked()
        held.append(pool.checkedout())

    async with scope():
        await sync_to_async(work)()
        assert (held, shop.checked_out()) == ([1], 0)


async def test_a_long_call_gives_it_back_by_closing_old_connections(shop: Any) -> None:
    held: list[int] = []
    pool = pool_of(database().engine)

    def work() -> None:
        for _ in range(2):
            asked()
            close_old_connections()
            held.append(pool.checkedout())
            asked()
            connection.close()
            held.append(pool.checkedout())

    async with scope():
        await sync_to_async(work)()
    assert held == [0, 0, 0, 0]


async def test_a_sync_middleware_that_has_asked_keeps_nothing_while_its_view_runs(shop: Any, project: Any) -> None:
    shop.configure(async_db={"pool_size": 2, "pool_timeout": 5})
    await shop.create(shop.models.Row)

    def asking(get_response: Any, request: Any) -> Any:
        asked()
        response = get_response(request)
        assert asked(7) == 7
        return response

    around["sync"] = asking
    held: list[int] = []

    async def view(request: Any) -> HttpResponse:
        held.append(shop.checked_out())
        children = [asyncio.create_task(shop.models.Row.objects.acount()) for _ in range(3)]
        return HttpResponse(str(sum(await asyncio.gather(*children))))

    site(project=project, middleware=[SCOPED, f"{PREFIX}SyncOnly"], view=view)
    assert await get("/view") == (200, b"0")
    assert held == [0]
    assert await asyncio.gather(*(get("/view") for _ in range(8))) == [(200, b"0")] * 8


async def test_a_cursor_that_is_open_meanwhile_keeps_its_connection(shop: Any) -> None:
    async def other() -> int:
        return int(await shop.models.Row.objects.acount())

    def work() -> tuple[Any, ...]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 UNION SELECT 2 ORDER BY 1")
            first = cursor.fetchone()
            assert async_to_sync(other)() == 0
            return (*first, *cursor.fetchone())

    await shop.create(shop.models.Row)
    async with scope():
        assert await sync_to_async(work)() == (1, 2)


@pytest.mark.parametrize("through", [sync_to_async, None], ids=["thread", "run_django"])
async def test_iterators_at_once_wait_for_no_second_connection(through: Any, shop: Any) -> None:
    """As each ``ModelChoiceField`` of a form does."""
    shop.configure(async_db={"pool_size": 2, "pool_timeout": 5})
    await shop.create(shop.models.Row)
    rows = shop.models.Row.objects
    await rows.abulk_create([shop.models.Row(number=n) for n in range(3)])
    together = asyncio.Barrier(2)

    def work() -> list[int]:
        rows.count()
        async_to_sync(together.wait)() if through is None else None
        return [row.number for row in rows.order_by("number").iterator(chunk_size=1) if rows.count() == 3]

    async def request() -> list[int]:
        async with scope():
            if through is None:
                return await run_django(work)
            async with ThreadSensitiveContext():
                return await sync_to_async(work)()

    assert await asyncio.gather(*(asyncio.create_task(request()) for _ in range(4))) == [[0, 1, 2]] * 4
    assert database().stats().counts.timeouts == 0
