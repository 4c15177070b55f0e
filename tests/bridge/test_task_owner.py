"""One task owns a scope: its children get their own, a thread it waits for shares it, nobody else touches the wire."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import IntegrityError, OperationalError, close_old_connections, connection, connections, transaction
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views import View
from sqlalchemy import text

from asyncdb.errors import PoolExhaustedByTask
from django_bridge import atomic, database, outside_scope, run_django, scope, session
from django_bridge.errors import ScopeError, ScopeOwnedByTask
from django_bridge.scopes import left_to_django

from .site import PREFIX, SCOPED, around, get, site

in_threads_tasks_share = pytest.mark.native_only("with threads, every task shares the one thread's connection")
servers = pytest.mark.families("mariadb", "postgresql", "mysql")


@pytest.fixture
async def rows(shop: Any) -> Any:
    await shop.create(shop.models.Row)
    return shop.models.Row.objects


@asynccontextmanager
async def transaction_here(**options: Any) -> AsyncIterator[None]:
    """Django's own block, entered and left on the loop; always rolled back."""
    block = transaction.atomic(**options)
    await run_django(block.__enter__)
    try:
        yield
    finally:
        await run_django(transaction.set_rollback, True)
        await run_django(block.__exit__, None, None, None)


def who() -> int:
    """The server's number for this connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()" if connection.vendor == "mysql" else "SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def change_session() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute("SET SESSION lock_wait_timeout = 77")
        elif connection.vendor == "postgresql":
            cursor.execute("SET search_path TO public")
        else:
            cursor.execute("CREATE TEMPORARY TABLE mine (number INTEGER)")


def setting() -> object:
    """What ``change_session`` changes."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@lock_wait_timeout" if connection.vendor == "mysql" else "SHOW search_path")
        return cursor.fetchone()[0]


@contextmanager
def exhausted() -> Iterator[None]:
    """The pool's own error at once, which the ORM puts in one of Django's."""
    with pytest.raises((PoolExhaustedByTask, OperationalError)) as caught:
        yield
    assert isinstance(
        caught.value if caught.type is PoolExhaustedByTask else caught.value.__cause__, PoolExhaustedByTask
    )


# Child tasks


async def as_task(work: Any) -> Any:
    return await asyncio.create_task(work)


async def in_gather(work: Any) -> Any:
    return (await asyncio.gather(work))[0]


async def in_task_group(work: Any) -> Any:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
    return task.result()


async def in_wait_for(work: Any) -> Any:
    return await asyncio.wait_for(asyncio.ensure_future(work), 20)


CHILDREN = [as_task, in_gather, in_wait_for]


@pytest.mark.parametrize("start", [*CHILDREN, in_task_group])
async def test_a_child_task_gets_a_connection_of_its_own(start: Any, shop: Any, rows: Any) -> None:
    async with scope():
        await rows.acreate(number=1)
        assert (await start(rows.aget(number=1))).number == 1
        await rows.acreate(number=2)
        assert await start(rows.acount()) == 2
        assert shop.checked_out() == 0


async def test_many_children_of_one_scope_ask_side_by_side(shop: Any, rows: Any) -> None:
    async with scope():
        await asyncio.gather(*(rows.acreate(number=n) for n in range(40)))
        assert sorted(await asyncio.gather(*(number(rows, n) for n in range(40)))) == list(range(40))
        assert shop.checked_out() == 0


async def number(rows: Any, wanted: int) -> int:
    return int((await rows.aget(number=wanted)).number)


@in_threads_tasks_share
@pytest.mark.parametrize("start", CHILDREN)
async def test_a_child_is_refused_while_its_parent_holds_a_transaction(start: Any, rows: Any) -> None:
    async with scope(), transaction_here():
        await rows.acreate(number=1)
        with pytest.raises(ScopeOwnedByTask):
            await start(rows.acount())
        assert await rows.acount() == 1


@in_threads_tasks_share
async def test_children_of_a_task_group_are_refused_too(rows: Any) -> None:
    async with scope(), transaction_here():
        await rows.acreate(number=1)
        with pytest.raises(ExceptionGroup) as caught:
            await in_task_group(rows.acount())
        assert caught.group_contains(ScopeOwnedByTask)


@in_threads_tasks_share
async def test_run_django_and_aiterator_of_a_child_are_refused_as_well(rows: Any) -> None:
    async with scope(), transaction_here():
        await rows.acreate(number=1)
        with pytest.raises(ScopeOwnedByTask):
            await as_task(run_django(rows.count))

        async def read() -> list[Any]:
            return [row async for row in rows.aiterator()]

        with pytest.raises(ScopeOwnedByTask):
            await as_task(read())


