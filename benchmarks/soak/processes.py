"""The site's processes: two by uvicorn on one database, with and without a sync middleware that says the tenant."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from asyncdb.testing import DatabaseServer, free_port

from ..serving import takes_connections

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("views", "middleware")
"""Who says the tenant."""


class Processes:
    def __init__(
        self, server: DatabaseServer, database: str, *, pool_size: int, broken: bool, thread_pool: bool = False
    ) -> None:
        self.server, self.database, self.pool_size, self.broken = server, database, pool_size, broken
        self.thread_pool = thread_pool
        self._logs: dict[str, str] = {}

    def _environment(self, name: str) -> dict[str, str]:
        server = self.server
        place = {"HOST": server.host, "PORT": server.port, "USER": server.user, "PASSWORD": server.password}
        engine = f"django.db.backends.{server.family}"
        said: dict[str, Any] = {
            "database": {"ENGINE": engine, "NAME": self.database, **place},
            "pool_size": self.pool_size,
            "broken": self.broken,
            "thread_pool": self.thread_pool,
            "sync_middleware": name == "middleware",
        }
        more = {"STORM": json.dumps(said), "DJANGO_SETTINGS_MODULE": "benchmarks.soak.site.settings"}
        return {**{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}, **more}

    def create_tables(self) -> None:
        from .site.tenancy import SCHEMA

        migrate = [sys.executable, "-m", "django", "migrate", "--run-syncdb", "--verbosity", "0"]
        subprocess.run(migrate, env=self._environment("views"), cwd=ROOT, check=True, timeout=120)
        self.server.execute(SCHEMA[self.server.family], database=self.database)

    def usual_setting(self) -> str:
        asked = "SHOW work_mem" if self.server.family == "postgresql" else "SELECT @@global.sort_buffer_size"
        return str(self.server.execute(asked, database=self.database)[0][0])

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[list[str]]:
        """Both processes; their addresses."""
        async with AsyncExitStack() as stack:
            started = [await stack.enter_async_context(self._served(name)) for name in NAMES]
            yield started

    @asynccontextmanager
    async def _served(self, name: str) -> AsyncIterator[str]:
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", "benchmarks.soak.site.asgi:application"]
        with tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen(  # noqa: ASYNC220  (nothing else runs yet)
                [*command, "--port", str(port), "--log-level", "warning", "--timeout-graceful-shutdown", "10"],
                env=self._environment(name), cwd=ROOT, stdout=log, stderr=log,
            )  # fmt: skip
            try:
                try:
                    await takes_connections(process, port)
                except AssertionError as err:
                    raise AssertionError(f"{err}\n{_read(log)}") from err
                yield f"http://127.0.0.1:{port}/"
                assert process.poll() is None, f"the server has died: {process.returncode}\n{_read(log)}"
            finally:
                process.terminate()
                try:
                    await asyncio.to_thread(process.wait, 30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    raise
                finally:
                    self._logs[name] = _read(log)

    def logs(self) -> dict[str, str]:
        """What each has written, by its name, once it has ended."""
        return self._logs


def _read(log: Any) -> str:
    log.seek(0)
    return str(log.read())
