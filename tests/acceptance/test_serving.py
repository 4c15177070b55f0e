"""The demo under each way of serving a Django project: workers, reload, no lifespan, WSGI."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from asyncdb.testing import MariaDBServer, free_port
from tests.atlas import ATLAS, serving
from tests.polling import until

PATH = "/bridge/search/?q=san&limit=5"
UVICORN = ("-m", "uvicorn", "atlas.asgi:application", "--app-dir", str(ATLAS), "--log-level", "warning")

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def atlas_database(mariadb: MariaDBServer) -> Iterator[str]:
    name = f"serving_{os.getpid()}"
    mariadb.create_database(name)
    yield name
    mariadb.drop_database(name)


@pytest.fixture(scope="module")
def site(mariadb: MariaDBServer, atlas_database: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    prepared = serving.Site(tmp_path_factory.mktemp("atlas"), url=mariadb.url(atlas_database))
    prepared.manage("migrate", "--verbosity", "0", quiet=True)
    prepared.manage("load_places", "--limit", "100", quiet=True)
    return prepared


@contextmanager
def served(site: Any, *command: str, ends_with: signal.Signals = signal.SIGTERM) -> Iterator[Any]:
    """Runs ``python command`` with ``{port}`` filled in until it answers, and ends it as its supervisor would."""
    port = free_port()
    arguments = [part.format(port=port) for part in command]
    process = subprocess.Popen([sys.executable, *arguments], env=site.environment, start_new_session=True)
    server = serving.Server(process, port)
    try:
        site._wait_until_ready(server)
        yield server
        process.send_signal(ends_with)
        process.wait(20)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def connections(mariadb: MariaDBServer, name: str) -> int:
    return sum(connection.database == name for connection in mariadb.connections())


@pytest.mark.parametrize(
    "more",
    [
        ("--workers", "2"),
        ("--reload", "--reload-dir", str(ATLAS / "atlas")),
        ("--lifespan", "off"),
        ("--loop", "uvloop"),
    ],
    ids=["workers", "reload", "no lifespan", "uvloop"],
)
def test_bridged_views_answer_and_the_end_leaves_no_connection(
    mariadb: MariaDBServer, site: Any, atlas_database: str, more: tuple[str, ...]
) -> None:
    with served(site, *UVICORN, "--port", "{port}", *more) as server:
        assert {server.call("GET", PATH).status for _ in range(20)} == {200}
        assert connections(mariadb, atlas_database) > 0
    until(lambda: connections(mariadb, atlas_database) == 0, within=10)


def test_an_edit_under_reload_leaves_no_connection_of_the_old_process(
    mariadb: MariaDBServer, site: Any, atlas_database: str, tmp_path: Path
) -> None:
    (tmp_path / "watched.py").write_text("before = True\n")
    with served(site, *UVICORN, "--port", "{port}", "--reload", "--reload-dir", str(tmp_path)) as server:
        assert server.call("GET", PATH).status == 200
        old = {connection.id for connection in mariadb.connections() if connection.database == atlas_database}
        (tmp_path / "watched.py").write_text("before = False\n")
        until(lambda: not old & {connection.id for connection in mariadb.connections()}, within=20)
        site._wait_until_ready(server)
        assert server.call("GET", PATH).status == 200
    until(lambda: connections(mariadb, atlas_database) == 0, within=10)


def test_an_async_view_under_wsgi_works_and_leaves_nothing_open_after_each_request(
    mariadb: MariaDBServer, site: Any, atlas_database: str
) -> None:
    runserver = (str(ATLAS / "manage.py"), "runserver", "--noreload", "127.0.0.1:{port}")
    with served(site, *runserver, ends_with=signal.SIGINT) as server:
        assert {server.call("GET", PATH).status for _ in range(5)} == {200}
        until(lambda: connections(mariadb, atlas_database) == 0, within=5)
