"""A whole project on one bounded pool: every kind of view at once, under a real uvicorn, and no view was changed.

The server itself is told to refuse one connection more than the pool has. Stock Django gets the same requests, without
that limit, and what it needed is reported.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from asyncdb.testing import DatabaseServer
from tests.atlas import Atlas, atlas_on
from tests.polling import until
from tests.server_threads import Seen, watched_threads

POOL_SIZE, REQUESTS, AT_ONCE = 8, 500, 64
EDITORS, REQUESTS_OF_AN_EDITOR = 10, 8
WITHIN = 80.0
ROOT, PASSWORD = "root", "only for this test"
PARIS = 2988507
VISITED = (PARIS, 2643743, 2950159, 3117735, 3169070, 524901, 360630, 1850147, 3448439)
"""Several cities: a transaction waits for the row of its city, and holds its connection while it waits."""

Check = Callable[[httpx.Response], bool]
Errand = Callable[[], Awaitable[None]]

pytestmark = pytest.mark.acceptance


@dataclass
class Outcome:
    """What came of the requests."""

    asked: int = 0
    visits: int = 0
    slowest: float = 0.0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)


@dataclass
class Browser:
    """One user's browser, with cookies of its own."""

    client: httpx.AsyncClient
    outcome: Outcome

    async def ask(
        self, method: str, path: str, *, status: int = 200, whole: Check = lambda _: True, **sent: Any
    ) -> None:
        """Sends a request and notes whether the answer is the right one."""
        self.outcome.asked += 1
        begun = time.perf_counter()
        try:
            reply = await self.client.request(method, path, **sent)
        except httpx.HTTPError as err:
            self.outcome.failures.append(f"{method} {path}: {type(err).__name__}")
            return
        if reply.status_code != status or not whole(reply):
            self.outcome.failures.append(f"{method} {path}: {reply.status_code} {reply.text[:200]}")
        elif "/visits/" in path:
            self.outcome.visits += 1
        self.outcome.slowest = max(self.outcome.slowest, time.perf_counter() - begun)

    def form(self, **fields: Any) -> dict[str, Any]:
        """A form's fields, with the token that goes with the cookie."""
        return {**fields, "csrfmiddlewaretoken": self.client.cookies.get("csrftoken", "")}

    async def log_in(self) -> None:
        await self.ask("GET", "/admin/login/")
        fields = self.form(username=ROOT, password=PASSWORD, next="/admin/")
        await self.ask("POST", "/admin/login/", data=fields, status=302)

    async def edit(self) -> None:
        """What somebody does in the admin, from the login to the logout."""
        await self.log_in()
        await self.ask("GET", "/admin/", whole=shows("Recent actions"))
        await self.ask("GET", "/admin/places/city/?q=san", whole=shows("Santiago"))
        await self.ask("GET", "/admin/places/visit/add/")
        visit = self.form(city=PARIS, note="by the admin")
        await self.ask("POST", "/admin/places/visit/add/", data=visit, status=302)
        await self.ask("POST", "/admin/logout/", data=self.form(), whole=shows("Logged out"))
        await self.ask("GET", "/admin/", status=302)


def shows(text: str) -> Check:
    return lambda reply: text in reply.text


def has(lines: int) -> Check:
    return lambda reply: reply.text.count("\n") == lines


