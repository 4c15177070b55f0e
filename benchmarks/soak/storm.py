"""A storm on a real server: clients of every kind at once, some of whom leave, while connections are killed.

What must hold: every answer is its own request's (tenant, session, temporary table), the ledger is exact, and nothing
is left of it when it is over. Where nothing is broken, nothing fails.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from asyncdb.testing import DatabaseServer

from .ledger import Ledger
from .processes import Processes

TENANTS = 16
ITEMS = 6
CALM = 0.2
"""The part of the time, at the begin and at the end, in which nothing is broken and nobody leaves: nothing may fail."""
KILL_EVERY = 1.5
LEAVES = 0.1
"""The part of the requests that are given up by their clients, while it storms."""
SETTLES_WITHIN = 20.0
MOST_GROWTH = {"tasks": 4, "threads": 6, "descriptors": 12, "rss_mib": 64.0}
EXPECTED = {
    "CommitInDoubt", "ConnectFailed", "ConnectionLost", "ConnectionResetError", "DisconnectedError", "InterfaceError",
    "OperationalError", "PoolTimeout", "SessionLost",
}  # fmt: skip
"""Errors that a killed connection may come as; any other one is a defect."""


@dataclass
class Outcome:
    """``problems`` is empty where all that must hold has held; the rest tells what there was."""

    problems: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    figures: dict[str, Any] = field(default_factory=dict)

    def wrong(self, what: str) -> None:
        """Keeps the first of each kind, and counts on."""
        self.errors[f"PROBLEM {what.partition(':')[0]}"] += 1
        if sum(problem.partition(":")[0] == what.partition(":")[0] for problem in self.problems) < 3:
            self.problems.append(what)


class Storm:
    """One family. ``only`` restricts it to some kinds of requests, by the begin of their names.

    ``thread_pool``: sync code on the pool of threads, as large as the loop's, instead of on the loop's.
    """

    def __init__(
        self, server: DatabaseServer, database: str, *, seconds: float, clients: int = 64, pool_size: int = 8,
        broken: bool = False, only: tuple[str, ...] = (), thread_pool: bool = False,
    ) -> None:  # fmt: skip
        self.server, self.database, self.seconds, self.clients = server, database, seconds, clients
        self.ledger = Ledger(server, database)
        self.processes = Processes(server, database, pool_size=pool_size, broken=broken, thread_pool=thread_pool)
        self.outcome = Outcome()
        self.storming = False
        self._last_kill = -100.0
        self._most_connections = 0
        self._kinds = self._chosen(broken, only)

    async def run(self) -> Outcome:
        """Starts the site, storms, and judges."""
        self.processes.create_tables()
        self._fill()
        async with self.processes.serving() as places:
            began = time.monotonic()
            before = None
            async with asyncio.TaskGroup() as tasks:
                over = began + self.seconds
                watcher = tasks.create_task(self._watches())
                for number in range(self.clients):
                    tasks.create_task(self._client(number, places[number % len(places)], over))
                tasks.create_task(self._weather(began, over))
                await asyncio.sleep(self.seconds * CALM)
                before = [await self._state(place) for place in places]
                await asyncio.sleep(max(0.0, over - time.monotonic()))
                watcher.cancel()
            for place, then in zip(places, before, strict=True):
                await self._require_nothing_left(place, then)
        self._judge_connections(len(places))
        self.ledger.judge(self.outcome.wrong)
        self.outcome.figures |= self.ledger.figures
        for name, log in self.processes.logs().items():
            for line in (
                "Task was destroyed",
                "was never retrieved",
                "never awaited",
                "Segmentation",
                "ResourceWarning",
            ):
                if line in log:
                    self.outcome.wrong(f"log: {name} says {line!r}: ...{log.partition(line)[2][:300]}")
        return self.outcome

    def _fill(self) -> None:
        from .site.tenancy import EVERY_ITEM

        rows = ", ".join(f"({tenant}, 'item {n}')" for tenant in range(1, TENANTS + 1) for n in range(ITEMS))
        self.server.execute(
            f"INSERT INTO {EVERY_ITEM[self.server.family]} (tenant, name) VALUES {rows}", database=self.database
        )
        self.ledger.fill()

    # -- the weather ---------------------------------------------------------------------------------------------

    async def _weather(self, began: float, over: float) -> None:
        await asyncio.sleep(self.seconds * CALM)
        self.storming = True
        try:
            while time.monotonic() < over - self.seconds * CALM:
                await asyncio.sleep(min(KILL_EVERY, self.seconds / 10))
                await asyncio.to_thread(self._kill_some)
        finally:
            # A reply that was lost is told late where its view waits for something else first.
            self._last_kill = time.monotonic()
            self.storming = False

    def _kill_some(self) -> None:
        there = [one.id for one in self.server.connections() if one.database == self.database]
        chosen = random.sample(there, min(len(there), random.choice([1, 1, 2, 4])))
        if chosen:
            self.server._kill(chosen)
            self.outcome.done["connections killed"] += len(chosen)

    async def _watches(self) -> None:
        while True:
            there = await asyncio.to_thread(self.server.connections)
            self._most_connections = max(self._most_connections, sum(one.database == self.database for one in there))
            await asyncio.sleep(0.5)

    def _judge_connections(self, processes: int) -> None:
        # One more for each process: by a side connection it ends a statement that nobody waits for.
        most = processes * (self.processes.pool_size * (1 + self.processes.thread_pool) + 1)
        self.outcome.figures["most connections"] = self._most_connections
        if self._most_connections > most:
            self.outcome.wrong(f"connections: {self._most_connections} at once, at most {most} allowed")

    # -- the clients ---------------------------------------------------------------------------------------------

    def _chosen(self, broken: bool, only: tuple[str, ...]) -> list[tuple[str, Callable[..., Awaitable[None]]]]:
        kinds: list[tuple[str, Callable[..., Awaitable[None]]]] = [
            *((f"tenant/{name}/", self._tenant) for name in ("sync", "local", "async", "mixed")),
            *([("tenant/broken/", self._tenant)] if broken else []),
            *(("events/", self._events) for _ in range(2)),
            ("temporary/", self._temporary),
            ("probe/", self._probe),
            ("session/sync/", self._session),
            ("session/async/", self._session),
            *((f"transfer/{name}/", self._transfer) for name in ("sync", "native", "both")),
        ]
        return [kind for kind in kinds if not only or kind[0].startswith(only)]

    async def _client(self, number: int, place: str, over: float) -> None:
        # As many as it likes: httpx keeps the place of a connection whose request was cancelled while it was opened.
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=place, timeout=60.0, limits=limits) as http:
            while time.monotonic() < over:
                kind, ask = random.choice(self._kinds)
                began, storming = time.monotonic(), self.storming
                leaves = storming and random.random() < LEAVES
                try:
                    async with asyncio.timeout(random.random() * 0.05 if leaves else 90.0):
                        await ask(http, kind, number, began)
                except TimeoutError:
                    if not leaves:
                        self.outcome.wrong(f"no answer: {kind} gave none within 90 s")
                    self.outcome.done["left by their client"] += 1
                except httpx.HTTPError as err:
                    self.outcome.wrong(f"no HTTP: {kind} {err!r}")
                    await asyncio.sleep(0.1)

    def _fine(self, kind: str, answer: httpx.Response, began: float) -> bool:
        if answer.status_code == 200:
            self.outcome.done[kind] += 1
            return True
        try:
            told = answer.json()
        except ValueError:
            told = {"error": [f"status {answer.status_code}"], "says": answer.text[:200]}
        self._failed(kind, told, began)
        return False

    def _failed(self, kind: str, told: dict[str, Any], began: float) -> None:
        name = told["error"][0]
        self.outcome.errors[f"{kind} {name}"] += 1
        if name not in EXPECTED:
            self.outcome.wrong(f"unexpected error of {kind}: {told}")
        elif not self.storming and began > self._last_kill + 5.0:
            self.outcome.wrong(f"error of {kind} while nothing is broken: {told}")

    async def _tenant(self, http: httpx.AsyncClient, kind: str, number: int, began: float) -> None:
        tenant, token = 1 + random.randrange(TENANTS), f"{random.getrandbits(64)}"
        answer = await http.get(kind, params={"tenant": tenant, "token": token})
        if self._fine(kind, answer, began) and answer.json() != {"seen": [tenant], "token": token}:
            self.outcome.wrong(f"another tenant's at {kind}: asked for {tenant}, {token}; got {answer.text}")

    async def _events(self, http: httpx.AsyncClient, kind: str, number: int, began: float) -> None:
        await self._session(http, "session/async/", number, began)
        tenant, got = 1 + random.randrange(TENANTS), 0
        params = {"tenant": tenant}
        leaves_after = random.randrange(5) if self.storming and random.random() < LEAVES else None
        async with http.stream("GET", kind, params=params) as answer:
            if answer.status_code != 200:
                await answer.aread()
                self._fine(kind, answer, began)
                return
            async for line in answer.aiter_lines():
                told = json.loads(line)
                if "error" in told:
                    self._failed(kind, told, began)
                    return
                # A session that could not be made because of a KILL has no owner.
                owner = f"client {number}" if "client" in http.headers else told["owner"]
                if told != {"seen": [tenant], "owner": owner, "event": got}:
                    self.outcome.wrong(f"another tenant's at {kind}: client {number}, {tenant}; event {got}: {line}")
                got += 1
                if got == leaves_after:
                    self.outcome.done["left by their client"] += 1
                    return
        if got != 5:
            self.outcome.wrong(f"cut at {kind}: {got} events of 5")
        self.outcome.done[kind] += 1

    async def _temporary(self, http: httpx.AsyncClient, kind: str, number: int, began: float) -> None:
        token = f"{random.getrandbits(64)}"
        answer = await http.get(kind, params={"token": token})
        if self._fine(kind, answer, began) and answer.json() != {"found": [token, token], "token": token}:
            self.outcome.wrong(f"another's table: asked with {token}, got {answer.text}")

    async def _probe(self, http: httpx.AsyncClient, kind: str, number: int, began: float) -> None:
        answer = await http.get(kind)
        if not self._fine(kind, answer, began):
            return
        told = answer.json()
        usual = self.outcome.figures.setdefault("setting", self.processes.usual_setting())
        if told != {"tenant": None, "rows": 0, "setting": usual}:
            self.outcome.wrong(f"left by another request: {told}; the setting is {usual}")

    async def _session(self, http: httpx.AsyncClient, kind: str, number: int, began: float) -> None:
        who = f"client {number}"
        answer = await http.get(kind, params={"who": who})
        if self._fine(kind, answer, began):
            http.headers["client"] = who
            if answer.json() != {"owner": who}:
                self.outcome.wrong(f"another's session: {who} got {answer.text}")

    async def _transfer(self, http: httpx.AsyncClient, kind: str, number: int, began: float) -> None:
        transfer = self.ledger.next_one()
        try:
            answer = await http.get(kind, params=transfer.params)
        except BaseException:
            transfer.outcome = "left"
            raise
        if answer.status_code == 409:
            transfer.outcome = "refused"
            self.outcome.done[f"{kind} refused"] += 1
        elif self._fine(kind, answer, began):
            transfer.outcome = "done"
        else:
            transfer.outcome = "in doubt" if answer.json().get("in_doubt") else "failed"

    # -- what is left --------------------------------------------------------------------------------------------

    async def _state(self, place: str) -> dict[str, Any]:
        async with httpx.AsyncClient(base_url=place, timeout=60.0) as http:
            return (await http.get("state/")).json()

    async def _require_nothing_left(self, place: str, before: dict[str, Any]) -> None:
        deadline = time.monotonic() + SETTLES_WITHIN
        while True:
            now = await self._state(place)
            left = self._left(before, now)
            if not left or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.25)
        self.outcome.figures[f"left at {place}"] = now
        for what in left:
            self.outcome.wrong(f"left {SETTLES_WITHIN:g} s after the end: {what}")

    @staticmethod
    def _left(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
        # `before` was taken in the midst of the load: after it, with no load, there is to be less of everything.
        left = [f"{now[name]} {name}" for name in ("checked_out", "waiting") if now[name]]
        return (
            left
            + [
                f"{name} {before[name]:.0f} under load, {now[name]:.0f} afterwards"
                for name, most in MOST_GROWTH.items()
                if now[name] > before[name] + most
            ]
            + [f"{now['tasks']} tasks" for _ in range(now["tasks"] > 12)]
        )
