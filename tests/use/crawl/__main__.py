"""One crawl, a process of its own: ``CRAWL={...} python -m tests.use.crawl OUT`` fills the database and writes OUT.

``CRAWL`` says ``database`` (an entry of ``DATABASES``), ``bridged``, ``async_db``, ``clients``, ``served`` (by uvicorn
on uvloop, or else in this process), ``switch_interval``, ``links_of_a_kind``, ``atomic_requests``.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from .asgi import application, said
from .browser import HOST, Browser
from .fixture import FIRST_NEW_ID, fill
from .rows import all_rows
from .script import Client, crawl


class Logged(logging.Handler):
    """What is logged meanwhile, a text each, with its traceback."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        self._texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._texts.append(self.format(record))

    def take(self) -> list[str]:
        taken, self._texts = self._texts, []
        return taken


@asynccontextmanager
async def in_this_process() -> AsyncIterator[httpx.AsyncBaseTransport]:
    """As a server does it: the application is told of the start and of the end. Django's own refuses to hear of it."""
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    lifespan = asyncio.create_task(application({"type": "lifespan"}, told.get, answers.put))
    told.put_nowait({"type": "lifespan.startup"})
    if said["bridged"]:
        answer = await asyncio.wait_for(answers.get(), 30)
        assert answer["type"] == "lifespan.startup.complete", answer
    yield httpx.ASGITransport(application, raise_app_exceptions=False)
    told.put_nowait({"type": "lifespan.shutdown"})
    await asyncio.wait([lifespan], timeout=30)
    assert lifespan.done(), "the application did not end"
    assert isinstance(lifespan.exception(), ValueError) or said["bridged"]


@asynccontextmanager
async def by_uvicorn() -> AsyncIterator[httpx.AsyncBaseTransport]:
    from asyncdb.testing import free_port

    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "tests.use.crawl.asgi:application", "--loop", "uvloop"]
    arguments = ["--port", str(port), "--log-level", "warning"]
    with subprocess.Popen([*command, *arguments]) as server:  # noqa: ASYNC220  (nothing else runs yet)
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    (await asyncio.open_connection("127.0.0.1", port))[1].close()
                    break
                except OSError:
                    assert server.poll() is None, "uvicorn has ended"
                    assert time.monotonic() < deadline, "uvicorn did not start"
                    await asyncio.sleep(0.05)
            yield _Elsewhere(port)
        finally:
            server.terminate()
            code = server.wait(30)
        assert code in {0, -15}, f"uvicorn ended with {code}"


class _Elsewhere(httpx.AsyncHTTPTransport):
    """The pages' own host name, on this port."""

    def __init__(self, port: int) -> None:
        super().__init__(limits=httpx.Limits(max_connections=20))
        self._port = port

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        # Another one, for the client keeps cookies by the host name of its own.
        place = request.url.copy_with(host="127.0.0.1", port=self._port)
        sent = httpx.Request(
            request.method, place, headers=request.headers, stream=request.stream, extensions=request.extensions
        )
        return await super().handle_async_request(sent)


async def main(logged: Logged) -> list[Any]:
    async with by_uvicorn() if said["served"] else in_this_process() as transport, asyncio.timeout(480):

        async def one(number: int) -> Any:
            client = Client(number, alone=said["clients"] == 1, links_of_a_kind=said["links_of_a_kind"])
            async with httpx.AsyncClient(transport=_Shared(transport), base_url=HOST, timeout=90) as http:
                return await crawl(Browser(http, logged.take), client)

        crawls = await asyncio.gather(*(one(number) for number in range(1, said["clients"] + 1)))
        if isinstance(transport, httpx.AsyncHTTPTransport):
            await transport.aclose()
        return crawls


class _Shared(httpx.AsyncBaseTransport):
    """A transport that outlives its clients."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self.handle_async_request = transport.handle_async_request  # type: ignore[method-assign]


if __name__ == "__main__":
    from django.core.management import call_command
    from django.db import connections

    logged = Logged()
    logging.getLogger().handlers[:] = [logged]
    call_command("migrate", run_syncdb=True, verbosity=0, interactive=False)
    fill(said["clients"])
    connections.close_all()
    began = datetime.datetime.now(datetime.UTC)
    clock = time.perf_counter()
    crawls = asyncio.run(main(logged))
    seconds = time.perf_counter() - clock
    rows = all_rows(began, mask_ids_from=FIRST_NEW_ID if said["clients"] > 1 else None)
    connections.close_all()
    Path(sys.argv[1]).write_text(
        json.dumps({"crawls": crawls, "rows": rows, "seconds": seconds, "logged": logged.take(), "pid": os.getpid()})
    )