def reading(browser: Browser, number: int) -> Errand:
    """The request number ``number`` of those that anybody sends who need not log in again."""
    kind = ("stock", "stock/async", "bridge")[number % 3]
    visit = {"city_id": VISITED[number % len(VISITED)], "note": "one of many"}
    asks: tuple[Errand, ...] = (
        lambda: browser.ask("GET", f"/{kind}/search/?q=san&limit=5", whole=shows("Santiago")),
        lambda: browser.ask("GET", f"/{kind}/countries/?limit=3", whole=shows("China")),
        lambda: browser.ask("GET", f"/{kind}/cities/{PARIS}/", whole=shows("Paris")),
        lambda: browser.ask("GET", f"/{kind}/nearest/?lat=48.8&lon=2.3&limit=3", whole=shows("Paris")),
        lambda: browser.ask("POST", f"/{kind}/visits/", json=visit, status=201),
        lambda: browser.ask("GET", f"/{kind}/cities.csv?limit=50", whole=has(1 + 50)),
        lambda: browser.ask("GET", "/live/?every=0.05&events=3", whole=has(3 * 4)),
        lambda: browser.ask("GET", f"/admin/places/city/{PARIS}/change/", whole=shows("Paris")),
        lambda: browser.ask("GET", "/admin/places/country/?continent__exact=EU", whole=shows("France")),
    )
    return asks[number // 3 % len(asks)]


async def mixed(url: str, requests: int = REQUESTS) -> Outcome:
    """Sends the mixed requests, ``AT_ONCE`` at a time."""
    outcome, turn, begun = Outcome(), asyncio.Semaphore(AT_ONCE), time.perf_counter()

    def browser() -> Browser:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        return Browser(httpx.AsyncClient(base_url=url, timeout=60, limits=limits, trust_env=False), outcome)

    async def run(errand: Errand) -> None:
        async with turn:
            await errand()

    browsers = [browser() for _ in range(1 + EDITORS)]
    someone, *editors = browsers
    try:
        await someone.log_in()
        readings = requests - 2 - EDITORS * REQUESTS_OF_AN_EDITOR
        errands = [reading(someone, number) for number in range(readings)]
        Random(3).shuffle(errands)
        async with asyncio.timeout(WITHIN):
            # The editors first: they take the longest.
            await asyncio.gather(*map(run, [*(editor.edit for editor in editors), *errands]))
    finally:
        for each in browsers:
            await each.client.aclose()
    outcome.seconds = time.perf_counter() - begun
    return outcome


@pytest.fixture
def atlas(server: DatabaseServer, tmp_path: Path) -> Iterator[Atlas]:
    # 64 callers stand in line for 8 connections: on a slow machine longer than a request should wait elsewhere.
    environment = {
        "ATLAS_POOL_SIZE": str(POOL_SIZE),
        "ATLAS_POOL_TIMEOUT": "60",
        "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
    }
    with atlas_on(server, tmp_path, **environment) as atlas:
        atlas.site.manage("createsuperuser", "--noinput", "--username", ROOT, "--email", "", quiet=True)
        yield atlas


@contextmanager
def no_more_than(allowed: int, atlas: Atlas) -> Iterator[None]:
    """The server refuses one connection more: what the watcher may miss between two looks is an error then."""
    if atlas.server.family == "postgresql":
        limit, back = (f'ALTER DATABASE "{atlas.database}" CONNECTION LIMIT {number}' for number in (allowed, -1))
    else:
        user = f"'{atlas.server.user}'@'%'"
        limit, back = (f"ALTER USER {user} WITH MAX_USER_CONNECTIONS {number}" for number in (allowed, 0))
    until(lambda: not atlas.connections())
    atlas.server.execute(limit)
    try:
        yield
    finally:
        atlas.server.execute(back)


def visits(server: Any) -> int:
    events = server.call("GET", "/live/?events=1").body
    return int(events.partition(b'"visits": ')[2].partition(b",")[0])


def reported(kind: str, outcome: Outcome, seen: Seen) -> str:
    return (
        f"{kind}: {len(outcome.failures)} of {outcome.asked} failed, {seen.most} server threads at once,"
        f" {outcome.seconds:.1f} s in all, {outcome.slowest:.1f} s the slowest answer"
    )


@pytest.mark.families("mariadb", "postgresql", "mysql")
@pytest.mark.verify("postgresql", "mysql")
@pytest.mark.timeout(240)
def test_one_pool_carries_a_whole_project(
    atlas: Atlas, capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    stock_seen, stock = stock_django(atlas)
    with no_more_than(POOL_SIZE, atlas), atlas.site.serve() as server:
        before = visits(server)
        with watched_threads(atlas.server, database=atlas.database) as seen:
            outcome = asyncio.run(mixed(server.url))
        pool = server.call("GET", "/health/").json()["pool"]
        recorded = visits(server) - before
    lines = [reported("on the pool", outcome, seen), reported("stock Django", stock, stock_seen)]
    record_property("one_pool", lines)
    with capsys.disabled():
        print("", f"{atlas.server.family}, {REQUESTS} requests, {AT_ONCE} at once:", *lines, sep="\n")
    assert outcome.failures == []
    assert outcome.asked == REQUESTS
    assert recorded == outcome.visits + EDITORS
    assert seen.most <= POOL_SIZE
    assert seen.samples >= 20
    assert (pool["size"], pool["checked_out"], pool["waiting"]) == (POOL_SIZE, 0, 0)
    # Django's own views came this way too, and not past the pool.
    assert pool["counts"]["checkouts"] >= REQUESTS - EDITORS
    # The control: the watcher sees it when there are more.
    assert stock_seen.most > POOL_SIZE


def stock_django(atlas: Atlas) -> tuple[Seen, Outcome]:
    """What stock Django makes of the same; reported, not judged. All of it in ``make verify``."""
    requests = REQUESTS if os.environ.get("VERIFY") else 3 * AT_ONCE
    with atlas.site.without_the_bridge().serve() as server:
        with watched_threads(atlas.server, database=atlas.database) as seen:
            outcome = asyncio.run(mixed(server.url, requests))
        return seen, outcome
