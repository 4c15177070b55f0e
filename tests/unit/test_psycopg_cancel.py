"""A batch of requests to cancel: all of them, twice, in the time that a batch has."""

from __future__ import annotations

import asyncio

import pytest

from asyncdb.drivers.psycopg_cancel import send_requests


class Request:
    """As libpq before 17 has it: one call that blocks."""

    def __init__(self, *, fails: bool = False) -> None:
        self.sent, self.fails = 0, fails

    def cancel(self) -> None:
        self.sent += 1
        if self.fails:
            raise OSError("refused")


async def test_two_hundred_are_sent_twice_each_within_the_time_of_a_batch() -> None:
    requests = [Request() for _ in range(200)]
    async with asyncio.timeout(3.0):
        assert await send_requests(requests) == 200
    assert {request.sent for request in requests} == {2}


async def test_what_the_server_did_not_take_is_not_counted() -> None:
    requests = [Request(fails=number == 0) for number in range(3)]
    assert await send_requests(requests) == 2
    assert [request.sent for request in requests] == [1, 2, 2]


async def test_if_it_took_none_the_reason_is_raised() -> None:
    with pytest.raises(OSError, match="refused"):
        await send_requests([Request(fails=True)])
