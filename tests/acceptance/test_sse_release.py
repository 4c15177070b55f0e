"""A hundred open event streams, whose views ask Django's ORM for each event, hold no connection while they wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from asyncdb.testing import DatabaseServer
from tests.atlas import Atlas, atlas_on
from tests.server_threads import watched_threads

POOL_SIZE = 4
STREAMS, EVENTS = 100, 2
EVERY = 10.0
"""Seconds between a stream's two events; in less than this all streams must have had their first."""
LOOKS_AT_LEAST = 5
WITHIN = 60.0

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.families("mariadb", "postgresql", "mysql"),
    pytest.mark.verify("mariadb", "mysql"),
]


@dataclass
class Streams:
    """What came of the streams, and what the pool said while all of them were open and waited."""

    events: list[int]
    looks: int = 0
    checked_out: list[int] = field(default_factory=list)

    @property
    def held(self) -> int:
        """The most connections that were away from the pool at one of the looks."""
        assert len(self.checked_out) >= LOOKS_AT_LEAST, f"only {len(self.checked_out)} looks: raise EVERY"
        return max(self.checked_out)


async def opened(url: str, path: str, number: int) -> Streams:
    """Opens so many streams at once, looks at the pool between their events, and reads all to the end."""
    seen = Streams(events=[0] * number)

    async def read(stream: int) -> None:
        async with client.stream("GET", path, params={"every": EVERY, "events": EVENTS}) as reply:
            async for line in reply.aiter_lines():
                seen.events[stream] += line.startswith("data: ")

    async def look_between_the_events() -> None:
        while set(seen.events) != {1}:
            assert max(seen.events) <= 1, "a stream had its second event before all had their first: raise EVERY"
            await asyncio.sleep(0.01)
        taken_by_events = None
        while True:
            pool = (await client.get("/health/")).json()["pool"]
            seen.looks += 1
            taken = pool["counts"]["checkouts"] - seen.looks  # each look takes one itself
            taken_by_events = taken if taken_by_events is None else taken_by_events
            if set(seen.events) != {1} or taken != taken_by_events:  # the second has come, or is on its way
                return
            seen.checked_out.append(pool["checked_out"])
            await asyncio.sleep(0.05)

    async with (
        asyncio.timeout(WITHIN),
        httpx.AsyncClient(base_url=url, timeout=WITHIN, limits=httpx.Limits(), trust_env=False) as client,
        asyncio.TaskGroup() as tasks,
    ):
        for stream in range(number):
            tasks.create_task(read(stream))
        tasks.create_task(look_between_the_events())
    return seen


@pytest.fixture
def atlas(server: DatabaseServer, tmp_path: Path) -> Iterator[Atlas]:
    settings = "tests.acceptance.atlas_that_holds.settings"
    with atlas_on(server, tmp_path, ATLAS_POOL_SIZE=str(POOL_SIZE), DJANGO_SETTINGS_MODULE=settings) as atlas:
        yield atlas


def pool_of(server: Any) -> dict[str, Any]:
    pool: dict[str, Any] = server.call("GET", "/health/").json()["pool"]
    return pool


def test_sse_release_between_events(atlas: Atlas) -> None:
    with atlas.site.serve() as server, watched_threads(atlas.server, database=atlas.database) as seen:
        before = pool_of(server)["counts"]["checkouts"]
        streams = asyncio.run(opened(server.url, "/live/", STREAMS))
        after = pool_of(server)
    assert streams.events == [EVENTS] * STREAMS
    assert streams.held == 0
    # Each event did come from the pool, and from nowhere else; a look takes a connection too.
    assert after["counts"]["checkouts"] - before - streams.looks >= STREAMS * EVENTS
    assert after["checked_out"] == 0
    assert seen.most <= POOL_SIZE


@pytest.mark.verify
def test_sse_release_finds_out_a_stream_that_holds_a_session(atlas: Atlas) -> None:
    """The control: with one stream fewer than the pool has connections, so that ``/health/`` has one."""
    with atlas.site.serve() as server:
        streams = asyncio.run(opened(server.url, "/held/", POOL_SIZE - 1))
        assert pool_of(server)["checked_out"] == 0
    assert streams.held == POOL_SIZE - 1
