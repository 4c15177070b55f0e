"""``aiterator`` reads from the server as it is read from, in bounded memory, and always gives its connection back."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from django_bridge import hooks, run_django, scope
from tests.tables import SEQUENCE

from .site import SCOPED, get, site

servers = pytest.mark.families("mariadb", "postgresql", "mysql")
pool = pytest.mark.native_only("it looks at the pool")
streamed_by_us = pytest.mark.native_only("mysqlclient fetches all rows at once")
closed_by_us = pytest.mark.native_only("Django leaves a broken generator to the garbage collector, in another thread")
MANY = 100_000
WIDTH = 100

FILL = {
    "mariadb": "INSERT INTO shelf_row (number, text) SELECT seq, REPEAT('x', %s) FROM seq_1_to_{}",
    "postgresql": "INSERT INTO shelf_row (number, text) SELECT n, repeat('x', %s) FROM generate_series(1, {}) AS n",
    "sqlite": "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {}) "
    "INSERT INTO shelf_row (number, text) SELECT n, printf('%%.*c', %s, 'x') FROM c",
}
FILL["mysql"] = FILL["mariadb"].replace("seq_1_to_{}", SEQUENCE.format(n="{}"))


async def filled(shop: Any, rows: int) -> Any:
    await shop.create(shop.models.Row)

    def fill() -> None:
        with connection.cursor() as cursor:
            cursor.execute(FILL[shop.family].format(rows), [WIDTH])

    await run_django(fill)
    return shop.models.Row.objects


@pytest.fixture
async def rows(shop: Any) -> Any:
    """A thousand rows."""
    return await filled(shop, 1000)


async def peak(iterator: Any) -> tuple[int, int]:
    """How many rows there were, and the most memory that Python held meanwhile beyond what it held before, in bytes."""
    tracemalloc.start()
    try:
        number = 0
        async for _ in iterator:
            number += 1
        return number, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def in_thread(function: Any) -> Any:
    return await sync_to_async(function)()


@pytest.mark.verify("postgresql")
@streamed_by_us
@servers
async def test_a_hundred_thousand_rows_are_read_in_bounded_memory(shop: Any) -> None:
    rows = await filled(shop, MANY)
    number, streamed = await peak(rows.aiterator(chunk_size=500))
    assert number == MANY
    assert streamed < 3_000_000, "100 bytes each, they are 10 MB and more at once"


@streamed_by_us
@servers
async def test_they_are_bounded_in_a_scope_as_well(shop: Any) -> None:
    rows = await filled(shop, 40_000)
    async with scope():
        number, streamed = await peak(rows.values("number", "text").aiterator(chunk_size=500))
    assert number == 40_000
    assert streamed < 3_000_000


@pytest.mark.families("postgresql")
async def test_they_are_bounded_in_a_transaction_where_the_server_has_cursors(shop: Any) -> None:
    """MySQL's protocol has no second statement beside an unfinished result, so there the rows are fetched at once."""
    rows = await filled(shop, 40_000)
    async with scope():
        block = transaction.atomic()
        await run_django(block.__enter__)
        number, streamed = await peak(rows.values("number", "text").aiterator(chunk_size=500))
        await run_django(block.__exit__, None, None, None)
    assert number == 40_000
    assert streamed < 3_000_000


@streamed_by_us
@servers
@pytest.mark.parametrize("run", [run_django, in_thread])
async def test_iterator_in_run_django_and_in_a_thread_is_bounded_too(run: Any, shop: Any) -> None:
    rows = await filled(shop, 40_000)

    def work() -> tuple[int, int]:
        tracemalloc.start()
        try:
            return sum(1 for _ in rows.values_list("number", "text").iterator(500)), tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    async with scope():
        number, streamed = await run(work)
    assert number == 40_000
    # A thread asks for no second connection: there MySQL's rows are read whole, as by Django's own driver.
    assert (streamed < 3_000_000) or (run is in_thread and shop.family != "postgresql")


async def numbers(iterator: Any) -> list[int]:
    return [row.number async for row in iterator]


@pytest.mark.contract
async def test_every_row_comes_once_and_in_order(shop: Any, rows: Any) -> None:
    wanted = list(range(1, 1001))
    for size in (1, 7, 100, 1000, 2000):
        assert await numbers(rows.order_by("number").aiterator(chunk_size=size)) == wanted
    assert await numbers(rows.none().aiterator()) == []
    assert await numbers(rows.filter(number__gt=5000).aiterator()) == []


@servers
async def test_other_tasks_run_between_the_rows(rows: Any) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    async for _ in rows.aiterator(chunk_size=10):
        pass
    task.cancel()
    assert turns > 50


