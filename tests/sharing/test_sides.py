"""Sync code of a request on its thread's connection, async code on the loop's: what it costs, and where it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from django.db import close_old_connections, connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from asyncdb import registry
from django_bridge import atomic, database, loops, run_django, scope, scope_threads, scopes, threads
from django_bridge.errors import ScopeInTwoPlaces
from django_bridge.threads.wrappers import LeasedWrapper
from tests.asking import tell, value
from tests.bridge.conftest import forget_connections
from tests.threads.conftest import Pooled
from tests.threads.test_leases import SETTING, setting_is_there


def in_request(work: Callable[[], Awaitable[Any]], *, context: bool = True) -> Any:
    """Runs ``work`` as Django's handler runs a request: in a scope, with a thread of its own, which ends with it."""

    async def request() -> Any:
        try:
            if not context:  # asgiref's one thread may have the connection of another test's database
                await sync_to_async(forget_connections)()
            async with ThreadSensitiveContext() if context else contextlib.nullcontext():
                async with scope():
                    answer = await work()
                await sync_to_async(close_old_connections)()
                return answer
        finally:
            await registry.close_all()

    return asyncio.run(request())


def test_sync_code_of_a_request_makes_no_hop_to_the_loop(shared: Pooled, monkeypatch: pytest.MonkeyPatch) -> None:
    hops: list[Any] = []
    for module in (loops, scopes, scope_threads):
        run_on = module.run_on
        monkeypatch.setattr(module, "run_on", lambda *args, call=run_on: hops.append(args) or call(*args))

    def view() -> bool:
        models = shared.models
        with transaction.atomic():
            models.Row.objects.create(number=1)
        assert [row.number for row in models.Row.objects.iterator()] == [1]
        models.Row.objects.all().delete()
        return isinstance(connections["default"], LeasedWrapper)

    async def work() -> tuple[bool, int]:
        return await sync_to_async(view)(), database().stats().counts.checkouts

    assert in_request(work) == (True, 0)
    assert hops == []
    shared.stock()

    async def as_it_is_without() -> None:
        await sync_to_async(value)("SELECT 1")

    in_request(as_it_is_without)
    assert hops  # the control: a thread on its task's connection goes to the loop


def test_async_code_takes_none_of_the_threads_connections(shared: Pooled) -> None:
    async def work() -> int:
        return await shared.models.Row.objects.acount()

    assert in_request(work) == 0
    stats = threads.stats("default")
    assert stats is None or stats.counts.checkouts == 0


def test_a_change_on_both_sides_is_an_error_that_names_both(shared: Pooled) -> None:
    setting = SETTING[shared.family][0]

    async def work() -> None:
        here, there = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def in_its_thread() -> None:
            assert not connection.in_atomic_block  # the thread is on its own connection before the other is changed
            loop.call_soon_threadsafe(here.set)
            asyncio.run_coroutine_threadsafe(there.wait(), loop).result(10)
            with transaction.atomic():
                tell(shared.ask("SELECT 1", "SELECT 1", "SELECT 1"))

        thread = asyncio.ensure_future(sync_to_async(in_its_thread)())
        await here.wait()
        with connections["default"].wrap_database_errors:
            await run_django(tell, setting)
        there.set()
        with pytest.raises(Exception, match=r"belongs to the scope|in two places"):
            await thread

    in_request(work)


def test_a_change_in_the_thread_and_then_on_the_loop_stays_in_the_thread(shared: Pooled) -> None:
    async def work() -> tuple[bool, bool, int]:
        await sync_to_async(tell)(SETTING[shared.family][0])
        beside = await run_django(setting_is_there, shared)
        async with atomic():
            inside = await run_django(setting_is_there, shared)
        return beside, inside, database().stats().counts.checkouts

    assert in_request(work) == (True, True, 0)


def test_two_places_are_told(shared: Pooled) -> None:
    async def work() -> None:
        await run_django(tell, SETTING[shared.family][0])
        async with scope() as here:

            class Changed:
                carries_state = True

            here.in_its_thread["default"] = Changed()
            with pytest.raises(ScopeInTwoPlaces, match=r"'default' in two places"):
                await shared.models.Row.objects.acount()
            here.in_its_thread.clear()

    in_request(work)