@in_threads_tasks_share
async def test_a_child_is_refused_while_its_parent_has_changed_the_session(shop: Any, rows: Any) -> None:
    async with scope():
        await run_django(change_session)
        with pytest.raises(ScopeOwnedByTask):
            await as_task(rows.acount())
    assert shop.checked_out() == 0


@in_threads_tasks_share
async def test_after_the_transaction_children_ask_again(rows: Any) -> None:
    async with scope():
        async with transaction_here():
            await rows.acreate(number=1)
        assert await as_task(rows.acount()) == 0


@in_threads_tasks_share
async def test_the_error_names_both_tasks_and_the_remedy(rows: Any) -> None:
    owner = asyncio.current_task()
    assert owner is not None
    owner.set_name("the-owner")

    async def named() -> int:
        return int(await rows.acount())

    async with scope(), transaction_here():
        await rows.acreate(number=1)
        with pytest.raises(ScopeOwnedByTask) as caught:
            await asyncio.create_task(named(), name="the-child")
    message = str(caught.value)
    assert "the-owner" in message
    assert "the-child" in message
    assert "async with scope()" in message
    assert "'default'" in message


@in_threads_tasks_share
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="since Python 3.12 wait_for makes no task")
async def test_on_python_3_11_the_error_of_wait_for_names_timeout(rows: Any) -> None:
    async with scope(), transaction_here():
        await rows.acreate(number=1)
        with pytest.raises(ScopeOwnedByTask, match=r"asyncio\.timeout"):
            await asyncio.wait_for(rows.acount(), 20)
        async with asyncio.timeout(20):
            assert await rows.acount() == 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="until Python 3.11 wait_for makes a task")
async def test_wait_for_stays_in_the_owners_task(rows: Any) -> None:
    async with scope(), transaction_here():
        await rows.acreate(number=1)
        assert await asyncio.wait_for(rows.acount(), 20) == 1


@in_threads_tasks_share
@servers
async def test_a_childs_own_scope_is_apart_from_its_parents_transaction(shop: Any, rows: Any) -> None:
    async def child() -> int:
        async with scope():
            await rows.acreate(number=2)
            return int(await rows.acount())

    async with scope(), transaction_here():
        await rows.acreate(number=1)
        assert await as_task(child()) == 1
        assert await rows.filter(number=1).aexists()
    assert await rows.acount() == 1
    assert shop.checked_out() == 0


async def test_a_scope_in_the_same_task_joins_the_outer_one(shop: Any, rows: Any) -> None:
    async with scope(), transaction_here():
        await rows.acreate(number=1)
        async with scope():
            assert await rows.acount() == 1
        assert await rows.acount() == 1
        if shop.on_server and (shop.family != "sqlite"):
            assert await run_django(who) == await run_django(who)
    assert await rows.acount() == 0


async def test_a_background_task_outlives_the_scope_in_which_it_was_started(shop: Any, rows: Any) -> None:
    go = asyncio.Event()

    async def later() -> int:
        await go.wait()
        await rows.acreate(number=1)
        async with scope():
            return int(await rows.acount())

    async with scope():
        assert await rows.acount() == 0
        task = asyncio.create_task(later())
    go.set()
    assert await task == 1
    assert shop.checked_out() == 0


@in_threads_tasks_share
async def test_a_background_task_of_an_ended_transaction_asks_for_itself(shop: Any, rows: Any) -> None:
    go = asyncio.Event()

    async def later() -> int:
        await go.wait()
        return int(await rows.acount())

    async with scope(), transaction_here():
        await rows.acreate(number=1)
        task = asyncio.create_task(later())
    go.set()
    assert await task == 0


async def test_a_scope_that_another_task_leaves_or_enters_is_not_shared(shop: Any, rows: Any) -> None:
    """A generator with a scope inside, begun in one task and gone on with in another."""

    async def numbers() -> AsyncIterator[int]:
        async with scope():
            yield await rows.acount()
            yield await rows.acount()

    found = numbers()
    assert await as_task(anext(found)) == 0
    await rows.acreate(number=1)
    try:
        assert await as_task(anext(found)) == 1
    except ScopeError:
        pass
    finally:
        with suppress(ScopeError, ValueError):
            await found.aclose()
    assert shop.checked_out() == 0
    assert await rows.acount() == 1


