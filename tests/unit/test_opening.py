"""Who opens a connection while the server is away, and who waits for whom."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from asyncdb import ConnectFailed, DatabaseConfig
from asyncdb.greenlets import await_, greenlet_spawn
from asyncdb.opening import Opening
from asyncdb.statistics import PoolCounts


class Server:
    """One that can be away, or have no connection to give."""

    def __init__(self, login: float) -> None:
        self.login, self.is_up, self.busy = login, False, 0

    def open(self) -> Any:
        await_(asyncio.sleep(self.login))
        if not self.is_up:
            raise ConnectFailed("refused", OSError("Connection refused"))
        if self.busy:
            self.busy -= 1
            raise ConnectFailed("busy", OSError("sorry, too many clients already"))
        return object()


def _opening(server: Server, **options: Any) -> Opening:
    config = DatabaseConfig.of(family="postgresql", host="nowhere", connect_timeout=1.0, **options)
    return Opening(server.open, config, PoolCounts())


def _caller(opening: Opening) -> asyncio.Task[Any]:
    return asyncio.create_task(greenlet_spawn(opening.open))


async def _until_somebody_tries(opening: Opening) -> None:
    while opening._found_out is None:  # noqa: ASYNC110  (there is no event to wait for)
        await asyncio.sleep(0)


async def test_who_waited_and_finds_no_room_tries_again() -> None:
    server = Server(login=0.01)
    opening = _opening(server, retry_wait=0.05)
    first = _caller(opening)
    await _until_somebody_tries(opening)
    waiting = [_caller(opening) for _ in range(3)]
    await asyncio.sleep(0)
    server.is_up = True
    await first
    server.busy = 1
    await asyncio.gather(*waiting)
    assert server.busy == 0


async def test_the_deadline_of_the_one_who_tries_is_not_that_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncdb.attempts.random.random", lambda: 1.0)
    server = Server(login=0.2)
    opening = _opening(server, retry_wait=0.9, retry_wait_max=0.9)
    began = time.monotonic()
    first = _caller(opening)
    await _until_somebody_tries(opening)
    await asyncio.sleep(0.3)
    server.is_up = True
    later = [_caller(opening) for _ in range(3)]
    with pytest.raises(ConnectFailed):
        await first
    assert time.monotonic() - began < 1.4
    await asyncio.gather(*later)


@pytest.mark.parametrize("callers", [1, 20])
async def test_a_server_that_stays_away_costs_nobody_more_than_connect_timeout(callers: int) -> None:
    server = Server(login=0.3)
    opening = _opening(server, connect_attempts=10, retry_wait=0.2)
    for _ in range(2):
        began = time.monotonic()
        outcomes = await asyncio.gather(*(_caller(opening) for _ in range(callers)), return_exceptions=True)
        assert all(isinstance(outcome, ConnectFailed) for outcome in outcomes)
        assert time.monotonic() - began < 1.5
    assert opening._found_out is None
