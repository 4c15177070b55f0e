"""Mixed load with faults on MariaDB and PostgreSQL; file descriptors, threads and memory must stay flat.

``python -m benchmarks.soak.mixed [seconds]``, by default 300, half of them on each family. Exit status 1 when something
grew, an answer was wrong, or a server did not come back into use after the last fault.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import django
from django.conf import settings

from asyncdb.testing import MariaDBServer, PostgreSQLServer, PrivateServer, Proxy

TASKS = 20
FAULT_EVERY = 2.0
SAMPLES_EVERY = 1.0
WARM = 0.3
"""Part of the time after which nothing may grow any more."""
MOST_GROWTH_MIB = 16.0
ENGINES = {"mysql": "django.db.backends.mysql", "postgresql": "django.db.backends.postgresql"}


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Soak:
    """One family."""

    def __init__(self, server: PrivateServer, proxy: Proxy, seconds: float) -> None:
        self.server, self.proxy, self.seconds = server, proxy, seconds
        self.done: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.wrong = 0
        self.samples: list[tuple[float, int, int, float]] = []

    # -- the load ------------------------------------------------------------------------------------------------

    async def session(self, token: int) -> object:
        from sqlalchemy import text

        from django_bridge import database

        async with database().session() as db:
            return await db.scalar(text("SELECT :token + 0").bindparams(token=token))

    async def orm(self, token: int) -> object:
        from django.contrib.contenttypes.models import ContentType
        from django.db.models import Value

        async for row in ContentType.objects.annotate(token=Value(token)).values_list("token", flat=True)[:1]:
            return row
        return token

    async def run_django(self, token: int) -> object:
        from django.db import connection

        from django_bridge import run_django

        def ask() -> object:
            with connection.cursor() as cursor:
                cursor.execute("SELECT %s + 0", [token])
                return cursor.fetchone()[0]

        return await run_django(ask)

    async def stream(self, token: int) -> object:
        from sqlalchemy import text

        from django_bridge import database

        seen: Any = None
        statement = text("SELECT n + :token FROM soak_row ORDER BY n").bindparams(token=token)
        async with database().stream(statement, batch=50) as rows:
            async for row in rows:
                seen = row[0]
        return None if seen is None else seen - 499

    async def transaction(self, token: int) -> object:
        from sqlalchemy import text

        from django_bridge import database

        async def move(*, db: Any) -> None:
            one, other = random.sample(range(8), 2)
            await db.execute(text("UPDATE soak_account SET balance = balance - 1 WHERE id = :id"), {"id": one})
            await db.execute(text("UPDATE soak_account SET balance = balance + 1 WHERE id = :id"), {"id": other})

        await database().retry(move)
        return token

    async def residue(self, token: int) -> object:
        from sqlalchemy import text

        from django_bridge import database

        setting = "SET @soak = 1" if self.server.family == "mysql" else "SET application_name = 'soak'"
        await database().execute(text(setting))
        return token

    async def _works(self, until: float) -> None:
        from django_bridge import scope

        kinds: list[Callable[[int], Awaitable[object]]] = [
            self.session, self.orm, self.run_django, self.stream, self.transaction, self.residue,
        ]  # fmt: skip
        while time.monotonic() < until:
            kind, token = random.choice(kinds), random.randrange(1, 2**30)
            try:
                async with asyncio.timeout(0.002 if random.random() < 0.02 else 20.0), scope():
                    answer = await kind(token)
            except Exception as err:  # faults are made on purpose: what matters is what is left of them
                self.errors[type(err).__name__] += 1
                await asyncio.sleep(0.05)
                continue
            self.done[kind.__name__] += 1
            self.wrong += int(answer) != token

    # -- the faults ----------------------------------------------------------------------------------------------

    async def _breaks(self, until: float) -> None:
        restart_at = time.monotonic() + self.seconds * 0.2
        while time.monotonic() < until - 4 * FAULT_EVERY:
            await asyncio.sleep(FAULT_EVERY)
            if restart_at and time.monotonic() > restart_at:
                restart_at, fault = 0.0, "restart"
            else:
                fault = random.choice(["kill", "reset", "cut"])
            self.faults[fault] += 1
            try:
                await asyncio.to_thread(self._break, fault)
            except Exception as err:
                self.errors[f"{fault}: {type(err).__name__}"] += 1

    def _break(self, fault: str) -> None:
        if fault == "kill":
            self.server.kill_connections(database="soak")
        elif fault == "restart":
            self.server.restart()
        else:
            (self.proxy.reset_connections if fault == "reset" else self.proxy.cut)()
            self.proxy.restore()

    async def _samples(self, until: float) -> None:
        began = time.monotonic()
        while time.monotonic() < until:
            await asyncio.sleep(SAMPLES_EVERY)
            gc.collect()
            descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  (pathlib would block as well)
            self.samples.append((time.monotonic() - began, descriptors, threading.active_count(), _rss_mib()))

    async def run(self) -> bool:
        from asgiref.sync import sync_to_async
        from django.core.management import call_command
        from django.db import connections
        from sqlalchemy import text

        from asyncdb import registry
        from django_bridge import database

        await sync_to_async(call_command)("migrate", verbosity=0)
        await sync_to_async(connections.close_all)()
        async with database().atomic() as db:
            await db.execute(text("CREATE TABLE soak_row (n integer)"))
            await db.execute(text("CREATE TABLE soak_account (id integer PRIMARY KEY, balance integer)"))
        async with database().atomic() as db:
            await db.execute(text("INSERT INTO soak_row VALUES (:n)"), [{"n": n} for n in range(500)])
            await db.execute(text("INSERT INTO soak_account VALUES (:n, 1000)"), [{"n": n} for n in range(8)])
        until = time.monotonic() + self.seconds
        await asyncio.gather(*(self._works(until) for _ in range(TASKS)), self._breaks(until), self._samples(until))
        balance = await database().fetch_val(text("SELECT SUM(balance) FROM soak_account"))
        stats = database().stats()
        await registry.close_all()
        return self._report(int(balance), stats)

    def _report(self, balance: int, stats: Any) -> bool:
        warm = [sample for sample in self.samples if sample[0] > self.seconds * WARM]
        half = len(warm) // 2
        before, after = warm[:half], warm[half:]
        grew = {
            "file descriptors": max(s[1] for s in after) - max(s[1] for s in before),
            "threads": max(s[2] for s in after) - max(s[2] for s in before),
            "memory": sum(s[3] for s in after) / len(after) - sum(s[3] for s in before) / len(before),
        }
        print(f"{self.server.family}: {self.seconds:g} s, {sum(self.done.values())} done {dict(self.done)}")
        print(f"  faults {dict(self.faults)}; errors {dict(self.errors)}")
        last = self.samples[-1]
        print(f"  at the end {last[1]} descriptors, {last[2]} threads, {last[3]:.1f} MiB; grew {grew}")
        print(f"  pool {stats}")
        problems = []
        if self.wrong:
            problems.append(f"{self.wrong} answers were wrong")
        if balance != 8000:
            problems.append(f"the sum of the balances is {balance}")
        if stats.checked_out:
            problems.append(f"{stats.checked_out} connections are still checked out")
        if grew["file descriptors"] > 10 or grew["threads"] > 5 or grew["memory"] > MOST_GROWTH_MIB:
            problems.append("something grew")
        for problem in problems:
            print(f"  NOT FLAT: {problem}")
        return not problems


def _child(family: str, seconds: float) -> int:
    """One family in a process of its own, for Django is configured once."""
    server = MariaDBServer() if family == "mysql" else PostgreSQLServer()
    with server, Proxy(server.host, server.port) as proxy, tempfile.TemporaryDirectory():
        server.create_database("soak")
        settings.configure(
            INSTALLED_APPS=["django.contrib.contenttypes", "django_bridge"],
            DATABASES={
                "default": {
                    "ENGINE": ENGINES[family], "NAME": "soak", "USER": server.user, "PASSWORD": server.password,
                    "HOST": "127.0.0.1", "PORT": proxy.port,
                }
            },
            ASYNC_DB={"default": {"pool_size": 10}},
        )  # fmt: skip
        django.setup()
        return 0 if asyncio.run(Soak(server, proxy, seconds).run()) else 1


async def _main(seconds: float) -> int:
    outcomes = []
    for family in ENGINES:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.soak.mixed", "--family", family, str(seconds / len(ENGINES))
        )
        outcomes.append(await child.wait())
    return int(any(outcomes))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--family"]:
        sys.exit(_child(sys.argv[2], float(sys.argv[3])))
    sys.exit(asyncio.run(_main(float(sys.argv[1]) if len(sys.argv) > 1 else 300.0)))
