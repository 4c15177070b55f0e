"""The errors that the project was born from: an idle limit, a KILL and a restart, under a real uvicorn.

After each of them the bridged endpoints answer every request. The stock ones are asked beside them and reported.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from asyncdb.testing import MariaDBServer
from tests.atlas import serving
from tests.polling import until

POOL_SIZE = 10
REQUESTS, AT_ONCE = 200, 16
WAIT_TIMEOUT = 2
PATHS = ("search/?q=san&limit=5", "countries/?limit=3", "cities/2988507/", "nearest/?lat=48.8&lon=2.3&limit=3")

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def server(mariadb: MariaDBServer) -> Iterator[MariaDBServer]:
    """One of its own, for it is restarted; ``mariadb`` is asked for because it knows FAMILIES."""
    with MariaDBServer(wait_timeout=WAIT_TIMEOUT) as own:
        own.create_database("atlas")
        yield own


@pytest.fixture(scope="module")
def site(server: MariaDBServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    prepared = serving.Site(tmp_path_factory.mktemp("atlas"), url=server.url("atlas"))
    prepared.manage("migrate", "--verbosity", "0", quiet=True)
    prepared.manage("load_places", "--limit", "200", quiet=True)
    with prepared.serve() as running:
        yield running


@contextmanager
def most_threads(server: MariaDBServer) -> Iterator[Callable[[], int]]:
    """Watches how many connections the server has from the site, all the time."""
    most, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            try:
                most[0] = max(most[0], len(server.connections()))
            except Exception:  # it is being restarted
                over.wait(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: most[0]
    finally:
        over.set()
        watcher.join()


def statuses(site: Any, prefix: str) -> list[int | str]:
    """The outcome of ``REQUESTS`` requests, ``AT_ONCE`` at a time."""

    def call(number: int) -> int | str:
        try:
            return int(site.call("GET", prefix + PATHS[number % len(PATHS)]).status)
        except OSError as err:
            return type(err).__name__

    with ThreadPoolExecutor(AT_ONCE) as callers:
        return list(callers.map(call, range(REQUESTS)))


def counts(site: Any) -> dict[str, int]:
    found: dict[str, int] = site.call("GET", "/health/").json()["pool"]["counts"]
    return found


def idle(server: MariaDBServer) -> None:
    """Three seconds with nothing to do: the server has closed every connection by then."""
    begun = time.monotonic()
    until(lambda: not server.connections() and time.monotonic() - begun >= 3, within=30)


def kill(server: MariaDBServer) -> None:
    assert server.kill_connections(database="atlas") > 0


def restart(server: MariaDBServer) -> None:
    server.restart()


@pytest.mark.parametrize("fault", [idle, kill, restart])
def test_gone_away_costs_a_bridged_endpoint_no_error(
    server: MariaDBServer, site: Any, fault: Callable[[MariaDBServer], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(statuses(site, "/bridge/")) == {200}
    fault(server)
    before = counts(site)
    with most_threads(server) as most:
        outcomes = statuses(site, "/bridge/")
    after = counts(site)
    assert [outcome for outcome in outcomes if outcome != 200] == []
    assert after["pings"] - before["pings"] <= after["checkouts"] - before["checkouts"]
    assert most() <= POOL_SIZE
    report_stock(server, site, fault, capsys)


def report_stock(
    server: MariaDBServer, site: Any, fault: Callable[[MariaDBServer], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """What the endpoints as teams have them today make of the same; reported, not asserted."""
    statuses(site, "/stock/async/")
    fault(server) if fault is not kill else server.kill_connections(database="atlas")
    with most_threads(server) as most:
        outcomes = statuses(site, "/stock/async/")
    failed = sum(outcome != 200 for outcome in outcomes)
    with capsys.disabled():
        print(
            f"\nstock endpoints after {fault.__name__}: {failed} of {REQUESTS} failed, {most()} server threads at once"
        )


def test_gone_away_is_what_a_pool_without_liveness_says(server: MariaDBServer) -> None:
    """The control: SQLAlchemy's pool without a ping hands out what the server has closed."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import OperationalError

    engine = create_engine(server.url("atlas").replace("mysql://", "mysql+mysqldb://"))
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    idle(server)
    with pytest.raises(OperationalError, match=r"gone away|timeout"), engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    engine.dispose()