async def test_every_kind_of_rows_is_streamed(rows: Any) -> None:
    few = rows.filter(number__lte=3).order_by("number")
    assert [one async for one in few.values("number").aiterator()] == [{"number": n} for n in (1, 2, 3)]
    assert [one async for one in few.values_list("number", flat=True).aiterator()] == [1, 2, 3]
    assert [one.number async for one in few.values_list("number", named=True).aiterator()] == [1, 2, 3]
    assert [one async for one in few.values_list("number", "pk")] == [(1, 1), (2, 2), (3, 3)]


@pytest.mark.native_only("Django's own cannot")
async def test_tuples_are_streamed_where_djangos_own_asks_for_them_on_the_loop(shop: Any, rows: Any) -> None:
    """ValuesListIterable.__iter__ is no generator (Django 5.2 and 6.1): a canary, and what the hook is for."""
    few = rows.filter(number__lte=3).order_by("number")
    assert [one async for one in few.values_list("number", "pk").aiterator()] == [(1, 1), (2, 2), (3, 3)]
    hooks.uninstall()
    try:
        with pytest.raises(SynchronousOnlyOperation):
            [one async for one in few.values_list("number", "pk").aiterator()]
    finally:
        hooks.install()


@streamed_by_us
@servers
async def test_a_slow_reader_lets_the_server_wait(shop: Any) -> None:
    rows = await filled(shop, 40_000)
    tracemalloc.start()
    try:
        async for _ in rows.values("number", "text").aiterator(chunk_size=500):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


async def break_off(rows: Any) -> None:
    async for row in rows.aiterator(chunk_size=10):
        if row.number > 15:
            break


async def fail(rows: Any) -> None:
    with pytest.raises(LookupError):
        async for row in rows.aiterator(chunk_size=10):
            if row.number > 15:
                raise LookupError


async def close(rows: Any) -> None:
    iterator = rows.aiterator(chunk_size=10)
    await anext(iterator)
    await iterator.aclose()


async def forget(rows: Any) -> None:
    iterator = rows.aiterator(chunk_size=10)
    await anext(iterator)
    del iterator


async def never_begin(rows: Any) -> None:
    rows.aiterator(chunk_size=10)


async def cancel(rows: Any) -> None:
    begun = asyncio.Event()

    async def read() -> None:
        async for _ in rows.aiterator(chunk_size=10):
            begun.set()
            await asyncio.sleep(0)

    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def cancel_while_it_waits(rows: Any) -> None:
    iterator = rows.aiterator(chunk_size=10)
    await anext(iterator)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await asyncio.Event().wait()
    with pytest.raises(asyncio.CancelledError):
        task = asyncio.ensure_future(numbers(rows.aiterator(chunk_size=10)))
        await asyncio.sleep(0)
        task.cancel()
        await task
    await iterator.aclose()


ENDS = [break_off, fail, close, forget, never_begin, cancel, cancel_while_it_waits]


@closed_by_us
@pytest.mark.parametrize("end", ENDS)
async def test_a_stream_that_is_broken_off_gives_its_connection_back(
    end: Any, shop: Any, rows: Any, eventually: Any
) -> None:
    shop.configure(async_db={"pool_size": 2})
    for _ in range(5):
        await end(rows)
    await eventually(lambda: shop.checked_out() == 0)
    async with asyncio.timeout(10):
        assert await rows.acount() == 1000


@closed_by_us
@pytest.mark.parametrize("end", ENDS)
async def test_the_same_in_a_scope(end: Any, shop: Any, rows: Any, eventually: Any) -> None:
    shop.configure(async_db={"pool_size": 2})
    async with scope():
        for _ in range(5):
            await end(rows)
        async with asyncio.timeout(10):
            assert await rows.acount() == 1000
        await eventually(lambda: shop.checked_out() == 0)
    assert shop.checked_out() == 0


@closed_by_us
@pytest.mark.parametrize("end", [break_off, fail, close])
async def test_the_same_in_a_transaction_which_goes_on(end: Any, shop: Any, rows: Any) -> None:
    async with scope():
        block = transaction.atomic()
        await run_django(block.__enter__)
        await end(rows)
        await rows.acreate(number=-1)
        assert await rows.acount() == 1001
        await run_django(block.__exit__, None, None, None)
        assert shop.checked_out() == 0
    assert await rows.filter(number=-1).aexists()


@servers
async def test_rows_are_saved_in_the_body(shop: Any, rows: Any) -> None:
    async with scope():
        async for row in rows.order_by("number").aiterator(chunk_size=100):
            if row.number <= 300:
                row.text = "seen"
                await row.asave()
    assert await rows.filter(text="seen").acount() == 300
    assert shop.checked_out() == 0


