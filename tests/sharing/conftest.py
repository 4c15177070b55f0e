"""A project whose threads are on their pool, and whose requests are in a scope."""

from __future__ import annotations

import pytest

from asyncdb.testing import DatabaseServer
from tests.bridge.conftest import (  # noqa: F401  (fixtures)
    Shop,
    _may_ask_the_database,
    bridged_now,
    default,
    project,
    sync_shop,
)
from tests.threads.conftest import Pooled, pooled  # noqa: F401  (fixtures)


@pytest.fixture
def shared(pooled: Pooled, server: DatabaseServer | None) -> Pooled:  # noqa: F811  (a fixture)
    pooled.use(size=3, pool_size=3)
    return pooled
