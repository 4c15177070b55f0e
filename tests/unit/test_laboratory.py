"""The fixtures give each test a fresh database, and find what a test left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from asyncdb import Database, DatabaseConfig
from asyncdb.testing import Proxy
from tests.lean import LEAN

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Runs a test file under a copy of our conftest and returns what pytest printed."""

    def run(test: str, **environment: str) -> str:
        shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "conftest.py")
        (tmp_path / "test_inner.py").write_text("import asyncio\nimport pytest\n" + textwrap.dedent(test))
        kept = {name: value for name, value in os.environ.items() if name not in {"FAMILIES", "TEST_MYSQL_URL"}}
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                *LEAN,
                "-q",
                "-p",
                "no:django",
                "-o",
                "asyncio_mode=auto",
                "test_inner.py",
            ],
            cwd=tmp_path,
            env={**kept, "FAMILIES": "sqlite", "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize("turn", [1, 2])
async def test_each_test_has_an_empty_database(database: Database, turn: int) -> None:
    # The second turn would find the first one's table.
    async with database.atomic() as session:
        await session.execute(text("CREATE TABLE book (id int)"))
        await session.execute(text("INSERT INTO book VALUES (7)"))
    assert await database.fetch_val(text("SELECT COUNT(*) FROM book")) == 1


@pytest.mark.config(pool_size=3, pool_timeout=1.5)
def test_the_nearest_config_marker_decides(database_config: DatabaseConfig) -> None:
    assert (database_config.pool_size, database_config.pool_timeout) == (3, 1.5)


@pytest.mark.families("mariadb")
def test_the_families_marker_chooses(family: str) -> None:
    assert family == "mariadb"


async def test_a_proxied_database_is_reached_through_the_proxy(proxied: tuple[DatabaseConfig, Proxy]) -> None:
    config, proxy = proxied
    database = Database(config)
    assert await database.fetch_val(text("SELECT 1")) == 1
    assert proxy.connections == 1
    await database.close()


def test_a_task_that_is_left_fails_the_test(run: Callable[..., str]) -> None:
    printed = run(
        """
        tasks = []
        async def test_leaves_a_task():
            tasks.append(asyncio.create_task(asyncio.sleep(60)))
        """
    )
    assert "tasks left after the test" in printed
    assert "1 passed, 1 error" in printed


def test_a_connection_that_is_kept_fails_the_test(run: Callable[..., str]) -> None:
    printed = run(
        """
        kept = []
        async def test_keeps_a_connection(database):
            kept.append(await database.engine.connect())
        """
    )
    assert "the test kept a connection" in printed


@pytest.mark.families("mariadb", "postgresql")
@pytest.mark.verify("postgresql")
def test_a_connection_left_on_the_server_fails_the_test(family: str, run: Callable[..., str]) -> None:
    printed = run(
        """
        from asyncdb import Database
        left = []
        async def test_does_not_close(database_config):
            left.append(Database(database_config))
            connection = await left[0].engine.connect()
            left.append(connection)
        """,
        FAMILIES=family,
    )
    assert "connections left on the server after the test" in printed


def test_an_unknown_family_is_refused_by_name(run: Callable[..., str]) -> None:
    assert "['oracle'] unknown" in run("def test_nothing(): pass", FAMILIES="sqlite oracle")


def test_of_mysql_the_contract_alone_runs_where_no_family_is_chosen(run: Callable[..., str]) -> None:
    tests = """
        def test_one(family): pass
        @pytest.mark.contract
        def test_two(family): pass
    """
    assert "7 passed" in run(tests, FAMILIES="")
    assert "2 passed" in run(tests, FAMILIES="mysql")
    assert "2 passed" in run(tests, FAMILIES="sqlite")


def test_a_mysql_that_is_not_there_fails_the_run(run: Callable[..., str]) -> None:
    printed = run("def test_one(database_config): pass", FAMILIES="mysql", MYSQLD="/nowhere/mysqld")
    assert "1 error" in printed
    assert "ServerFailed: MYSQLD names /nowhere/mysqld, and there is no such program" in printed


def test_a_family_that_cannot_start_fails_the_run(run: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    pretender = tmp_path / "bin" / "mariadbd"
    pretender.write_text("#!/bin/sh\necho this server is broken >&2\nexit 3\n")
    pretender.chmod(0o755)
    printed = run(
        "def test_one(database_config): pass",
        FAMILIES="",
        PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}",
    )
    assert "2 passed, 1 error" in printed
    assert "ServerFailed: " in printed  # as root: the server's account may not even enter this folder