async def test_rows_are_saved_in_the_body_of_a_stream_in_a_transaction(shop: Any, rows: Any) -> None:
    async with scope():
        block = transaction.atomic()
        await run_django(block.__enter__)
        seen = 0
        async for row in rows.order_by("number").aiterator(chunk_size=100):
            seen += 1
            if row.number <= 300:
                row.text = "seen"
                await row.asave()
        assert seen == 1000
        await run_django(transaction.set_rollback, True)
        await run_django(block.__exit__, None, None, None)
    assert await rows.filter(text="seen").acount() == 0
    assert shop.checked_out() == 0


async def test_a_stream_in_a_transaction_sees_the_transactions_own_rows(rows: Any) -> None:
    async with scope():
        block = transaction.atomic()
        await run_django(block.__enter__)
        await rows.acreate(number=-1)
        assert len(await numbers(rows.aiterator())) == 1001
        await run_django(transaction.set_rollback, True)
        await run_django(block.__exit__, None, None, None)
    assert len(await numbers(rows.aiterator())) == 1000


async def test_two_streams_side_by_side(shop: Any, rows: Any) -> None:
    async with scope():
        left, right = rows.order_by("number").aiterator(), rows.order_by("-number").aiterator()
        pairs = [(a.number, (await anext(right)).number) async for a in left]
        await right.aclose()
    assert pairs == [(n, 1001 - n) for n in range(1, 1001)]
    assert shop.checked_out() == 0


async def test_a_stream_prefetches_chunk_by_chunk(shop: Any) -> None:
    models = shop.models
    await shop.create(models.Label, models.Shelf, models.Item)
    await models.Shelf.objects.abulk_create([models.Shelf(name=str(n)) for n in range(25)])
    shelves = [shelf async for shelf in models.Shelf.objects.all()]
    await models.Item.objects.abulk_create([models.Item(shelf=shelf) for shelf in shelves for _ in range(2)])
    found = [len(one.items.all()) async for one in models.Shelf.objects.prefetch_related("items").aiterator(4)]
    assert found == [2] * 25


@pytest.mark.parametrize("way", ["whole", "broken", "two"])
async def test_iterator_in_a_sync_view(way: str, shop: Any, rows: Any, project: Any, eventually: Any) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        if way == "whole":
            return HttpResponse(str(sum(1 for _ in rows.iterator(chunk_size=10))))
        if way == "broken":
            for row in rows.iterator(chunk_size=10):
                if row.number > 15:
                    break
            return HttpResponse(str(rows.count()))
        total = 0
        for _, _ in zip(rows.iterator(chunk_size=10), rows.iterator(chunk_size=7), strict=True):
            total += 1
        return HttpResponse(str(total))

    site(project=project, middleware=[SCOPED], view=view)
    for _ in range(4):
        assert await get("/view") == (200, b"1000")
    await eventually(lambda: shop.checked_out() == 0)


async def test_rows_are_saved_in_the_body_of_a_sync_views_iterator(shop: Any, rows: Any, project: Any) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        with transaction.atomic():
            for row in rows.order_by("number").iterator(chunk_size=100):
                if row.number <= 50:
                    row.text = "seen"
                    row.save()
        return HttpResponse(str(rows.filter(text="seen").count()))

    site(project=project, middleware=[SCOPED], view=view)
    assert await get("/view") == (200, b"50")
    assert shop.checked_out() == 0


async def test_streaming_responses_read_from_the_database(shop: Any, rows: Any, project: Any, eventually: Any) -> None:
    def sync_view(request: HttpRequest) -> StreamingHttpResponse:
        return StreamingHttpResponse(f"{row.number}," for row in rows.order_by("number")[:20].iterator())

    async def async_view(request: HttpRequest) -> StreamingHttpResponse:
        async def body() -> Any:
            async for row in rows.order_by("number")[:20].aiterator():
                yield f"{row.number},"

        return StreamingHttpResponse(body())

    site(project=project, middleware=[SCOPED], sync=sync_view, other=async_view)
    wanted = "".join(f"{n}," for n in range(1, 21)).encode()
    assert await get("/other") == (200, wanted)
    with pytest.warns(Warning, match="StreamingHttpResponse must consume"):
        assert await get("/sync") == (200, wanted)
    await eventually(lambda: shop.checked_out() == 0)


@pool
async def test_a_view_that_waits_between_its_events_holds_no_connection(shop: Any, rows: Any, project: Any) -> None:
    held: list[int] = []

    async def view(request: HttpRequest) -> StreamingHttpResponse:
        async def body() -> Any:
            for _ in range(3):
                yield f"{await rows.acount()} "
                held.append(shop.checked_out())

        return StreamingHttpResponse(body())

    site(project=project, middleware=[SCOPED], view=view)
    assert await get("/view") == (200, b"1000 1000 1000 ")
    assert held == [0, 0, 0]
