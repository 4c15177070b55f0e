"""Greenlets that are used again: each call as if it had one of its own."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextvars import ContextVar

import pytest
from greenlet import getcurrent

from asyncdb.greenlets import await_, greenlet_spawn

_mine: ContextVar[int] = ContextVar("mine", default=0)


async def _later(value):
    await asyncio.sleep(0)
    return value


async def test_the_next_function_runs_in_the_greenlet_of_one_that_has_returned():
    first = await greenlet_spawn(getcurrent)
    assert await greenlet_spawn(getcurrent) is first


async def test_functions_at_the_same_time_have_a_greenlet_each():
    def current():
        await_(_later(None))
        return getcurrent()

    greenlets = await asyncio.gather(*(greenlet_spawn(current) for _ in range(5)))
    assert len(set(greenlets)) == 5


async def test_a_function_that_raises_leaves_nothing_to_the_next():
    def fail():
        await_(_later(None))
        raise KeyError("lost")

    for _ in range(3):
        with pytest.raises(KeyError, match="lost"):
            await greenlet_spawn(fail)
        assert await greenlet_spawn(lambda: await_(_later(7))) == 7


async def test_a_cancellation_is_raised_where_the_function_waits():
    seen = []

    def wait():
        try:
            await_(asyncio.sleep(60))
        except asyncio.CancelledError:
            seen.append(await_(_later("cleaned up")))
            raise

    task = asyncio.create_task(greenlet_spawn(wait))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cleaned up"]
    assert await greenlet_spawn(lambda: await_(_later(1))) == 1


@pytest.mark.parametrize("end", ["closed", "forgotten"])
async def test_a_call_that_is_given_up_amid_its_work_unwinds_its_function(end):
    seen = []

    def wait():
        try:
            await_(asyncio.get_running_loop().create_future())
        except GeneratorExit:
            seen.append(end)
            raise

    call = greenlet_spawn(wait)
    call.send(None)
    if end == "closed":
        call.close()
    del call
    gc.collect()
    assert seen == [end]
    assert await greenlet_spawn(lambda: await_(_later(1))) == 1


async def test_each_task_has_its_own_context_in_a_greenlet_that_others_had():
    def step(number):
        _mine.set(number)
        await_(_later(None))
        return _mine.get()

    async def task(number):
        for _ in range(5):
            assert await greenlet_spawn(step, number) == number
            assert _mine.get() == number

    await asyncio.gather(*(task(number) for number in range(1, 200)))
    assert _mine.get() == 0


async def test_a_function_may_wait_for_another_greenlet():
    def outer():
        return await_(greenlet_spawn(lambda: await_(_later(1)))) + 1

    assert await greenlet_spawn(outer) == 2


async def test_nothing_of_a_finished_call_is_kept_alive():
    class Thing:
        pass

    thing = Thing()
    seen = weakref.ref(thing)
    _mine_too: ContextVar[Thing] = ContextVar("mine too")

    async def use(thing):
        _mine_too.set(thing)
        assert await greenlet_spawn(lambda given: given, thing) is thing

    await asyncio.create_task(use(thing))
    await asyncio.sleep(0)  # the task's last step is over: the loop has let go of its context
    del thing
    gc.collect()
    assert seen() is None
