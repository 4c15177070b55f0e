"""The laboratory: real servers started once per run, a fresh database for each test, nothing left afterwards.

``FAMILIES="mariadb sqlite"`` chooses families; without it there are all four, MySQL for the tests marked ``contract``
alone. A chosen family must start. ``TEST_MYSQL_URL`` names a running MySQL (8.4 or newer) to take in place of our own.
``VERIFY=1``, as ``make verify`` has it, runs what else is left out; ``TEST_TLS=1`` has the run's servers speak TLS and
the tests' configurations require it; ``TEST_LOOP=uvloop`` runs the async tests on that.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import itertools
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from asyncdb.config import DatabaseConfig
from asyncdb.testing import DatabaseServer, MariaDBServer, MySQLServer, PostgreSQLServer, Proxy, RunningMySQLServer

if TYPE_CHECKING:
    from asyncdb import Database

VERIFY = bool(os.environ.get("VERIFY"))
TLS = bool(os.environ.get("TEST_TLS"))
_KNOWN = ("mariadb", "postgresql", "sqlite", "mysql")
_names = (f"t{os.getpid()}_{number}" for number in itertools.count(1))


def _chosen_families() -> list[str]:
    asked = [name for name in re.split(r"[\s,]+", os.environ.get("FAMILIES", "")) if name]
    if unknown := set(asked) - set(_KNOWN):
        raise pytest.UsageError(f"FAMILIES: {sorted(unknown)} unknown; choose from {' '.join(_KNOWN)}")
    return asked or list(_KNOWN)


def _mysql_is_for(definition: pytest.Item) -> bool:
    """Whether the test runs on MySQL: any does where FAMILIES names it, else those of the contract."""
    return bool(os.environ.get("FAMILIES", "").strip()) or definition.get_closest_marker("contract") is not None


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "families(*names): of the families, run the test on these alone")
    config.addinivalue_line("markers", "contract: runs on MySQL too where FAMILIES does not say what runs")
    config.addinivalue_line("markers", "config(**options): DatabaseConfig options of the test's database")
    config.addinivalue_line("markers", "verify(*families): only VERIFY=1 runs it; of the families, on these alone")
    _chosen_families()


if os.environ.get("TEST_LOOP") == "uvloop":

    def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
        import uvloop

        return {"uvloop": uvloop.new_event_loop}


def pytest_report_header() -> str:
    families = ", ".join(_chosen_families())
    if not os.environ.get("FAMILIES", "").strip():
        families += " (of MySQL the contract: FAMILIES=mysql runs all on it)"
    return f"families: {families}; {'everything' if VERIFY else 'without what VERIFY=1 adds'}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left = [item for item in items if _is_for_families_left_out(item) or (not VERIFY and _is_for_verify(item))]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in set(left)]


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # many tests collect what they left: not among what the imports have made


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    gc.unfreeze()


def _is_for_families_left_out(item: pytest.Item) -> bool:
    """Such a test may need a driver that is not here; nor is it a test that was skipped."""
    marker = item.get_closest_marker("families")
    return marker is not None and not set(marker.args) & set(_chosen_families())


def _is_for_verify(item: pytest.Item) -> bool:
    family = cast("Any", item).callspec.params.get("family") if hasattr(item, "callspec") else None
    return any(not mark.args or family in mark.args for mark in item.iter_markers("verify"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "family" not in metafunc.fixturenames:
        return
    families = [name for name in _chosen_families() if name != "mysql" or _mysql_is_for(metafunc.definition)]
    if (marker := metafunc.definition.get_closest_marker("families")) is not None:
        families = [name for name in families if name in marker.args]
    if "proxied" in metafunc.fixturenames:
        families = [name for name in families if name != "sqlite"]
    metafunc.parametrize("family", families, indirect=True)


# Servers


def _require(family: str) -> None:
    if family not in _chosen_families():
        pytest.skip(f"FAMILIES={os.environ.get('FAMILIES', '')} leaves {family} out")


@pytest.fixture(scope="session")
def _servers() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def mariadb(_servers: ExitStack) -> MariaDBServer:
    """The run's MariaDB. Tests that stop, pause or fill it take ``own_mariadb``."""
    _require("mariadb")
    return _servers.enter_context(MariaDBServer(tls=TLS))


@pytest.fixture(scope="session")
def postgresql(_servers: ExitStack) -> PostgreSQLServer:
    """The run's PostgreSQL. Tests that stop, pause or fill it take ``own_postgresql``."""
    _require("postgresql")
    return _servers.enter_context(PostgreSQLServer(tls=TLS))


@pytest.fixture(scope="session")
def mysql(_servers: ExitStack) -> MySQLServer | RunningMySQLServer:
    """The run's MySQL, or the one of ``TEST_MYSQL_URL``. Tests that stop, pause or fill it take ``own_mysql``."""
    from asyncdb.drivers.asyncmy_login import GuardedLogin

    _require("mysql")
    GuardedLogin.takes_key_of_server = True  # it is ours, or whoever gave its URL trusts it with the password
    if not (url := os.environ.get("TEST_MYSQL_URL")):
        return _servers.enter_context(MySQLServer(tls=TLS))
    server = RunningMySQLServer(url)
    version = server.execute("SELECT VERSION()")[0][0] or ""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if "mariadb" in version.lower() or numbers < (8, 4):
        pytest.fail(f"TEST_MYSQL_URL: a MySQL of 8.4 or newer is wanted, this is {version}")
    return _servers.enter_context(server)


