"""The errors that the project was born from: an idle limit, a KILL and a restart, under a real uvicorn.

After each of them the bridged endpoints answer every request. The stock ones are asked beside them and reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from asyncdb.testing import MariaDBServer
from tests.atlas import serving
from tests.polling import until
from tests.server_threads import watched_threads

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
def prepared(server: MariaDBServer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    site = serving.Site(tmp_path_factory.mktemp("atlas"), url=server.url("atlas"))
    site.manage("migrate", "--verbosity", "0", quiet=True)
    site.manage("load_places", "--limit", "200", quiet=True)
    return site


@pytest.fixture(scope="module")
def site(prepared: Any) -> Iterator[Any]:
    with prepared.serve() as running:
        yield running


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
@pytest.mark.parametrize(
    "prefix",
    [
        "/bridge/",
        pytest.param("/stock/", marks=pytest.mark.verify),
        pytest.param("/stock/async/", marks=pytest.mark.verify),
    ],
)
def test_gone_away_costs_a_view_on_the_pool_no_error(
    server: MariaDBServer, site: Any, prefix: str, fault: Callable[[MariaDBServer], None]
) -> None:
    """Django's own views too, as they are: the middleware is all that was added."""
    assert set(statuses(site, prefix)) == {200}
    fault(server)
    before = counts(site)
    with watched_threads(server) as seen:
        outcomes = statuses(site, prefix)
    after = counts(site)
    assert [outcome for outcome in outcomes if outcome != 200] == []
    assert after["checkouts"] - before["checkouts"] >= REQUESTS
    assert after["pings"] - before["pings"] <= after["checkouts"] - before["checkouts"]
    assert seen.most <= POOL_SIZE


@pytest.mark.verify
@pytest.mark.parametrize("fault", [idle, kill, restart])
def test_what_gone_away_costs_stock_django_is_reported(
    server: MariaDBServer, prepared: Any, fault: Callable[[MariaDBServer], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """What the endpoints as teams have them today make of the same; reported, not asserted."""
    with prepared.without_the_bridge().serve() as stock:
        statuses(stock, "/stock/async/")
        fault(server) if fault is not kill else server.kill_connections(database="atlas")
        with watched_threads(server) as seen:
            outcomes = statuses(stock, "/stock/async/")
    failed = sum(outcome != 200 for outcome in outcomes)
    with capsys.disabled():
        print(f"\nstock after {fault.__name__}: {failed} of {REQUESTS} failed, {seen.most} server threads at once")


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