# Threads


async def test_a_thread_that_the_owner_waits_for_is_in_its_transaction(shop: Any, rows: Any) -> None:
    async with scope(), transaction_here():
        await rows.acreate(number=1)
        assert await sync_to_async(rows.count)() == 1
        await sync_to_async(rows.create)(number=2)
        assert await rows.acount() == 2
    assert await rows.acount() == 0


async def test_a_transaction_of_a_thread_is_over_when_the_thread_is(shop: Any, rows: Any) -> None:
    def work(fail: bool) -> None:
        with transaction.atomic():
            rows.create(number=1)
            if fail:
                raise LookupError

    async with scope():
        with pytest.raises(LookupError):
            await sync_to_async(work)(True)
        assert await rows.acount() == 0
        await sync_to_async(work)(False)
        assert await rows.acount() == 1
        assert shop.checked_out() == 0


async def test_async_code_below_a_sync_function_below_async_code_is_in_the_same_transaction(rows: Any) -> None:
    async def innermost() -> int:
        await rows.acreate(number=2)
        return int(await rows.acount())

    def sync() -> int:
        with transaction.atomic():
            rows.create(number=1)
            counted = async_to_sync(innermost)()
            assert rows.count() == 2
            transaction.set_rollback(True)
            return int(counted)

    async with scope():
        assert await sync_to_async(sync)() == 2
        assert await rows.acount() == 0
        await rows.acreate(number=3)
    assert await rows.acount() == 1


@pytest.mark.native_only("a cancelled wait does not stop Django's thread, which has a connection of its own")
async def test_the_thread_of_a_cancelled_owner_is_refused(shop: Any, rows: Any) -> None:
    entered, go, ended = threading.Event(), threading.Event(), threading.Event()
    got: list[Any] = []

    def work() -> None:
        try:
            rows.count()
            entered.set()
            assert go.wait(20)
            got.append(rows.create(number=1))
        except Exception as err:
            got.append(err)
        finally:
            ended.set()

    async def owner() -> None:
        async with scope():
            await sync_to_async(work, thread_sensitive=False)()

    task = asyncio.create_task(owner())
    assert await asyncio.to_thread(entered.wait, 20)
    task.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    go.set()
    assert await asyncio.to_thread(ended.wait, 20)
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(20):
            await task
    assert len(got) == 1
    assert isinstance(got[0], Exception), "the thread went on with the cancelled owner's connection"
    assert await rows.acount() == 0
    assert shop.checked_out() == 0


@servers
async def test_a_thread_of_asyncio_to_thread_has_djangos_own_connection(shop: Any, rows: Any) -> None:
    def work() -> tuple[int, int]:
        try:
            rows.create(number=5)
            return rows.count(), who()
        finally:
            connections.close_all()

    async with scope(), transaction_here():
        await rows.acreate(number=1)
        counted, its = await asyncio.to_thread(work)
        assert counted == 1
        assert its != await run_django(who)
    assert [row.number async for row in rows.all()] == [5]


async def test_a_plain_thread_has_djangos_own_connection(shop: Any, rows: Any) -> None:
    async with scope():
        await rows.acreate(number=1)
        assert shop.in_plain_thread(rows.count) == 1
        assert shop.checked_out() == 0


# Through Django's handler


@pytest.fixture
def asgi(project: Any) -> Callable[..., None]:
    def use(middleware: list[str], **views: Any) -> None:
        site(project=project, middleware=middleware, **views)

    return use


BELOW_SYNC = [SCOPED, f"{PREFIX}AsyncOnly", f"{PREFIX}SyncOnly"]


async def test_an_async_view_below_a_sync_only_middleware_is_in_the_requests_transaction(
    shop: Any, rows: Any, asgi: Any
) -> None:
    seen: list[int] = []

    async def outermost(get_response: Any, request: HttpRequest) -> Any:
        await rows.acreate(number=1)
        response = await get_response(request)
        seen.append(await rows.acount())
        await rows.acreate(number=9)
        return response

    def middle(get_response: Any, request: HttpRequest) -> Any:
        with transaction.atomic():
            rows.create(number=2)
            response = get_response(request)
            seen.append(rows.count())
            transaction.set_rollback(True)
        return response

    async def view(request: HttpRequest) -> HttpResponse:
        seen.append(await rows.acount())
        await rows.acreate(number=3)
        return HttpResponse("seen")

    around.update({"async": outermost, "sync": middle})
    asgi(BELOW_SYNC, view=view)
    assert await get("/view") == (200, b"seen")
    assert seen == [2, 3, 1]
    assert sorted([row.number async for row in rows.all()]) == [1, 9]
    assert shop.checked_out() == 0


