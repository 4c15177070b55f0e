"""Django's own wrappers in threads, on the pool; ``manifest/`` lists the cases, of which none may be missing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections

from asyncdb.statistics import PoolStats
from asyncdb.testing import DatabaseServer
from django_bridge import threads
from tests.bridge.conftest import (  # noqa: F401  (fixtures)
    Shop,
    _may_ask_the_database,
    bridged_now,
    default,
    forget_connections,
    project,
    sync_shop,
)


class Pooled:
    """A project whose threads take their connections from a pool; ``stock()`` is the same one without it."""

    def __init__(self, shop: Shop, server: DatabaseServer | None) -> None:
        self.family = "mysql" if shop.family in {"mariadb", "mysql"} else shop.family
        self.models = shop.models
        self.server = server
        self._configure = shop.configure

    def use(self, *, size: int = 3, **options: Any) -> None:
        """Makes the pool anew, with these settings of ``ASYNC_DB`` and, in capitals, of ``DATABASES``."""
        own = {name: options.pop(name) for name in list(options) if name.islower()}
        forget_connections()
        assert threads.close_pools(wait=5.0), "something kept a connection"
        self._configure(async_db={"thread_pool": True, "thread_pool_size": size, **own}, **options)

    def stock(self, **options: Any) -> None:
        """Switches it off."""
        forget_connections()
        self._configure(async_db={}, **options)
        assert threads.stats("default") is None

    @property
    def stats(self) -> PoolStats:
        stats = threads.stats("default")
        assert stats is not None, "no pool was made yet"
        return stats

    @property
    def out(self) -> int:
        """Connections that the pool misses now."""
        return self.stats.checked_out

    def kill(self) -> None:
        """Has the server end every connection to the test's database."""
        assert self.server is not None
        assert self.server.kill_connections(database=connections["default"].settings_dict["NAME"])

    def ask(self, mysql: str, postgresql: str, sqlite: str) -> str:
        """The statement of the family."""
        return {"mysql": mysql, "postgresql": postgresql, "sqlite": sqlite}[self.family]


@pytest.fixture
def pooled(sync_shop: Shop, server: DatabaseServer | None) -> Iterator[Pooled]:  # noqa: F811  (a fixture)
    made = Pooled(sync_shop, server)
    made.use()
    try:
        yield made
        forget_connections()
        if threads.stats("default") is not None:
            assert made.out == 0, "the test kept a connection"
    finally:
        forget_connections()
        assert threads.close_pools(wait=5.0), "something kept a connection"


def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Calls a function in a thread of its own, which ends afterwards without closing anything, and waits for it."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(function, *args).result(30)


class Another:
    """Another thread, which does one thing after the other."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1)

    def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        return self._executor.submit(function, *args).result(30)

    def end(self) -> None:
        """Ends it; nothing is closed."""
        self._executor.shutdown(wait=True)


@pytest.fixture
def another() -> Iterator[Another]:
    made = Another()
    yield made
    made(connections.close_all)
    made.end()
    assert threading.active_count() < 50
