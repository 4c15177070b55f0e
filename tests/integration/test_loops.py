"""Event loops in sequence, in threads, and forks: one Database each, none left over."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from sqlalchemy import select, text

from asyncdb import Database, DatabaseConfig, NoEventLoop, registry
from asyncdb.errors import DatabaseClosed
from asyncdb.testing import DatabaseServer
from tests.polling import until

pytestmark = pytest.mark.faults
CONNECTION_ID = {"mysql": "SELECT CONNECTION_ID()", "postgresql": "SELECT pg_backend_pid()"}


@pytest.fixture(autouse=True)
def _registry_empty_before_and_after() -> Any:
    assert registry.databases() == []
    yield
    assert registry.databases() == []


def _get(config: DatabaseConfig) -> Database:
    return registry.get(config.alias, lambda: Database(config))


async def _read(config: DatabaseConfig) -> int:
    value: int = await _get(config).fetch_val(select(42))
    return value


def test_three_loops_in_sequence_have_a_database_each(database_config: DatabaseConfig) -> None:
    seen: list[Database] = []

    async def main() -> None:
        assert await _read(database_config) == 42
        assert await asyncio.gather(*(_read(database_config) for _ in range(4))) == [42] * 4
        seen.append(_get(database_config))
        assert _get(database_config) is seen[-1]

    for _ in range(3):
        asyncio.run(main())
        assert registry.databases() == []
    assert len({id(database) for database in seen}) == 3
    assert all(database.closed for database in seen)


def test_a_fresh_loop_for_each_call_leaves_no_server_thread(
    database_config: DatabaseConfig, server_threads: Callable[[], list[int]]
) -> None:
    """Asgiref's ``async_to_sync`` runs each call on a loop of its own."""
    for _ in range(8):
        assert asyncio.run(_read(database_config)) == 42
    until(lambda: server_threads() == [])


# Python's transport and psycopg's connection say on collection that their loop ended without them: so it did.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore:.*while still open:ResourceWarning")
@pytest.mark.families("mariadb", "postgresql", "mysql")
def test_a_loop_that_is_closed_without_its_generators_is_swept(
    database_config: DatabaseConfig, server_threads: Callable[[], list[int]]
) -> None:
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(_read(database_config)) == 42
    assert len(registry.databases()) == 1  # positive control: it is there as long as its loop lives
    assert len(server_threads()) == 1
    loop.close()  # no shutdown_asyncgens
    assert asyncio.run(_read(database_config)) == 42
    assert registry.databases() == []
    until(lambda: server_threads() == [])
    gc.collect()


def test_six_threads_with_a_loop_each_do_not_meet(
    database_config: DatabaseConfig, server_threads: Callable[[], list[int]]
) -> None:
    errors: list[str] = []
    databases: list[Database] = []
    together = threading.Barrier(6, timeout=10.0)

    async def work() -> None:
        databases.append(_get(database_config))
        for _ in range(10):
            assert sum(await asyncio.gather(*(_read(database_config) for _ in range(3)))) == 126
        together.wait()
        assert len(registry.databases()) == 6
        together.wait()

    def thread() -> None:
        try:
            asyncio.run(work())
        except BaseException:
            errors.append(traceback.format_exc())
            together.abort()

    threads = [threading.Thread(target=thread) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30.0)
    assert not errors, "\n".join(errors)
    assert len({id(database) for database in databases}) == 6
    assert registry.databases() == []
    until(lambda: server_threads() == [])