async def test_many_requests_through_a_sync_only_middleware_keep_their_transactions_apart(
    shop: Any, rows: Any, asgi: Any
) -> None:
    shop.configure(async_db={"pool_size": 4, "pool_timeout": 60.0})

    def middle(get_response: Any, request: HttpRequest) -> Any:
        with transaction.atomic():
            rows.create(number=7)
            return get_response(request)

    async def view(request: HttpRequest) -> HttpResponse:
        await rows.acreate(number=8)
        return HttpResponse("seen")

    around.update({"sync": middle})
    asgi([SCOPED, f"{PREFIX}SyncOnly"], view=view)
    answers = await asyncio.gather(*(get("/view") for _ in range(12 if shop.on_server else 1)))
    assert {status for status, _ in answers} == {200}
    assert await rows.acount() == 2 * len(answers)
    assert shop.checked_out() == 0


@pytest.mark.native_only("with threads, the middleware's transaction is another connection's")
async def test_above_a_sync_only_middleware_there_is_a_scope_for_everything_below(
    shop: Any, rows: Any, asgi: Any
) -> None:
    """Django runs whatever can be sync above a sync-only middleware in its thread, ``ScopeMiddleware`` too."""
    shop.configure(async_db={"pool_size": 1})
    before = await run_django(who) if shop.on_server else 0
    seen: list[int] = []

    def ask() -> None:
        rows.create(number=1)
        seen.append(who() if shop.on_server else 0)

    def middle(get_response: Any, request: HttpRequest) -> Any:
        ask()
        return get_response(request)

    def view(request: HttpRequest) -> HttpResponse:
        ask()
        return HttpResponse("sync")

    async def async_view(request: HttpRequest) -> HttpResponse:
        await run_django(ask)
        await sync_to_async(ask)()
        return HttpResponse("async")

    around.update({"sync": middle})
    asgi([SCOPED, f"{PREFIX}SyncOnly"], view=view, async_view=async_view)
    assert await get("/view") == (200, b"sync")
    assert await get("/async_view") == (200, b"async")
    assert seen == [before] * 5
    assert shop.checked_out() == 0


@pytest.mark.native_only("with threads, the middleware's transaction is another connection's")
async def test_a_sync_view_uses_the_pool_and_gives_back(shop: Any, rows: Any, asgi: Any) -> None:
    shop.configure(async_db={"pool_size": 1})
    before = await run_django(who) if shop.on_server else 0
    seen: list[int] = []

    def view(request: HttpRequest) -> HttpResponse:
        rows.create(number=1)
        seen.append(who() if shop.on_server else 0)
        return HttpResponse(str(rows.count()))

    asgi([SCOPED], view=view)
    assert await get("/view") == (200, b"1")
    assert seen == [before]
    assert shop.checked_out() == 0


@servers
@pytest.mark.native_only("it compares with the pool's connection")
async def test_a_view_outside_the_scope_has_djangos_own_connection(shop: Any, rows: Any, asgi: Any) -> None:
    shop.configure(async_db={"pool_size": 1})
    pooled = await run_django(who)
    seen: list[int] = []

    @outside_scope
    def view(request: HttpRequest) -> HttpResponse:
        seen.append(who())
        connections.close_all()
        return HttpResponse("ok")

    @outside_scope
    async def async_view(request: HttpRequest) -> HttpResponse:
        seen.append(await sync_to_async(who)())
        await sync_to_async(connections.close_all)()
        await rows.acount()
        await sync_to_async(connections.close_all)()
        return HttpResponse("ok")

    asgi([SCOPED], view=view, other=async_view)
    assert await get("/view") == (200, b"ok")
    assert await get("/other") == (200, b"ok")
    assert len(seen) == 2
    assert pooled not in seen


@pytest.mark.native_only("with threads, every view is outside")
async def test_an_async_class_based_view_is_left_to_django_where_its_dispatch_is(
    shop: Any, rows: Any, asgi: Any
) -> None:
    seen: list[bool] = []

    @method_decorator(outside_scope, name="dispatch")
    class Left(View):
        async def get(self, request: HttpRequest) -> HttpResponse:
            seen.append(left_to_django())
            return HttpResponse("ok")

    asgi([SCOPED], view=Left.as_view())
    assert await get("/view") == (200, b"ok")
    assert seen == [True]


