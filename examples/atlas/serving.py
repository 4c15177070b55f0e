"""The atlas as a process: its management commands, and uvicorn on a port of this machine."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote

HERE = Path(__file__).resolve().parent
READY_WITHIN = 60.0
GRACE = 3
"""Seconds that a request may go on after the end was asked for."""
STOP_WITHIN = 15.0


class SiteError(Exception):
    """The site could not be prepared, started or kept running."""


@dataclass(frozen=True)
class Reply:
    """What came back from one request, how many queries it took, and how long."""

    status: int
    content_type: str
    body: bytes
    queries: int | None
    view_ms: float | None
    total_ms: float

    def json(self) -> Any:
        """Returns the body, parsed."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Server:
    """A running uvicorn."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def call(self, method: str, path: str, body: Any = None, *, timeout: float = 30.0) -> Reply:
        """Sends one request over a connection of its own.

        - **errors**: ``OSError`` or ``HTTPException`` when nothing proper comes back within ``timeout`` seconds.
        """
        sent = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        began = time.perf_counter()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, sent, {"Content-Type": "application/json"} if sent else {})
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        queries, timing = (
            response.getheader("X-Queries"),
            re.search(r"dur=([\d.]+)", response.getheader("Server-Timing", "")),
        )
        return Reply(
            response.status,
            response.getheader("Content-Type", ""),
            content,
            int(queries) if queries else None,
            float(timing[1]) if timing else None,
            (time.perf_counter() - began) * 1000,
        )


def url_of(server: Any, database: str, folder: Path) -> str:
    """Returns the URL of a test server's database.

    For MySQL it names a file in ``folder`` with the server's key, which what logs in without TLS has to know.
    """
    url: str = server.url(database)
    if (key := getattr(server, "public_key", None)) is None:
        return url
    file = folder / "server_key.pem"
    file.write_text(key())
    return f"{url}?server_public_key_path={quote(str(file))}"


class Site:
    """The project on one database: ``url``, or a SQLite file in the folder ``data``.

    With ``stock`` it is Django without the bridge: what the comparisons compare with.
    """

    def __init__(self, data: Path, *, url: str | None = None, stock: bool = False) -> None:
        self.data, self.url, self.stock = data, url, stock
        self.environment = {**os.environ, "ATLAS_DATA": str(data), "DJANGO_SETTINGS_MODULE": "atlas.settings"}
        if stock:
            self.environment |= {"DJANGO_SETTINGS_MODULE": "atlas.stock", "ASYNC_DB_MODE": "threads"}
        # The packages of this checkout, where they are not installed.
        paths = (os.environ.get("PYTHONPATH"), str(HERE.parent.parent))
        self.environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        self.environment.pop("ATLAS_DATABASE_URL", None)
        if url:
            # In the environment and not among the arguments, which every user of the machine can read.
            self.environment["ATLAS_DATABASE_URL"] = url

    def without_the_bridge(self) -> Site:
        """Returns stock Django on the same database."""
        return Site(self.data, url=self.url, stock=True)

    def manage(self, *arguments: str, quiet: bool = False) -> None:
        """Runs a management command.

        - **errors**: ``SiteError`` when it fails.
        """
        # A session of its own: a Ctrl-C in the terminal reaches us alone, and we end what we started.
        command = [sys.executable, str(HERE / "manage.py"), *arguments]
        done = subprocess.run(command, env=self.environment, check=False, capture_output=quiet, start_new_session=True)
        if done.returncode:
            told = (done.stdout + done.stderr).decode(errors="replace") if quiet else ""
            raise SiteError(f"manage.py {' '.join(arguments)} failed with exit code {done.returncode}\n{told}".rstrip())

    @contextmanager
    def serve(self, *, port: int = 0, workers: int = 1) -> Iterator[Server]:
        """Runs uvicorn (``port=0``: on a free one), waits until it answers, and stops it at the end.

        - **errors**: ``SiteError`` when it ends by itself or does not answer in time.
        """
        server = Server(self._start(port := free_port(port), workers), port)
        try:
            self._wait_until_ready(server)
            yield server
        finally:
            stop(server.process)

    def _start(self, port: int, workers: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "uvicorn", "atlas.asgi:application", "--app-dir", str(HERE)]
        command += ["--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
        command += ["--log-level", "warning", "--no-access-log"]
        # Somebody may watch /live/ all day.
        command += ["--timeout-graceful-shutdown", str(GRACE)]
        # A pool that is knocked at when the server starts would be one connection more than stock Django has.
        command += ["--lifespan", "off"] if self.stock else []
        return subprocess.Popen(command, env=self.environment, start_new_session=True)

    @staticmethod
    def _wait_until_ready(server: Server) -> None:
        deadline = time.monotonic() + READY_WITHIN
        while True:
            if server.process.poll() is not None:
                raise SiteError(f"uvicorn ended with exit code {server.process.returncode} before it answered")
            try:
                if server.call("GET", "/", timeout=5.0).status == 200:
                    return
            except (OSError, HTTPException):
                pass
            if time.monotonic() > deadline:
                raise SiteError(f"uvicorn did not answer on port {server.port} within {READY_WITHIN:g} s")
            time.sleep(0.05)


def free_port(wanted: int = 0) -> int:
    """Returns a port that nobody listens on at this moment: ``wanted``, or any.

    - **errors**: ``SiteError`` when ``wanted`` is taken.
    """
    try:
        with socket.create_server(("127.0.0.1", wanted)) as listener:
            return int(listener.getsockname()[1])
    except (OSError, OverflowError) as err:
        raise SiteError(f"port {wanted} cannot be used ({err}): choose another with --port, or none") from err


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and its children: politely, and after ``STOP_WITHIN`` seconds by force."""
    process.terminate()
    try:
        process.wait(STOP_WITHIN)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