def _in_forked_child(work: Callable[[], Coroutine[Any, Any, None]], *, within: float = 20.0) -> str:
    """Forks, runs ``work`` on a loop of the child's and returns what went wrong there, or nothing."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        outcome = "the child did not come to its end"
        try:
            os.close(reader)
            asyncio.set_event_loop(None)
            asyncio.events._set_running_loop(None)
            asyncio.run(work())
            gc.collect()
            outcome = ""
        except BaseException:
            outcome = traceback.format_exc()
        finally:
            os.write(writer, outcome.encode()[:60000])
            os._exit(0)
    os.close(writer)
    deadline = time.monotonic() + within
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reader)
            return f"the child did not end within {within:g} s"
        time.sleep(0.02)
    with os.fdopen(reader, "rb") as pipe:
        return pipe.read().decode()


@pytest.mark.families("mariadb", "postgresql", "mysql")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_leaves_the_parents_connections_unharmed(
    database_config: DatabaseConfig, server_threads: Callable[[], list[int]]
) -> None:
    own_id = text(CONNECTION_ID[database_config.family])

    async def in_child() -> None:
        assert registry.databases() == []
        ids = {await _get(database_config).fetch_val(own_id) for _ in range(3)}
        assert ids.isdisjoint(parents)
        await registry.close_all()
        assert registry.databases() == []

    parents: set[int] = set()

    async def ids(database: Database) -> set[int]:
        async with database.session() as one, database.session() as two:
            return {await one.fetch_val(own_id), await two.fetch_val(own_id)}

    async def in_parent() -> None:
        database = _get(database_config)
        parents.update(await ids(database))
        assert len(parents) == 2
        assert not (trouble := await asyncio.to_thread(_in_forked_child, in_child)), trouble
        assert await ids(database) == parents
        assert set(server_threads()) == parents
        assert database.stats().counts.found_dead == 0

    asyncio.run(in_parent())


@pytest.mark.families("sqlite")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_leaves_a_sqlite_file_usable_in_parent_and_child(database_config: DatabaseConfig) -> None:
    async def in_child() -> None:
        await _get(database_config).execute(text("INSERT INTO mark VALUES (2)"))

    async def in_parent() -> None:
        database = _get(database_config)
        await database.execute(text("CREATE TABLE mark (id INTEGER)"))
        await database.execute(text("INSERT INTO mark VALUES (1)"))
        assert not (trouble := await asyncio.to_thread(_in_forked_child, in_child)), trouble
        assert await database.fetch_val(text("SELECT count(*) FROM mark")) == 2

    asyncio.run(in_parent())


def test_the_registry_refuses_where_no_loop_runs() -> None:
    with pytest.raises(NoEventLoop, match="no asyncio event loop runs here"):
        registry.get("default", lambda: Database(DatabaseConfig.from_url("sqlite://")))


def test_a_database_says_that_it_belongs_to_another_loop(database_config: DatabaseConfig) -> None:
    database = Database(database_config)
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        assert first.run_until_complete(database.fetch_val(select(1))) == 1
        with pytest.raises(NoEventLoop, match="belongs to another event loop"):
            second.run_until_complete(database.fetch_val(select(1)))
        first.run_until_complete(database.close())
    finally:
        first.close()
        second.close()


async def test_close_all_closes_and_a_later_get_builds_anew(
    database_config: DatabaseConfig, server_threads: Callable[[], list[int]]
) -> None:
    old = _get(database_config)
    await old.fetch_val(select(1))
    await registry.close_all()
    assert old.closed
    with pytest.raises(DatabaseClosed, match="'default' is closed"):
        await old.fetch_val(select(1))
    assert await asyncio.to_thread(server_threads) == []
    new = _get(database_config)
    assert new is not old
    assert await new.fetch_val(select(1)) == 1
    await registry.close_all()


async def test_a_forgotten_database_is_built_anew_and_the_old_one_returned(database_config: DatabaseConfig) -> None:
    old = _get(database_config)
    await old.fetch_val(select(1))
    assert registry.forget(database_config.alias) == [old]
    assert registry.forget(database_config.alias) == []
    assert _get(database_config) is not old
    assert await old.fetch_val(select(1)) == 1
    await old.close()
    await registry.close_all()


@pytest.mark.families("mariadb", "postgresql", "sqlite")
def test_a_cancelled_main_task_leaves_no_server_thread(
    server: DatabaseServer | None, database_config: DatabaseConfig, server_threads: Callable[[], list[int]]
) -> None:
    sleep = {"mysql": "SELECT SLEEP(30)", "postgresql": "SELECT pg_sleep(30)"}

    async def main() -> None:
        await _read(database_config)
        slow = sleep.get(database_config.family, "SELECT 1")
        async with asyncio.timeout(0.3), _get(database_config).session() as db:
            await db.execute(text(slow))
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert registry.databases() == []
    until(lambda: server_threads() == [])