async def test_atomic_requests_roll_back_in_a_sync_view(shop: Any, rows: Any, asgi: Any) -> None:
    shop.configure(ATOMIC_REQUESTS=True)

    def view(request: HttpRequest) -> HttpResponse:
        rows.create(number=1)
        if request.path == "/fails":
            raise PermissionError
        return HttpResponse("ok")

    asgi([SCOPED], view=view, fails=view)
    assert (await get("/view"))[0] == 200
    assert (await get("/fails"))[0] in {403, 500}
    assert await rows.acount() == 1
    assert shop.checked_out() == 0


# More connections than there are


@servers
@pytest.mark.native_only("the pool is not asked with threads")
async def test_a_session_beside_a_held_transaction_is_refused_at_once_where_the_pool_has_one_connection(
    shop: Any, rows: Any
) -> None:
    shop.configure(async_db={"pool_size": 1, "pool_timeout": 60.0})
    async with scope(), transaction_here():
        await rows.acreate(number=1)
        with exhausted():
            async with asyncio.timeout(10), session() as db:
                await db.execute(text("SELECT 1"))
        assert await rows.acount() == 1
    assert shop.checked_out() == 0


@servers
@pytest.mark.native_only("the pool is not asked with threads")
async def test_the_orm_beside_a_session_is_refused_at_once_where_the_pool_has_one_connection(
    shop: Any, rows: Any
) -> None:
    shop.configure(async_db={"pool_size": 1, "pool_timeout": 60.0})
    async with scope(), session() as db:
        await db.execute(text("SELECT 1"))
        with exhausted():
            async with asyncio.timeout(10):
                await rows.acount()
        await db.rollback()
    async with session() as db:
        await db.execute(text("SELECT 1"))
        with exhausted():
            async with asyncio.timeout(10):
                await rows.acount()
        await db.rollback()
    assert await rows.acount() == 0
    assert shop.checked_out() == 0


@servers
@pytest.mark.native_only("the pool is not asked with threads")
async def test_a_thread_beside_a_session_is_refused_at_once_where_the_pool_has_one_connection(
    shop: Any, rows: Any
) -> None:
    shop.configure(async_db={"pool_size": 1, "pool_timeout": 60.0})
    async with scope(), session() as db:
        await db.execute(text("SELECT 1"))
        with exhausted():
            async with asyncio.timeout(10):
                await sync_to_async(rows.count)()
        await db.rollback()
    assert shop.checked_out() == 0


@servers
@pytest.mark.native_only("the pool is not asked with threads")
async def test_writing_in_the_body_of_a_stream_never_waits_for_itself(shop: Any, rows: Any) -> None:
    shop.configure(async_db={"pool_size": 1, "pool_timeout": 60.0})
    await rows.abulk_create([shop.models.Row(number=n) for n in range(10)])
    async with asyncio.timeout(10), scope():
        with exhausted():
            async for row in rows.aiterator(chunk_size=2):
                row.text = "x"
                await row.asave()
    async with asyncio.timeout(10):
        assert await rows.acount() == 10
    assert shop.checked_out() == 0


@servers
@pytest.mark.native_only("the pool is not asked with threads")
async def test_a_child_beside_its_waiting_parent_is_refused_at_once_or_served(shop: Any, rows: Any) -> None:
    """The parent holds the only connection and waits for its child: nobody else could ever give one back."""
    shop.configure(async_db={"pool_size": 1, "pool_timeout": 3.0})

    async def child() -> int:
        async with scope():
            return int(await rows.acount())

    async with scope(), transaction_here():
        await rows.acreate(number=1)
        with pytest.raises(Exception, match="connection"):
            async with asyncio.timeout(10):
                await as_task(child())
    assert shop.checked_out() == 0


# Closing


def close_default() -> None:
    connections["default"].close()


CLOSERS: list[Callable[[], Any]] = [
    close_default,
    connections.close_all,
    close_old_connections,
]
closers = pytest.mark.parametrize("close", CLOSERS, ids=["close", "close_all", "close_old_connections"])


@closers
async def test_closing_in_a_scope_is_safe(close: Any, shop: Any, rows: Any) -> None:
    async with scope():
        await rows.acreate(number=1)
        await run_django(close)
        assert await rows.acount() == 1
        await sync_to_async(close)()
        await rows.acreate(number=2)

        def work() -> int:
            close()
            rows.create(number=3)
            close()
            return int(rows.count())

        assert await run_django(work) == 3
        assert shop.checked_out() == 0
        assert await sync_to_async(work)() == 4
        assert shop.checked_out() == 0
    assert await rows.acount() == 4