def test_what_a_thread_has_changed_ends_with_its_request(shared: Pooled) -> None:
    async def first() -> bool:
        await sync_to_async(tell)(SETTING[shared.family][0])
        return bool(await sync_to_async(setting_is_there)(shared))

    async def second() -> bool:
        return bool(await sync_to_async(setting_is_there)(shared))

    assert in_request(first) is True
    assert shared.out == 0
    assert in_request(second) is False


def test_in_a_thread_of_many_requests_it_ends_with_the_call(shared: Pooled) -> None:
    """As in a consumer of channels: asgiref's one thread never hears of a request's end."""

    def call() -> bool:
        tell(SETTING[shared.family][0])
        return async_to_sync(beneath)()

    async def beneath() -> bool:
        await sync_to_async(tell)("SELECT 1")  # the same thread, which waits: this is not its outermost call
        return bool(await sync_to_async(setting_is_there)(shared))

    async def work() -> tuple[bool, int, bool]:
        seen = await sync_to_async(call)()
        return seen, shared.out, await sync_to_async(setting_is_there)(shared)

    assert in_request(work, context=False) == (True, 0, False)


def test_sync_code_that_waits_for_its_own_loop_keeps_what_it_has_changed(shared: Pooled) -> None:
    """A command, a script: its thread is nobody's."""

    async def beneath() -> bool:
        await sync_to_async(tell)("SELECT 1")
        return bool(await sync_to_async(setting_is_there)(shared))

    tell(SETTING[shared.family][0])
    assert async_to_sync(beneath)() is True
    assert setting_is_there(shared)
    connection.close()


def test_what_a_thread_captures_is_captured_on_the_loop_and_no_longer(shared: Pooled) -> None:
    def view() -> int:
        async def count() -> int:
            return await shared.models.Row.objects.acount()

        with CaptureQueriesContext(connection) as captured:
            async_to_sync(count)()
        return len(captured.captured_queries)

    async def work() -> tuple[int, bool, bool]:
        await shared.models.Row.objects.acount()  # the loop has its wrapper before the thread has
        found = await sync_to_async(view)()
        here = await run_django(lambda: connections["default"].force_debug_cursor)
        return found, here, await sync_to_async(lambda: connections["default"].force_debug_cursor)()

    assert in_request(work) == (1, False, False)


def test_many_requests_at_once_find_each_their_own(shared: Pooled) -> None:
    """Threads that change their session, async code after them, transactions beside: three connections a side."""
    models = shared.models
    ask = shared.ask("SELECT @@group_concat_max_len", "SELECT current_setting('application_name')", "SELECT 0")

    def change(number: int) -> None:
        if shared.family == "mysql":
            tell(f"SET SESSION group_concat_max_len = {1000 + number}")
        elif shared.family == "postgresql":
            tell(f"SET application_name = '{1000 + number}'")

    def write(number: int) -> None:
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            models.Row.objects.create(number=number)
            if number % 2:
                raise ZeroDivisionError

    async def request(number: int) -> list[str]:
        async with ThreadSensitiveContext():
            async with scope():
                await sync_to_async(change)(number)
                seen = [str(await run_django(value, ask)), str(await sync_to_async(value)(ask))]
                await sync_to_async(write)(number)
                if shared.family != "sqlite":
                    async with atomic():
                        await models.Row.objects.acreate(number=number + 1000)
                        seen.append(str(await run_django(value, ask)))
            await sync_to_async(close_old_connections)()
            return seen

    async def work() -> list[list[str]]:
        try:
            return await asyncio.gather(*(asyncio.create_task(request(number)) for number in range(24)))
        finally:
            await registry.close_all()

    for number, seen in enumerate(asyncio.run(work())):
        if shared.family != "sqlite":
            assert set(seen) == {str(1000 + number)}
    kept = set(models.Row.objects.values_list("number", flat=True))
    assert {number for number in kept if number < 1000} == set(range(0, 24, 2))
    assert shared.out == 0
    models.Row.objects.all().delete()
