"""Work that a cancellation lets finish, for a while."""

from __future__ import annotations

import asyncio

import pytest

from asyncdb.shielding import Shielded


async def _slow(seconds: float, log: list[str]) -> str:
    try:
        await asyncio.sleep(0)
        await asyncio.sleep(seconds)
        log.append("done")
        return "result"
    except BaseException as err:
        log.append(type(err).__name__)
        raise


async def _awaited(work: Shielded[str]) -> str:
    return await work


async def _cancelled(
    seconds: float, grace: float, *, times: int = 1, first: int = 2
) -> tuple[Shielded[str], list[str]]:
    log: list[str] = []
    work = Shielded(_slow(seconds, log), grace)
    task = asyncio.create_task(_awaited(work))
    for _ in range(first):
        await asyncio.sleep(0)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    outcome = (await asyncio.gather(task, return_exceptions=True))[0]
    log.append(outcome if isinstance(outcome, str) else type(outcome).__name__)
    return work, log


async def test_without_a_cancellation_it_is_the_work() -> None:
    log: list[str] = []
    assert await Shielded(_slow(0.01, log), 1.0) == "result"
    assert log == ["done"]


async def test_an_error_of_the_work_is_raised() -> None:
    async def fails() -> str:
        await asyncio.sleep(0)
        raise KeyError

    with pytest.raises(KeyError):
        await Shielded(fails(), 1.0)


@pytest.mark.parametrize("times", [1, 2, 5])
@pytest.mark.parametrize("first", [1, 2])
async def test_work_that_ends_in_time_has_its_result_and_the_cancellation_is_kept(times: int, first: int) -> None:
    work, log = await _cancelled(0.05, 5.0, times=times, first=first)
    assert log == ["done", "result"]
    assert isinstance(work.cancelled, asyncio.CancelledError)


@pytest.mark.parametrize("grace", [0.0, 0.03])
async def test_work_that_takes_longer_is_closed(grace: float) -> None:
    work, log = await _cancelled(30.0, grace, times=2)
    assert log == ["GeneratorExit", "CancelledError"]
    assert work.cancelled is not None


async def test_a_task_knows_a_future_from_a_yield_by_the_flag_that_is_cleared() -> None:
    """The canary: ``Future.__await__`` yields itself with ``_asyncio_future_blocking`` set."""
    future = asyncio.get_running_loop().create_future()
    waiting = future.__await__()
    assert next(waiting) is future
    assert future._asyncio_future_blocking is True
    future.set_result(1)
    with pytest.raises(StopIteration):
        next(waiting)