@pytest.fixture
def own_mariadb() -> Iterator[Callable[..., MariaDBServer]]:
    """Starts a MariaDB for this test alone: ``own_mariadb(wait_timeout=2, options={...})``."""
    _require("mariadb")
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(MariaDBServer(**options))


@pytest.fixture
def own_mysql() -> Iterator[Callable[..., MySQLServer]]:
    """Starts a MySQL for this test alone: ``own_mysql(wait_timeout=2, options={...})``."""
    _require("mysql")
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(MySQLServer(**options))


@pytest.fixture
def own_postgresql() -> Iterator[Callable[..., PostgreSQLServer]]:
    """Starts a PostgreSQL for this test alone: ``own_postgresql(options={...})``."""
    _require("postgresql")
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(PostgreSQLServer(**options))


# Databases


@pytest.fixture
def family(request: pytest.FixtureRequest) -> str:
    """The family under test: ``mariadb``, ``postgresql``, ``sqlite`` or ``mysql``."""
    return cast("str", request.param)


@pytest.fixture
def server(request: pytest.FixtureRequest, family: str) -> DatabaseServer | None:
    """The server of the family under test; None for SQLite."""
    return None if family == "sqlite" else cast("DatabaseServer", request.getfixturevalue(family))


@pytest.fixture
def database_name(server: DatabaseServer | None, tmp_path: Path) -> Iterator[str]:
    """A fresh, empty database; afterwards nobody may be connected to it any more."""
    if server is None:
        yield str(tmp_path / "database.sqlite3")
        return
    name = next(_names)
    server.create_database(name)
    try:
        yield name
        deadline = time.monotonic() + 3.0
        while left := [connection for connection in server.connections() if connection.database == name]:
            assert time.monotonic() < deadline, f"connections left on the server after the test: {left}"
            time.sleep(0.02)
    finally:
        server.drop_database(name)
        _forget_types()


def _forget_types() -> None:
    """Django keeps for ever which numbers the types of an alias have on PostgreSQL, or that there are none."""
    signals: Any = sys.modules.get("django.contrib.postgres.signals")
    if signals is not None:
        signals.get_hstore_oids.cache_clear()
        signals.get_citext_oids.cache_clear()


@pytest.fixture
def server_url(server: DatabaseServer | None, database_name: str) -> str:
    """The URL of a fresh, empty database."""
    return f"sqlite:///{database_name}" if server is None else server.url(database_name)


@pytest.fixture
def config_options(request: pytest.FixtureRequest, family: str) -> Mapping[str, Any]:
    """The test's DatabaseConfig options: from ``@pytest.mark.config``, the nearest one wins; or override this."""
    options: dict[str, Any] = {}
    for marker in request.node.iter_markers("config"):
        options = {**marker.kwargs, **options}
    return {"tls": "required", **options} if TLS and family != "sqlite" else options


@pytest.fixture
def database_config(server_url: str, config_options: Mapping[str, Any]) -> DatabaseConfig:
    """The configuration of a fresh, empty database of the family under test."""
    return DatabaseConfig.from_url(server_url, **config_options)


@pytest.fixture
def proxied(
    server: DatabaseServer, database_name: str, config_options: Mapping[str, Any]
) -> Iterator[tuple[DatabaseConfig, Proxy]]:
    """A fresh database that is reached through a proxy, and the proxy; never SQLite."""
    with Proxy(server.host, server.port) as proxy:
        yield DatabaseConfig.from_url(server.url(database_name, port=proxy.port), **config_options), proxy


@pytest.fixture
async def database(database_config: DatabaseConfig) -> AsyncIterator[Database]:
    """A ``Database``, closed after the test, which must have given every connection back."""
    from asyncdb import Database

    database = Database(database_config)
    try:
        yield database
        assert database.stats().checked_out == 0, "the test kept a connection"
    finally:
        await database.close()


# Nothing left


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> None:
    # Autouse comes first and so ends last, after every fixture of the test has closed what it opened.
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("_no_task_left")


@pytest.fixture
async def _no_task_left() -> AsyncIterator[None]:
    yield
    mine = asyncio.current_task()
    for _ in range(10):  # tasks that were told to end may do so
        if asyncio.all_tasks() == {mine}:
            return
        await asyncio.sleep(0)
    pytest.fail(f"tasks left after the test: {asyncio.all_tasks() - {mine}}")


@pytest.fixture
def eventually() -> Callable[..., Awaitable[None]]:
    """Waits until a condition holds: ``await eventually(lambda: pool.idle == 1, within=5.0)``, seconds."""

    async def wait(condition: Callable[[], Any], *, within: float = 5.0) -> None:
        deadline = time.monotonic() + within
        while True:
            value = condition()
            if inspect.isawaitable(value):
                value = await value
            if value:
                return
            assert time.monotonic() < deadline, f"did not come true within {within:g} s"
            await asyncio.sleep(0.01)

    return wait