@servers
@pytest.mark.native_only("it looks at the pool's connection")
async def test_close_with_a_changed_session_leaves_nothing_to_the_next_user(shop: Any, rows: Any) -> None:
    shop.configure(async_db={"pool_size": 1})
    async with scope():
        before = await run_django(setting)
        await run_django(change_session)
        assert await run_django(setting) != before
        await run_django(connection.close)
        assert await run_django(setting) == before
    assert shop.checked_out() == 0


async def test_closing_in_a_transaction_rolls_back_as_in_django(shop: Any, rows: Any) -> None:
    def work() -> None:
        with transaction.atomic():
            rows.create(number=1)
            connection.close()
            with pytest.raises(Exception, match=r"closed|transaction"):
                rows.count()

    for run in (run_django, sync_to_async(work)):
        async with scope():
            try:
                await (run(work) if run is run_django else run())
            except Exception as err:
                assert "closed" in str(err) or "transaction" in str(err)  # noqa: PT017
            assert await rows.acount() == 0
            await rows.acreate(number=2)
            await rows.all().adelete()
    assert shop.checked_out() == 0


@pytest.mark.parametrize("in_block", [False, True])
async def test_a_thread_that_closes_its_connection_goes_on(in_block: bool, shop: Any, rows: Any) -> None:
    """What closes must have closed when it returns: later it would take the next statement's connection away."""

    def work() -> None:
        connection.close()
        if in_block:
            with transaction.atomic():
                rows.create(number=1)
                rows.create(number=2)
        else:
            rows.create(number=1)
            connection.close()
            rows.create(number=2)

    async with scope():
        for _ in range(30):
            await sync_to_async(work)()
    assert await rows.acount() == 60
    assert shop.checked_out() == 0


async def test_closing_all_on_the_loop_itself_is_safe(shop: Any, rows: Any) -> None:
    async with scope():
        await rows.acreate(number=1)
        close_old_connections()
        connections.close_all()
        assert await rows.acount() == 1
    assert shop.checked_out() == 0


# Beside a session


async def test_a_session_outside_atomic_does_not_swallow_an_autocommit_save(shop: Any, rows: Any) -> None:
    async with scope():
        async with session() as db:
            if shop.on_server:
                await db.execute(text("INSERT INTO shelf_row (number, text) VALUES (1, '')"))
            else:
                await db.execute(text("SELECT COUNT(*) FROM shelf_row"))
            saved = await rows.acreate(number=2)
            await db.rollback()
        assert [row.number async for row in rows.all()] == [2]
        await saved.adelete()
    assert shop.checked_out() == 0


async def test_a_rolled_back_session_leaves_what_was_saved_beside_it_to_plain_threads_too(shop: Any, rows: Any) -> None:
    async with scope(), session() as db:
        await db.execute(text("SELECT COUNT(*) FROM shelf_row"))
        await db.rollback()
        await rows.acreate(number=2)
        assert shop.in_plain_thread(rows.count) == 1


# No scope at all


async def test_without_a_scope_each_call_opens_a_short_one(shop: Any, rows: Any) -> None:
    await asyncio.gather(*(rows.acreate(number=n) for n in range(20)))
    assert await rows.acount() == 20
    assert shop.checked_out() == 0


async def test_a_task_in_an_empty_context_needs_no_scope(rows: Any) -> None:
    task = asyncio.create_task(rows.acount(), context=contextvars.Context())
    assert await task == 0


async def test_an_error_of_a_child_leaves_the_parents_scope_whole(shop: Any) -> None:
    await shop.create(shop.models.Named)
    named = shop.models.Named.objects
    async with scope():
        await named.acreate(name="a")
        with pytest.raises(IntegrityError):
            await as_task(named.acreate(name="a"))
        assert await named.acount() == 1
    assert shop.checked_out() == 0


async def test_database_and_atomic_are_beside_the_scope(shop: Any, rows: Any) -> None:
    async with scope():
        await rows.acreate(number=1)
        assert await database().fetch_val(text("SELECT COUNT(*) FROM shelf_row"), into=int) == 1
        async with atomic() as db:
            await db.execute(text("INSERT INTO shelf_row (number, text) VALUES (2, '')"))
        assert await rows.acount() == 2
    assert shop.checked_out() == 0
