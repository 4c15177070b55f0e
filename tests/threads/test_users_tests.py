"""The tests of ``tests/use/users_tests``, as teams write them, with the pool of threads switched on."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncdb.testing import DatabaseServer
from tests.use.test_users_tests import by_pytest


@pytest.mark.verify
@pytest.mark.families("mariadb", "postgresql", "mysql")
def test_they_pass_with_the_pool_of_threads(server: DatabaseServer, tmp_path: Path) -> None:
    ran = by_pytest(server.url("users_real"), tmp_path, THREAD_POOL="1")
    assert ran.code == 0, ran.output[-6000:]
    ran.require("", at_least=100)
